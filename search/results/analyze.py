"""`search analyze`: what a study's trials say beyond their best. The numbers are made in `search.analysis`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search.analysis.cost import Cost, Infeasible, Ledger, infeasible, ledger
from search.analysis.edges import EdgeAdvice, edge_advice
from search.analysis.importance import Importances, importance
from search.analysis.isolation import Bin, isolation, points_of
from search.analysis.noise import Noise, best_of, noise_of_repeats
from search.analysis.readings import Readings, readings
from search.confirm.record import fresh_trials, stored_confirmed
from search.confirm.rounds import values_of
from search.errors import NegativeAnswer
from search.goals import lead_of
from search.searched import study_space
from search.space import Dimension
from search.study import (
    best_trial,
    complete_trials,
    study_goals,
    study_plan,
    trial_result,
    trial_settings,
)
from search.wording import columns, duration, number, value_text


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Everything that is said of one study."""

    study: str
    objective: str
    """What is read; of several objectives the leading one."""

    chosen: int | None
    """The trial whose place in the space is judged: the confirmed one, else the best; None if there is none."""

    edges: tuple[EdgeAdvice, ...]
    importance: Importances | None
    no_importance: str
    """Why there is none."""

    isolation: Mapping[str, tuple[Bin, ...]]
    """For each scientific dimension."""

    readings: Mapping[str, Readings]
    """For each scientific dimension."""

    infeasible: Infeasible
    noise: Noise | None
    """From the trials' own repeats and from fresh seeds; None if nothing was repeated."""

    luck: float | None
    """How far the best of as many equal trials would lie below what it gives again; None without noise."""

    complete: int
    """Trials that have trained to their end."""

    ledger: Ledger
    confirming: Ledger | None
    """What a confirmation took."""


def analyze(study: optuna.Study, storage: optuna.storages.BaseStorage) -> Analysis:
    """Reads a study and its confirmation."""
    trials, goals, space = study.get_trials(deepcopy=False), study_goals(study), study_space(study)
    lead, complete = lead_of(goals), complete_trials(trials)
    fresh = fresh_trials(study, storage)
    confirmed = stored_confirmed(study)
    chosen = best_trial(trials, lead)
    if confirmed is not None and confirmed.found.recommended is not None:
        chosen = trials[confirmed.found.recommended]
    found, why_not = _importance(trials, space, lead, study.user_attrs.get("seed", 0))
    noise = _noise(complete, fresh, lead)
    scientific = [dim for dim in space if dim.role == "scientific"]
    reduce = study_plan(study).objective.reduce
    return Analysis(
        study=study.study_name,
        objective=goals[lead].name,
        chosen=None if chosen is None else chosen.number,
        edges=() if chosen is None else tuple(_edges(space, chosen.params)),
        importance=found,
        no_importance=why_not,
        isolation={
            dim.name: tuple(isolation(points_of(complete, dim.name, lambda t: t.values[lead]), domain=dim.domain))
            for dim in scientific
        },
        readings={dim.name: readings(complete, dim.name, domain=dim.domain, reduce=reduce) for dim in scientific},
        infeasible=infeasible(trials),
        noise=noise,
        luck=None if noise is None or not complete else best_of(len(complete), noise.sd),
        complete=len(complete),
        ledger=ledger(trials, _most_epochs(trials)),
        confirming=ledger(fresh, _most_epochs(fresh)) if fresh else None,
    )


def _importance(
    trials: Sequence[FrozenTrial], space: Sequence[Dimension], lead: int, seed: int
) -> tuple[Importances | None, str]:
    try:
        return importance(complete_trials(trials), space, lambda trial: float(trial.values[lead]), seed=seed), ""
    except NegativeAnswer as error:
        return None, error.what + (f": {error.got}" if error.got else "")


def _edges(space: Sequence[Dimension], params: Mapping[str, Any]) -> Iterator[EdgeAdvice]:
    for dim in space:
        if dim.name in params and (advice := edge_advice(dim, params[dim.name])) is not None:
            yield advice


def _noise(complete: Sequence[FrozenTrial], fresh: Sequence[FrozenTrial], lead: int) -> Noise | None:
    """From what was trained with several seeds: by fresh seeds, else the repeats of single trials.

    A trial's value is the mean over its repeats, so that of n repeats the noise is less by sqrt(n).
    """
    by_candidate: dict[int, list[float]] = {}
    for candidate, by_seed in values_of(fresh, lead).items():
        by_candidate[candidate] = [value for value in by_seed.values() if value is not None]
    try:
        return noise_of_repeats(list(by_candidate.values()))
    except ValueError:
        pass
    groups: dict[tuple[int, int], list[float]] = {}
    for trial in complete:
        for row in trial_result(trial).get("trainings", []):
            groups.setdefault((trial.number, row["fold"]), []).append(row["value"])
    trainings = max((len(trial_result(trial).get("trainings", [])) for trial in complete), default=0)
    try:
        single = noise_of_repeats(list(groups.values()))
    except ValueError:
        return None
    scale = 1 / math.sqrt(trainings)
    return Noise(single.sd * scale, single.freedom, single.low * scale, single.high * scale)


