"""What a study's trials say: which parameters mattered, where to look next, and whether the answer hangs on the reading.

Pure functions over trials and plain values: nothing is opened, printed or stored. What trials cost, how many failed and how
far luck reaches is in `search/results/cost.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, get_args

import numpy as np
import optuna
from annotated_types import Ge, Gt, Le, Lt
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from model.objective import Metric, Reduce
from search.errors import DefinitionError, NegativeAnswer
from search.settings import checked
from search.space import Choices, Dimension, Range
from search.study import trial_result

MIN_FOR_IMPORTANCE = 20
"""Complete trials. PED-ANOVA looks at the best tenth of them, and two trials are the fewest that make a density at all."""

SPREAD = (0.05, 0.95)
"""The quantiles between which nine of ten bootstrap draws lie."""

CONFIDENCE = 0.9
"""How surely the confident value of an isolation bin is reached."""

CLEARLY = 0.1
"""Two values of a parameter differ if they lie further apart than this share of its range."""

_SLACK = 1e-9  # a tenth of a range is a tenth, whatever floats make of it
_FARTHEST_EXPONENT = 700  # exp of more does not fit a float
_MOST_DIGITS = 17  # that many tell any two floats apart


@dataclass(frozen=True)
class Importance:
    """How much one parameter mattered."""

    name: str
    importance: float
    """Share of all judged parameters' importance, 0..1."""

    low: float
    high: float
    """Its `SPREAD` over the bootstrap draws; NaN if no draw said anything."""

    sd: float
    """Its standard deviation over the draws."""


@dataclass(frozen=True)
class Importances:
    """Which parameters mattered, the most important first."""

    params: tuple[Importance, ...]
    not_judged: Mapping[str, str]
    """Why a parameter is not among them, by its name."""

    trials: int
    """Complete trials that were looked at."""

    draws: int
    """Bootstrap draws that said something."""


def importance(
    trials: Sequence[FrozenTrial],
    space: Sequence[Dimension],
    value_of: Callable[[FrozenTrial], float],
    *,
    seed: int,
    draws: int = 50,
) -> Importances:
    """Which searched parameters decide whether a trial is among the best tenth, and how far that can be trusted.

    The spread is a bootstrap's: the same number of trials drawn anew with replacement, `draws` times. It tells how the ranking
    hangs on the trials that happened to be drawn, and is no confidence interval: trials drawn twice make every peak sharper,
    and a search that crowds around its best has seen little of the rest. Parameters that do not apply in every trial are left
    out, as each would be judged on other trials than its neighbours.

    Args:
        value_of: what is minimised; trials for which it is not finite are left out.

    Raises:
        NegativeAnswer: there are fewer than `MIN_FOR_IMPORTANCE` complete trials, or their values do not differ.

    Source: PED-ANOVA, Watanabe, Bansal and Hutter 2023, as Optuna has it; bootstrap, Efron 1979.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and math.isfinite(value_of(trial))]
    if len(complete) < MIN_FOR_IMPORTANCE:
        raise NegativeAnswer(
            "there are too few complete trials to tell which parameters mattered",
            got=f"{len(complete)}",
            expected=f"{MIN_FOR_IMPORTANCE} or more",
            hint="go on with `python -m search run STUDY --more N`",
        )
    why_not = {dim.name: _why_not_judged(dim, complete) for dim in space}
    judged = [dim for dim in space if not why_not[dim.name]]
    rows = [_bare(trial, judged, value_of(trial)) for trial in complete]
    rng = np.random.default_rng(seed)
    with _silent():
        whole = _shares(rows, judged)
        drawn = [_shares([rows[n] for n in rng.integers(len(rows), size=len(rows))], judged) for _ in range(draws)]
    if judged and not whole:
        raise NegativeAnswer(
            "nothing tells which parameters mattered: the complete trials' values do not differ",
            hint="look at another objective, or widen the space",
        )
    said = [shares for shares in drawn if shares]
    found = [_with_spread(dim.name, whole[dim.name], [shares[dim.name] for shares in said]) for dim in judged]
    ranked = sorted(found, key=lambda one: (-one.importance, one.name))
    return Importances(tuple(ranked), {name: why for name, why in why_not.items() if why}, len(complete), len(said))


def _why_not_judged(dim: Dimension, complete: Sequence[FrozenTrial]) -> str:
    values = [trial.params[dim.name] for trial in complete if dim.name in trial.params]
    if len(values) < len(complete):
        return f"it applies in {len(values)} of {len(complete)} trials only"
    if all(value == values[0] for value in values):
        return f"it is {values[0]} in every trial"
    return "" if all(dim.contains(value) for value in values) else "some of its values lie outside its range"


def _bare(trial: FrozenTrial, judged: Sequence[Dimension], value: float) -> FrozenTrial:
    """The trial with nothing but its value and the judged parameters, in today's ranges: a study may have been widened."""
    return create_trial(
        value=value,
        params={dim.name: trial.params[dim.name] for dim in judged},
        distributions={dim.name: dim.distribution() for dim in judged},
    )


