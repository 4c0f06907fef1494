"""Finds out which GPUs this PyTorch reaches and whether each computes: a script for a process of its own, see `gpus.py`.

It prints an object of JSON per line: first the build of PyTorch, then one for each GPU, as soon as it has an answer.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

_SIZE = 64
"""Rows and columns of the product. Its numbers are whole and small: exact in every precision."""


def main(first: int, last: int | None) -> None:
    """Checks the GPUs from number `first` to `last`; None: all further ones."""
    count = torch.cuda.device_count()
    build = {"torch": torch.__version__, "cuda": torch.version.cuda, "architectures": torch.cuda.get_arch_list()}
    _print({**build, "count": count, "problem": "" if count else _why_none()})
    for number in range(first, count if last is None else last + 1):
        _print(_checked(number))


def _why_none() -> str:
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:
        return _text(error)
    return "No CUDA GPUs are available"


def _checked(number: int) -> dict[str, Any]:
    facts = {"name": "", "memory": 0, "free": 0, "architecture": "", "problem": ""}
    try:
        about = torch.cuda.get_device_properties(number)
        architecture = about.gcnArchName if torch.version.hip else f"sm_{about.major}{about.minor}"
        facts |= {"name": about.name, "memory": about.total_memory, "architecture": architecture}
        facts["free"] = torch.cuda.mem_get_info(number)[0]
        facts["problem"] = "" if _product(f"cuda:{number}") == _product("cpu") else "wrong numbers"
    except Exception as error:
        facts["problem"] = _text(error)
    return facts


def _product(device: str) -> list[list[float]]:
    factor = torch.arange(_SIZE * _SIZE, dtype=torch.float32, device=device).view(_SIZE, _SIZE) % 7
    product: list[list[float]] = (factor @ factor).tolist()
    return product


def _text(error: Exception) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__


def _print(content: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(content)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    main(numbers[0], numbers[1] if len(numbers) > 1 else None)
