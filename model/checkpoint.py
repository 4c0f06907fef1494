"""Trainings put aside in a file, and taken up again so that their later epochs are the same bit for bit.

    "islr-search checkpoint 2\\n", 8 hexadecimal digits of CRC-32, "\\n", then a safetensors image:
        tensors     of each training, with its number before the name: weights, best and averaged weights, optimiser,
                    generator of dropout
        metadata    `about`: which trainings they are; `state`: the rest of each, as JSON

Nothing in it can run code when it is read. A file that was cut, changed or mixed up is refused whole.
"""

from __future__ import annotations

import json
import struct
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
_HEAD = len(_MAGIC) + 9  # the checksum and its newline
_LENGTH = struct.Struct("<Q")  # safetensors' own head: how long its JSON is


class BadCheckpoint(ValueError):
    """The file is not a checkpoint, is damaged, or is of other trainings. Its text says which."""


def save_checkpoint(trainings: Sequence[Training], path: Path, about: str) -> None:
    """Writes trainings as they stand between two epochs, all in one file, whole or not at all.

    `about` says what trainings they are: only trainings with the same text may take it up.

    Raises:
        OSError: it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    states = []
    for number, training in enumerate(trainings):
        held, state = training.state()
        # A piece of memory of its own for each: safetensors refuses tensors that share one.
        tensors |= {f"{number}.{name}": value.detach().cpu().clone() for name, value in held.items()}
        states.append(state)
    image = save(tensors, {"about": about, "state": json.dumps(states)})
    write_atomically(path, b"".join([_MAGIC, b"%08x\n" % zlib.crc32(image), image]))


def load_checkpoint(trainings: Sequence[Training], path: Path, about: str) -> None:
    """Puts fresh trainings, made with the same configurations and data, where the written ones stood.

    Raises:
        BadCheckpoint: see above. The trainings may then be half changed: make them anew.
        OSError: there is no such file, or it cannot be read.
    """
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise BadCheckpoint("it is not a checkpoint of this version")
    image = content[_HEAD:]
    if content[len(_MAGIC) : _HEAD] != b"%08x\n" % zlib.crc32(image):
        raise BadCheckpoint("it is damaged")
    try:
        metadata = metadata_of(image)
        if metadata["about"] != about:
            raise BadCheckpoint("it is of another training")
        _restore(trainings, load(image), json.loads(metadata["state"]))
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, struct.error) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(f"it does not fit: {str(error).splitlines()[0]}") from error


def _restore(trainings: Sequence[Training], tensors: dict[str, Tensor], states: list[dict[str, Any]]) -> None:
    """Gives each training what carries its number."""
    if len(states) != len(trainings):
        raise BadCheckpoint(f"it does not fit: it holds {len(states)} trainings, expected {len(trainings)}")
    held: list[dict[str, Tensor]] = [{} for _ in trainings]
    for name, value in tensors.items():
        number, _, rest = name.partition(".")
        # Cloned: slices of the file lie at odd addresses, where a kernel may round otherwise.
        held[int(number)][rest] = value.clone()
    for training, mine, state in zip(trainings, held, states, strict=True):
        training.set_state(mine, state)


def metadata_of(image: bytes) -> dict[str, Any]:
    """The texts that a safetensors image carries beside its tensors.

    Raises:
        LookupError, TypeError, ValueError, struct.error: it has none, or is damaged.
    """
    (length,) = _LENGTH.unpack_from(image)
    found: dict[str, Any] = json.loads(image[_LENGTH.size : _LENGTH.size + length])["__metadata__"]
    return found
