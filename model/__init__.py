"""A Transformer for isolated sign-language recognition and its training loop.

PyTorch is imported only when one of these names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "ModelConfig": "model.config",
    "TrainConfig": "model.config",
    "Objective": "model.objective",
    "TransformerEnISLR": "model.transformer",
    "load_bundle": "model.bundle",
    "logits": "model.transformer",
    "load_reference": "model.reference",
    "Training": "model.training",
    "fit": "model.training",
}
__all__ = sorted(_HOME)  # noqa: PLE0605 (a list of str; the names load on first use)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `model` has no attribute `{name}`")
    return getattr(import_module(_HOME[name]), name)
