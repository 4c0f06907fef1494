"""Events of a run. The coordinator emits them; the screen, the log and tests receive them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model.record import EpochRecord
from search.study.confirmed import Confirmed

if TYPE_CHECKING:
    from search.study.recommendation import Recommendation  # imports Optuna


@dataclass(frozen=True)
class RunStarted:
    """A search has been prepared and takes its first trial next."""

    study: str
    about: str
    data: str
    """Folder of the data set."""

    words: int
    parts: Mapping[str, tuple[str, ...]]
    """Signers by part: `train`, `validation` and the sealed `test`."""

    clips: Mapping[str, int]
    """Number of clips of the training and validation parts; in a split by clip, also of the sealed `test` part."""

    device: str
    workers: int
    """Number of trials that train at the same time."""

    storage: str
    runs: str
    """Folder for everything that runs write."""

    finished: int
    target: int
    epochs: int
    space: Mapping[str, str]
    """Searched settings and their ranges as text."""

    objectives: tuple[str, ...]
    """Names of the objectives, all minimized."""

    folds: int
    """Number of cross-validation folds; 0 with a single validation part."""

    trainings: int
    """Number of models that each trial trains: folds times repeats."""

    run: str
    """Name of this run, in its log's file name and recorded with its trials."""

    best: TrialSummary | None = None
    """The best trial of earlier runs."""

    unit: str = "trial"
    """What the run trains, and the events below call a trial: `trial`, or in a confirmation `training`."""

    caution: str = ""
    """What limits its results: in a split by clip the same people are in all parts. Else empty."""

    place: str = ""
    """Where its trials train, and how many at once, in words."""


@dataclass(frozen=True)
class Notice:
    """A message for the user that is not an error."""

    text: str


@dataclass(frozen=True)
class Working:
    """The run does something that may take seconds, before, between or after its trials."""

    what: str
    """Such as `making the demo set`."""

    done: int = 0
    total: int = 0
    """How many there are of what is counted; 0 if nothing is."""


@dataclass(frozen=True)
class DataPrepared:
    """Clips are being selected and normalized, once per data set and preprocessing."""

    done: int
    total: int


@dataclass(frozen=True)
class TrialStarted:
    """A trial starts or resumes training."""

    trial: int
    params: Mapping[str, Any]
    epochs: int
    """Maximum number of steps: the epochs of one training if all train side by side, else of all trainings together."""

    done: int = 0
    """Steps completed before it was interrupted, which are not repeated."""

    remark: str = ""
    """How an interrupted trial continues; empty for a new one."""


@dataclass(frozen=True)
class WorkerDied:
    """The worker that trained a trial died, or its device failed; the trial continues in another."""

    trial: int
    reason: str
    deaths: int
    """Number of workers of this trial that have died so far, or of failures of the device."""

    allowed: int
    device_failed: bool = False
    """Whether memory ran out or the GPU failed."""


@dataclass(frozen=True)
class EpochFinished:
    """A trial has trained and validated for another epoch."""

    trial: int
    record: EpochRecord
    """The mean over trainings that run side by side."""

    step: int
    """Number of steps completed."""


@dataclass(frozen=True, kw_only=True)
class TrialFinished:
    """A trial has completed, was pruned, or failed."""

    trial: int
    state: str
    """`complete`, `pruned` or `failed`."""

    params: Mapping[str, Any]
    value: float | None = None
    """Value of the first objective; None for a failed trial."""

    values: Mapping[str, float] = field(default_factory=dict)
    """Values of all objectives by name."""

    val_top1: float | None = None
    """Accuracy at the epoch that the objective selects."""

    epochs: int = 0
    """Epochs trained, in all trainings together."""

    seconds: float = 0.0
    """Training time of its epochs, in all runs together."""

    is_best: bool = False
    """Whether it is the best so far; with several objectives, whether it is on the front."""

    finished: int
    target: int
    reason: str = ""
    """Why it failed; else empty."""


@dataclass(frozen=True)
class RunFinished:
    """The run ends because the target is met or because it was stopped."""

    study: str
    finished: int
    target: int
    counts: Mapping[str, int]
    """Number of trials by state."""

    best: TrialSummary | None
    baseline: TrialSummary | None
    front: tuple[TrialSummary, ...]
    """The Pareto front of several objectives; empty with one objective."""

    edges: tuple[str, ...]
    """Sentences about parameters of the trial to use that lie at an end of their range."""

    noise: float | None
    """How much the seed alone changes a trial's value: the model's estimate, else a rough one; None if there is none."""

    seconds: float
    stopped_by: str = ""
    """The signal or time limit that stopped the run; empty if the study ended."""

    ended_by: str = ""
    """The criterion that ended the study, as text."""

    continue_with: str = "`--more N`"
    """What continues a study that has ended, as text."""

    believed: Recommendation | None = None
    """The trial that a model believes in; None without a model."""

    caution: str = ""
    """See `RunStarted`."""


@dataclass(frozen=True)
class RunFailed:
    """The run ends with an error. Finished trials are kept."""

    error: str
    """The error as shown to the user."""

    exit_code: int


@dataclass(frozen=True)
class TrialSummary:
    """Summary of a finished trial."""

    trial: int
    params: Mapping[str, Any] = field(default_factory=dict)
    value: float = float("nan")
    val_top1: float = float("nan")
    epoch: int = 0
    """The epoch that gave the values; the mean over several trainings."""

    values: Mapping[str, float] = field(default_factory=dict)
    """Values of all objectives by name; `value` is the first."""


@dataclass(frozen=True)
class ConfirmFinished:
    """A confirmation has trained the best trials and the baseline again with fresh seeds."""

    study: str
    confirmed: Confirmed
    seconds: float
    """Duration of this run."""


Event = (
    RunStarted
    | Notice
    | Working
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


def counting(emit: Listener, what: str) -> Callable[[int, int], None]:
    """A function that emits how far some work is, at every percent: how much is done, and of how much."""

    def progress(done: int, total: int) -> None:
        if 100 * done // total > 100 * (done - 1) // total:
            emit(Working(what, done, total))

    return progress


SCHEMA = 1
"""Version of the JSON output; raised when a field or its meaning changes."""


def as_json(event: Event) -> dict[str, Any]:
    """An event as plain values, with its name under `event`."""
    return {"event": event_name(type(event)), **_finite(dataclasses.asdict(event))}


def _finite(value: Any) -> Any:
    """Plain values with None in place of numbers that JSON does not have."""
    match value:
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case float() if not math.isfinite(value):
            return None
    return value


def event_name(event: type[Event]) -> str:
    """`TrialFinished` -> `trial_finished`."""
    return "".join("_" + c.lower() if c.isupper() else c for c in event.__name__).lstrip("_")
