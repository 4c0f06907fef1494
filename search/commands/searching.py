"""Commands that search, and that show how far a search is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from search.commands.options import (
    LEASE,
    RUNS,
    STORAGE,
    STORAGE_PATIENCE,
    STUDY,
    Address,
    AsJson,
    Data,
    Device,
    EngineChoice,
    Lease,
    MaxRestarts,
    NamedStudy,
    Progress,
    Runs,
    Sets,
    Storage,
    StoragePatience,
    Study,
    WorkerCount,
)
from search.commands.output import write_out
from search.commands.studies import looked_at, opened_study, trial_of
from search.errors import DefinitionError, ExitCode


def run(
    context: typer.Context,
    study: Study = STUDY,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Target of finished trials. [default: the study's, else 50]")
    ] = None,
    more: Annotated[int | None, typer.Option(min=1, help="This many finished trials more than there are.")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Stop after 90m, 2h, 45s; all is kept.")] = None,
    data: Data = None,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    sets: Sets = [],  # noqa: B006 (typer copies it)
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Study name other than the file's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 0,
    device: Device = "auto",
    workers: WorkerCount = 1,
    engine: EngineChoice = None,
    address: Address = None,
    trial_timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Fail a trial that takes longer, all its epochs together.")
    ] = None,
    max_failures: Annotated[int, typer.Option(min=0, help="Give up when more trials of this run fail.")] = 10,
    max_restarts: MaxRestarts = 3,
    lease: Lease = LEASE,
    storage_patience: StoragePatience = STORAGE_PATIENCE,
    allow_wider: Annotated[
        bool, typer.Option("--allow-wider", help="Go on with ranges that hold all of the study's own and more; recorded.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="STUDY", help="Try the best trials of this study of the same storage first.")
    ] = None,
    source_best: Annotated[int, typer.Option("--from-best", min=1, metavar="N", help="How many of them.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the resolved study and start nothing.")] = False,
    progress: Progress = True,
    as_json: AsJson = False,
) -> int:
    """Search until the target is reached. The same command starts and resumes."""
    from data_utils.wording import align
    from search.commands.console import say, say_json, screen, talk
    from search.definition.study_file import load_definition, study_name, validate_name

    if trials is not None and more is not None:
        raise DefinitionError("--trials and --more cannot be given together", hint="--trials is the target, --more adds to it")
    sets = [*sets, *([] if trials is None else [f"trials={trials}"])]
    definition = load_definition(study, sets, name=None if name is None else validate_name(name), seed=seed)
    if dry_run:
        from search.definition.describe import definition_rows
        from search.storage.url import shown_url

        given = {"data": data, "storage": shown_url(storage), "runs": runs, "device": device}
        rows = [*definition_rows(definition), *_places(context, given)]
        if as_json:
            for key, value, source in rows:
                say_json({"key": key, "value": value, "from": source})
        else:
            for line in align(rows):
                say(line)
        return ExitCode.DONE
    from search.commands.typed import resume_command
    from search.engines.engine_options import EngineOptions, checked_engine
    from search.running.run import RunOptions
    from search.running.run import run as run_search
    from search.running.signals import StopSignals
    from search.storage.url import parse_url
    from search.trial.files import require_free_folder
    from search.wording import parse_duration

    require_free_folder(runs, definition.name, parse_url(storage).path)
    if source is not None and study_name(source) == definition.name:
        raise DefinitionError("a study cannot start from itself", got=source, hint="name the new one with `--as NAME`")
    options = RunOptions(
        data=data,
        storage=storage,
        runs=runs,
        more=more,
        engine=EngineOptions(
            device=device,
            workers=workers,
            engine=checked_engine(engine),
            address=address,
            trial_timeout_s=None if trial_timeout is None else parse_duration(trial_timeout),
        ),
        max_failures=max_failures,
        max_restarts=max_restarts,
        allow_wider=allow_wider,
        source=None if source is None else study_name(source),
        source_best=source_best,
        lease_s=parse_duration(lease),
        patience_s=parse_duration(storage_patience),
    )
    listener = screen(as_json=as_json, progress=progress)
    try:
        with StopSignals(None if timeout is None else parse_duration(timeout), getattr(listener, "announce", None)) as stop:
            result = run_search(definition, options, listener, stop)
    finally:
        getattr(listener, "close", lambda: None)()
    if result.stopped_by:
        talk(f"stopped ({result.stopped_by}); everything is kept. Go on with:")
        talk(f"  {resume_command(sys.argv[1:], result.target)}")
    if stop.exit_code != ExitCode.DONE:
        return stop.exit_code
    return ExitCode.DONE if result.best else ExitCode.NO


def status(
    study: Study = STUDY,
    storage: Storage = STORAGE,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """How far a study is, its best, what runs now, what failed."""
    from search.commands.console import LiveText, say_json
    from search.reporting.status import status_json, status_lines

    opened = looked_at(study, storage)
    with LiveText() as text:
        while True:
            if as_json:
                say_json(status_json(opened, storage))
            else:
                text.show(status_lines(opened, storage))
            if not watch:
                return
            time.sleep(2)


def list_studies(storage: Storage = STORAGE, as_json: AsJson = False) -> None:
    """The studies in the database, and those that can be run."""
    from data_utils.wording import align
    from search.commands.console import say, say_json
    from search.reporting.status import all_studies

    rows = all_studies(storage)
    if as_json:
        for row in rows:
            say_json(row)
        return
    cells = [[row["study"], row["progress"], row["about"]] for row in rows]
    for line in align([["study", "finished", "about"], *cells]):
        say(line)


def trials(
    study: NamedStudy,
    storage: Storage = STORAGE,
    format: Annotated[str, typer.Option(metavar="csv|jsonl", help="How to write the table.")] = "csv",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of stdout.")] = None,
) -> None:
    """Every trial as a table."""
    from search.reporting.table import csv_text, jsonl_text, trial_rows

    writers: dict[str, Callable[[list[dict[str, Any]]], str]] = {"csv": csv_text, "jsonl": jsonl_text}
    if format not in writers:
        raise DefinitionError("unknown format", got=format, expected="csv or jsonl")
    write_out(writers[format](trial_rows(looked_at(study, storage))), output)


def show(
    study: NamedStudy,
    trial: Annotated[int, typer.Argument(min=0, help="Its number.")],
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> None:
    """One trial: parameters, curve, files, error."""
    from search.commands.console import say, say_json
    from search.reporting.show import show_json, show_lines

    opened = opened_study(study, storage)
    found = trial_of(opened, trial)
    if as_json:
        say_json(show_json(opened, found, runs))
        return
    for line in show_lines(opened, found, runs):
        say(line)


def _places(context: typer.Context, given: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of what is not in the study file: name, value, where it came from."""
    names = {"COMMANDLINE": "flag", "ENVIRONMENT": "environment"}
    rows = []
    for name, value in given.items():
        source = context.get_parameter_source(name)
        origin = names.get(source.name if source is not None else "", "default")
        variable = f" SEARCH_{name.upper()}" if origin == "environment" else f" --{name}" if origin == "flag" else ""
        rows.append((f"--{name}", "the demo set" if value is None else str(value), f"{origin}{variable}"))
    return rows
