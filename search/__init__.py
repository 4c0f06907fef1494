"""Hyperparameter search for isolated sign-language recognition."""

__version__ = "0.1.0"

DEFAULT_RUNS = "runs"
DEFAULT_STORAGE = f"sqlite:///{DEFAULT_RUNS}/studies.db"
