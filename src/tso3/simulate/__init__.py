"""Scenes with known truth; imports nothing from core or steps."""
