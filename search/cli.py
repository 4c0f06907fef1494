"""The commands: parse, call, print, exit code. No logic, and nothing heavy is imported before a command needs it."""

from __future__ import annotations

import datetime
import io
import os
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from data_utils.errors import ExplainedError
from search import DEFAULT_STORAGE
from search.errors import DefinitionError, ExitCode, exit_code_of

if TYPE_CHECKING:
    import optuna

    from model.record import EpochRecord
    from search.results.export import Exported
    from search.settings import Configs
    from search.stopping import StopSignals

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Searches hyperparameters for isolated sign-language recognition, and keeps you from fooling yourself.",
)

Study = Annotated[str, typer.Argument(metavar="[STUDY]", help="Name of a study, or path of its YAML file.")]
NamedStudy = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study, or path of its YAML file.")]
Storage = Annotated[
    str, typer.Option("--storage", envvar="SEARCH_STORAGE", metavar="URL", help="Study database, sqlite:///PATH.")
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
        "--engine", metavar="inline|processes", help="Where trials train. [default: inline for one worker, else processes]"
    ),
]
MaxRestarts = Annotated[int, typer.Option("--max-restarts", min=0, help="Fail a trial on which more workers die.")]
Onnx = Annotated[bool, typer.Option("--onnx", help="The model as ONNX too, with its pre-processing.")]
Progress = Annotated[bool, typer.Option("--progress/--no-progress", help="Live view on a terminal.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the study; repeatable.")]

_STUDY = "label_smoothing"
_STORAGE = DEFAULT_STORAGE
_RUNS = Path("runs")


