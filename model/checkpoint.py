"""A training put aside in a file, and taken up again so that its later epochs are the same bit for bit.

    "islr-search checkpoint 1\\n", 8 hexadecimal digits of CRC-32, "\\n", then a safetensors image:
        tensors     weights, best weights, optimiser, generator of dropout
        metadata    `about`: which training it is; `state`: the rest, as JSON

Nothing in it can run code when it is read. A file that was cut, changed or mixed up is refused whole.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from data_utils.files import write_whole
from model.training import Training

_MAGIC = b"islr-search checkpoint 1\n"
_HEAD = len(_MAGIC) + 9  # the checksum and its newline
_LENGTH = struct.Struct("<Q")  # safetensors' own head: how long its JSON is


class BadCheckpoint(ValueError):
    """The file is not a checkpoint, is damaged, or is of another training. Its text says which."""


def save_checkpoint(training: Training, path: Path, about: str) -> None:
    """Writes the training as it stands between two epochs, whole or not at all.

    `about` says what training it is: only a training with the same text may take it up.

    Raises:
        OSError: it cannot be written.
    """
    tensors, state = training.state()
    # A piece of memory of its own for each: safetensors refuses tensors that share one.
    image = save(
        {name: value.detach().cpu().clone() for name, value in tensors.items()}, {"about": about, "state": json.dumps(state)}
    )
    write_whole(path, b"".join([_MAGIC, b"%08x\n" % zlib.crc32(image), image]))


def load_checkpoint(training: Training, path: Path, about: str) -> None:
    """Puts a fresh training, made with the same configuration and data, where the written one stood.

    Raises:
        BadCheckpoint: see above. The training may then be half changed: make it anew.
        OSError: there is no such file, or it cannot be read.
    """
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise BadCheckpoint("it is not a checkpoint of this version")
    image = content[_HEAD:]
    if content[len(_MAGIC) : _HEAD] != b"%08x\n" % zlib.crc32(image):
        raise BadCheckpoint("it is damaged")
    try:
        metadata = _metadata(image)
        if metadata["about"] != about:
            raise BadCheckpoint("it is of another training")
        # Cloned: slices of the file lie at odd addresses, where a kernel may round otherwise.
        training.set_state({name: value.clone() for name, value in load(image).items()}, json.loads(metadata["state"]))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, struct.error) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(f"it does not fit: {str(error).splitlines()[0]}") from error


def _metadata(image: bytes) -> dict[str, Any]:
    (length,) = _LENGTH.unpack_from(image)
    found: dict[str, Any] = json.loads(image[_LENGTH.size : _LENGTH.size + length])["__metadata__"]
    return found
