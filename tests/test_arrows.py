"""Imports go one way: search -> model -> data_utils. Heavy ones wait until a command needs them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch import ROOT, environment

PACKAGES = ("search", "model", "data_utils")
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

ALLOWED = {  # which of the three a package may import, beside itself
    "search": {"model", "data_utils"},
    "model": {"data_utils"},
    "data_utils": set(),
}
ONLY_IN = {  # a module -> the files or folders that may import it
    "optuna": ("search",),
    "optuna_dashboard": ("search/reporting/dashboard/serve.py", "search/reporting/dashboard/page.py"),
    "plotly": ("search/reporting/figures", "search/reporting/dashboard/page.py", "search/reporting/report.py"),
    "matplotlib": (),
    "jinja2": ("search/reporting/report.py", "search/exporting/card.py", "search/definition/keys.py"),
    "typer": ("search/cli.py", "search/commands", "data_utils/__main__.py", "data_utils/commands.py"),
    "rich": ("search/commands/screens.py", "search/commands/bars.py"),
    "torch": ("model", "search"),
    "h5py": ("data_utils/hdf5.py",),
    "ray": ("search/engines/ray",),
    "pyarrow": ("data_utils/importing/kaggle.py",),
    "onnx": ("model/onnx.py",),
    "onnxruntime": (),
    "pydantic": ("search", "model/bundle.py"),
    "sqlalchemy": ("search/storage",),
    "yaml": ("search",),
}
PRINTERS = ("search/cli.py", "search/commands/console.py", "data_utils/__main__.py", "data_utils/commands.py")


def imports(path: Path) -> Iterator[str]:
    """Every imported module of a file, wherever in the file it is imported."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where an arrow points"
            yield str(node.module)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_arrow_points_back(path: Path) -> None:
    """A file imports of the project only what its package may know."""
    package = path.parts[0]
    ours = {name.split(".")[0] for name in imports(path)} & {*PACKAGES, "studies", "tests"}
    assert ours <= {package} | ALLOWED[package]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_third_parties_stay_where_they_belong(path: Path) -> None:
    """Optuna, the screens and the HDF5 library are each known to a few files only."""
    for name in imports(path):
        places = ONLY_IN.get(name.split(".")[0])
        assert places is None or any(Path(place) in (path, *path.parents) for place in places), f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_screens_print(path: Path) -> None:
    """Everything else emits events or returns text."""
    calls = [node for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    prints = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert not prints or str(path) in PRINTERS


def test_studies_are_read_in_one_place() -> None:
    """Only the definition knows where study files lie."""
    readers = set()
    for path in FILES:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        given = [argument for node in ast.walk(tree) if isinstance(node, ast.Call) for argument in node.args]
        if any(isinstance(argument, ast.Constant) and argument.value == "studies" for argument in given):
            readers.add(str(path))
    assert readers == {"search/definition/study_file.py"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["doctor", "--help"]], ids=" ".join)
def test_help_is_light(arguments: list[str], tmp_path: Path) -> None:
    """Help comes without PyTorch, Optuna, NumPy or any other heavy import."""
    code = (
        "import sys\nfrom search.cli import execute\n"
        f"code = execute({arguments!r})\n"
        "heavy = sorted({'torch', 'optuna', 'numpy', 'h5py', 'yaml', 'ray', 'rich', 'plotly'} & sys.modules.keys())\n"
        "print(heavy, file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "Usage: python -m search" in done.stdout
