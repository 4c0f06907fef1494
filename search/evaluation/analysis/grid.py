"""A grid whose settings are each trained several times: means, and differences to the baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial

from search import BASELINE_TRIAL
from search.definition.space import Dimension, num_combinations
from search.definition.trial_attributes import attribute
from search.evaluation.analysis.intervals import difference_interval, mean_interval
from search.study.trials import trial_result
from search.wording import format_number, format_params, trial_name

_MAX_SETTINGS = 24
"""With more settings the intervals become too wide to say anything."""

READINGS = {"val_loss": False, "val_loss_ts": False, "val_ece": False, "val_top1": True, "val_top5": True}
"""What is recorded of the kept epoch of each training, and whether more is better."""


@dataclass(frozen=True)
class SettingResult:
    """One setting by one reading."""

    trial: int
    params: Mapping[str, Any]
    values: tuple[float, ...]
    """One per repeat; the mean over the folds if there are any."""

    mean: float | None
    sd: float | None
    low: float | None
    """Lower end of the mean's 95% interval."""

    high: float | None
    change: float | None
    """Difference to the baseline; None for the baseline."""

    change_low: float | None
    """Lower end of the difference's 95% interval, widened because several settings are compared (Bonferroni)."""

    change_high: float | None


@dataclass(frozen=True)
class Reading:
    """All settings by one reading."""

    name: str
    more_is_better: bool
    rows: tuple[SettingResult, ...]

    def better(self) -> list[SettingResult]:
        """The settings that are shown to be better than the baseline, the best first."""
        return self._shown(1 if self.more_is_better else -1)

    def worse(self) -> list[SettingResult]:
        """The settings that are shown to be worse than the baseline, the worst first."""
        return self._shown(-1 if self.more_is_better else 1)

    def _shown(self, sign: int) -> list[SettingResult]:
        rows = [row for row in self.rows if row.change_low is not None and row.change_high is not None]
        found = [row for row in rows if (row.change_low or 0) * sign > 0 and (row.change_high or 0) * sign > 0]
        return sorted(found, key=lambda row: -sign * (row.change or 0))


@dataclass(frozen=True)
class GridComparison:
    """All settings by all readings. The field names are those of `--json`."""

    repeats: int
    is_paired: bool
    """Whether all settings were trained with the same seeds, so that they are compared seed by seed."""

    comparisons: int
    """Settings that are compared with the baseline: the intervals of the differences are widened for so many."""

    readings: tuple[Reading, ...]
    """The primary objective first."""

    verdict: str
    """What the objective shows, as a sentence without a full stop."""

    others: str
    """What the other readings show, likewise; empty if there are none."""


def compare_grid(
    complete: Sequence[FrozenTrial], space: Sequence[Dimension], objective: str, repeats: int
) -> GridComparison | None:
    """Compares the settings of a small grid with the baseline.

    None without repeats, without the baseline, and where the space is not a small grid: of many settings, or of settings that
    a sampler chose by their values, the best is partly luck, and needs a confirmation.
    """
    rows = {trial.number: trial_result(trial).get("trainings", []) for trial in complete}
    trials = [trial for trial in complete if len(rows[trial.number]) >= max(repeats, 2)]
    if repeats < 2 or num_combinations(space) > _MAX_SETTINGS or len(trials) < 2 or trials[0].number != BASELINE_TRIAL:
        return None
    names = {objective: ("value", False)} | {name: (name, more) for name, more in READINGS.items() if name != objective}
    read = []
    for name, (key, more) in names.items():
        values = {trial.number: by_repeat([row.get(key) for row in rows[trial.number]], repeats) for trial in trials}
        if all(values.values()):
            read.append(compare_settings(name, values, trials, more_is_better=more))
    if not read or read[0].name != objective:
        return None
    verdict, others = _verdict(read[0]), "; ".join(_others(read[1:]))
    return GridComparison(repeats, is_paired(trials), len(trials) - 1, tuple(read), verdict, others)


def by_repeat(values: Sequence[float | None], repeats: int) -> tuple[float, ...]:
    """A value for each repeat from those of all trainings, fold by fold; empty if one is missing."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values) or len(values) % repeats:
        return ()
    return tuple(fmean(known[n::repeats]) for n in range(repeats))


def is_paired(trials: Sequence[FrozenTrial]) -> bool:
    """Whether trials were trained with the same seeds."""
    return len({attribute(trial, "seed") for trial in trials}) == 1


def compare_settings(
    name: str, values: Mapping[int, tuple[float, ...]], trials: Sequence[FrozenTrial], *, more_is_better: bool
) -> Reading:
    """Every setting's mean and its difference to the first one, the baseline, by one reading."""
    base, paired, rows = values[trials[0].number], is_paired(trials), []
    for trial in trials:
        own = values[trial.number]
        mean = mean_interval(own)
        if trial is trials[0]:
            change = mean_interval([])
        elif paired:
            change = mean_interval([a - b for a, b in zip(own, base, strict=True)], len(trials) - 1)
        else:
            change = difference_interval(own, base, len(trials) - 1)
        ends = (change.mean, change.low, change.high)
        rows.append(SettingResult(trial.number, trial.params, own, mean.mean, mean.sd, mean.low, mean.high, *ends))
    return Reading(name, more_is_better, tuple(rows))


def _verdict(found: Reading) -> str:
    base = found.rows[0]
    against = f"{trial_name(base.trial)} ({format_params(base.params)})"
    better, worse = found.better(), found.worse()
    if not better and not worse:
        return f"by {found.name}, no setting is shown to differ from {against}"
    parts = [f"{_names(better)} {_is(better)} better than {against}"] if better else []
    parts += [f"{_names(worse)} {_is(worse)} worse{'' if better else f' than {against}'}"] if worse else []
    rest = [row for row in found.rows[1:] if row not in better and row not in worse]
    parts += [f"{_names(rest)} {_is(rest)} not shown to differ"] if rest else []
    return f"by {found.name}, {', '.join(parts)}"


def _others(readings: Sequence[Reading]) -> Iterator[str]:
    silent = []
    for found in readings:
        better, worse = found.better(), found.worse()
        if not better and not worse:
            silent.append(found.name)
            continue
        parts = [f"{_names(rows)} {_is(rows)} {word}" for rows, word in ((better, "better"), (worse, "worse")) if rows]
        yield f"by {found.name}, {' and '.join(parts)}"
    if silent:
        yield f"by {_listed(silent)}, no setting is shown to differ"


def _names(rows: Sequence[SettingResult]) -> str:
    """`label_smoothing 0.3 and 0.5`, in the order of the grid."""
    ordered = sorted(rows, key=lambda row: row.trial)
    names = [format_params(row.params) for row in ordered]
    if len({tuple(row.params) for row in ordered}) == 1 and len(ordered[0].params) == 1:
        names[1:] = [format_number(next(iter(row.params.values()))) for row in ordered[1:]]
    return _listed(names, "; " if len(ordered[0].params) > 1 else ", ")


def _listed(names: Sequence[str], gap: str = ", ") -> str:
    return " and ".join(filter(None, [gap.join(names[:-1]), names[-1]]))


def _is(rows: Sequence[SettingResult]) -> str:
    return "is" if len(rows) == 1 else "are"
