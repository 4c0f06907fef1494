"""Commands that search, and that show how far a search is."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.commands import options as opt
from search.commands.output import write_output
from search.commands.studies import open_study
from search.commands.waiting import done, loading
from search.errors import DefinitionError, ExitCode

if TYPE_CHECKING:
    from search.api import Study
    from search.definition.definition import StudyDefinition


def run(
    context: typer.Context,
    study: opt.Definition = None,
    trials: opt.Trials = None,
    more: opt.More = None,
    timeout: opt.Timeout = None,
    data: opt.Data = None,
    storage: opt.Storage = opt.STORAGE,
    runs: opt.Runs = opt.RUNS,
    sets: opt.Sets = [],  # noqa: B006 (typer copies it)
    name: opt.NewName = None,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    workers: opt.WorkerCount = None,
    engine: opt.EngineChoice = None,
    address: opt.Address = None,
    trial_timeout: opt.TrialTimeout = None,
    max_failures: opt.MaxFailures = 10,
    max_restarts: opt.MaxRestarts = 3,
    lease: opt.Lease = opt.LEASE,
    storage_patience: opt.StoragePatience = opt.STORAGE_PATIENCE,
    allow_wider: opt.AllowWider = False,
    source: opt.Source = None,
    source_best: opt.SourceBest = 5,
    dry_run: opt.DryRun = False,
    progress: opt.Progress = True,
    as_json: opt.AsJson = False,
) -> int:
    """Search until the target number of trials is finished. The same command starts and resumes."""
    definition = _load(study, storage, sets, trials=trials, more=more, name=name, seed=seed)
    if dry_run:
        return _print_definition(definition, context, as_json=as_json)
    loading()
    from search.api import Study
    from search.commands.console import print_note
    from search.definition.study_file import study_name

    return _search(
        Study(definition.name, definition=definition, data=data, storage=storage, runs=runs, notify=print_note),
        timeout=timeout,
        shows_progress=progress,
        as_json=as_json,
        more=more,
        max_failures=max_failures,
        allow_wider=allow_wider,
        source=None if source is None else study_name(source),
        source_best=source_best,
        workers=workers,
        device=device,
        engine=engine,
        address=address,
        trial_timeout=trial_timeout,
        max_restarts=max_restarts,
        lease=lease,
        storage_patience=storage_patience,
    )


def _search(study: Study, *, timeout: str | None, shows_progress: bool, as_json: bool, **options: Any) -> ExitCode:
    """Runs a search on a screen; prints how to resume it if it was stopped. `options`: those of `Study.run`."""
    from search.commands.console import print_note
    from search.commands.resume import resume_command
    from search.commands.screens import stoppable_screen
    from search.wording import parse_duration

    timeout_s = None if timeout is None else parse_duration(timeout, "--timeout")
    with stoppable_screen(as_json=as_json, progress=shows_progress, timeout_s=timeout_s) as (screen, stop):
        result = study.run(**options, callback=screen, progress=False, stop=stop)
    if result.stopped_by:
        print_note(f"stopped ({result.stopped_by}); everything is kept. Resume with:")
        print_note(f"  {resume_command(sys.argv[1:], result.target)}")
    if stop.exit_code != ExitCode.DONE:
        return stop.exit_code
    return ExitCode.DONE if result.best else ExitCode.NO


def _load(
    study: str | None, storage: str, sets: list[str], *, trials: int | None, more: int | None, name: str | None, seed: int
) -> StudyDefinition:
    """The study that `run` means, checked."""
    from search.definition.study_file import load_definition, validate_name

    if trials is not None and more is not None:
        raise DefinitionError("--trials and --more cannot be given together", hint="--trials is the target, --more adds to it")
    if study is None:
        study = opt.STUDY
        _print_default(storage)
    sets = [*sets, *([] if trials is None else [f"trials={trials}"])]
    return load_definition(study, sets, name=None if name is None else validate_name(name), seed=seed)


def _print_default(storage: str) -> None:
    """Prints which study `run` trains if none is named, where the storage holds others that may be meant."""
    from data_utils.errors import ExplainedError
    from search.commands.console import print_note
    from search.storage.opening import has_studies
    from search.study.latest import latest_in

    with contextlib.suppress(ExplainedError):  # an error of the storage is reported where the run opens it
        if not has_studies(storage):
            return
        latest, _ = latest_in(storage)
        if latest != opt.STUDY:
            print_note(f"study {opt.STUDY}, as none is named; to continue {latest}, the latest, name its study file")


def _print_definition(definition: StudyDefinition, context: typer.Context, *, as_json: bool) -> ExitCode:
    """Prints every key of the study and the places in use, each with its value and origin."""
    from data_utils.wording import align
    from search.commands.console import print_result
    from search.definition.describe import definition_rows
    from search.storage.url import redact_url

    origins = {"COMMANDLINE": "flag --{0}", "ENVIRONMENT": "environment SEARCH_{1}"}
    rows = definition_rows(definition)
    for name in ("data", "storage", "runs", "device"):
        value = context.params[name]
        shown = redact_url(value) if name == "storage" else "the demo set" if value is None else str(value)
        source = context.get_parameter_source(name)
        origin = origins.get(source.name if source is not None else "", "default").format(name, name.upper())
        rows.append((f"--{name}", shown, origin))
    print_result(*([{"key": key, "value": value, "from": origin} for key, value, origin in rows] if as_json else align(rows)))
    return ExitCode.DONE


def status(
    study: opt.Study = None,
    storage: opt.Storage = opt.STORAGE,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every two seconds until Ctrl-C.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Show progress, the best trial, running and failed trials."""
    from data_utils.streams import output_error
    from search.commands.console import line_width, print_result
    from search.commands.screens import replacing_lines
    from search.reporting.status import status_json, status_lines

    opened, _ = open_study(study, storage)
    done()
    with replacing_lines(replace=watch) as show_lines:
        while True:
            if as_json:
                print_result(status_json(opened, storage))
            else:
                show_lines(status_lines(opened, storage, line_width(sys.stdout)))
            if not watch or output_error() is not None:
                return
            time.sleep(2)


