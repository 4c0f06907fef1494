"""Learning curves of a trial, one for each of its trainings (folds and repeats)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from model.objective import Objective
from model.record import EpochRecord, mean_record


@dataclass(frozen=True)
class Step:
    """A unit of a trial's work: an epoch of each unfinished training or, one by one, of a single training."""

    records: Mapping[int, EpochRecord]
    """By number of the training."""

    ended: frozenset[int] = frozenset()
    """Trainings that end with this step."""

    is_last: bool = False
    """Whether it is the trial's last step."""


@dataclass
class Curves:
    """The epochs of a trial's trainings so far."""

    objective: Objective
    one_by_one: bool = False
    repeats: int = 1
    """Trainings per fold."""

    unit: int = 1
    """One by one: trainings per value for the pruner; all repeats of a fold, or one without folds."""

    histories: dict[int, list[EpochRecord]] = field(default_factory=dict)
    steps: int = 0

    def add(self, step: Step) -> None:
        """Adds a step."""
        for training, record in step.records.items():
            self.histories.setdefault(training, []).append(record)
        self.steps += 1

    def report(self, step: Step) -> tuple[int, float] | None:
        """Number and intermediate value for the pruner after the last step; None if there is no new one.

        Side by side: the epoch, and the mean over all trainings. One by one: the fold that has ended (the repeat, without
        folds), and its mean value.
        """
        if not self.one_by_one:
            return self.steps, self.mean(self.objective.intermediate_value)
        ended = next(iter(step.ended), None)
        if ended is None or (ended + 1) % self.unit:
            return None
        values = [self.objective.value(self.histories[n]) for n in range(ended + 1 - self.unit, ended + 1)]
        return ended // self.unit, sum(values) / len(values)

    def shown(self, step: Step) -> EpochRecord:
        """The last step for display: the mean over the trainings, where ended ones count with their last epoch."""
        records = step.records.values() if self.one_by_one else [history[-1] for history in self.histories.values()]
        seconds = sum(record.seconds for record in step.records.values())
        return replace(mean_record(list(records)), seconds=seconds)

    def mean(self, value: Callable[[list[EpochRecord]], float]) -> float:
        """Mean over the trainings of a value of their curves."""
        return sum(value(history) for history in self.histories.values()) / len(self.histories)

    def mean_at_kept_epoch(self, number: Callable[[EpochRecord], float]) -> float:
        """Mean over the trainings of a number at their kept epochs."""
        return self.mean(lambda history: number(self.objective.kept_epoch(history)))

    @property
    def num_epochs(self) -> int:
        """Epochs of all trainings together."""
        return sum(len(history) for history in self.histories.values())

    @property
    def seconds(self) -> float:
        """Training time of all trainings together."""
        return sum(record.seconds for history in self.histories.values() for record in history)
