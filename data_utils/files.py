"""Atomic file writes (a temporary file is written, synced and renamed), and the user's cache folder."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

PART_SUFFIX = ".part"
"""Suffix of temporary files. Those that a killed process left behind can be deleted."""


def user_cache(name: str) -> Path:
    """A folder or file of this project in the user's cache, which need not exist."""
    home = Path.home()
    usual = {"darwin": home / "Library" / "Caches", "win32": Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))}
    return Path(os.environ.get("XDG_CACHE_HOME") or usual.get(sys.platform, home / ".cache")) / "islr-search" / name


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file of text (UTF-8) or bytes, creating its folder. Readers see the old or the new content, never a part of it.

    Raises:
        OSError: the file cannot be written; a previous version is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{PART_SUFFIX}"
    )  # containers often have equal process ids
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
