"""The analysis of a study's trials agrees with independent calculations."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.definition.dimensions import parse_dimension
from search.definition.ranges import Choices, Range
from search.definition.settings import find_setting
from search.definition.space import Dimension
from search.definition.study_file import load_definition
from search.errors import NegativeAnswer
from search.evaluation.analysis import importance as importance_module
from search.evaluation.analysis.cost import Cost, infeasible, spending
from search.evaluation.analysis.edges import edge_advice
from search.evaluation.analysis.grid import GridComparison, compare_grid
from search.evaluation.analysis.importance import importance
from search.evaluation.analysis.isolation import Point, confident_value, isolation_bins, trial_points
from search.evaluation.analysis.metrics_agree import MetricBest, compare_metrics
from search.evaluation.analysis.noise import Noise, expected_optimism, noise_from_repeats

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING
UNIT = Range(low=0.0, high=1.0)
SPACE = tuple(Dimension(name, find_setting("dropout", ""), UNIT) for name in ("x", "y", "z"))


def dim_of(name: str, **given: Any) -> Dimension:
    """A checked dimension of a setting."""
    return parse_dimension(name, find_setting(name, ""), given, "")


def first_value(trial: FrozenTrial) -> float:
    """The first objective."""
    return float(trial.values[0])


def trial_of(
    state: TrialState = COMPLETE,
    value: float | Sequence[float] = 1.0,
    *,
    params: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    number: int = 0,
    **attributes: Any,
) -> FrozenTrial:
    """A trial as the database returns it."""
    params = params or {}
    kinds = {
        name: optuna.distributions.FloatDistribution(-1e6, 1e6)
        if isinstance(one, float)
        else optuna.distributions.CategoricalDistribution([one])
        for name, one in params.items()
    }
    if result is not None:
        attributes["result"] = json.dumps(result)
    values = [value] if isinstance(value, int | float) else list(value)
    trial = create_trial(
        state=state,
        values=values if state == COMPLETE else None,
        params=params,
        distributions=kinds,
        user_attrs=attributes,
    )
    trial.number = number
    return trial


def drawn(number: int, *, seed: int = 0, **more: dict[str, Any]) -> list[FrozenTrial]:
    """Complete trials whose value depends on x most, on y a little, on z not at all."""
    rng = np.random.default_rng(seed)
    trials = []
    for x, y, z in rng.uniform(size=(number, 3)):
        trial = create_trial(
            value=10 * x**2 + y,
            params={"x": x, "y": y, "z": z},
            distributions={dim.name: dim.distribution() for dim in SPACE},
        )
        trials.append(trial)
    return trials


# which parameters mattered


def test_the_order_of_importance() -> None:
    """The parameter that decides comes first in 90% of resamples, and the shares sum to 1."""
    found = importance(drawn(150), SPACE, first_value, seed=0)
    assert found.params[0].name == "x"
    assert found.params[0].low > max(one.high for one in found.params[1:])
    assert sum(one.importance for one in found.params) == pytest.approx(1)
    assert [one.importance for one in found.params] == sorted((one.importance for one in found.params), reverse=True)
    assert all(0 <= one.low <= one.high <= 1 and one.sd > 0 for one in found.params)
    assert (found.trials, found.draws, found.not_judged) == (150, 50, {})


@pytest.mark.parametrize("seed", range(3))
def test_importance_matches_optuna(seed: int) -> None:
    """The importances of all trials are those of Optuna, whatever the other objectives."""
    trials = drawn(40, seed=seed)
    study = optuna.create_study()
    study.add_trials(trials)
    expected = optuna.importance.get_param_importances(study)
    second = [replace_values(trial, [0.0, first_value(trial)]) for trial in trials]
    found = importance(second, SPACE, lambda trial: trial.values[1], seed=0, draws=2)
    assert {one.name: one.importance for one in found.params} == pytest.approx(expected)


def replace_values(trial: FrozenTrial, values: list[float]) -> FrozenTrial:
    """The same trial with other values."""
    return create_trial(values=values, params=trial.params, distributions=trial.distributions)


def test_the_seed_decides_the_resamples() -> None:
    """Equal seeds give equal spreads, different seeds different ones; the importance itself depends on neither."""
    trials = drawn(30)
    one, same, other = (importance(trials, SPACE, first_value, seed=seed, draws=10) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert [p.importance for p in one.params] == [p.importance for p in other.params]


def test_the_spread_is_that_of_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantiles and standard deviation are over the resamples; resamples without a result are left out and counted."""
    answers = iter([{"x": 0.5, "y": 0.5}, *({"x": n / 10, "y": 1 - n / 10} for n in range(11)), {}, {}])
    monkeypatch.setattr(importance_module, "_shares", lambda rows, judged: next(answers))
    found = importance(drawn(20), SPACE[:2], first_value, seed=0, draws=13)
    assert found.draws == 11
    x, _ = found.params
    assert (x.low, x.high) == pytest.approx((0.05, 0.95))
    assert x.sd == pytest.approx(math.sqrt(0.1))


