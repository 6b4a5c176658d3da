"""Scenes with known truth; imports nothing from core or steps."""

from __future__ import annotations

from tso3.simulate.reuse import reused_parts
from tso3.simulate.troubles import Troubles
from tso3.simulate.visit import SimulatedVisit, simulate

__all__ = ["SimulatedVisit", "Troubles", "reused_parts", "simulate"]
