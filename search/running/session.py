"""What a search and a confirmation share: one run at work on one study, with its lease, log, ledger and coordinator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, TypedDict

import optuna

from data_utils.errors import ExplainedError
from data_utils.wording import counted
from search.definition.definition import Resources
from search.definition.objectives import StudyObjective
from search.engines.engine_options import EngineOptions
from search.engines.placement import Placement, Work
from search.errors import require_in_range
from search.events import Listener, Notice, Working
from search.running.coordinator import Coordinator
from search.running.ledger import Ledger
from search.running.log import RunLog
from search.running.outage import PATIENCE_S, Outage
from search.running.recording import Recorder
from search.running.signals import StopRequest
from search.running.turns import TrialSource
from search.storage.errors import database_errors
from search.storage.leases.choice import LEASE_S
from search.storage.leases.lease import Lease
from search.study.folder import StudyFolder
from search.trial.clips import TrialClips
from search.trial.gpus import Gpu
from search.wording import parse_duration


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """What `search run` and `search confirm` have in common."""

    data: Path | None
    """Folder of the data set; None: the demo set under `runs`, or the folder that the study was searched on."""

    storage: str
    runs: Path
    engine: EngineOptions
    """Which engine trains, where, and with how many workers."""

    max_restarts: int = 3
    """A trial fails when more workers than this die on it."""

    lease_s: float = LEASE_S
    """With a database server: after this many seconds of silence, other runs may reclaim this run's trials."""

    patience_s: float = PATIENCE_S
    """With a database server: how many seconds the run continues while the server cannot be reached."""

    def __post_init__(self) -> None:
        require_in_range("max_restarts", self.max_restarts, 0)


class SessionKeywords(TypedDict, total=False):
    """What may be said of how a run works, by keywords. Times are such as `90m`, or seconds."""

    workers: int | None
    """Trials to train at once; None: see `EngineOptions`."""

    device: str
    """`auto`, `cpu`, `cuda` or `cuda:N`."""

    engine: str | None
    """`inline`, `processes`, `lockstep` or `ray`."""

    address: str | None
    """Of the Ray cluster."""

    trial_timeout: str | float | None
    """Fail a trial that takes longer than this."""

    max_restarts: int
    lease: str | float
    storage_patience: str | float
    """See `SessionOptions`."""


def session_options(
    data: Path | None,
    storage: str,
    runs: Path,
    *,
    workers: int | None = None,
    device: str = "auto",
    engine: str | None = None,
    address: str | None = None,
    trial_timeout: str | float | None = None,
    max_restarts: int = 3,
    lease: str | float = LEASE_S,
    storage_patience: str | float = PATIENCE_S,
) -> dict[str, Any]:
    """The values of `SessionOptions`, from keywords.

    Raises:
        DefinitionError: a time is not one.
    """
    timeout_s = None if trial_timeout is None else parse_duration(str(trial_timeout), "--trial-timeout", positive=True)
    return {
        "data": data,
        "storage": storage,
        "runs": runs,
        "engine": EngineOptions(device=device, workers=workers, engine=engine, address=address, trial_timeout_s=timeout_s),
        "max_restarts": max_restarts,
        "lease_s": parse_duration(str(lease), "--lease"),
        "patience_s": parse_duration(str(storage_patience), "--storage-patience"),
    }


@dataclass(frozen=True)
class Session:
    """One run at work on one study."""

    options: SessionOptions
    run: str
    """Its name."""

    study: optuna.Study
    """The study on the ledger."""

    folder: Path
    """The study's, under `--runs`."""

    ledger: Ledger
    emit: Listener
    """Writes every event to the run's log and passes it on."""

    def place(self, device: str, gpus: tuple[Gpu, ...], work: Work) -> Placement:
        """Where the trials train; see `EngineOptions.place`. Says what the user may not expect of it."""
        placement = self.options.engine.place(device, gpus, work)
        for text in placement.notices():
            self.emit(Notice(text))
        return placement

    def work(
        self,
        trial_source: TrialSource,
        objectives: Sequence[StudyObjective],
        trial_clips: TrialClips,
        placement: Placement,
        *,
        resources: Resources,
        max_failures: int,
        marks_best: bool,
        stop: StopRequest,
    ) -> float:
        """Trains the source's trials until there are no more or the run is stopped; returns the seconds it took.

        Args:
            max_failures: the run ends when more trials than this fail.
            marks_best: whether finished trials may be announced as the best so far.

        Raises: same as `Coordinator.run`.
        """
        began = perf_counter()
        if placement.engine != "inline":
            self.emit(Working(f"starting {counted(placement.processes, 'worker')}"))
        clips = replace(trial_clips, emit=self.emit)
        engine = self.options.engine.create_engine(placement, clips, self.options.runs, resources)
        recorder = Recorder(
            self.study,
            objectives,
            folder=self.folder,
            num_words=len(trial_clips.data.words),
            emit=self.emit,
            max_failures=max_failures,
            marks_best=marks_best,
        )
        Coordinator(
            self.ledger,
            Outage(self.options.storage, self.emit, patience_s=self.options.patience_s),
            trial_source,
            engine,
            recorder,
            prunes=len(objectives) == 1,
            emit=self.emit,
            stop=stop,
            max_restarts=self.options.max_restarts,
        ).run()
        return perf_counter() - began


@contextlib.contextmanager
def open_session(
    options: SessionOptions,
    storage: optuna.storages.BaseStorage,
    study: str,
    folder: StudyFolder,
    lease: Lease,
    emit: Listener,
) -> Iterator[Session]:
    """Opens the log and the ledger of the run that holds the lease on a study.

    Raises:
        ResourceError: the log cannot be written, or the database cannot be used.
    """
    with RunLog(folder.path, lease.owner.run) as log, database_errors(options.storage):
        ledger, logged = Ledger(storage, study, lease), log.before(emit)
        opened = ledger.open(notify=lambda text: logged(Notice(text)))
        with _explained(ledger):
            yield Session(options, lease.owner.run, opened, folder.path, ledger, logged)


@contextlib.contextmanager
def _explained(ledger: Ledger) -> Iterator[None]:
    """Raises, for an error in the block, the one that the ledger explains: the study or a trial of it is gone."""
    try:
        yield
    except ExplainedError:
        raise
    except Exception as error:
        gone = None
        try:
            ledger.refresh()
        except ExplainedError as explained:
            gone = explained
        except Exception:  # the first error says more
            pass
        if gone is not None:
            raise gone from error
        raise