def _shares(rows: Sequence[FrozenTrial], judged: Sequence[Dimension]) -> dict[str, float]:
    """Importance by name, 1 together; empty where it is 0 for all, as it is where the best tenth is no better than the rest."""
    study = optuna.create_study()
    study.add_trials(rows)
    raw = PedAnovaImportanceEvaluator().evaluate(study, params=[dim.name for dim in judged])
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()} if total > 0 else {}


def _with_spread(name: str, whole: float, drawn: Sequence[float]) -> Importance:
    if not drawn:
        return Importance(name, whole, math.nan, math.nan, math.nan)
    low, high = np.quantile(drawn, SPREAD)
    return Importance(name, whole, float(low), float(high), float(np.std(drawn)))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Optuna tells of every study that it makes, and warns of draws whose values do not differ, which are expected here."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


@dataclass(frozen=True)
class EdgeAdvice:
    """A value lies at the edge of its range, and where to look next."""

    name: str
    edge: str
    """`lower` or `upper`."""

    value: int | float
    old: Range
    new: Range
    """Holds the old one, so that a study can be widened to it."""

    text: str
    """What `--set` takes: `space.lr={low: 1e-05, high: 0.3, log: true}`."""


def edge_advice(dim: Dimension, value: Any) -> EdgeAdvice | None:
    """The range to try next if a value lies at an edge of its range that its setting can pass; else None.

    The range grows beyond that edge by half of its span, on the scale that it is drawn on, as far as the setting may go: up to
    a limit that it may take, half of the way to one that it may not (a dropout of 1). The new end has two significant digits,
    more only where these would not lie beyond the old end; whole numbers stay whole, steps stay on their grid. None too where
    no whole step is left.
    """
    domain = dim.domain
    if not isinstance(domain, Range) or not dim.contains(value):
        return None
    edge = dim.edge(value)
    if not edge:
        return None
    end = _new_end(dim, domain, upper=edge == "upper")
    if end is None:
        return None
    new = replace(domain, high=end) if edge == "upper" else replace(domain, low=end)
    return EdgeAdvice(dim.name, edge, value, domain, new, f"space.{dim.name}={_flow_text(dim, new)}")


def _new_end(dim: Dimension, domain: Range, *, upper: bool) -> int | float | None:
    limit, is_allowed = _limit(dim, upper=upper)
    if domain.step is not None:
        return _grid_end(domain, limit, is_allowed, upper=upper)
    scale, back = (math.log, _exp) if domain.log else (float, float)
    low, high = scale(domain.low), scale(domain.high)
    half, old = (high - low) / 2, domain.high if upper else domain.low
    wished = back(high + half) if upper else back(low - half)
    if not math.isfinite(wished):
        return None
    if dim.is_int:
        wished = math.ceil(wished) if upper else math.floor(wished)
    if wished >= limit if upper else wished <= limit:
        wished = limit if is_allowed else back((scale(old) + scale(limit)) / 2)
    for digits in range(2, _MOST_DIGITS + 1):
        end = float(f"{wished:.{digits - 1}e}")
        is_beyond = end > old if upper else end < old
        if is_beyond and _may_be(dim, int(end) if dim.is_int else end):
            return int(end) if dim.is_int else end
    return None


def _exp(exponent: float) -> float:
    return math.exp(min(max(exponent, -_FARTHEST_EXPONENT), _FARTHEST_EXPONENT))


def _grid_end(domain: Range, limit: float, is_allowed: bool, *, upper: bool) -> int | float | None:
    """The end half as many steps further out, or as many as the limit leaves. In decimals: 0.1 is a tenth."""
    old, step = (Decimal(str(number)) for number in (domain.high if upper else domain.low, domain.step))
    steps = domain.size // 2
    if math.isfinite(limit):
        room = abs(Decimal(str(limit)) - old) / step
        steps = min(steps, int(room) - (not is_allowed and room == int(room)))
    if steps < 1:
        return None
    return type(domain.high)(old + steps * step if upper else old - steps * step)


def _limit(dim: Dimension, *, upper: bool) -> tuple[float, bool]:
    """The last value that a setting may have by its annotation, infinite for none, and whether it may have that value."""
    limits: list[tuple[float, bool]] = []
    for mark in get_args(dim.setting.annotation)[1:]:
        given: Any = mark
        if isinstance(mark, Le if upper else Ge):
            limits.append((given.le if upper else given.ge, True))
        elif isinstance(mark, Lt if upper else Gt):
            limits.append((given.lt if upper else given.gt, False))
    sign = 1 if upper else -1
    limit, is_allowed = min(limits, key=lambda one: (sign * one[0], one[1]), default=(sign * math.inf, True))
    if dim.is_int and not is_allowed:
        return limit - sign, True
    return limit, is_allowed


