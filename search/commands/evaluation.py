"""Commands that check whether a result can be trusted."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from search.commands import options as opt
from search.commands.studies import chosen_study, open_study
from search.commands.waiting import doing, loading
from search.errors import ExitCode


def confirm(
    study: opt.Study = None,
    top: Annotated[int, typer.Option(min=1, help="Most candidates: trials of the search that are trained again.")] = 8,
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Most fresh seeds for each of them.")] = 8,
    data: opt.Data = None,
    storage: opt.Storage = opt.STORAGE,
    runs: opt.Runs = opt.RUNS,
    device: opt.Device = "auto",
    workers: opt.WorkerCount = None,
    engine: opt.EngineChoice = None,
    address: opt.Address = None,
    max_restarts: opt.MaxRestarts = 3,
    lease: opt.Lease = opt.LEASE,
    storage_patience: opt.StoragePatience = opt.STORAGE_PATIENCE,
    progress: opt.Progress = True,
    as_json: opt.AsJson = False,
) -> int:
    """Train the best trials again with fresh seeds.

    Seeds go to the trials that may be the best. The best one is compared with the baseline seed by seed: is the gain more than
    noise?
    """
    loading()
    from search.api import Study
    from search.commands.console import print_note
    from search.commands.resume import resume_command
    from search.commands.screens import stoppable_screen

    made = Study(chosen_study(study, storage), data=data, storage=storage, runs=runs, notify=print_note)
    with stoppable_screen(as_json=as_json, progress=progress) as (screen, stop):
        confirmed = made.confirm(
            top,
            seeds,
            callback=screen,
            progress=False,
            stop=stop,
            workers=workers,
            device=device,
            engine=engine,
            address=address,
            max_restarts=max_restarts,
            lease=lease,
            storage_patience=storage_patience,
        )
    if confirmed is None:
        print_note(f"stopped ({stop.reason}); everything is kept. Resume with:")
        _, *words = sys.argv[1:]
        print_note(f"  {resume_command(['confirm', *([made.name] if study is None else []), *words])}")
        return stop.exit_code
    return ExitCode.DONE if confirmed.found.recommended is not None else ExitCode.NO


def open_test(
    study: opt.Study = None,
    data: opt.Data = None,
    storage: opt.Storage = opt.STORAGE,
    runs: opt.Runs = opt.RUNS,
    again: Annotated[bool, typer.Option("--again", help="Evaluate once more on what was opened before.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Evaluate on the sealed test signers (or clips), and record it.

    Compares the confirmed configuration with the baseline.
    """
    loading()
    import dataclasses

    from search.commands.console import print_result
    from search.commands.screens import PlainScreen
    from search.evaluation.test_part.evaluate import EvaluationOptions, evaluate_test_part
    from search.evaluation.test_part.text import opening_lines

    options = EvaluationOptions(study=chosen_study(study, storage), storage=storage, runs=runs, data=data, again=again)
    doing("evaluating the models")
    opening = evaluate_test_part(options, PlainScreen())
    print_result(*([dataclasses.asdict(opening)] if as_json else opening_lines(opening)))


def analyze(study: opt.Study = None, storage: opt.Storage = opt.STORAGE, as_json: opt.AsJson = False) -> None:
    """Analyze the trials: edges, importance, noise, failures, cost."""
    from search.commands.console import print_result
    from search.evaluation.analysis.analyze import analyze as analyze_study
    from search.evaluation.analysis.text import analysis_json, analysis_lines

    opened = open_study(study, storage)
    doing("analyzing the trials")
    found = analyze_study(*opened)
    print_result(*([analysis_json(found)] if as_json else analysis_lines(found)))