@app.command()
def run(
    context: typer.Context,
    study: Study = _STUDY,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Target of finished trials. [default: the study's, else 50]")
    ] = None,
    more: Annotated[int | None, typer.Option(min=1, help="This many finished trials more than there are.")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Stop after 90m, 2h, 45s; all is kept.")] = None,
    data: Data = None,
    storage: Storage = _STORAGE,
    runs: Runs = _RUNS,
    sets: Sets = [],  # noqa: B006 (typer copies it)
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Study name other than the file's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 0,
    device: Device = "auto",
    workers: WorkerCount = 1,
    engine: EngineChoice = None,
    trial_timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Fail a trial that takes longer, all its epochs together.")
    ] = None,
    max_failures: Annotated[int, typer.Option(min=0, help="Give up when more trials of this run fail.")] = 10,
    max_restarts: MaxRestarts = 3,
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
    from search.console import say, say_json, screen, talk
    from search.definition import checked_name, load_definition, study_name
    from search.wording import columns

    if trials is not None and more is not None:
        raise DefinitionError("--trials and --more cannot be given together", hint="--trials is the target, --more adds to it")
    sets = [*sets, *([] if trials is None else [f"trials={trials}"])]
    definition = load_definition(study, sets, name=None if name is None else checked_name(name), seed=seed)
    if dry_run:
        from search.describe import described

        rows = [*described(definition), *_places(context, {"data": data, "storage": storage, "runs": runs, "device": device})]
        if as_json:
            for key, value, source in rows:
                say_json({"key": key, "value": value, "from": source})
        else:
            for line in columns(rows):
                say(line)
        return ExitCode.DONE
    from search.engines.choice import Workers, checked_engine
    from search.records import require_place
    from search.run import RunOptions, resume_command
    from search.run import run as run_search
    from search.stopping import StopSignals
    from search.storage import database_path
    from search.times import seconds_of

    require_place(runs, definition.name, database_path(storage))
    if source is not None and study_name(source) == definition.name:
        raise DefinitionError("a study cannot start from itself", got=source, hint="name the new one with `--as NAME`")
    options = RunOptions(
        data=data,
        storage=storage,
        runs=runs,
        more=more,
        by=Workers(
            device=device,
            workers=workers,
            engine=checked_engine(engine),
            trial_timeout_s=None if trial_timeout is None else seconds_of(trial_timeout),
        ),
        max_failures=max_failures,
        max_restarts=max_restarts,
        allow_wider=allow_wider,
        source=None if source is None else study_name(source),
        source_best=source_best,
    )
    listener = screen(as_json=as_json, progress=progress)
    try:
        with StopSignals(None if timeout is None else seconds_of(timeout), getattr(listener, "announce", None)) as stop:
            result = run_search(definition, options, listener, stop)
    finally:
        getattr(listener, "close", lambda: None)()
    if result.stopped_by:
        talk(f"stopped ({result.stopped_by}); everything is kept. Go on with:")
        talk(f"  {resume_command(sys.argv[1:], result.target)}")
    if stop.exit_code != ExitCode.DONE:
        return stop.exit_code
    return ExitCode.DONE if result.best else ExitCode.NO


@app.command()
def status(
    study: Study = _STUDY,
    storage: Storage = _STORAGE,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """How far a study is, its best, what runs now, what failed."""
    from search.console import LiveText, say_json
    from search.results.status import status_json, status_lines

    opened = _look(study, storage)
    with LiveText() as text:
        while True:
            if as_json:
                say_json(status_json(opened, storage))
            else:
                text.show(status_lines(opened, storage))
            if not watch:
                return
            time.sleep(2)


@app.command("list")
def list_studies(storage: Storage = _STORAGE, as_json: AsJson = False) -> None:
    """The studies in the database, and those that can be run."""
    from search.console import say, say_json
    from search.results.status import all_studies
    from search.wording import columns

    rows = all_studies(storage)
    if as_json:
        for row in rows:
            say_json(row)
        return
    cells = [[row["study"], row["progress"], row["about"]] for row in rows]
    for line in columns([["study", "finished", "about"], *cells]):
        say(line)


@app.command()
def trials(
    study: NamedStudy,
    storage: Storage = _STORAGE,
    format: Annotated[str, typer.Option(metavar="csv|jsonl", help="How to write the table.")] = "csv",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of stdout.")] = None,
) -> None:
    """Every trial as a table."""
    from search.results.table import csv_text, jsonl_text, trial_rows

    writers: dict[str, Callable[[list[dict[str, Any]]], str]] = {"csv": csv_text, "jsonl": jsonl_text}
    if format not in writers:
        raise DefinitionError("unknown format", got=format, expected="csv or jsonl")
    _write_out(writers[format](trial_rows(_look(study, storage))), output)


@app.command()
def show(
    study: NamedStudy,
    trial: Annotated[int, typer.Argument(min=0, help="Its number.")],
    storage: Storage = _STORAGE,
    runs: Runs = _RUNS,
    as_json: AsJson = False,
) -> None:
    """One trial: parameters, curve, files, error."""
    from search.console import say, say_json
    from search.results.status import show_json, show_lines

    opened = _open(study, storage)
    found = _trial(opened, trial)
    if as_json:
        say_json(show_json(opened, found, runs))
        return
    for line in show_lines(opened, found, runs):
        say(line)


@app.command()
def confirm(
    study: Study = _STUDY,
    top: Annotated[int, typer.Option(min=1, help="How many of the best trials are trained again.")] = 5,
    seeds: Annotated[int, typer.Option(min=2, help="How often each, with seeds that no trial had.")] = 5,
    data: Data = None,
    storage: Storage = _STORAGE,
    runs: Runs = _RUNS,
    device: Device = "auto",
    workers: WorkerCount = 1,
    engine: EngineChoice = None,
    max_restarts: MaxRestarts = 3,
    progress: Progress = True,
    as_json: AsJson = False,
) -> int:
    """Train the best trials and the baseline again with fresh seeds: is the gain more than noise?"""
    from search.confirm.command import ConfirmOptions
    from search.confirm.command import confirm as train_again
    from search.console import screen, talk
    from search.definition import study_name
    from search.engines.choice import Workers, checked_engine
    from search.stopping import StopSignals

    options = ConfirmOptions(
        study=study_name(study),
        storage=storage,
        runs=runs,
        data=data,
        top=top,
        seeds=seeds,
        by=Workers(device=device, workers=workers, engine=checked_engine(engine)),
        max_restarts=max_restarts,
    )
    listener = screen(as_json=as_json, progress=progress)
    try:
        with StopSignals(None, getattr(listener, "announce", None)) as stop:
            confirmed = train_again(options, listener, stop)
    finally:
        getattr(listener, "close", lambda: None)()
    if confirmed is None:
        talk(f"stopped ({stop.reason}); everything is kept. Go on with:")
        talk(f"  {shlex.join(['python', '-m', 'search', *sys.argv[1:]])}")
        return stop.exit_code
    return ExitCode.DONE if confirmed.found.recommended is not None else ExitCode.NO


@app.command("test")
def open_test(
    study: Study = _STUDY,
    data: Data = None,
    storage: Storage = _STORAGE,
    runs: Runs = _RUNS,
    again: Annotated[bool, typer.Option("--again", help="Open the sealed signers although they were opened before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Open the sealed test signers for the confirmed configuration and the baseline; it is recorded."""
    import dataclasses

    from search.console import say, say_json, talk
    from search.definition import study_name
    from search.events import Event, Notice
    from search.sealed.command import SealedOptions, open_sealed
    from search.sealed.text import sealed_lines

    def tell(event: Event) -> None:
        if isinstance(event, Notice):
            talk(event.text)

    options = SealedOptions(study=study_name(study), storage=storage, runs=runs, data=data, again=again)
    opening = open_sealed(options, tell)
    if as_json:
        say_json(dataclasses.asdict(opening))
        return
    for line in sealed_lines(opening):
        say(line)


@app.command()
def analyze(study: Study = _STUDY, storage: Storage = _STORAGE, as_json: AsJson = False) -> None:
    """What the trials say: edges, what mattered, how sure, noise, failures, cost."""
    from search.console import say, say_json
    from search.results.analyze import analysis_json, analysis_lines
    from search.results.analyze import analyze as analyze_study
    from search.storage import open_storage

    found = analyze_study(_open(study, storage), open_storage(storage, create=False))
    if as_json:
        say_json(analysis_json(found))
        return
    for line in analysis_lines(found):
        say(line)


@app.command()
def report(
    study: Study = _STUDY,
    storage: Storage = _STORAGE,
    runs: Runs = _RUNS,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it. [default: RUNS/STUDY/report.html]")
    ] = None,
) -> None:
    """One HTML file with everything that a study says; it opens without a network."""
    from search.console import talk
    from search.figures.facts import Facts
    from search.results.report import report_html
    from search.thin import open_to_look

    opened = _look(study, storage)
    facts = Facts(opened, open_to_look(storage), url=storage, runs=runs)
    target = output or runs / opened.study_name / "report.html"
    text = report_html(facts)
    _write_out(text, target)
    talk(f"wrote {target} ({len(text.encode()) / 1e6:.1f} MB)")


@app.command()
def export(
    study: Study = _STUDY,
    storage: Storage = _STORAGE,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of stdout.")] = None,
    trial: Annotated[int | None, typer.Option(min=0, metavar="N", help="This trial instead of the best.")] = None,
    searched: Annotated[
        bool, typer.Option("--searched", help="The best of the search, whatever a confirmation recommends.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Also write a model that the confirmation trained.")
    ] = None,
    onnx: Onnx = False,
    runs: Runs = _RUNS,
) -> None:
    """The best configuration as YAML, complete enough to train again anywhere; with --model, a model to use."""
    from search.console import talk
    from search.goals import lead_of
    from search.results.export import choose, export_text, exported_of
    from search.storage import open_storage
    from search.study import front_of, study_goals, summary
    from search.wording import values_text

    if searched and trial is not None:
        raise DefinitionError("--searched and --trial cannot be given together", hint="--trial names any trial")
    if onnx and model is None:
        raise DefinitionError("--onnx is for a model", hint="name its folder with --model DIR")
    opened, held = _ours(study, storage, lambda url: open_storage(url, create=False))
    chosen, why = choose(opened, None if trial is None else _trial(opened, trial), searched=searched)
    goals = study_goals(opened)
    front = [found for other in front_of(opened.get_trials(deepcopy=False), lead_of(goals)) if (found := summary(other))]
    exported = exported_of(opened, chosen)
    made = None
    if model is not None:
        from search.confirm.command import configs_of
        from search.results.bundle import export_model

        made = export_model(opened, held, exported, configs_of(chosen), model, runs=runs, onnx=onnx)
    _write_out(export_text(exported), output)
    talk(why)
    if made is not None:
        talk(f"wrote a model to {model}: {made.text}")
    if output is not None:
        found = summary(chosen)
        assert found is not None, "a complete trial has a result"
        talk(f"wrote trial {chosen.number} to {output}; in the search: {values_text(found.values)}, top1 {found.val_top1:.4f}")
    if trial is None and len(goals) > 1:
        talk(f"with several objectives there is no single best: {goals[lead_of(goals)].name} has decided. The front:")
        for other in front:
            talk(f"  --trial {other.trial:<5} {values_text(other.values)}, top1 {other.val_top1:.4f}")
    if output is not None:
        talk(f"next: python -m search retrain {output}")
    if model is not None:
        talk(f"next: python -m search predict {model} CLIP...")


@app.command()
def retrain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported configuration.")],
    data: Data = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the model, its curve and metrics here.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed than the recorded one.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where to train. [default: the recorded device]")
    ] = None,
    all_signers: Annotated[
        bool,
        typer.Option(
            "--all-signers",
            help="A model for use: train on all signers for as many epochs as counted in the search. Nothing is compared. "
            "Sealed signers take part if a test has opened them.",
        ),
    ] = False,
    onnx: Onnx = False,
    runs: Runs = _RUNS,
) -> int:
    """Train an exported configuration and compare with the recorded number."""
    from search.console import say, screen, talk
    from search.lines import epoch_line, retrained_lines
    from search.machine import checked_device
    from search.results.export import read_export
    from search.results.retrain import retrain as train_again
    from search.stopping import StopSignals

    if (all_signers or onnx) and output is None:
        raise DefinitionError("the model needs a place", hint="name its folder with --output DIR")
    exported, configs = read_export(file)
    used = checked_device(device or str(exported.made_with.get("device", "auto")))
    with StopSignals() as stop:
        if all_signers and output is not None:
            places: dict[str, Any] = {"data": data, "seed": seed, "device": used, "onnx": onnx, "runs": runs}
            return _train_final(exported, configs, output, stop, **places)

        def on_epoch(training: int, record: Any) -> bool:
            model = f"model {training + 1}  " if exported.repeats > 1 or exported.data.get("folds") else ""
            talk(model + epoch_line(record, configs.train.epochs))
            return not stop.reason

        result = train_again(
            exported,
            configs,
            data=data,
            seed=seed,
            device=used,
            runs=runs,
            emit=screen(as_json=False, progress=False),
            on_epoch=on_epoch,
            output=output,
            onnx=onnx,
            stop=stop,
        )
    if result is None:
        return stop.exit_code
    for line in retrained_lines(result):
        say(line)
    return ExitCode.DONE if not result.invalid and (result.came_back or not result.should_come_back) else ExitCode.NO


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A model: a folder that `export --model` wrote.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Clips: HDF5, parquet, npy, or a folder of npy frames.")
    ],
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="This many of the likeliest words.")] = 3,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of stdout.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> int:
    """Ask a model: the likeliest words of each clip with their probabilities, as CSV."""
    from data_utils.inputs import check_inputs
    from model.bundle import load_bundle
    from search.console import talk
    from search.machine import checked_device
    from search.results.predict import csv_header, csv_row, json_row, predictions
    from search.wording import counted

    check_inputs(files)
    asked = load_bundle(bundle, checked_device(device))
    count = min(top, len(asked.words))
    clips = problems = 0
    kept: list[str] = []
    put: Callable[[str], object] = sys.stdout.write if output is None else kept.append
    put("" if as_json else csv_header(count))
    for one in predictions(asked, files, count):
        put(json_row(one) if as_json else csv_row(one, count))
        clips += 1
        problems += bool(one.problem)
    if output is not None:
        _write_out("".join(kept), output)
        talk(f"wrote {counted(clips, 'clip')} to {output}")
    if problems:
        talk(f"of {counted(clips, 'clip')} {problems:,} could not be asked about: see their `problem`")
    return ExitCode.NO if problems else ExitCode.DONE


