"""The structure of the source: rooms in their order, no circles, third parties in their place, files that fit in the head."""

from __future__ import annotations

import ast
import graphlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch import ROOT, environment

PACKAGES = ("data_utils", "model", "search")
"""From the bottom up: each may import those before it."""

ROOMS = {
    "search": (
        *("errors", "wording", "surrogate", "storage", "definition", "study", "events", "trial", "engines", "running"),
        *("exporting", "evaluation", "reporting", "api", "commands", "cli", "__main__"),
    ),
    "data_utils": ("", "importing", "synthetic", "checking", "inputs", "commands", "cli", "__main__"),
}
"""Rooms and loose files from the bottom up; the empty name stands for all other loose files."""

SIDE_BY_SIDE = ({"exporting", "evaluation"}, {"definition", "storage"}, {"importing", "synthetic", "checking"})
"""Rooms that do not import each other."""

ONLY_IN = {  # a third-party module -> the files or folders that may import it
    "optuna": ("search",),
    "optuna_dashboard": ("search/reporting/dashboard/serve.py", "search/reporting/dashboard/page.py"),
    "plotly": ("search/reporting/figures", "search/reporting/dashboard/page.py", "search/reporting/report.py"),
    "matplotlib": (),
    "jinja2": (
        *("data_utils/checking/overview.py", "search/definition/keys.py"),
        *("search/exporting/card.py", "search/reporting/report.py"),
    ),
    "typer": ("search/cli.py", "search/commands", "data_utils/cli.py", "data_utils/commands", "data_utils/help.py"),
    "rich": ("search/commands/screens.py", "search/commands/bars.py"),
    "torch": ("model", "search"),
    "h5py": ("data_utils/hdf5.py",),
    "ray": ("search/engines/ray",),
    "pose_format": ("data_utils/importing/pose_file.py",),
    "pyarrow": ("data_utils/importing/kaggle.py",),
    "cv2": ("data_utils/importing/video_worker.py",),
    "mediapipe": ("data_utils/importing/video_worker.py",),
    "onnx": ("model/onnx.py",),
    "onnxruntime": (),
    "pydantic": ("search/definition", "search/study", "search/exporting", "model/bundle.py"),
    "sqlalchemy": ("search/storage",),
    "scipy": (
        "data_utils/checking/candidates.py",
        "data_utils/checking/copies.py",
        "data_utils/clip_split.py",
        "search/surrogate",
        "search/definition/gp.py",
        "search/evaluation",
        "search/reporting/figures/space.py",
    ),
    "sklearn": (),
    "tqdm": ("search/api.py", "search/reporting/progress_bar.py"),
    "pandas": ("search/api.py",),
    "yaml": ("search/definition/yaml_text.py",),
}
PRINTERS = ("search/cli.py", "search/commands/console.py", "data_utils/cli.py", "data_utils/commands")

MAX_LINES, MAX_MEDIAN_LINES, MAX_FUNCTION_LINES = 350, 150, 60
HEAVY = ("torch", "optuna", "numpy", "h5py", "yaml", "ray", "rich", "plotly")


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}


def imports(module: str) -> Iterator[str]:
    """Every module that a file imports, anywhere in the file and for types too."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide where an arrow points"
            submodules = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            yield from {name if name in FILES else str(node.module) for name in submodules.values()}


def imports_of_project(module: str) -> set[str]:
    """The source files that a file imports."""
    return {other for other in imports(module) if other in FILES} - {module}


def room_of(module: str) -> int | None:
    """The place of a module in the order of its package's rooms; None in packages without rooms and for the package itself."""
    package, _, rest = module.partition(".")
    rooms = ROOMS.get(package)
    if rooms is None or not rest:
        return None
    name = rest.split(".")[0]
    return rooms.index(name if name in rooms else "")


@pytest.mark.parametrize("module", FILES)
def test_imports_run_down(module: str) -> None:
    """A package imports packages below it, a room imports rooms below it."""
    package = module.split(".")[0]
    for other in imports_of_project(module):
        theirs = other.split(".")[0]
        assert PACKAGES.index(theirs) <= PACKAGES.index(package), f"{module} imports {other}"
        if theirs == package and (mine := room_of(module)) is not None and (below := room_of(other)) is not None:
            assert below <= mine, f"{module} imports {other}, from a room above"
            names = {ROOMS[package][mine], ROOMS[package][below]}
            assert len(names) == 1 or not any(names <= pair for pair in SIDE_BY_SIDE), f"{module} imports {other}"
    assert not {name.split(".")[0] for name in imports(module)} & {"studies", "tests"}


def test_no_circles() -> None:
    """No two files import each other, directly or through others, not even for types."""
    list(graphlib.TopologicalSorter({module: imports_of_project(module) for module in FILES}).static_order())


@pytest.mark.parametrize("module", FILES)
def test_third_parties_stay_in_their_place(module: str) -> None:
    """Each heavy or special library is used in a few files only."""
    path = FILES[module].relative_to(ROOT)
    for name in imports(module):
        places = ONLY_IN.get(name.split(".")[0])
        assert places is None or any(Path(place) in (path, *path.parents) for place in places), f"{path} imports {name}"


@pytest.mark.parametrize("module", FILES)
def test_only_screens_print(module: str) -> None:
    """All other code emits events or returns text."""
    calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    prints = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
    path = FILES[module].relative_to(ROOT)
    assert not prints or any(Path(place) in (path, *path.parents) for place in PRINTERS)


def test_study_files_are_read_in_one_place() -> None:
    """Only one module knows the folder of the study files."""
    readers = set()
    for module, tree in TREES.items():
        arguments = [argument for node in ast.walk(tree) if isinstance(node, ast.Call) for argument in node.args]
        if any(isinstance(argument, ast.Constant) and argument.value == "studies" for argument in arguments):
            readers.add(module)
    assert readers == {"search.definition.study_file"}


def test_trainings_are_made_in_one_place() -> None:
    """One function of `search` makes trainings, with their number of threads. So does the warm-up of a worker."""
    makers = {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Training"
    }
    assert makers == {"search.trial.trial_run", "search.engines.devices"}


def test_files_fit_in_the_head() -> None:
    """No source file is longer than 350 lines, and half of them are shorter than 150."""
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in FILES.items()}
    assert not {module: count for module, count in lines.items() if count > MAX_LINES}
    assert statistics.median(lines.values()) < MAX_MEDIAN_LINES


def test_functions_fit_on_a_screen() -> None:
    """No function is longer than 60 lines."""
    functions = [
        (module, node.name, (node.end_lineno or 0) - node.lineno + 1)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not [(module, name, lines) for module, name, lines in functions if lines > MAX_FUNCTION_LINES]


def test_rooms_hand_nothing_on() -> None:
    """The `__init__.py` of a room is one docstring: a name is imported from the file that has it."""
    for module, path in FILES.items():
        if path.name == "__init__.py" and "." in module:
            (docstring,) = TREES[module].body
            assert isinstance(docstring, ast.Expr), module


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["doctor", "--help"]], ids=" ".join)
def test_help_is_light(arguments: list[str], tmp_path: Path) -> None:
    """Help is printed without PyTorch, Optuna, NumPy or any other heavy import."""
    code = (
        f"import sys\nfrom search.cli import execute\ncode = execute({arguments!r})\n"
        f"print(sorted({set(HEAVY)!r} & sys.modules.keys()), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "Usage: islr-search" in done.stdout