def _may_be(dim: Dimension, value: int | float) -> bool:
    try:
        checked(dim.setting.annotation, value, dim.name, "")
    except DefinitionError:
        return False
    return True


def _flow_text(dim: Dimension, new: Range) -> str:
    """The whole entry on one line, since `--set` puts it in the place of the old one."""
    parts = [f"low: {new.low!r}", f"high: {new.high!r}"]
    parts += ["log: true"] if new.log else []
    parts += [f"step: {new.step!r}"] if new.step is not None else []
    parts += [f"role: {dim.role}"] if dim.role != "nuisance" else []
    if dim.when:
        parts.append(f"when: {json.dumps({one.key: list(one.values) for one in dim.when}, ensure_ascii=False)}")
    return f"{{{', '.join(parts)}}}"


@dataclass(frozen=True)
class Point:
    """A complete trial as a point: where it lies on one parameter, and what it reached."""

    trial: int
    at: Any
    value: float


@dataclass(frozen=True)
class Bin:
    """The trials of one part of a parameter's range. The last three are None where there are none."""

    low: Any
    high: Any
    """Its ends; the same for a bin of one value."""

    count: int
    best: float | None
    trial: int | None
    """Which trial that was; the first of equals."""

    confident: float | None
    """What the best of `count` trials reaches in nine of ten cases; see `confident_value`."""

    @property
    def text(self) -> str:
        """The bin as people read it."""
        low, high = (f"{end:.3g}" if isinstance(end, float) else str(end) for end in (self.low, self.high))
        return low if self.low == self.high else f"{low} .. {high}"


