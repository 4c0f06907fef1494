"""Gives a process the GPUs of `pretended_environment` once it has imported PyTorch. Python runs this file at its start."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).parent


class _AfterPyTorch:
    """Finds PyTorch as usual, and installs the GPUs once it is there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then_install(spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def _then_install(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def run(module: ModuleType) -> None:
        execute(module)
        sys.path.insert(0, str(_HERE.parent))
        try:
            importlib.import_module("pretended_gpu").install_from_environment()
        finally:
            sys.path.remove(str(_HERE.parent))

    return run


def _run_the_other() -> None:
    """The environment may have a file of this name of its own."""
    others = [folder for folder in sys.path if Path(folder).resolve() != _HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if os.environ.get("PRETENDED_GPU"):
    sys.meta_path.insert(0, _AfterPyTorch())  # type: ignore[arg-type]
_run_the_other()
