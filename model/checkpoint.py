"""Checkpoints: trainings saved to a file and resumed so that their later epochs are the same, bit for bit.

    "islr-search checkpoint 2\\n", 8 hexadecimal digits of CRC-32, "\\n", then a safetensors image:
        tensors     of each training, prefixed with its number: weights, kept and averaged weights, optimizer state, dropout
                    generator
        metadata    `about`: identifies the trainings; `state`: everything else of each training, as JSON

Reading a file cannot run code. A truncated, changed or mismatched file is refused.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from data_utils.files import write_atomically
from model.training import Training

_MAGIC = b"islr-search checkpoint 2\n"
_HEADER = len(_MAGIC) + 9  # the checksum and its newline


class BadCheckpoint(ValueError):
    """The file is not a checkpoint, is damaged, or belongs to other trainings. The message says which."""


def save_checkpoint(trainings: Sequence[Training], path: Path, about: str) -> None:
    """Writes the state of the trainings, between two epochs, to one file, completely or not at all.

    `about` identifies the trainings: `load_checkpoint` requires the same text.

    Raises:
        OSError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    states = []
    for number, training in enumerate(trainings):
        values, state = training.state()
        # Cloned, because safetensors refuses tensors that share memory.
        tensors |= {f"{number}.{name}": value.detach().cpu().clone() for name, value in values.items()}
        states.append(state)
    image = save(tensors, {"about": about, "state": json.dumps(states)})
    write_atomically(path, b"".join([_MAGIC, b"%08x\n" % zlib.crc32(image), image]))


def load_checkpoint(trainings: Sequence[Training], path: Path, *about: str) -> None:
    """Restores the saved state in new trainings made with the same configurations and data.

    `about` are the texts that may identify them.

    Raises:
        BadCheckpoint: see there. The trainings may then be partly changed: discard them.
        OSError: the file is missing or cannot be read.
    """
    image = _read_image(path)
    try:
        metadata = metadata_of(image)
        if metadata["about"] not in about:
            raise BadCheckpoint("it belongs to another training")
        _restore(trainings, load(image), json.loads(metadata["state"]))
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(f"it does not fit: {str(error).splitlines()[0]}") from error


def read_about(path: Path) -> str:
    """The text that identifies the trainings of a checkpoint.

    Raises:
        BadCheckpoint: the file is not a checkpoint, or is damaged.
        OSError: the file is missing or cannot be read.
    """
    try:
        return str(metadata_of(_read_image(path))["about"])
    except (LookupError, TypeError, ValueError) as error:
        raise error if isinstance(error, BadCheckpoint) else BadCheckpoint("it is damaged") from error


def _read_image(path: Path) -> bytes:
    """The safetensors image of a checkpoint, whole."""
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise BadCheckpoint("it is not a checkpoint of this version")
    image = content[_HEADER:]
    if content[len(_MAGIC) : _HEADER] != b"%08x\n" % zlib.crc32(image):
        raise BadCheckpoint("it is damaged")
    return image


def _restore(trainings: Sequence[Training], tensors: dict[str, Tensor], states: list[dict[str, Any]]) -> None:
    """Restores each training from the tensors with its number."""
    if len(states) != len(trainings):
        raise BadCheckpoint(f"it does not fit: it holds {len(states)} trainings, expected {len(trainings)}")
    by_training: list[dict[str, Tensor]] = [{} for _ in trainings]
    for name, value in tensors.items():
        number, _, rest = name.partition(".")
        # Cloned, because tensors in the file are not aligned, and a kernel may then round differently.
        by_training[int(number)][rest] = value.clone()
    for training, values, state in zip(trainings, by_training, states, strict=True):
        training.set_state(values, state)


def metadata_of(image: bytes) -> dict[str, Any]:
    """The metadata of a safetensors image, which begins with the length of its JSON in 8 bytes.

    Raises:
        LookupError, TypeError, ValueError: it has no metadata, or is damaged.
    """
    length = int.from_bytes(image[:8], "little")
    metadata: dict[str, Any] = json.loads(image[8 : 8 + length])["__metadata__"]
    return metadata