def points_of(trials: Sequence[FrozenTrial], name: str, value_of: Callable[[FrozenTrial], float]) -> list[Point]:
    """The complete trials that have a parameter, and a value that is a number (infinite ones are)."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and name in trial.params]
    points = [Point(trial.number, trial.params[name], value_of(trial)) for trial in complete]
    return [point for point in points if not math.isnan(point.value)]


def isolation(points: Sequence[Point], *, domain: Range | Choices, bins: int = 6) -> list[Bin]:
    """The best that was reached along a scientific parameter, with the nuisance parameters at whatever suited each part of it.

    Bins of equal width on the parameter's scale, in order; each choice, and each step or whole number where there are no more
    than `bins`, has its own. More steps are dealt out evenly, whole. A range with whole ends is one of whole numbers, as
    `space.dimension` makes them. Empty bins stay in. Points outside the domain are in none.

    Raises:
        ValueError: no bins are asked for.

    Source: isolation plots, Godbole et al. 2023, "Deep learning tuning playbook".
    """
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, not {bins}")
    ends = _bin_ends(domain, bins)
    found: list[list[Point]] = [[] for _ in ends]
    for point in points:
        place = _bin_of(domain, ends, point.at)
        if place is not None:
            found[place].append(point)
    return [_bin(low, high, inside) for (low, high), inside in zip(ends, found, strict=True)]


def confident_value(values: Sequence[float]) -> float:
    """What the best of as many trials, drawn anew from these with replacement, reaches in nine of ten cases. Lower is better.

    Of n values in order x_1 <= ... <= x_n, one draw lies above place m with probability (n - m)/n, and all n draws do so with
    ((n - m)/n)^n. So the best of them is x_m or lower with probability 1 - ((n - m)/n)^n, and the smallest m for which that
    is 0.9 gives the value; with equal values it is reached more often still. With one value it is that value.

    Raises:
        ValueError: there are no values.
    """
    n = len(values)
    if not n:
        raise ValueError("there are no values")
    place = next(m for m in range(1, n + 1) if 1 - ((n - m) / n) ** n >= CONFIDENCE)
    return sorted(values)[place - 1]


def _bin(low: Any, high: Any, inside: Sequence[Point]) -> Bin:
    if not inside:
        return Bin(low, high, 0, None, None, None)
    best = min(inside, key=lambda point: (point.value, point.trial))
    return Bin(low, high, len(inside), best.value, best.trial, confident_value([point.value for point in inside]))


def _has_steps(domain: Range) -> bool:
    return domain.step is not None or (isinstance(domain.low, int) and isinstance(domain.high, int))


def _bin_ends(domain: Range | Choices, bins: int) -> list[tuple[Any, Any]]:
    """First and last value of each bin; ranges without steps share theirs with their neighbours."""
    if isinstance(domain, Choices):
        return [(choice, choice) for choice in domain.choices]
    if _has_steps(domain) and (not domain.log or domain.size <= bins):
        size, step = domain.size, Decimal(str(domain.step or 1))
        count = min(bins, size)
        first = [-(-number * size // count) for number in range(count + 1)]
        low, kind = Decimal(str(domain.low)), type(domain.high)
        return [(kind(low + start * step), kind(low + (after - 1) * step)) for start, after in itertools.pairwise(first)]
    space = np.geomspace if domain.log else np.linspace
    edges = [domain.low, *(float(edge) for edge in space(domain.low, domain.high, bins + 1)[1:-1]), domain.high]
    return list(itertools.pairwise(edges))


def _bin_of(domain: Range | Choices, ends: Sequence[tuple[Any, Any]], at: Any) -> int | None:
    """The bin that a value lies in; of two that meet there the upper one."""
    if isinstance(domain, Choices):
        return domain.choices.index(at) if at in domain.choices else None
    slack = _SLACK * abs(domain.high - domain.low) if domain.step is not None else 0.0  # steps are rarely exact
    if not domain.low - slack <= at <= domain.high + slack:
        return None
    return max(bisect_right([low for low, _ in ends], at + slack) - 1, 0)


@dataclass(frozen=True)
class Pick:
    """The trial that one reading of the curves puts first."""

    metric: Metric
    trial: int
    at: Any
    """Its value of the parameter."""

    reading: float


@dataclass(frozen=True)
class Readings:
    """Which value of a parameter each reading chooses."""

    name: str
    picks: tuple[Pick, ...]
    """One for each metric that any complete trial has recorded."""

    disagree: bool
    """Whether two of the choices differ: by more than a tenth of the range on its scale, or at all where there are choices."""

    leans: bool
    """Whether plain val_loss chooses a clearly smaller value than val_loss_ts and than val_error."""

    text: str


def readings(
    trials: Sequence[FrozenTrial],
    name: str,
    *,
    domain: Range | Choices,
    reduce: Reduce = "best",
    metrics: Sequence[Metric] = get_args(Metric),
) -> Readings:
    """Whether the value that is chosen for a parameter hangs on how the curves are read; see `model.objective.all_values`.

    Of equal readings the lower val_loss_ts decides, then the earlier trial. Trials that have not recorded a reading, or one
    that is not finite, do not take part in it.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and name in trial.params]
    found = [_pick(complete, name, metric, reduce) for metric in metrics]
    picks = tuple(pick for pick in found if pick is not None)
    disagree = any(_differ(one.at, other.at, domain) for one in picks for other in picks)
    at = {pick.metric: pick.at for pick in picks}
    others = [at[metric] for metric in ("val_loss_ts", "val_error") if metric in at]
    leans = (
        "val_loss" in at
        and len(others) == 2
        and all(_is_below(at["val_loss"], other) and _differ(at["val_loss"], other, domain) for other in others)
    )
    return Readings(name, picks, disagree, leans, _readings_text(name, picks, disagree=disagree, leans=leans))


def _pick(complete: Sequence[FrozenTrial], name: str, metric: Metric, reduce: Reduce) -> Pick | None:
    rows = []
    for trial in complete:
        values = trial_result(trial).get("all_values", {})
        reading = values.get(f"{metric}_{reduce}", math.nan)
        if math.isfinite(reading):
            rows.append((reading, values.get(f"val_loss_ts_{reduce}", math.inf), trial.number, trial.params[name]))
    if not rows:
        return None
    reading, _, number, at = min(rows, key=lambda row: row[:3])
    return Pick(metric, number, at, reading)


def _differ(one: Any, other: Any, domain: Range | Choices) -> bool:
    if isinstance(domain, Choices):
        return bool(one != other)
    if domain.log and min(one, other) <= 0:  # on no logarithmic scale: as far from all that are as can be
        return bool(one != other)
    scale = math.log if domain.log else float
    return abs(scale(one) - scale(other)) > (CLEARLY + _SLACK) * (scale(domain.high) - scale(domain.low))


def _is_below(one: Any, other: Any) -> bool:
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return are_numbers and bool(one < other)


def _readings_text(name: str, picks: Sequence[Pick], *, disagree: bool, leans: bool) -> str:
    if not picks:
        return f"no complete trial has recorded what it reads for {name}"
    shown = [f"{pick.at:.3g}" if isinstance(pick.at, float) else str(pick.at) for pick in picks]
    chosen = ", ".join(f"{at} by {pick.metric} (trial {pick.trial})" for at, pick in zip(shown, picks, strict=True))
    end = "the readings agree" if len(picks) > 1 else "there is one reading only"
    if leans:
        end = f"plain NLL leans to a small {name} through confidence, not through errors"
    elif disagree:
        end = "the choice hangs on the reading"
    return f"the best {name} is {chosen}: {end}"