@app.command()
def dashboard(
    study: Study = _STUDY,
    storage: Storage = _STORAGE,
    runs: Runs = _RUNS,
    host: Annotated[str, typer.Option(help="Address to listen on. There is no password: keep it local.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port; the next free one if it is taken.")] = 8080,
    print_command: Annotated[
        bool, typer.Option("--print-command", help="Fill the page, and say how to serve it by hand.")
    ] = False,
) -> int:
    """Fill the study's page with notes, plots and files, and start optuna-dashboard on it."""
    from search.console import say, talk
    from search.definition import study_name
    from search.results.dashboard import address, artifact_folder, free_port, plain_command, serve
    from search.results.filler import Filler
    from search.storage import load_study, open_storage

    opened = open_storage(storage, create=False)
    filler = Filler(load_study(opened, study_name(study)), opened, url=storage, runs=runs, tell=talk)
    artifacts = artifact_folder(runs)
    if print_command:
        filler.once()
        say(plain_command(storage, host, port, artifacts))
        if host == "127.0.0.1":
            talk(f"to look at it from another machine, there: ssh -L {port}:{host}:{port} HOST")
        return ExitCode.DONE
    chosen = free_port(host, port)

    def begin() -> None:
        talk(f"optuna-dashboard on {address(host, chosen)}  (Ctrl-C ends it)")
        filler.start()

    try:
        serve(opened, host, chosen, begin, artifacts)
    except KeyboardInterrupt:
        talk("")
    finally:
        filler.end()
    return ExitCode.INTERRUPTED


