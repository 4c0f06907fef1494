"""Files that appear whole or not at all: written aside, synced, renamed."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

PART_SUFFIX = ".part"
"""How the name of a file ends that is being written; what a killed process left of it can be deleted."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file of text (UTF-8) or bytes and makes its folder. A reader, or a kill, never meets half of it.

    Raises:
        OSError: it cannot be written; what stood there before still does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(
        f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{PART_SUFFIX}"
    )  # containers often have equal pids
    try:
        with aside.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
