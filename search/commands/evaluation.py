"""Commands that ask whether an answer can be trusted."""

from __future__ import annotations

import sys
from typing import Annotated

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
    Progress,
    Runs,
    Storage,
    StoragePatience,
    Study,
    WorkerCount,
)
from search.commands.studies import opened_with_storage
from search.errors import ExitCode


def confirm(
    study: Study = STUDY,
    top: Annotated[int, typer.Option(min=1, help="How many of the best trials are trained again.")] = 5,
    seeds: Annotated[int, typer.Option(min=2, help="How often each, with seeds that no trial had.")] = 5,
    data: Data = None,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    device: Device = "auto",
    workers: WorkerCount = 1,
    engine: EngineChoice = None,
    address: Address = None,
    max_restarts: MaxRestarts = 3,
    lease: Lease = LEASE,
    storage_patience: StoragePatience = STORAGE_PATIENCE,
    progress: Progress = True,
    as_json: AsJson = False,
) -> int:
    """Train the best trials and the baseline again with fresh seeds: is the gain more than noise?"""
    from search.commands.console import screen, talk
    from search.commands.typed import typed_again
    from search.definition.study_file import study_name
    from search.engines.engine_options import EngineOptions, checked_engine
    from search.evaluation.confirm.confirm import ConfirmOptions
    from search.evaluation.confirm.confirm import confirm as train_again
    from search.running.signals import StopSignals
    from search.wording import parse_duration

    options = ConfirmOptions(
        study=study_name(study),
        storage=storage,
        runs=runs,
        data=data,
        top=top,
        seeds=seeds,
        engine=EngineOptions(device=device, workers=workers, engine=checked_engine(engine), address=address),
        max_restarts=max_restarts,
        lease_s=parse_duration(lease),
        patience_s=parse_duration(storage_patience),
    )
    listener = screen(as_json=as_json, progress=progress)
    try:
        with StopSignals(None, getattr(listener, "announce", None)) as stop:
            confirmed = train_again(options, listener, stop)
    finally:
        getattr(listener, "close", lambda: None)()
    if confirmed is None:
        talk(f"stopped ({stop.reason}); everything is kept. Go on with:")
        talk(f"  {typed_again(sys.argv[1:])}")
        return stop.exit_code
    return ExitCode.DONE if confirmed.found.recommended is not None else ExitCode.NO


def open_test(
    study: Study = STUDY,
    data: Data = None,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    again: Annotated[bool, typer.Option("--again", help="Open the sealed signers although they were opened before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Open the sealed test signers for the confirmed configuration and the baseline; it is recorded."""
    import dataclasses

    from search.commands.console import say, say_json, talk
    from search.definition.study_file import study_name
    from search.evaluation.test_part.evaluate import EvaluationOptions, evaluate_test_part
    from search.evaluation.test_part.text import sealed_lines
    from search.events import Event, Notice

    def tell(event: Event) -> None:
        if isinstance(event, Notice):
            talk(event.text)

    options = EvaluationOptions(study=study_name(study), storage=storage, runs=runs, data=data, again=again)
    opening = evaluate_test_part(options, tell)
    if as_json:
        say_json(dataclasses.asdict(opening))
        return
    for line in sealed_lines(opening):
        say(line)


def analyze(study: Study = STUDY, storage: Storage = STORAGE, as_json: AsJson = False) -> None:
    """What the trials say: edges, what mattered, how sure, noise, failures, cost."""
    from search.commands.console import say, say_json
    from search.evaluation.analysis.analyze import analyze as analyze_study
    from search.evaluation.analysis.text import analysis_json, analysis_lines

    found = analyze_study(*opened_with_storage(study, storage))
    if as_json:
        say_json(analysis_json(found))
        return
    for line in analysis_lines(found):
        say(line)