@app.command()
def doctor(
    data: Data = None,
    storage: Storage = _STORAGE,
    runs: Runs = _RUNS,
    as_json: AsJson = False,
) -> int:
    """Check machine, packages, storage, study files and data."""
    from search.console import say, say_json
    from search.doctor import checks

    wrong = 0
    for check in checks(storage=storage, runs=runs, data=data):
        wrong += check.verdict == "wrong"
        if as_json:
            say_json({"check": check.name, "verdict": check.verdict, "text": check.text})
        else:
            say(f"{check.verdict:5}  {check.name:24}  {check.text.replace(chr(10), chr(10) + ' ' * 33)}")
    if not as_json:
        say(f"{wrong} wrong" if wrong else "all is well")
    return ExitCode.NO if wrong else ExitCode.DONE


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


def _train_final(
    exported: Exported,
    configs: Configs,
    output: Path,
    stop: StopSignals,
    *,
    data: Path | None,
    seed: int | None,
    device: str,
    onnx: bool,
    runs: Path,
) -> int:
    from search.console import screen, talk
    from search.lines import final_lines
    from search.results.final import plan_final, train_final

    plan = plan_final(exported, configs, data=data, seed=seed, device=device, runs=runs, output=output)
    for line in final_lines(plan, exported):
        talk(line)

    def on_epoch(record: EpochRecord) -> bool:
        talk(f"epoch {record.epoch:>3}/{plan.epochs}  train_loss {record.train_loss:.4f}  {record.seconds:.1f}s")
        return not stop.reason

    made = train_final(
        plan,
        exported,
        configs,
        device=device,
        runs=runs,
        output=output,
        onnx=onnx,
        emit=screen(as_json=False, progress=False),
        on_epoch=on_epoch,
    )
    if made is None:
        return stop.exit_code
    talk(f"wrote a model to {output}: {made.text}")
    talk(f"next: python -m search predict {output} CLIP...")
    return ExitCode.DONE


