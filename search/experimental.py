"""Quiet about what Optuna may still change."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def experimental() -> Iterator[None]:
    """Optuna warns of what it may still change; its version is pinned, and a test runs each of them."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