def test_resamples_are_drawn_with_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resample has as many trials as there are, some of them twice, others not at all."""
    seen: list[list[float]] = []

    def shares(rows: Sequence[FrozenTrial], judged: object) -> dict[str, float]:
        seen.append([row.params["x"] for row in rows])
        return {"x": 0.5, "y": 0.5}

    monkeypatch.setattr(importance_module, "_shares", shares)
    importance(drawn(40), SPACE[:2], first_value, seed=0, draws=5)
    whole, *draws = seen
    assert all(len(draw) == 40 and set(draw) < set(whole) for draw in draws)
    assert 0.55 < statistics.fmean(len(set(draw)) for draw in draws) / 40 < 0.72, "1 - 1/e of them"


@pytest.mark.parametrize(
    ("trials", "count"),
    [([], 0), (drawn(1), 1), (drawn(19), 19), ([trial_of(PRUNED)] * 30, 0), ([trial_of(FAIL)] * 30, 0)],
)
def test_too_few_trials_for_importance(trials: list[FrozenTrial], count: int) -> None:
    """The error says how many complete trials there are."""
    with pytest.raises(NegativeAnswer, match="too few complete trials") as error:
        importance(trials, SPACE, first_value, seed=0)
    assert str(count) in str(error.value)


def test_infinite_values_are_left_out() -> None:
    """Twenty trials of which one is infinite count as nineteen."""
    with pytest.raises(NegativeAnswer):
        importance([*drawn(19), replace_values(drawn(1)[0], [math.inf])], SPACE, first_value, seed=0)
    assert importance([*drawn(20), replace_values(drawn(1)[0], [math.inf])], SPACE, first_value, seed=0, draws=1).trials == 20


def test_equal_values_have_no_importance() -> None:
    """With equal values nothing mattered; with nearly equal ones, resamples without a difference are left out."""
    flat = [replace_values(trial, [1.0]) for trial in drawn(20)]
    with pytest.raises(NegativeAnswer, match="do not differ"):
        importance(flat, SPACE, first_value, seed=0)
    nearly = [*flat[:18], *(replace_values(trial, [0.0]) for trial in flat[18:])]
    found = importance(nearly, SPACE, first_value, seed=0)
    assert 0 < found.draws < 50


def test_parameters_that_are_not_judged() -> None:
    """Parameters that apply in some trials, never vary or lie outside their range are not judged, and the reason is given."""
    space = tuple(
        Dimension(name, find_setting("dropout", ""), UNIT) for name in ("x", "y", "sometimes", "fixed", "never", "out")
    )
    trials = []
    for number, trial in enumerate(drawn(30)):
        x, y, z = trial.params.values()
        params = {"x": x, "y": y, "fixed": 0.5, "out": 2 * z, **({"sometimes": z} if number % 2 else {})}
        trials.append(trial_of(value=10 * x, params=params))
    found = importance(trials, space, first_value, seed=0, draws=5)
    assert {one.name for one in found.params} == {"x", "y"}
    assert found.not_judged == {
        "sometimes": "it applies in only 15 of 30 trials",
        "fixed": "it is 0.5 in every trial",
        "never": "it applies in only 0 of 30 trials",
        "out": "some of its values lie outside its range",
    }
    assert importance(trials, space[2:], first_value, seed=0, draws=1).params == ()


def test_trials_before_and_after_widening_are_judged_together() -> None:
    """Trials with a narrower distribution, from before a range was widened, count like the later ones."""
    narrow = optuna.distributions.FloatDistribution(0, 0.6)
    trials = drawn(60)
    widened = [
        create_trial(
            value=t.value,
            params=t.params,
            distributions={**t.distributions, "x": narrow} if t.params["x"] < 0.6 else t.distributions,
        )
        for t in trials
    ]
    assert importance(widened, SPACE, first_value, seed=0, draws=3) == importance(trials, SPACE, first_value, seed=0, draws=3)


def test_importance_is_silent() -> None:
    """Optuna logs nothing meanwhile, and as much as before afterwards."""
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logger, before = logging.getLogger("optuna"), optuna.logging.get_verbosity()
    logger.addHandler(handler)
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        importance(drawn(20), SPACE, first_value, seed=0, draws=3)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
        assert said == []
        optuna.create_study()
        assert len(said) == 1, "it would have been logged"
    finally:
        optuna.logging.set_verbosity(before)
        logger.removeHandler(handler)


# which range to try next

EDGES: list[tuple[str, dict[str, Any], float, tuple[float, float] | None]] = [
    # a linear range grows by half of its width, up to what the setting may be
    ("dropout", {"low": 0.0, "high": 0.5}, 0.49, (0.0, 0.75)),
    ("dropout", {"low": 0.0, "high": 0.5}, 0.25, None),
    ("dropout", {"low": 0.0, "high": 0.5}, 0.0, None),
    ("dropout", {"low": 0.1, "high": 0.5}, 0.1, (0.0, 0.5)),
    ("dropout", {"low": 0.3, "high": 0.5}, 0.3, (0.2, 0.5)),
    ("dropout", {"low": 0.0, "high": 0.9}, 0.9, (0.0, 0.95)),  # never 1: half of the way to it
    ("dropout", {"low": 0.0, "high": 0.99}, 0.99, (0.0, 0.995)),  # two digits would not do
    ("ema", {"low": 0.9, "high": 0.9999}, 0.9999, (0.9, 0.99995)),
    ("label_smoothing", {"low": 0.0, "high": 0.6}, 0.6, (0.0, 0.9)),
    ("label_smoothing", {"low": 0.0, "high": 0.8}, 0.8, (0.0, 1.0)),
    ("label_smoothing", {"low": 0.0, "high": 1.0}, 1.0, None),
    ("lr", {"low": 0.001, "high": 0.1}, 0.001, (0.0005, 0.1)),  # linear, and never 0
    # a logarithmic one by half of its decades
    ("lr", {"low": 1e-4, "high": 1e-2, "log": True}, 1e-2, (1e-4, 1e-1)),
    ("lr", {"low": 1e-4, "high": 1e-2, "log": True}, 1.1e-4, (1e-5, 1e-2)),
    ("lr", {"low": 1e-5, "high": 1e-2, "log": True}, 1e-2, (1e-5, 0.32)),
    ("lr", {"low": 1e-5, "high": 1e-2, "log": True}, 1e-5, (3.2e-7, 1e-2)),
    ("dropout", {"low": 0.01, "high": 0.5, "log": True}, 0.5, (0.01, 0.71)),  # half of the way to 1 in decades
    ("weight_decay", {"low": 1e-8, "high": 1e300, "log": True}, 1e300, (1e-8, 1e304)),  # as far as floats go
    # whole numbers stay whole, and grow by one at least
    ("layers", {"low": 1, "high": 4}, 4, (1, 6)),
    ("layers", {"low": 1, "high": 2}, 2, (1, 3)),
    ("layers", {"low": 1, "high": 2}, 1, None),
    ("layers", {"low": 3, "high": 8}, 3, (1, 8)),
    ("epochs", {"low": 50, "high": 333}, 333, (50, 480)),
    ("batch_size", {"low": 16, "high": 256, "log": True}, 256, (16, 1000)),
    ("batch_size", {"low": 16, "high": 256, "log": True}, 16, (4, 256)),
    # steps stay on their grid
    ("width", {"low": 32, "high": 128, "step": 32}, 128, (32, 192)),
    ("width", {"low": 64, "high": 256, "step": 32}, 64, (32, 256)),
    ("dropout", {"low": 0.0, "high": 0.5, "step": 0.1}, 0.5, (0.0, 0.8)),
    ("dropout", {"low": 0.2, "high": 0.6, "step": 0.1}, 0.2, (0.0, 0.6)),
    ("dropout", {"low": 0.0, "high": 0.8, "step": 0.1}, 0.8, (0.0, 0.9)),
    ("dropout", {"low": 0.0, "high": 0.9, "step": 0.1}, 0.9, None),  # the next step is 1
    ("label_smoothing", {"low": 0.0, "high": 0.8, "step": 0.1}, 0.8, (0.0, 1.0)),
    # what has no edge, or does not lie in the range
    ("batch_size", {"choices": [8, 16, 32]}, 32, None),
    ("lr", {"low": 1e-4, "high": 1e-2, "log": True}, 0.0, None),
    ("lr", {"low": 1e-4, "high": 1e-2, "log": True}, 1.0, None),
]


@pytest.mark.parametrize(("name", "given", "value", "expected"), EDGES)
def test_edge_advice(name: str, given: dict[str, Any], value: float, expected: tuple[float, float] | None) -> None:
    """The range to try next, as worked out by hand; a study may be widened to it, and reads it as it was meant."""
    dim = dim_of(name, **given)
    advice = edge_advice(dim, value)
    if expected is None:
        assert advice is None
        return
    assert advice is not None
    assert (advice.new.low, advice.new.high) == expected
    assert type(advice.new.low) is type(advice.new.high) is type(given["high"])
    assert advice.edge == ("upper" if expected[0] == given["low"] else "lower")
    assert (advice.name, advice.value, advice.old) == (name, value, dim.domain)
    assert advice.new.contains_range(advice.old)
    sets = ["space={}", "fixed={}", f"baseline={{{name}: {value!r}}}", f"space.{name}={json.dumps(given)}", advice.text]
    (read,) = load_definition("label_smoothing", sets).space
    assert read.domain == advice.new


@given(
    low=st.floats(1e-9, 0.9),
    width=st.floats(1e-6, 1),
    log=st.booleans(),
    upper=st.booleans(),
    name=st.sampled_from(["lr", "dropout", "label_smoothing", "weight_decay", "affine_scale"]),
)
def test_advice_widens_within_the_limits_of_the_setting(low: float, width: float, log: bool, upper: bool, name: str) -> None:
    """At every edge that the setting can pass, one end moves out, the other is kept, and the new range is allowed."""
    if name == "affine_scale":
        low += 1
    high = min(low + width, 0.999) if name in ("dropout", "label_smoothing") else low + width
    if not low < high:
        return
    dim = dim_of(name, low=low, high=high, log=log)
    advice = edge_advice(dim, high if upper else low)
    assert (advice is None) == (dim.edge(high if upper else low) == "")
    if advice is not None:
        assert (advice.new.low, advice.new.high) != (low, high)
        assert advice.new.low <= low
        assert advice.new.high >= high
        assert (advice.new.low == low) == upper
        dim_of(name, low=advice.new.low, high=advice.new.high, log=log)  # raises if the setting may not be so


def test_the_advice_keeps_role_and_conditions() -> None:
    """`--set` replaces the whole entry, so all of it must be there."""
    dim = dim_of("lr", low=1e-4, high=1e-2, log=True, role="scientific", when={"optimizer": ["adam", "adamw"]})
    advice = edge_advice(dim, 1e-4)
    assert advice is not None
    expected = 'space.lr={low: 1e-05, high: 0.01, log: true, role: scientific, when: {"train.optimizer": ["adam", "adamw"]}}'
    assert advice.text == expected
    sets = ["space={}", "space.optimizer={choices: [adam, adamw]}", advice.text, "baseline={optimizer: adam, lr: 1e-3}"]
    read = load_definition("label_smoothing", sets).space[1]
    assert read == replace(dim, domain=advice.new)


# isolation curves


def at(*rows: tuple[Any, float]) -> list[Point]:
    """Points from places and values; trials numbered in order."""
    return [Point(number, place, value) for number, (place, value) in enumerate(rows)]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_the_confident_value_by_enumeration(n: int) -> None:
    """Of all n^n resamples of n values at least 90% reach it, and fewer reach the next lower value."""
    values = [float(place) for place in range(1, n + 1)]
    found = confident_value(values[::-1])
    lowest = [min(draw) for draw in itertools.product(values, repeat=n)]
    assert sum(value <= found for value in lowest) >= 0.9 * len(lowest)
    assert found == 1 or sum(value <= found - 1 for value in lowest) < 0.9 * len(lowest)


def test_the_confident_value_of_many() -> None:
    """Of many values it lies at the place -ln(0.1) = 2.3 from below, so at the third."""
    values = [float(place) for place in range(1, 1001)]
    assert confident_value(values) == 3.0
    with pytest.raises(ValueError, match="no values"):
        confident_value([])


def test_isolation_of_a_linear_range() -> None:
    """Two bins by hand; the upper one takes the value where they meet, and empty bins stay."""
    points = at((0.0, 3.0), (0.1, 1.0), (0.2, 2.0), (0.3, 7.0), (0.3, 7.0), (0.9, 5.0), (1.5, 0.0))
    first, second, third = isolation_bins(points, domain=Range(low=0.0, high=0.9), bins=3)
    # 1 - (2/3)^3 = 0.70, 1 - (1/3)^3 = 0.96: the second of three
    assert (first.low, first.high, first.count, first.best, first.trial, first.confident) == (
        0.0,
        pytest.approx(0.3),
        3,
        1.0,
        1,
        2.0,
    )
    assert (second.count, second.best, second.trial, second.confident) == (2, 7.0, 3, 7.0)
    assert (third.high, third.count, third.trial) == (0.9, 1, 5), "the upper end is inside, what lies beyond is not"
    assert first.text == "0 .. 0.3"
    assert [(one.count, one.best, one.trial, one.confident) for one in isolation_bins([], domain=UNIT, bins=2)] == [
        (0, None, None, None)
    ] * 2


def test_isolation_of_a_logarithmic_range() -> None:
    """Bins of equal ratio."""
    bins = isolation_bins(at((2e-4, 1.0), (5e-3, 2.0), (1e-2, 3.0)), domain=Range(low=1e-4, high=1e-2, log=True), bins=2)
    assert [one.high for one in bins] == pytest.approx([1e-3, 1e-2])
    assert [one.count for one in bins] == [1, 2]


SINGLES = [
    (Choices(choices=["relu", "gelu"]), ["relu", "gelu"]),
    (Choices(choices=list(range(9))), list(range(9))),
    (Range(low=0.0, high=0.3, step=0.1), [0.0, 0.1, 0.2, 0.3]),
    (Range(low=1, high=4), [1, 2, 3, 4]),
    (Range(low=1, high=3, log=True), [1, 2, 3]),
]


@pytest.mark.parametrize(("domain", "values"), SINGLES)
def test_each_of_a_few_values_has_its_bin(domain: Range | Choices, values: list[Any]) -> None:
    """Choices always; steps and whole numbers where there are no more than bins."""
    bins = isolation_bins(at(*((value, 1.0) for value in [*values, values[-1]])), domain=domain, bins=6)
    assert [(one.low, one.high) for one in bins] == [(value, value) for value in values]
    assert [one.count for one in bins] == [1] * (len(values) - 1) + [2]
    assert bins[0].text == (f"{values[0]:g}" if isinstance(values[0], float) else str(values[0]))


def test_many_steps_are_divided_evenly() -> None:
    """Thirteen steps in six bins: two or three in each, none twice, none lost, despite inexact floats."""
    steps = [number * 0.05 for number in range(13)]  # 0.15000000000000002 and its like
    bins = isolation_bins(at(*((step, 1.0) for step in steps)), domain=Range(low=0.0, high=0.6, step=0.05), bins=6)
    assert [one.count for one in bins] == [3, 2, 2, 2, 2, 2]
    assert (bins[0].low, bins[0].high, bins[1].low, bins[-1].high) == (0.0, 0.1, 0.15, 0.6)
    whole = isolation_bins(at(*((number, 1.0) for number in range(1, 101))), domain=Range(low=1, high=100), bins=3)
    assert [(one.low, one.high, one.count) for one in whole] == [(1, 34, 34), (35, 67, 33), (68, 100, 33)]
    ratio = isolation_bins(at(*((number, 1.0) for number in range(1, 101))), domain=Range(low=1, high=100, log=True), bins=2)
    assert [one.count for one in ratio] == [9, 91]


def test_points_of_trials() -> None:
    """Complete trials that have the parameter; infinite values are points, NaN is none."""
    trials = [
        trial_of(value=2.0, params={"x": 0.5}, number=4),
        trial_of(value=math.inf, params={"x": 0.25}, number=5),
        trial_of(value=1.0, params={"y": 0.5}),
        trial_of(PRUNED, params={"x": 0.5}),
        trial_of(FAIL, params={"x": 0.5}),
    ]
    points = trial_points(trials, "x", first_value)
    assert points == [Point(4, 0.5, 2.0), Point(5, 0.25, math.inf)]
    assert trial_points(trials, "x", lambda trial: math.nan) == []
    assert isolation_bins(points, domain=UNIT, bins=1)[0].confident == math.inf
    with pytest.raises(ValueError, match="segment"):
        isolation_bins(points, domain=UNIT, bins=0)


# whether the metrics agree


def measured(number: int, eps: Any, loss: float, loss_ts: float, error: float, **more: float) -> FrozenTrial:
    """A complete trial with its values of the metrics."""
    values = {"val_loss_best": loss, "val_loss_ts_best": loss_ts, "val_error_best": error, **more}
    return trial_of(params={"eps": eps}, result={"all_values": values}, number=number)


EPS = Range(low=0.0, high=0.6)


def test_plain_loss_prefers_small_values() -> None:
    """If val_loss prefers no smoothing and the other two much, the text says so, with trials and values."""
    trials = [measured(0, 0.0, 1.0, 0.9, 0.3), measured(1, 0.3, 1.2, 0.8, 0.25), measured(2, 0.35, 1.3, 0.85, 0.2)]
    found = compare_metrics(trials, "eps", domain=EPS)
    assert found.picks == (
        MetricBest("val_loss", 0, 0.0, 1.0),
        MetricBest("val_loss_ts", 1, 0.3, 0.8),
        MetricBest("val_error", 2, 0.35, 0.2),
    )
    assert found.disagree
    assert found.leans
    assert found.text == (
        "the best eps is 0 by val_loss (trial 0), 0.3 by val_loss_ts (trial 1), 0.35 by val_error (trial 2): "
        "val_loss prefers a small eps because of its effect on confidence, not on errors"
    )


@pytest.mark.parametrize(
    ("chosen", "domain", "disagree", "leans"),
    [
        ((0.7, 0.8, 0.8), UNIT, False, False),  # a tenth is not more than a tenth, though 0.8 - 0.7 is, in floats
        ((0.1, 0.17, 0.17), EPS, True, True),
        ((0.1, 0.17, 0.12), EPS, True, False),  # clearly below one of the others only
        ((0.3, 0.1, 0.1), EPS, True, False),
        ((0.1, 0.1, 0.3), EPS, True, False),
        ((0.2, 0.2, 0.2), EPS, False, False),
        ((1e-4, 2e-4, 2e-4), Range(low=1e-4, high=1e-2, log=True), True, True),  # 0.15 of two decades
        ((8e-3, 9e-3, 9e-3), Range(low=1e-4, high=1e-2, log=True), False, False),  # though a tenth of the numbers
        ((0.0, 9e-3, 9e-3), Range(low=1e-4, high=1e-2, log=True), True, True),  # on no logarithmic scale
        (("relu", "gelu", "gelu"), Choices(choices=["relu", "gelu"]), True, False),
        (("relu", "relu", "relu"), Choices(choices=["relu", "gelu"]), False, False),
        ((0.0, 0.1, 0.3), Choices(choices=[0.0, 0.1, 0.3]), True, True),
        ((False, True, True), Choices(choices=[False, True]), True, False),
    ],
)
def test_when_metrics_disagree(chosen: tuple[Any, Any, Any], domain: Range | Choices, disagree: bool, leans: bool) -> None:
    """They disagree if their values differ by more than a tenth of the range on its scale, or are different choices."""
    trials = [measured(n, eps, *(0.0 if m == n else 1.0 for m in range(3))) for n, eps in enumerate(chosen)]
    found = compare_metrics(trials, "eps", domain=domain)
    assert tuple(pick.at for pick in found.picks) == chosen
    assert (found.disagree, found.leans) == (disagree, leans)
    assert ("effect on confidence" in found.text) == leans
    assert ("the metrics disagree; decide which one matters to you" in found.text) == (disagree and not leans)
    assert ("the metrics agree" in found.text) == (not disagree)


def test_ties_go_to_the_lower_scaled_loss() -> None:
    """Of equal errors the lower val_loss_ts decides, then the trial's number."""
    trials = [measured(0, 0.1, 0.5, 0.9, 0.2), measured(1, 0.2, 0.6, 0.7, 0.2), measured(2, 0.3, 0.4, 0.7, 0.2)]
    assert compare_metrics(trials, "eps", domain=EPS).picks[2].trial == 1


