"""Options that several commands share, and those of `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search import DEFAULT_STORAGE
from search.commands.completing import runnable_studies, stored_studies
from search.storage.url import expand_home


def _expand_home(path: Path | None) -> Path | None:
    """`--runs=~/x` and variables keep their `~`: a shell expands it at the beginning of a word only."""
    return None if path is None else expand_home(path)


_MACHINES, _STORAGE, _OUTPUT, _GROW = "Machines", "Storage", "Output", "Build on earlier trials"
"""Groups of options in the help of commands with many."""

MOST = 10**9
"""No study has more trials."""

Definition = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]",
        help="Path of a study file, or name of a study in ./studies. [default: label_smoothing]",
        autocompletion=runnable_studies,
    ),
]
Study = Annotated[
    str | None,
    typer.Argument(
        metavar="[STUDY]",
        help="Name of a study in the storage. [default: the one that was active last]",
        autocompletion=stored_studies,
    ),
]
NamedStudy = Annotated[
    str, typer.Argument(metavar="STUDY", help="Name of a study in the storage.", autocompletion=stored_studies)
]
Storage = Annotated[
    str,
    typer.Option(
        "--storage",
        envvar="SEARCH_STORAGE",
        metavar="URL",
        rich_help_panel=_STORAGE,
        help="Study database: sqlite:///PATH, postgresql://... or mysql://...",
    ),
]
Lease = Annotated[
    str,
    typer.Option(
        "--lease",
        metavar="TIME",
        rich_help_panel=_STORAGE,
        help="Database server: silence after which other runs take this run's trials.",
    ),
]
StoragePatience = Annotated[
    str,
    typer.Option(
        "--storage-patience",
        metavar="TIME",
        rich_help_panel=_STORAGE,
        help="Database server: how long to train while it is unreachable.",
    ),
]
Runs = Annotated[
    Path,
    typer.Option(
        "--runs",
        envvar="SEARCH_RUNS",
        metavar="DIR",
        callback=_expand_home,
        rich_help_panel=_STORAGE,
        help="Folder for all output.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="SEARCH_DATA",
        metavar="DIR",
        callback=_expand_home,
        help="Data set: a folder with one HDF5 file per signer.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda[:N]", rich_help_panel=_MACHINES, help="Device to compute on.")
]
AsJson = Annotated[bool, typer.Option("--json", rich_help_panel=_OUTPUT, help="Print JSON to stdout, one object per line.")]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        rich_help_panel=_MACHINES,
        help="Trials to train at once. [default: one, or one on each GPU; in lockstep on GPUs as many as fit, but at most a "
        "quarter of a search's trials]",
    ),
]
EngineChoice = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="inline|processes|lockstep|ray",
        rich_help_panel=_MACHINES,
        help="Where trials train. [default: on a GPU lockstep, or processes if trials cannot train in one stack; on the CPU "
        "inline for one worker, else processes]",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="auto|HOST:PORT",
        rich_help_panel=_MACHINES,
        help="Ray cluster for `--engine ray`. [default: RAY_ADDRESS, else a local Ray for this run]",
    ),
]
MaxRestarts = Annotated[
    int,
    typer.Option(
        "--max-restarts", min=0, rich_help_panel=_MACHINES, help="Fail a trial whose worker dies more often than this."
    ),
]
Onnx = Annotated[bool, typer.Option("--onnx", help="Also write the model as ONNX, preprocessing included.")]
Progress = Annotated[
    bool, typer.Option("--progress/--no-progress", rich_help_panel=_OUTPUT, help="Show progress bars on a terminal.")
]
OutputFile = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", callback=_expand_home, help="Write to this file instead of stdout (-: stdout)."),
]

Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the study file; repeatable.")]
Trials = Annotated[
    int | None, typer.Option(min=1, max=MOST, help="Number of finished trials to reach. [default: the study file's, else 50]")
]
More = Annotated[int | None, typer.Option(min=1, max=MOST, help="Run this many more trials.")]
Timeout = Annotated[str | None, typer.Option(metavar="TIME", help="Stop after this time (90m, 2h, 45s); everything is kept.")]
NewName = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Study name, instead of the file's.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed of the study.")]
TrialTimeout = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", rich_help_panel=_MACHINES, help="Fail a trial that takes longer than this, all its epochs together."
    ),
]
MaxFailures = Annotated[
    int, typer.Option(min=0, rich_help_panel=_MACHINES, help="Give up when more than this many trials of the run fail.")
]
AllowWider = Annotated[
    bool, typer.Option("--allow-wider", rich_help_panel=_GROW, help="Accept wider ranges than the study began with (recorded).")
]
Source = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="STUDY", rich_help_panel=_GROW, help="Start with the best trials of this study in the same storage."
    ),
]
SourceBest = Annotated[
    int, typer.Option("--from-best", min=1, metavar="N", rich_help_panel=_GROW, help="How many trials to take with --from.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the resolved study and exit.")]

STUDY = "label_smoothing"
STORAGE = DEFAULT_STORAGE
LEASE, STORAGE_PATIENCE = "1m", "10m"
RUNS = Path("runs")
