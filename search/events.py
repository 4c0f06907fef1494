"""What happens during a run, as values. The coordinator emits them; screens, logs and tests listen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from model.record import EpochRecord
from search.study.confirmed import Confirmed


@dataclass(frozen=True)
class RunStarted:
    """The search is about to ask for its first trial."""

    study: str
    about: str
    data: str
    """Folder of the data set."""

    words: int
    parts: Mapping[str, tuple[str, ...]]
    """Signers by part; the test part is sealed."""

    clips: Mapping[str, int]
    """Clips of the training and validation parts."""

    device: str
    workers: int
    """Trials that train at once."""

    storage: str
    runs: str
    """Folder of everything that is written."""

    finished: int
    target: int
    epochs: int
    space: Mapping[str, str]
    """Searched settings and their ranges as text."""

    objectives: tuple[str, ...]
    """What is minimised."""

    folds: int
    """Groups of signers that validate in turn; 0: one validation part."""

    trainings: int
    """Models that each trial trains: folds times repeats."""

    run: str
    """This run's name: its log bears it, and the trials that it takes."""

    best: TrialSummary | None = None
    """The best trial of the runs before."""


@dataclass(frozen=True)
class Notice:
    """Something a person should know; nothing is wrong."""

    text: str


@dataclass(frozen=True)
class DataPrepared:
    """Clips are being selected and normalised, once for this data set and pre-processing."""

    done: int
    total: int


@dataclass(frozen=True)
class TrialStarted:
    """A trial trains from now on."""

    trial: int
    params: Mapping[str, Any]
    epochs: int
    """Steps that it can have: epochs of all its trainings side by side, or, one by one, of all of them."""

    done: int = 0
    """Steps that it had done when it was cut off, and need not do again."""

    remark: str = ""
    """How a trial that was cut off goes on; empty for a fresh one."""


@dataclass(frozen=True)
class WorkerDied:
    """The process that trained a trial is gone; another goes on with it."""

    trial: int
    reason: str
    deaths: int
    """How often that has happened to this trial."""

    allowed: int


@dataclass(frozen=True)
class EpochFinished:
    """A trial has trained and validated once more."""

    trial: int
    record: EpochRecord
    """With several trainings side by side, their mean."""

    step: int
    """How many steps it has done."""


@dataclass(frozen=True, kw_only=True)
class TrialFinished:
    """A trial is over."""

    trial: int
    state: str
    """`complete`, `pruned` or `failed`."""

    params: Mapping[str, Any]
    value: float | None = None
    """The (first) objective; None for a failed trial."""

    values: Mapping[str, float] = field(default_factory=dict)
    """Every objective by name."""

    val_top1: float | None = None
    """Accuracy at the epoch that counts."""

    epochs: int = 0
    """Epochs trained, all its trainings together."""

    seconds: float = 0.0
    """What its epochs took, all runs together."""

    is_best: bool = False
    """No trial so far beats it in everything."""

    finished: int
    target: int
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class RunFinished:
    """The run ends: the target is met, or it was stopped."""

    study: str
    finished: int
    target: int
    counts: Mapping[str, int]
    """Trials by state."""

    best: TrialSummary | None
    baseline: TrialSummary | None
    front: tuple[TrialSummary, ...]
    """With several objectives, the trials that no other beats in everything; else empty."""

    edges: tuple[str, ...]
    """Where the best trial lies at an end of a range, in words."""

    noise: float | None
    """How far other seeds alone would move the best trial's value, roughly; None where nothing tells."""

    seconds: float
    stopped_by: str = ""
    """The signal or time limit that stopped the run; empty when the study came to its end."""

    ended_by: str = ""
    """What ended the study, in words."""


@dataclass(frozen=True)
class RunFailed:
    """The run ends with an error. What was finished is kept."""

    error: str
    """The error as it is shown."""

    exit_code: int


@dataclass(frozen=True)
class TrialSummary:
    """A finished trial in short."""

    trial: int
    params: Mapping[str, Any] = field(default_factory=dict)
    value: float = float("nan")
    val_top1: float = float("nan")
    epoch: int = 0
    """The epoch that gave them; with several trainings the mean of theirs."""

    values: Mapping[str, float] = field(default_factory=dict)
    """Every objective by name; `value` is the first."""


@dataclass(frozen=True)
class ConfirmFinished:
    """The best trials and the baseline have been trained again with fresh seeds."""

    study: str
    confirmed: Confirmed
    seconds: float
    """What this run of it took."""


Event = (
    RunStarted
    | Notice
    | DataPrepared
    | TrialStarted
    | EpochFinished
    | WorkerDied
    | TrialFinished
    | RunFinished
    | RunFailed
    | ConfirmFinished
)
Listener = Callable[[Event], None]

SCHEMA = 1
"""Of what programs read: raised when a name or a meaning changes."""


def as_json(event: Event) -> dict[str, Any]:
    """An event as plain values; `event` is its name: `TrialFinished` becomes `trial_finished`."""
    return {"event": event_name(type(event)), **dataclasses.asdict(event)}


def event_name(event: type[Event]) -> str:
    """`TrialFinished` -> `trial_finished`."""
    return "".join("_" + c.lower() if c.isupper() else c for c in event.__name__).lstrip("_")
