"""Atomic file writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_utils.files import write_atomically


def test_two_writers_with_one_process_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that share a folder often have equal process ids: the last writer wins, and neither fails."""
    place = tmp_path / "folder" / "file"
    inside: list[str] = []

    def sync(_number: int) -> None:
        if not inside:
            inside.append("other")
            write_atomically(place, "other")
            assert place.read_text(encoding="utf-8") == "other"

    monkeypatch.setattr(os, "fsync", sync)
    write_atomically(place, "own")
    assert place.read_text(encoding="utf-8") == "own"
    assert [path.name for path in place.parent.iterdir()] == ["file"]
