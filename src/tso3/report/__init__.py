"""Figures: axes in, artists out."""
