"""Lets search methods compete on surrogates of real learning curves, by what their recommendation is truly worth.

    python benchmarks/search_methods.py --curves curves.npz                       # tables for every method
    python benchmarks/search_methods.py --curves curves.npz --json                # one line per set: our default and Optuna's
    python benchmarks/search_methods.py --curves curves.npz --trials 20 --methods "ours" "Optuna's defaults"

`make_curves.py` makes such files. A method proposes and prunes with the project's own code; only the trainings are drawn from
a surrogate (`curve_surrogates.py`), each with its own seed, the same for every method. Time counts in epochs. Each trial trains
for all epochs unless its pruner stops it: early stopping by patience, which serves all methods alike, is left out.

The regret of a method after some epochs is the true value of the setting that it would hand out then, less the lowest true
value of the space, in nats: once for the trial with the best value, once for the one with the lowest mean by the model (with at
least 8 complete trials, as the product does), and with --confirm once after a confirmation, whose own trainings come on top.
Each repeat has other seeds, and half of its value is from each kind of surrogate. Intervals are 95% intervals of Student's t,
of differences between methods paired by repeat.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))

from curve_surrogates import KINDS, CurveSet, Surrogate, load_curves, surrogate

from search.definition.definition import StudyDefinition
from search.definition.pruners import NoPruning
from search.definition.samplers import ignore_experimental
from search.definition.strategy import parse_pruner, parse_sampler
from search.definition.study_file import load_definition
from search.definition.yaml_text import parse_yaml
from search.evaluation.confirm.allocation import Allocation, most_competing
from search.evaluation.confirm.candidates import best_distinct
from search.running.proposal import Tried, propose
from search.study.belief import believe
from search.study.confirmed import Candidate
from search.study.recommendation import MIN_TRIALS
from search.trial.job import sampler_seed

DEFAULT = "ours"
OPTUNA = "Optuna's defaults"
METHODS: dict[str, tuple[str, str]] = {
    DEFAULT: ("", ""),
    OPTUNA: ("Optuna's own", "none"),
    "Optuna's TPE and median pruner": ("Optuna's own", "Optuna's own"),
    "tpe, median (0.1)": ("{name: tpe, startup: 10}", "{name: median, startup: 5, warmup_epochs: 10}"),
    "tpe": ("{name: tpe, startup: 10}", "{name: none}"),
    "tpe, worst quarter from epoch 20": ("{name: tpe, startup: 10}", "{name: percentile, keep: 75, warmup_epochs: 20}"),
    "Optuna's GP sampler": ("Optuna's GP", "{name: none}"),
    "gp": ("{name: gp}", "{name: none}"),
    "gp, median": ("{name: gp}", "{name: median, startup: 5, warmup_epochs: 10}"),
    "gp, worst quarter from epoch 20": ("{name: gp}", "{name: percentile, keep: 75, warmup_epochs: 20}"),
    "gp, hyperband": ("{name: gp}", "{name: hyperband}"),
    "gp, asha": ("{name: gp}", "{name: asha}"),
    "qmc": ("{name: qmc}", "{name: none}"),
    "random": ("{name: random}", "{name: none}"),
    "cmaes": ("{name: cmaes}", "{name: none}"),
}
"""Sampler and pruner by name, as a study file writes them; empty: those of the study `label_smoothing` as shipped."""

PICKS = ("best value", "model's pick", "confirmed")
TOP, SEEDS = 8, 8  # as `search confirm` has them

MARKS = (0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Shares of the epochs of all trials after which the regret is taken."""


