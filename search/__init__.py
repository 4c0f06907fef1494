"""Hyperparameter search for isolated sign-language recognition."""

__version__ = "0.1.0"

DEFAULT_STORAGE = "sqlite:///runs/studies.db"
