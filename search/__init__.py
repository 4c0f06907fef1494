"""Hyperparameter search for isolated sign-language recognition."""

from __future__ import annotations

__version__ = "0.1.0"

DEFAULT_RUNS = "runs"
DEFAULT_STORAGE = f"sqlite:///{DEFAULT_RUNS}/studies.db"

HIDDEN = "***"
"""What stands in the place of a password, wherever a storage is named."""

BASELINE_TRIAL = 0
"""The baseline's number among the trials of a search."""
