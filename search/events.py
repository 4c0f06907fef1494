"""What happens during a run, as values. The coordinator emits them; screens, logs and tests listen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from model.record import EpochRecord


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
    storage: str
    finished: int
    target: int
    epochs: int
    space: Mapping[str, str]
    """Searched settings and their ranges as text."""


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
    again: bool = False
    """It was begun by a run that was stopped, and starts over with the same parameters and seed."""


@dataclass(frozen=True)
class EpochFinished:
    """A trial has trained and validated once more."""

    trial: int
    record: EpochRecord


@dataclass(frozen=True)
class TrialFinished:
    """A trial is over."""

    trial: int
    state: str
    """`complete`, `pruned` or `failed`."""

    params: Mapping[str, Any]
    value: float | None
    """The objective: val_loss at the best epoch; None for a failed trial."""

    val_top1: float | None
    """Accuracy at that epoch."""

    epochs: int
    seconds: float
    is_best: bool
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
    seconds: float
    stopped_by: str = ""
    """Empty when the target was met."""


@dataclass(frozen=True)
class TrialSummary:
    """A finished trial in short."""

    trial: int
    params: Mapping[str, Any] = field(default_factory=dict)
    value: float = float("nan")
    val_top1: float = float("nan")
    epoch: int = 0
    """The epoch that gave them."""


Event = RunStarted | Notice | DataPrepared | TrialStarted | EpochFinished | TrialFinished | RunFinished
Listener = Callable[[Event], None]
