"""Trials that the machine failed, not their settings: when the run stops instead of losing more of them, and what is said."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from search import BASELINE_TRIAL
from search.definition.trial_attributes import attribute
from search.engines.engine import WorkerLost
from search.errors import ResourceError

MAX_IN_A_ROW = 3
"""With so many trials in a row the machine is to blame, not their settings."""

_MEMORY, _GPU, _DEATHS = "out of memory", "the GPU failed", "its worker died"
"""How the reason of a trial begins that the machine failed."""


def with_advice(lost: WorkerLost) -> str:
    """Why the device failed a trial, with what helps if that is known."""
    if not lost.reason.startswith(_MEMORY):
        return lost.text
    fewer = "fewer --workers, or " if lost.shares_device else ""
    return f"{lost.text}; try {fewer}a smaller batch_size in a new study (`--as NAME`)"


class MachineFailures:
    """Counts the trials of a run that the machine failed, one after the other: in all, and on each GPU.

    A GPU that fails is found although others train. A trial that fails there counts even if it is tried once more.
    """

    def __init__(self, unit: str) -> None:
        """`unit`: what the run trains, `trial` or `training`."""
        self._unit = unit
        self._in_a_row = 0
        self._failed_on: dict[str, set[int]] = {}
        """By GPU, the trials that failed there since one ended well."""

        self._failed_before: dict[int, int] = {}
        """By trial, how many had failed on its GPU when it was started there."""

    def start(self, trial: int, gpu: str | None) -> None:
        """A trial trains on a GPU."""
        if gpu is not None:
            self._failed_before[trial] = len(self._failed_on.setdefault(gpu, set()))

    def end(self, gpu: str | None, state: TrialState, *, by_machine: bool) -> None:
        """A trial has ended."""
        self._in_a_row = self._in_a_row + 1 if by_machine else 0
        if gpu is not None and state != TrialState.FAIL:
            self._failed_on[gpu].clear()

    def verdict(self, name: str, lost: WorkerLost, reason: str, *, is_baseline: bool) -> ResourceError | None:
        """Why the run stops, and leaves a trial that lost its worker to the next run; None if it goes on.

        Args:
            reason: why the machine fails the trial; empty if it is tried again.
        """
        is_bad_gpu = self._is_bad(lost, is_final=bool(reason))
        if is_baseline and reason:
            return ResourceError(
                f"the machine failed {name}, the baseline",
                got=reason,
                hint=f"{_what_to_check(reason)} It is not recorded as failed: the same command tries it again",
            )
        if not is_bad_gpu and not (reason and self._in_a_row + 1 >= MAX_IN_A_ROW):
            return None
        others = ",".join(sorted(self._failed_on.keys() - {lost.gpu}, key=lambda gpu: (len(gpu), gpu)))
        way_out = f"; with `CUDA_VISIBLE_DEVICES={others}` before it, without this GPU" if is_bad_gpu and others else ""
        return ResourceError(
            f"{f'GPU {lost.gpu}' if is_bad_gpu else 'the machine'} failed in {MAX_IN_A_ROW} {self._unit}s in a row",
            got=f"the last: {name}: {reason or lost.text}",
            hint=f"{_what_to_check(reason or lost.text)} The same command goes on, with this {self._unit} first{way_out}",
        )

    def _is_bad(self, lost: WorkerLost, *, is_final: bool) -> bool:
        """Counts a failure on a GPU. Whether it is to blame.

        Trials that were there when another failed are no further sign: what broke one may have broken all.
        """
        if lost.gpu is None or lost.with_others:
            return False
        failed = self._failed_on.setdefault(lost.gpu, set())
        is_news = self._failed_before.get(lost.trial, len(failed)) == len(failed)
        if is_final or (is_news and lost.reason.startswith(_GPU)):
            failed.add(lost.trial)
        return len(failed) >= MAX_IN_A_ROW


def lost_baseline(study: str, trials: Sequence[FrozenTrial]) -> str:
    """A sentence on a baseline that an earlier version recorded as failed by the machine; empty if there is none."""
    baseline = next((trial for trial in trials if trial.number == BASELINE_TRIAL and trial.state == TrialState.FAIL), None)
    reason = "" if baseline is None else str(attribute(baseline, "reason", ""))
    if not reason.startswith((_MEMORY, _GPU, _DEATHS)):
        return ""
    return (
        f"the machine failed the baseline, trial {BASELINE_TRIAL} ({reason}), so trials are not compared with it; "
        f"`islr-search confirm {study}` trains it again, and `--as NAME` starts a new study with a baseline"
    )


def _what_to_check(reason: str) -> str:
    if reason.startswith(_GPU):
        return "check the GPU with `nvidia-smi` and `islr-search doctor`."
    if reason.startswith(_MEMORY):
        return "does another program use the memory?"
    return "is the machine out of memory? Try fewer --workers."
