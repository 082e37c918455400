"""A simulated company whose probabilities are known: for demonstrations, and to judge models by the truth."""

from __future__ import annotations

from models.simulation.simulate import simulate_company
from models.simulation.truth import Truth, load_truth

__all__ = ["Truth", "load_truth", "simulate_company"]