def test_metrics_under_another_reduction() -> None:
    """The metrics' names end in the reduction; a single metric is no disagreement."""
    trials = [measured(0, 0.1, 0.5, 0.5, 0.5, val_loss_last=2.0), measured(1, 0.5, 0.6, 0.6, 0.6, val_loss_last=1.0)]
    found = compare_metrics(trials, "eps", domain=EPS, reduce="last")
    assert found.picks == (MetricBest("val_loss", 1, 0.5, 1.0),)
    assert not found.disagree
    assert "there is only one metric" in found.text
    assert compare_metrics(trials, "eps", domain=EPS, metrics=("val_error",)).picks == (MetricBest("val_error", 0, 0.1, 0.5),)


def test_missing_metrics() -> None:
    """Trials without a result or the parameter, incomplete trials and values that are not finite are ignored."""
    others = [
        trial_of(params={"eps": 0.1}),
        trial_of(params={"eps": 0.1}, result={"epochs": 3}),
        trial_of(result={"all_values": {"val_loss_best": 0.0}}),
        trial_of(PRUNED, params={"eps": 0.1}, result={"all_values": {"val_loss_best": 0.0}}),
        trial_of(FAIL, params={"eps": 0.1}, result={"all_values": {"val_loss_best": 0.0}}),
        measured(5, 0.1, math.nan, math.inf, -math.inf),
    ]
    for trials in ([], others):
        found = compare_metrics(trials, "eps", domain=EPS)
        assert found.picks == ()
        assert (found.disagree, found.leans) == (False, False)
        assert found.text == "no complete trial has recorded a metric to compare values of eps by"
    assert {pick.trial for pick in compare_metrics([*others, measured(6, 0.2, 1, 1, 1)], "eps", domain=EPS).picks} == {6}


