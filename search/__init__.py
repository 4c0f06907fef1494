"""Hyperparameter search for isolated sign-language recognition."""

from __future__ import annotations

__version__ = "0.1.0"

DEFAULT_RUNS = "runs"
DEFAULT_STORAGE = f"sqlite:///{DEFAULT_RUNS}/studies.db"

HIDDEN = "***"
"""Replaces the password wherever a storage URL is shown."""

BASELINE_TRIAL = 0
"""Number of the baseline trial in every search."""
