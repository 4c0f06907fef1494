"""Files of trained weights: one per training, of its kept epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save

from data_utils.files import write_atomically
from model.training import Training


def model_path(folder: Path, number: int, count: int) -> Path:
    """The file of weights of one of `count` trainings."""
    return folder / ("model.safetensors" if count == 1 else f"model-{number}.safetensors")


def save_models(trainings: Sequence[Training], folder: Path) -> tuple[str, ...]:
    """Writes the weights of finished trainings. Returns the SHA-256 of each file.

    Raises:
        OSError: they cannot be written.
    """
    digests = []
    for number, training in enumerate(trainings):
        weights = {name: value.cpu().contiguous() for name, value in training.kept_state.items()}
        content = save(weights)
        write_atomically(model_path(folder, number, len(trainings)), content)
        digests.append(hashlib.sha256(content).hexdigest())
    return tuple(digests)


def read_models(folder: Path, digests: Sequence[str]) -> list[bytes]:
    """The content of the files with these SHA-256; empty if one is missing or has changed."""
    try:
        files = [model_path(folder, number, len(digests)).read_bytes() for number in range(len(digests))]
    except OSError:
        return []
    return files if [hashlib.sha256(file).hexdigest() for file in files] == list(digests) else []
