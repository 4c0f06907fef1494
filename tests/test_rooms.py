"""The rooms of `search/` stand one above the other: no import runs up, and no two files import each other."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

from launch import ROOT

FLOORS = (
    *("errors", "wording", "storage", "definition", "study", "events", "trial", "engines", "running"),
    *("exporting", "evaluation", "reporting", "commands", "cli", "__main__"),
)
"""From the ground up."""

LONGEST = 350


def files() -> dict[str, Path]:
    """Every file by its module's name."""
    found = {}
    for path in sorted((ROOT / "search").rglob("*.py")):
        found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of this project that a file imports, for types too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in known:
            names |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module for alias in node.names
            }
    return names


def test_no_import_runs_up() -> None:
    """A room imports from rooms below it."""
    known = files()
    for module, path in known.items():
        for other in imported(path, known) - {"search"}:
            mine, theirs = (
                (name.split(".")[1] for name in (module, other)) if module != "search" else ("errors", other.split(".")[1])
            )
            assert FLOORS.index(theirs) <= FLOORS.index(mine), f"{module} -> {other}"


def test_no_circles() -> None:
    """No two files import each other, be it by way of others."""
    known = files()
    list(
        graphlib.TopologicalSorter({module: imported(path, known) - {module} for module, path in known.items()}).static_order()
    )


def test_no_file_is_too_long() -> None:
    """A file fits in the head."""
    long = {
        module: lines
        for module, path in files().items()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert not long