def _most_epochs(trials: Sequence[FrozenTrial]) -> int:
    return max((int(trial_settings(trial)["train"]["epochs"]) for trial in trials if trial_settings(trial)), default=0)


def analysis_json(found: Analysis) -> dict[str, Any]:
    """All of it as plain values; what is not finite is None."""
    plain: dict[str, Any] = _finite(dataclasses.asdict(found))
    return plain


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def analysis_lines(found: Analysis) -> list[str]:
    """All of it for people."""
    lines = [f"study    {found.study}: {found.complete:,} complete trials, read by {found.objective}"]
    lines += _edge_lines(found)
    lines += ["", "which parameters mattered (PED-ANOVA; nine of ten bootstrap draws lie between low and high)"]
    lines += _importance_lines(found)
    for name, bins in found.isolation.items():
        lines += ["", f"the best by {name}, the other parameters as they come", *_isolation_lines(bins)]
        lines.append(found.readings[name].text)
    lines += ["", *_noise_lines(found), *_infeasible_lines(found.infeasible), "", *_ledger_lines(found)]
    return lines


def _edge_lines(found: Analysis) -> list[str]:
    if found.chosen is None:
        return ["edge     unknown: no trial has trained to its end"]
    if not found.edges:
        return [f"edge     trial {found.chosen} lies inside the space"]
    lines = []
    for advice in found.edges:
        lines.append(
            f"edge     {advice.name} {number(advice.value)} of trial {found.chosen} is at the {advice.edge} end of its range"
        )
        lines.append(f"         {advice.old.text()}; try --set '{advice.text}' --allow-wider")
    return lines


def _importance_lines(found: Analysis) -> list[str]:
    if found.importance is None:
        return [f"not told: {found.no_importance}"]
    rows = [[one.name, f"{one.importance:.2f}", f"{one.low:.2f}", f"{one.high:.2f}"] for one in found.importance.params]
    table = columns([["", "share", "low", "high"], *rows], right=(1, 2, 3))
    return [*table, *(f"{name}: not judged, {why}" for name, why in found.importance.not_judged.items())]


def _isolation_lines(bins: Sequence[Bin]) -> list[str]:
    rows = [
        [one.text, str(one.count), _text(one.best), "-" if one.trial is None else str(one.trial), _text(one.confident)]
        for one in bins
    ]
    head = ["", "trials", "best", "trial", "confident"]
    note = "confident: what the best of as many trials, drawn anew from these, reaches nine times in ten"
    return [*columns([head, *rows], right=(1, 2, 3, 4)), note]


def _text(value: float | None) -> str:
    return "-" if value is None else value_text(value)


def _noise_lines(found: Analysis) -> list[str]:
    if found.noise is None or found.luck is None:
        return [f"noise    unknown: nothing was trained twice; `python -m search confirm {found.study}` does"]
    return [
        f"noise    {found.noise.sd:.4f} from seed to seed (95 % {found.noise.low:.4f} to {found.noise.high:.4f})",
        f"luck     the best of {found.complete:,} equal trials would look {found.luck:.4f} better than it is",
    ]


def _infeasible_lines(found: Infeasible) -> list[str]:
    lines = [f"failed   {found.failed:,} of {found.finished:,} trials ({found.share:.0%})"]
    lines += [f"         {count:,} times: {reason}" for reason, count in found.reasons]
    return lines + [f"         {place}" for place in found.places]


def _ledger_lines(found: Analysis) -> list[str]:
    rows = [_cost_cells(state, cost) for state, cost in found.ledger.by_state.items() if cost.trials]
    rows.append(_cost_cells("all", found.ledger.total))
    rows.append(_cost_cells("saved by pruning, at most", found.ledger.saved))
    if found.confirming is not None:
        rows.append(_cost_cells("confirming", found.confirming.total))
    lines = columns([["cost", "trials", "epochs", "CPU", "GPU"], *rows], right=(1, 2, 3, 4))
    if found.ledger.deaths:
        lines.append(f"workers died {found.ledger.deaths:,} times, in {found.ledger.struck:,} trials")
    return lines


def _cost_cells(name: str, cost: Cost) -> list[str]:
    return [name, f"{cost.trials:,}", f"{cost.epochs:,.0f}", duration(cost.cpu_s + cost.other_s), duration(cost.gpu_s)]