@dataclass(frozen=True)
class Race:
    """One method on one surrogate with one seed."""

    curves: Path
    set: str
    kind: str
    method: str
    repeat: int
    trials: int
    picks: tuple[str, ...]
    """Of `PICKS`."""

    marks: tuple[float, ...]

    def regrets(self) -> list[list[float]]:
        """At each mark the regret of each pick."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        truth = surrogate(self.curves, self.set, self.kind)
        study, spent = self._search(truth)
        epochs = self.trials * truth.curves.curve_NE.shape[1]
        return [self._at(study, truth, int(np.searchsorted(spent, mark * epochs, side="right"))) for mark in self.marks]

    def _search(self, truth: Surrogate) -> tuple[optuna.Study, list[int]]:
        """A search, and the epochs spent up to the end of each of its trials."""
        definition, own = self._definition(truth), METHODS[self.method]
        study = optuna.create_study()
        if own[0] == "Optuna's own":
            study.sampler = optuna.samplers.TPESampler(seed=self.repeat)
        elif own[0] == "Optuna's GP":
            with ignore_experimental():
                study.sampler = optuna.samplers.GPSampler(seed=self.repeat, warn_independent_sampling=False)
        study.pruner = (
            optuna.pruners.MedianPruner() if own[1] == "Optuna's own" else definition.pruner.make(definition.max_epochs)
        )
        prunes = own[1] == "Optuna's own" or not isinstance(definition.pruner, NoPruning)
        tried, spent = Tried(definition), [0]
        for number in range(self.trials):
            params = self._params(study, definition, tried, number)
            trial = study.trials[number]
            curve_E = truth.draw(params, np.random.default_rng([self.repeat, number, 3]))
            stopped = self._train(optuna.Trial(study, trial._trial_id), curve_E, prunes=prunes and number > 0)
            if stopped < len(curve_E):
                study.tell(number, state=TrialState.PRUNED)
            else:
                study.tell(number, float(curve_E.min()))
            spent.append(spent[-1] + stopped)
        return study, spent[1:]

    def _definition(self, truth: Surrogate) -> StudyDefinition:
        definition = truth.curves.definition(seed=self.repeat)
        sampler, pruner = METHODS[self.method]
        if self.method == DEFAULT:
            shipped = load_definition("label_smoothing")
            return replace(definition, sampler=shipped.sampler, pruner=shipped.pruner)
        own_sampler = definition.sampler if sampler.startswith("Optuna") else parse_sampler(_parsed(sampler), "benchmark")
        own_pruner = NoPruning() if not pruner.startswith("{") else parse_pruner(_parsed(pruner), "benchmark")
        return replace(definition, sampler=own_sampler, pruner=own_pruner)

    def _params(self, study: optuna.Study, definition: StudyDefinition, tried: Tried, number: int) -> dict[str, Any]:
        """Starts the next trial as a run does, and returns its parameters."""
        seed = sampler_seed(self.repeat, number)
        is_optunas = METHODS[self.method][0].startswith("Optuna")
        if number == 0:
            study.enqueue_trial(dict(definition.baseline))
        elif not is_optunas:
            study.sampler = definition.sampler.make_next(study.sampler, seed, self.repeat, definition.space)
        trial = study.ask()
        if is_optunas or number == 0:
            for dim in definition.space:
                trial._suggest(dim.name, dim.distribution())
            return trial.params
        frozen = study.trials[number]
        tried.add(study.get_trials(deepcopy=False))
        params = propose(study, frozen, definition, tried.except_for(number), seed)
        assert params is not None, "these spaces are never exhausted"
        for dim in definition.space:
            if dim.name in params:
                shape = dim.distribution()
                trial.storage.set_trial_param(trial._trial_id, dim.name, shape.to_internal_repr(params[dim.name]), shape)
        return params

    def _train(self, trial: optuna.Trial, curve_E: np.ndarray, *, prunes: bool) -> int:
        """Reports the curve; returns the epoch at which the pruner stops it. The baseline is reported and never stopped."""
        if isinstance(trial.study.pruner, optuna.pruners.NopPruner):
            return len(curve_E)
        for epoch, value in enumerate(curve_E.tolist(), start=1):
            trial.report(value, epoch)
            if prunes and epoch < len(curve_E) and trial.should_prune():
                return epoch
        return len(curve_E)

    def _at(self, study: optuna.Study, truth: Surrogate, count: int) -> list[float]:
        """The regret of each pick after `count` trials."""
        trials = study.get_trials(deepcopy=False)[: max(count, 1)]
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        pick_from = {"best value": _best_value, "model's pick": _believed, "confirmed": self._confirmed}
        numbers = [pick_from[pick](complete, truth) for pick in self.picks]
        return [truth.truth(trials[number].params) - truth.lowest for number in numbers]

    def _confirmed(self, complete: Sequence[FrozenTrial], truth: Surrogate) -> int:
        """The trial that a confirmation recommends."""
        space = truth.definition.space
        belief = believe(complete, space, 0)
        assert belief is not None, "the baseline is complete"
        chosen = [complete[0], *best_distinct(complete, complete[0], space, belief, TOP)]
        candidates = [Candidate(trial=one.number, params=one.params, searched=one.values[0], parameters=1) for one in chosen]
        allocation = Allocation(
            candidates=candidates,
            seeds=SEEDS,
            limit=most_competing(len(complete), SEEDS),
            believe=lambda fresh, of: believe(complete, space, 0, fresh=fresh, of=of),
        )
        params = {one.number: one.params for one in chosen}
        values: dict[int, dict[int, float | None]] = {}
        while missing := (decision := allocation.decide(values)).missing:
            for number, seed in missing:
                rng = np.random.default_rng([self.repeat, number, seed, 4])
                values.setdefault(number, {})[seed] = float(truth.draw(params[number], rng).min())
        return complete[0].number if decision.best is None else decision.best


def _best_value(complete: Sequence[FrozenTrial], truth: Surrogate) -> int:
    return min(complete, key=lambda trial: trial.values[0]).number


def _believed(complete: Sequence[FrozenTrial], truth: Surrogate) -> int:
    if len(complete) < MIN_TRIALS:
        return _best_value(complete, truth)
    belief = believe(complete, truth.definition.space, 0, averaged=True)  # as `recommend` does
    assert belief is not None, "the baseline is complete"
    return belief.trials[int(belief.mean_M.argmin())]


def _parsed(text: str) -> Any:
    return parse_yaml(f"strategy: {text}", "benchmark")["strategy"]


def run(race: Race) -> list[list[float]]:
    """For worker processes."""
    return race.regrets()


def compete(pool: ProcessPoolExecutor, races: Sequence[Race]) -> np.ndarray:
    """Regrets `[repeats, kinds, marks, picks]` of one method."""
    found = np.array(list(pool.map(run, races, chunksize=4)))
    return found.reshape(-1, len(KINDS), *found.shape[1:])


def interval(values_R: np.ndarray) -> tuple[float, float]:
    """Mean, and half of its 95% interval."""
    half = stats.t.ppf(0.975, len(values_R) - 1) * values_R.std(ddof=1) / math.sqrt(len(values_R))
    return float(values_R.mean()), float(half)


def print_table(options: argparse.Namespace, pool: ProcessPoolExecutor, curves: CurveSet) -> None:
    """The table of one set."""
    name, epochs = curves.name, options.trials * curves.curve_NE.shape[1]
    picks, at = (PICKS, (0.5, 1.0)) if options.confirm else (PICKS[:2], MARKS)
    marks = [f"{round(mark * epochs):,}" for mark in at]
    print(f"\n{name}, {options.trials} trials, {options.repeats} repeats: regret in nats after as many epochs\n")
    print(f"| method | hands out | {' | '.join(marks)} | {round(epochs / 2):,} - Optuna's {marks[-1]} |")
    print("|---|---|" + "---|" * (len(at) + 1), flush=True)
    reference_R = None
    for method in sorted(options.methods, key=lambda method: method != OPTUNA):
        regrets = compete(pool, races(options, name, method, picks, at)).mean(axis=1)
        reference_R = regrets[:, -1, 0] if method == OPTUNA else reference_R
        for column, pick in enumerate(picks):
            cells = ["{:.3f} ±{:.3f}".format(*interval(regrets[:, mark, column])) for mark in range(len(at))]
            half_R = regrets[:, at.index(0.5), column]
            versus = "" if reference_R is None else "{:+.3f} ±{:.3f}".format(*interval(half_R - reference_R))
            print(f"| {method} | {pick} | {' | '.join(cells)} | {versus} |", flush=True)


def print_json(options: argparse.Namespace, pool: ProcessPoolExecutor, curves: CurveSet) -> None:
    """One line of one set: our default's recommendation at half the epochs, against Optuna's best value at all."""
    ours_RK = compete(pool, races(options, curves.name, DEFAULT, ("model's pick",), (0.5,)))[..., 0, 0]
    theirs_RK = compete(pool, races(options, curves.name, OPTUNA, ("best value",), (1.0,)))[..., 0, 0]
    mean, half = interval((ours_RK - theirs_RK).mean(axis=1))
    line = {"set": curves.name, "ours_half": float(ours_RK.mean()), "optuna_full": float(theirs_RK.mean())}
    line |= {"difference": mean, "low": mean - half, "high": mean + half, "repeats": len(ours_RK)}
    by_kind = {kind: float((ours_RK - theirs_RK)[:, column].mean()) for column, kind in enumerate(KINDS)}
    print(json.dumps({**line, "difference_by_kind": by_kind}), flush=True)


def races(options: argparse.Namespace, name: str, method: str, picks: tuple[str, ...], marks: tuple[float, ...]) -> list[Race]:
    """Those of one method on one set."""
    repeats, curves, trials = range(options.repeats), options.curves, options.trials
    return [Race(curves, name, kind, method, repeat, trials, picks, marks) for repeat in repeats for kind in KINDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True, help="a file of make_curves.py")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", default=list(METHODS))
    parser.add_argument(
        "--confirm", action="store_true", help="at half and at all epochs only, with the regret after a confirmation"
    )
    parser.add_argument("--json", action="store_true", help="our default against Optuna's, a line per set")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # for the workers
    sets = load_curves(options.curves)
    for name in sorted({key.removesuffix("_config") for key in np.load(options.curves) if key.endswith("_config")}):
        if name not in {one.name for one in sets}:
            print(f"{name} is left out: fewer than 20 settings, or none with several seeds", file=sys.stderr)
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for one in sets:
            (print_json if options.json else print_table)(options, pool, one)


if __name__ == "__main__":
    main()
