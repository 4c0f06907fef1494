"""Where the trials of one run train: the engine, its GPUs, and how many trials at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import psutil

from data_utils.wording import counted
from search.definition.definition import Plan
from search.engines.lockstep.sizing import LEARNING_SHARE, MOST_AT_ONCE, LargestNetwork, trials_that_fit
from search.trial.clips import TrialClips
from search.trial.gpus import Gpu


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run has to train, as far as it decides how many trials fit at once."""

    network: LargestNetwork
    lengths_C: np.ndarray
    """int64 `[C]`: frames of each clip that a trial trains or validates on, before they are preprocessed."""

    words: int
    trainings: int
    """How many models a trial trains side by side."""

    left: int
    """Trials that are left."""

    planned: int | None = None
    """The study's target, if a sampler learns from the trials; None: it is known what will be trained."""

    shares_order: bool = True
    """Whether trials that do not begin together can share a stack."""

    apart: tuple[str, ...] = ()
    """Settings that differ between the trials, and keep those that differ in them out of one stack."""

    alike: int | None = None
    """The most trials that can share a stack; None: all."""

    unit: str = "trial"
    """What one of them is called: a confirmation has trainings."""

    share_of_each: int = 1
    """How many trainings of one trial can share a stack: its repeats, if they have the same order of the clips."""

    @staticmethod
    def of(
        trial_clips: TrialClips,
        plan: Plan,
        network: LargestNetwork,
        *,
        left: int,
        planned: int | None,
        shares_order: bool,
        apart: tuple[str, ...],
        alike: int | None = None,
        unit: str = "trial",
        repeats_share: bool = False,
    ) -> Work:
        """Trials with these clips."""
        return Work(
            network=network,
            lengths_C=np.concatenate([np.asarray(entry.lengths, np.int64) for entry in trial_clips.entries]),
            words=len(trial_clips.data.words),
            trainings=1 if plan.one_by_one else len(trial_clips.split.train_validation_pairs()) * plan.repeats,
            left=left,
            planned=planned,
            shares_order=shares_order,
            apart=apart,
            alike=alike,
            unit=unit,
            share_of_each=plan.repeats if repeats_share and not plan.one_by_one else 1,
        )

    def width(self, trials: int) -> int:
        """The most trainings in one stack, with so many trials at once in a process."""
        return min(trials, trials if self.alike is None else self.alike) * self.share_of_each


@dataclass(frozen=True, kw_only=True)
class Placement:
    """See the head of this file."""

    engine: str
    device: str
    gpus: tuple[Gpu, ...]
    """All that may be used; none on the CPU, and on a cluster."""

    workers: int
    """Trials at once."""

    width: int = 1
    """With the engine `lockstep`: the most trainings in one stack."""

    is_default: bool = False
    """Whether the engine was not chosen by the user."""

    has_chosen_workers: bool = False
    """Whether their number was."""

    shares_order: bool = True
    apart: tuple[str, ...] = ()
    unit: str = "trial"
    """See `Work`."""

    @property
    def used(self) -> tuple[Gpu, ...]:
        """The GPUs that train."""
        return self.gpus[: self.workers]

    @property
    def processes(self) -> int:
        """How many processes train."""
        return max(len(self.used), 1) if self.engine == "lockstep" else self.workers

    def text(self) -> str:
        """For the first lines of a run, such as `2 GPUs (NVIDIA H200), 16 trials in lockstep on each`."""
        count, workers = len(self.used), self.workers
        names = ", ".join(dict.fromkeys(gpu.name for gpu in self.used))
        device = f"{counted(count, 'GPU')} ({names})" if count > 1 else f"{self.device} ({names})" if count else self.device
        if self.engine == "lockstep":
            share, rest = divmod(workers, max(count, 1))
            each = " on each" if count > 1 and not rest else ""
            if share == 1 and not rest:
                return f"{device}, one {self.unit} {each.strip() or 'at a time'}"
            return f"{device}, {workers if rest else share} {self.unit}s in lockstep{each}"
        if count > 1 and workers == count:
            return f"{device}, one worker on each"
        return device + (f", {workers} workers" if workers > 1 else "")

    def notices(self) -> Iterator[str]:
        """What the user may not expect."""
        idle = len(self.gpus) - len(self.used)
        if idle and (self.engine == "inline" or self.has_chosen_workers):
            by = "the engine `inline`" if self.engine == "inline" else f"--workers {self.workers}"
            trials = f"one {self.unit}" if self.workers == 1 else f"{self.workers} {self.unit}s"
            stay = "stays" if idle == 1 else "stay"
            yield f"{idle} of {counted(len(self.gpus), 'GPU')} {stay} idle: {by} trains {trials} at a time"
        names = ", ".join(f"`{name}`" for name in self.apart)
        if self.is_default and self.gpus and self.apart:
            yield f"{self.unit}s that differ in {names} cannot train in one stack: a worker trains one at a time"
        elif self.engine == "lockstep" and self.apart and self.workers > len(self.used) > 0:
            yield f"{self.unit}s that differ in {names} cannot train in one stack: each such stack costs as much as a full one"
        elif self.is_default and self.gpus and not self.shares_order:
            yield (
                "this study was not made for lockstep: each trial has an order of the clips of its own, so a worker trains one "
                "at a time; a new study (`--as NAME`) trains many at once"
            )
        if self.engine == "lockstep" and not self.gpus:
            yield (
                f"on the CPU `--engine lockstep` trains all {self.unit}s on one core, and the compiled kernel trains each of "
                "them by itself: `--engine processes` is faster"
            )


def lockstep_trials(gpus: Sequence[Gpu], work: Work) -> int:
    """How many trials train at once in lockstep on these GPUs, or on the CPU: at least one on each.

    As many as fit on the GPU with the least free memory, at most `MOST_AT_ONCE` on each, and in a search at most one in
    `LEARNING_SHARE` of all trials, however many are left: a run that goes on has stacks of the same width.
    """
    hosts = max(len(gpus), 1)
    free = min((gpu.free for gpu in gpus), default=psutil.virtual_memory().available)
    fit = trials_that_fit(free, work.network, work.lengths_C, words=work.words, trainings=work.trainings)
    most = hosts * min(fit, MOST_AT_ONCE)
    return max(most if work.planned is None else min(most, work.planned // LEARNING_SHARE), hosts)
