"""The commands: parse, call, print, exit code. No logic, and nothing heavy is imported before a command needs it.

Here is what they share: options, and how a command opens what it is about. `search/cli.py` gathers them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search import DEFAULT_STORAGE
from search.errors import DefinitionError

if TYPE_CHECKING:
    import optuna

Study = Annotated[str, typer.Argument(metavar="[STUDY]", help="Name of a study, or path of its YAML file.")]
NamedStudy = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study, or path of its YAML file.")]
Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        envvar="SEARCH_STORAGE",
        metavar="URL",
        help="Study database: sqlite:///PATH, postgresql://..., mysql://...",
    ),
]
Lease = Annotated[
    str,
    typer.Option("--lease", metavar="TIME", help="With a database server: how long a silent run keeps its trials."),
]
StoragePatience = Annotated[
    str,
    typer.Option("--storage-patience", metavar="TIME", help="With a database server: how long to train on without it."),
]
Runs = Annotated[
    Path, typer.Option("--runs", envvar="SEARCH_RUNS", metavar="DIR", help="Folder of everything that is written.")
]
Data = Annotated[
    Path | None, typer.Option("--data", envvar="SEARCH_DATA", metavar="DIR", help="Data set: one HDF5 file a signer.")
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda[:N]", help="Where trials train.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
WorkerCount = Annotated[int, typer.Option("--workers", min=1, help="Trials that train at once, each in a process of its own.")]
EngineChoice = Annotated[
    str | None,
    typer.Option(
        "--engine", metavar="inline|processes|ray", help="Where trials train. [default: inline for one worker, else processes]"
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="auto|HOST:PORT",
        help="Ray cluster for `--engine ray`. [default: RAY_ADDRESS, else a Ray of this run's own]",
    ),
]
MaxRestarts = Annotated[int, typer.Option("--max-restarts", min=0, help="Fail a trial on which more workers die.")]
Onnx = Annotated[bool, typer.Option("--onnx", help="The model as ONNX too, with its pre-processing.")]
Progress = Annotated[bool, typer.Option("--progress/--no-progress", help="Live view on a terminal.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the study; repeatable.")]

STUDY = "label_smoothing"
STORAGE = DEFAULT_STORAGE
LEASE, STORAGE_PATIENCE = "1m", "10m"
RUNS = Path("runs")


def opened_study(study: str, storage: str) -> optuna.Study:
    return opened_with_storage(study, storage)[0]


def opened_with_storage(study: str, storage: str) -> tuple[optuna.Study, optuna.storages.BaseStorage]:
    from search.storage import open_storage

    return study_and_storage(study, storage, lambda url: open_storage(url, create=False))


def looked_at(study: str, storage: str) -> optuna.Study:
    """To be read only, and without the curves of trials that are over."""
    from search.thin import open_to_look

    return study_and_storage(study, storage, open_to_look)[0]


def study_and_storage(
    study: str, storage: str, opening: Callable[[str], optuna.storages.BaseStorage]
) -> tuple[optuna.Study, optuna.storages.BaseStorage]:
    """The study, and the storage that holds it."""
    from search.definition import study_name
    from search.identity import require_ours
    from search.storage import load_study

    name = study_name(study)
    held = opening(storage)
    found = load_study(held, name)
    require_ours(found)
    return found, held


def trial_of(study: optuna.Study, number: int) -> optuna.trial.FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if number >= len(trials):
        raise DefinitionError(
            f"the study `{study.study_name}` has no trial {number}",
            expected=f"0 to {len(trials) - 1}" if trials else "a study with trials",
            hint=f"`python -m search trials {study.study_name}` lists them",
        )
    return trials[number]


def require_writable(output: Path | None) -> None:
    """Looks whether `write_out` can write here, before long work begins."""
    if output is None:
        return
    try:
        kept = next(parent for parent in output.absolute().parents if parent.exists())
        got = "it is a folder" if output.is_dir() else "" if kept.is_dir() else f"{kept} is no folder"
        if not got and not os.access(kept, os.W_OK | os.X_OK):
            got = f"{kept} may not be written in"
    except OSError as error:
        got = error.strerror or str(error)
    if got:
        hint = "name another with --output"
        raise DefinitionError("the output file cannot be written", where=str(output), got=got, hint=hint)


def write_out(text: str, output: Path | None) -> None:
    """Text for a person or a program to stdout or into a file, as UTF-8. Bytes of a file's name that are none are escaped."""
    if output is None:
        sys.stdout.write(text)
        return
    from data_utils.files import write_whole

    try:
        write_whole(output, text.encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise DefinitionError(
            "the output file cannot be written", where=str(output), got=error.strerror, hint="name another with --output"
        ) from error