def _open(study: str, storage: str) -> optuna.Study:
    from search.storage import open_storage

    return _ours(study, storage, lambda url: open_storage(url, create=False))[0]


def _look(study: str, storage: str) -> optuna.Study:
    """To be read only, and without the curves of trials that are over."""
    from search.thin import open_to_look

    return _ours(study, storage, open_to_look)[0]


def _ours(
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


def _trial(study: optuna.Study, number: int) -> optuna.trial.FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if number >= len(trials):
        raise DefinitionError(
            f"the study `{study.study_name}` has no trial {number}",
            expected=f"0 to {len(trials) - 1}" if trials else "a study with trials",
            hint=f"`python -m search trials {study.study_name}` lists them",
        )
    return trials[number]


def _write_out(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    from data_utils.files import write_whole

    try:
        write_whole(output, text)
    except OSError as error:
        raise DefinitionError(
            "the output file cannot be written", where=str(output), got=error.strerror, hint="name another with --output"
        ) from error


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to stop
    sys.exit(answer(arguments))


def answer(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; every error in its form on stderr, never a traceback. The exit code."""
    try:
        result = app(args=None if arguments is None else list(arguments), prog_name="python -m search", standalone_mode=False)
        sys.stdout.flush()
        return int(result or 0)
    except ExplainedError as error:
        print(error.render(), file=sys.stderr)
        return exit_code_of(error)
    except typer.exceptions.TyperException as error:  # every usage error of the command line
        message = error.format_message()
        wrong = DefinitionError(message[:1].lower() + message[1:].rstrip("."), hint=_usage_hint(error))
        print(wrong.render(), file=sys.stderr)
        return ExitCode.WRONG_INPUT
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, SystemExit):  # the reader of our output has left (typer then exits); nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter's last flush finds a place
        return ExitCode.DONE
    except Exception:
        path = _write_crash(traceback.format_exc())
        print(f"error: a fault of this program, sorry\n  --> {path}\nhint: report it with that file", file=sys.stderr)
        return ExitCode.BUG


def _usage_hint(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "python -m search"
    return f"`{command} --help` lists what there is"


def _write_crash(text: str) -> Path:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    for folder in (Path(os.environ.get("SEARCH_RUNS", "runs")), Path(tempfile.gettempdir())):
        path = folder / f"crash-{stamp}-{os.getpid()}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{' '.join(sys.argv)}\n{text}", encoding="utf-8")
        except OSError:
            continue
        return path
    return Path("(the log could not be written)")