# failures


def test_the_share_that_failed_and_why() -> None:
    """The share is that of the finished trials; reasons that differ only in their numbers are of one kind."""
    reasons = [
        "the training loss became nan in epoch 3",
        "the training loss became nan in epoch 12",
        "invalid: a training loss of 0.6720 lies below 1.1770, the lowest that label_smoothing 0.3 allows with 10 words",
        "invalid: a training loss of 1e-05 lies below 1.7, the lowest that label_smoothing 0.5 allows with 1,000 words",
        "the training loss became nan in epoch 1",
        "MemoryError in layer2 of top5",
    ]
    trials = [trial_of(FAIL, reason=reason) for reason in reasons]
    trials += [trial_of(FAIL), trial_of(), trial_of(PRUNED), trial_of(PRUNED), trial_of(RUNNING), trial_of(TrialState.WAITING)]
    found = infeasible(trials)
    assert (found.finished, found.failed) == (10, 7)
    assert found.share == 0.7
    assert found.reasons == (
        ("the training loss became nan in epoch #", 3),
        ("invalid: a training loss of # lies below #, the lowest that label_smoothing # allows with # words", 2),
        ("MemoryError in layer2 of top5", 1),
        ("no reason was recorded", 1),
    )


@pytest.mark.parametrize(
    ("failed", "says"),
    [
        ((0.8, 0.9, 1.0), "all 3 failed trials have lr above 0.75, as do only a quarter of the complete trials"),
        ((0.0, 0.1, 0.2), "all 3 failed trials have lr below 0.25, as do only a quarter of the complete trials"),
        ((0.8, 0.9), ""),  # too few
        ((0.7, 0.9, 1.0), ""),  # not all
        ((0.75, 0.9, 1.0), ""),  # not beyond
        ((0.0, 0.9, 1.0), ""),  # both ends
    ],
)
def test_failures_in_one_end(failed: tuple[float, ...], says: str) -> None:
    """At least three failures, all beyond the outer quarter of the complete trials, are a pattern."""
    trials = [trial_of(params={"lr": value, "kind": "a"}) for value in (0.0, 0.25, 0.5, 0.75, 1.0)]
    trials += [trial_of(FAIL, params={"lr": value, "kind": "a"}) for value in failed]
    places = infeasible(trials).places
    assert len(places) == (1 if says else 0)
    if says:
        assert places[0].startswith(says)
        assert places[0].endswith(f"their median is {failed[1]:.3g}; complete ones range from 0 to 1")