def list_studies(storage: opt.Storage = opt.STORAGE, as_json: opt.AsJson = False) -> None:
    """List the studies in the database, and those that can be run."""
    from data_utils.wording import align, caution_of
    from search.commands.console import print_result
    from search.reporting.status import all_studies

    rows = all_studies(storage)
    cells = [["study", "finished", "about"]]
    for row in rows:
        cautious = filter(None, (row["about"], caution_of(row["split"] or "")))
        cells.append([row["study"], row["progress"], "; ".join(cautious)])
    print_result(*(rows if as_json else align(cells)))


def trials(
    study: opt.Study = None,
    storage: opt.Storage = opt.STORAGE,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="table|csv|jsonl", help="For people, or for programs. [default: by the ending of FILE, else table]"
        ),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, metavar="N", help="Only the N best, the best first.")] = None,
    output: opt.OutputFile = None,
) -> None:
    """List all trials: a table for people, CSV or JSON lines for programs."""
    from search.commands.console import line_width, print_note, print_result
    from search.commands.trials_text import trial_lines
    from search.reporting.table import listed_trials, trial_rows, trials_csv, trials_jsonl
    from search.study.study import study_caution

    endings = {".csv": "csv", ".jsonl": "jsonl"}
    format = format or endings.get("" if output is None else output.suffix.lower(), "table")
    if format not in ("table", *endings.values()):
        raise DefinitionError("unknown format", got=format, expected="table, csv or jsonl")
    opened, _ = open_study(study, storage)
    if format != "table":
        rows = trial_rows(opened, top)
        write_output(trials_csv(rows) if format == "csv" else trials_jsonl(rows), output)
        return
    lines = trial_lines(opened, listed_trials(opened, top), line_width(sys.stdout) if output is None else None)
    if output is None:
        print_result(*lines)
    else:
        write_output("".join(f"{line}\n" for line in lines), output)
    if caution := study_caution(opened):
        print_note(f"people: {caution}")


def show(
    study: opt.Study = None,
    trial: Annotated[
        int | None, typer.Argument(min=0, metavar="TRIAL", help="Number of the trial.", show_default=False)
    ] = None,
    storage: opt.Storage = opt.STORAGE,
    runs: opt.Runs = opt.RUNS,
    as_json: opt.AsJson = False,
) -> None:
    """Show one trial: parameters, learning curve, files, error."""
    from search.commands.console import print_result
    from search.reporting.show import show_json, show_lines
    from search.study.study import get_trial

    if trial is None:
        study, trial = None, _trial_number(study)
    opened, _ = open_study(study, storage)
    found = get_trial(opened, trial)
    print_result(*([show_json(opened, found, runs)] if as_json else show_lines(opened, found, runs)))


def _trial_number(word: str | None) -> int:
    """The trial's number, as the only argument of `show`.

    Raises:
        DefinitionError: it is missing, or it is the name of a study.
    """
    if word is not None and word.isdecimal():
        return int(word)
    given = "" if word is None else f"{word} "
    raise DefinitionError(
        "the number of a trial is missing",
        expected="islr-search show [STUDY] TRIAL",
        hint=f"for example `islr-search show {given}0`",
    )
