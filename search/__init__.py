"""Hyperparameter search for isolated sign-language recognition."""

from __future__ import annotations

from data_utils import __version__ as __version__

DEFAULT_RUNS = "runs"
DEFAULT_STORAGE = f"sqlite:///{DEFAULT_RUNS}/studies.db"

HIDDEN = "***"
"""Replaces the password wherever a storage URL is shown."""

BASELINE_TRIAL = 0
"""Number of the baseline trial in every search."""