@pytest.mark.parametrize("state", [None, COMPLETE, PRUNED, FAIL, RUNNING])
def test_failures_among_few(state: TrialState | None) -> None:
    """No trials, or trials of one state alone, are no error."""
    trials = [] if state is None else [trial_of(state, params={"lr": 0.5})] * 5
    found = infeasible(trials)
    assert found.share == (1.0 if state == FAIL else 0.0)
    assert found.places == ()


# noise and optimism


def test_noise_is_the_mean_square_within_groups() -> None:
    """The F of a one-way analysis of variance is the mean square between groups divided by this variance."""
    rng = np.random.default_rng(0)
    groups = [list(rng.normal(center, 0.3, size)) for center, size in ((0, 4), (2, 3), (5, 7))]
    found = noise_from_repeats(groups)
    mean = statistics.fmean(itertools.chain(*groups))
    between = sum(len(group) * (statistics.fmean(group) - mean) ** 2 for group in groups) / (len(groups) - 1)
    assert between / found.sd**2 == pytest.approx(scipy.stats.f_oneway(*groups).statistic)
    assert found.freedom == 4 + 3 + 7 - 3


def test_noise_of_one_group_by_hand() -> None:
    """1, 2, 3 have the standard deviation 1 with 2 degrees of freedom; the table of chi-square says 0.0506 and 7.378."""
    found = noise_from_repeats([[1.0, 2.0, 3.0], [7.0], [], [math.inf, 4.0]])
    assert (found.sd, found.freedom) == (pytest.approx(1.0), 2)
    assert (found.low, found.high) == (
        pytest.approx(math.sqrt(2 / 7.378), rel=1e-3),
        pytest.approx(math.sqrt(2 / 0.05064), rel=1e-3),
    )


