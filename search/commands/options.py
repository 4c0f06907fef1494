"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from search import DEFAULT_STORAGE

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
