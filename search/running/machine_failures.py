"""Trials that the machine failed, not their settings: when the run stops instead of losing more of them, and what is said."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from search import BASELINE_TRIAL
from search.definition.trial_attributes import attribute
from search.errors import ResourceError

MAX_IN_A_ROW = 3
"""With so many trials in a row the machine is to blame, not their settings."""

_MEMORY, _GPU, _DEATHS = "out of memory", "the GPU failed", "its worker died"
"""How the reason of a trial begins that the machine failed."""


def with_advice(reason: str) -> str:
    """The reason of a trial that the machine failed, with what helps if that is known."""
    return f"{reason}; try fewer --workers or a smaller batch_size" if reason.startswith(_MEMORY) else reason


class MachineFailures:
    """Counts the trials of a run that the machine failed, one after the other."""

    def __init__(self, unit: str) -> None:
        """`unit`: what the run trains, `trial` or `training`."""
        self._unit = unit
        self._in_a_row = 0

    def count(self, *, by_machine: bool) -> None:
        """A trial has ended."""
        self._in_a_row = self._in_a_row + 1 if by_machine else 0

    def verdict(self, name: str, reason: str, *, is_baseline: bool) -> ResourceError | None:
        """Why the run stops, and leaves a trial that the machine failed to the next run; None if it is recorded as failed."""
        if is_baseline:
            return ResourceError(
                f"the machine failed {name}, the baseline",
                got=reason,
                hint=f"{_what_to_check(reason)} It is not recorded as failed: the same command tries it again",
            )
        if self._in_a_row + 1 < MAX_IN_A_ROW:
            return None
        return ResourceError(
            f"the machine failed in {MAX_IN_A_ROW} {self._unit}s in a row",
            got=f"the last: {name}: {reason}",
            hint=f"{_what_to_check(reason)} The same command goes on, with this {self._unit} first",
        )


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