def test_the_interval_holds_the_truth() -> None:
    """In 95% of experiments with known noise, within the precision of 2,000 experiments."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        found = noise_from_repeats([list(center + rng.normal(0, 0.7, 3)) for center in (0, 1, 4)])
        inside += found.low <= 0.7 <= found.high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


def test_noise_needs_repeats() -> None:
    """Without a setting that was trained twice the noise is unknown; equal values have none."""
    for groups in ([], [[]], [[1.0], [2.0]], [[1.0, math.nan]]):
        assert noise_from_repeats(groups) is None
    assert noise_from_repeats([[2.0, 2.0]]) == Noise(0.0, 1, 0.0, 0.0)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi)), (10, 1.53875), (50, 2.24907), (100, 2.50759)],
)
def test_optimism_matches_tables(n: int, expected: float) -> None:
    """Expected largest of n standard normal values, as printed in Harter 1961, "Expected values of normal order statistics"."""
    assert expected_optimism(n, 1.0) == pytest.approx(expected, abs=1e-5)
    assert expected_optimism(n, 0.02) == pytest.approx(0.02 * expected, abs=1e-6)


def test_optimism_matches_simulation() -> None:
    """The lowest of 30 draws lies as far below 0."""
    lowest = np.random.default_rng(0).normal(size=(40_000, 30)).min(axis=1)
    assert expected_optimism(30, 1.0) == pytest.approx(-lowest.mean(), abs=0.01)
    with pytest.raises(ValueError, match="n must be"):
        expected_optimism(0, 1.0)


@pytest.mark.parametrize("n", [1, 7, 1000, 10**6, 10**9])
def test_optimism_of_many_trials(n: int) -> None:
    """The same from quantiles: the smallest of n uniform values is 1 - exp(-t/n), t being exponentially distributed."""
    places = (np.arange(200_000) + 0.5) / 200_000
    t = scipy.stats.expon.ppf(places)
    assert expected_optimism(n, 1.0) == pytest.approx(-scipy.stats.norm.ppf(-np.expm1(-t / n)).mean(), abs=1e-4)


# cost


def cost_of(state: TrialState, epochs: float, seconds: float, device: str | None = "cpu", **more: Any) -> FrozenTrial:
    """A trial with what it took."""
    trainings = more.pop("trainings", 0)
    result = {"epochs": epochs, "seconds": seconds, **({"trainings": [{}] * trainings} if trainings else {})}
    made = {} if device is None else {"made_with": json.dumps({"device": device})}
    return trial_of(state, result=result, **made, **more)


def test_spending_by_hand() -> None:
    """Costs by state and kind of device, what was saved and lost, and how often workers died."""
    trials = [
        cost_of(COMPLETE, 50, 100.0),
        cost_of(COMPLETE, 50, 10.0, "cuda:1"),
        cost_of(PRUNED, 10, 30.0, deaths=["killed", "killed"]),
        cost_of(PRUNED, 20, 10.0, "cuda"),
        cost_of(FAIL, 3, 6.0, None, deaths=["killed"]),
        trial_of(RUNNING),
        trial_of(TrialState.WAITING),
    ]
    found = spending(trials, 50)
    assert found.by_state == {
        "complete": Cost(2, 100, cpu_s=100.0, gpu_s=10.0),
        "pruned": Cost(2, 30, cpu_s=30.0, gpu_s=10.0),
        "failed": Cost(1, 3, other_s=6.0),
        "running": Cost(1),
    }
    assert found.saved == Cost(2, 70, cpu_s=120.0, gpu_s=15.0)
    assert found.lost == found.by_state["failed"]
    assert (found.deaths, found.struck) == (3, 2)
    assert found.total == Cost(6, 133, cpu_s=130.0, gpu_s=20.0, other_s=6.0)
    assert found.total.seconds == 156.0


def test_early_stopping_limits_what_was_saved() -> None:
    """If complete trainings took 30 of 50 epochs on average, a pruned one is assumed to take no more."""
    complete = [cost_of(COMPLETE, 20, 1.0), cost_of(COMPLETE, 40, 1.0)]
    assert spending([*complete, cost_of(PRUNED, 10, 5.0)], 50).saved == Cost(1, 20.0, cpu_s=10.0)
    assert spending([*complete, cost_of(PRUNED, 35, 5.0)], 50).saved == Cost(1)
    assert spending([*complete, cost_of(PRUNED, 10, 5.0)], 25).saved == Cost(1, 15.0, cpu_s=7.5), "no more than they may have"
    short = cost_of(PRUNED, 10, 5.0, settings=json.dumps({"train": {"epochs": 12}}))
    assert spending([*complete, short], 50).saved == Cost(1, 2.0, cpu_s=1.0), "its own setting"


def test_what_was_saved_of_several_trainings() -> None:
    """With three folds of 50 epochs, folds that a pruner by folds never started count too."""
    pruned = cost_of(PRUNED, 30, 30.0, trainings=3)
    assert spending([pruned], 50).saved == Cost(1, 120.0, cpu_s=120.0)
    one_by_one = cost_of(PRUNED, 50, 50.0)
    complete = cost_of(COMPLETE, 120, 120.0, trainings=3)
    assert spending([complete, one_by_one], 50).saved == Cost(1, 70.0, cpu_s=70.0)


@pytest.mark.parametrize("state", [None, COMPLETE, PRUNED, FAIL, RUNNING])
def test_spending_of_trials_without_results(state: TrialState | None) -> None:
    """They count as trials without cost; numbers that are not finite cost nothing either."""
    trials = [] if state is None else [trial_of(state), cost_of(state, math.nan, math.inf)]
    found = spending(trials, 50)
    assert found.total == Cost(len(trials))
    assert found.saved.seconds == 0
    assert list(found.by_state) == ["complete", "pruned", "failed", "running"]
    assert found.deaths == 0


ALL: list[Callable[[Sequence[FrozenTrial]], object]] = [
    lambda trials: isolation_bins(trial_points(trials, "x", first_value), domain=UNIT),
    lambda trials: compare_metrics(trials, "x", domain=UNIT),
    infeasible,
    functools.partial(spending, max_epochs=50),
]


@pytest.mark.parametrize("call", ALL)
@pytest.mark.parametrize("state", [None, COMPLETE, PRUNED, FAIL, RUNNING])
def test_nothing_breaks_on_few_trials(call: Callable[[Sequence[FrozenTrial]], object], state: TrialState | None) -> None:
    """No trial, one trial, or many of one kind; with two objectives and infinite values too."""
    for trials in (
        [],
        [trial_of(state)] if state else [],
        [trial_of(state or COMPLETE, [math.inf, 1.0], params={"x": 0.5})] * 9,
    ):
        call(trials)


GRID = (dim_of("label_smoothing", choices=[0.0, 0.1, 0.3]),)
REPEATS = {0: (1.43, 1.31, 1.52, 1.40), 1: (1.30, 1.22, 1.37, 1.29), 2: (1.52, 1.31, 1.55, 1.47)}
"""Values of the repeats of three settings, by trial."""


def grid_of(seeds: Sequence[int] = (5, 5, 5), values: dict[int, tuple[float, ...]] = REPEATS) -> GridComparison | None:
    """A grid with these repeats, whose accuracy does not depend on the setting."""
    trials = []
    for number, (eps, seed) in enumerate(zip((0.0, 0.1, 0.3), seeds, strict=True)):
        rows = [{"value": one, "val_loss_ts": -one, "val_top1": 0.5 + 0.1 * n} for n, one in enumerate(values[number])]
        result = {"trainings": rows}
        mean = statistics.fmean(values[number])
        trials.append(trial_of(value=mean, params={"label_smoothing": eps}, result=result, number=number, seed=seed))
    return compare_grid(trials, GRID, "val_loss", 4)


def test_a_grid_is_compared_seed_by_seed() -> None:
    """Means and paired differences agree with SciPy, with the level of the intervals divided by the number of comparisons."""
    found = grid_of()
    assert found is not None
    assert found.is_paired
    assert found.comparisons == 2
    loss = found.readings[0]
    for number, row in enumerate(loss.rows):
        own = scipy.stats.ttest_1samp(REPEATS[number], 0).confidence_interval(0.95)
        assert (row.low, row.high) == pytest.approx((own.low, own.high))
        if number:
            both = scipy.stats.ttest_rel(REPEATS[number], REPEATS[0]).confidence_interval(1 - 0.05 / 2)
            assert (row.change_low, row.change_high) == pytest.approx((both.low, both.high))
    assert loss.rows[0].change is None
    assert "label_smoothing 0.1 is better than the baseline (label_smoothing 0)" in found.verdict
    assert "label_smoothing 0.3 is not shown to differ" in found.verdict
    assert "by val_loss_ts, label_smoothing 0.1 is worse" in found.others
    assert "by val_top1, no setting is shown to differ" in found.others


def test_a_grid_with_seeds_of_its_own_is_not_paired() -> None:
    """Studies of earlier versions gave each setting its own seeds: then Welch's test, whose intervals are wider here."""
    paired, found = grid_of(), grid_of(seeds=(5, 6, 7))
    assert paired is not None
    assert found is not None
    assert not found.is_paired
    row = found.readings[0].rows[1]
    both = scipy.stats.ttest_ind(REPEATS[1], REPEATS[0], equal_var=False).confidence_interval(1 - 0.05 / 2)
    assert (row.change_low, row.change_high) == pytest.approx((both.low, both.high))
    assert row.change_low is not None
    assert row.change_low < (paired.readings[0].rows[1].change_low or 0)


def test_what_is_no_grid() -> None:
    """With a value that is no number, without repeats and in an endless space nothing is compared."""
    assert grid_of(values={**REPEATS, 2: (1.5, math.inf, 1.4, 1.5)}) is None
    trials = [trial_of(params={"x": 0.1}, result={"trainings": [{"value": 1.0}] * 4}, number=n) for n in range(2)]
    assert compare_grid(trials, GRID, "val_loss", 1) is None
    assert compare_grid(trials, SPACE, "val_loss", 4) is None
