"""How far a study is, in lines and as values; one trial in full; all studies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.definition.objectives import primary_index
from search.definition.study_file import known_studies
from search.evaluation.confirm.text import confirmed_lines
from search.events import TrialSummary
from search.reporting.summaries import baseline_lines, best_lines
from search.running.summary import baseline_summary, trial_summary
from search.storage.leases.choice import observe
from search.storage.leases.lease import Observer
from search.storage.opening import has_studies
from search.storage.read_only import open_read_only
from search.study.companion import CONFIRMS
from search.study.confirmed import load_confirmed
from search.study.identity import is_complete
from search.study.openings import openings
from search.study.study import study_objectives, study_plan
from search.study.trials import FINISHED_STATES, best_trial, count_states, num_finished, owner, pareto_front, trial_curve

_FAILED_SHOWN = 10
"""How many failed trials are told for people; programs get them all."""

NOT_WHOLE = "not whole: its copy was cut off, or is under way"

_WORKING = {0: "no run is working on it", 1: "a run is working on it"}


def status_json(study: optuna.Study, storage: str) -> dict[str, Any]:
    """The state of a study as plain values."""
    trials = study.get_trials(deepcopy=False)
    objectives, one_by_one = study_objectives(study), study_plan(study).one_by_one
    best, baseline = trial_summary(best_trial(trials, primary_index(objectives))), baseline_summary(trials)
    watch = observe(storage, study.study_name)
    runs = watch.num_runs()
    return {
        "study": study.study_name,
        "about": study.user_attrs.get("about", ""),
        "finished": num_finished(trials),
        "target": study.user_attrs.get("target"),
        "working": runs > 0,
        "runs": runs,
        "trials": count_states(trials),
        "best": _summary_json(best),
        "baseline": _summary_json(baseline),
        "objectives": [objective.name for objective in objectives],
        "confirmed": None if (confirmed := load_confirmed(study)) is None else dataclasses.asdict(confirmed),
        "openings": [dataclasses.asdict(one) for one in openings(study)],
        "front": [_summary_json(trial_summary(t)) for t in pareto_front(trials, primary_index(objectives))]
        if len(objectives) > 1
        else [],
        "running": [
            {
                "trial": t.number,
                "epoch": 0 if one_by_one else max(t.intermediate_values, default=0),
                "reported": len(t.intermediate_values),
                "params": t.params,
                "alive": _has_owner(t, watch),
            }
            for t in _running(trials)
        ],
        "failed": [{"trial": t.number, "reason": t.user_attrs.get("reason", "")} for t in _failed(trials)],
    }


def status_lines(study: optuna.Study, storage: str) -> list[str]:
    """The state of a study for people."""
    trials = study.get_trials(deepcopy=False)
    watch = observe(storage, study.study_name)
    runs = watch.num_runs()
    counts = ", ".join(f"{count} {state}" for state, count in count_states(trials).items() if count and state != "waiting")
    about = study.user_attrs.get("about", "")
    lines = [
        f"study    {study.study_name}" + (f": {about}" if about else ""),
        f"trials   {num_finished(trials):,} of {study.user_attrs.get('target', 0):,} finished ({counts or 'none yet'})",
        f"now      {_WORKING.get(runs, f'{runs} runs are working on it')}",
    ]
    objectives = study_objectives(study)
    primary = primary_index(objectives)
    best, baseline = trial_summary(best_trial(trials, primary)), baseline_summary(trials)
    front = [found for trial in pareto_front(trials, primary) if (found := trial_summary(trial))] if len(objectives) > 1 else []
    lines += best_lines(best, front) if best else ["best     none: no trial has trained to its end yet"]
    lines += baseline_lines(best, baseline)
    if confirmed := load_confirmed(study):
        since = num_finished(trials) - confirmed.trials
        more = f"; {since} {'trial was' if since == 1 else 'trials were'} finished since" if since else ""
        lines += [f"confirmed on {confirmed.time[:10]}{more}", *confirmed_lines(confirmed)]
    if looks := openings(study):
        times = "once" if len(looks) == 1 else f"{len(looks)} times"
        lines.append(f"sealed   opened {times}, last on {looks[-1].time[:10]}: `test` shows what was seen")
    for trial in _running(trials):
        curve = trial_curve(trial)
        so_far = _so_far(study, curve)
        alive = _has_owner(trial, watch)
        lines.append(f"{'running' if alive else 'cut off':8} trial {trial.number}: {so_far}")
        if not alive:
            lines.append("         the next run goes on with it")
    return lines + _failed_lines(study.study_name, _failed(trials))


def _failed_lines(study: str, failed: Sequence[FrozenTrial]) -> list[str]:
    """The last that failed, each with its reason, and how many there were before them."""
    lines = []
    if before := len(failed[:-_FAILED_SHOWN]):
        lines.append(f"failed   {before:,} more before these; `python -m search trials {study}` lists them")
    return lines + [
        f"failed   trial {t.number}: {t.user_attrs.get('reason', 'no reason was recorded')}" for t in failed[-_FAILED_SHOWN:]
    ]


def _so_far(study: optuna.Study, curve: dict[int, float]) -> str:
    if not curve:
        return "in training, nothing reported yet"
    last, name = curve[max(curve)], study_objectives(study)[0].name
    if study_plan(study).one_by_one:
        return f"{len(curve)} {'fold' if len(curve) == 1 else 'folds'} or repeats done, the last with {name} {last:.4f}"
    return f"epoch {max(curve)}, {name} {last:.4f}"


def all_studies(storage: str) -> list[dict[str, Any]]:
    """Studies in the database and definitions that can be run; each name once."""
    rows: dict[str, dict[str, Any]] = {}
    if has_studies(storage):
        opened = open_read_only(storage)
        for name in sorted(optuna.get_all_study_names(opened)):
            study = optuna.load_study(study_name=name, storage=opened)
            if CONFIRMS in study.user_attrs:
                continue
            finished = opened.get_n_trials(opened.get_study_id_from_name(name), FINISHED_STATES)
            target = study.user_attrs.get("target")
            rows[name] = {
                "study": name,
                "finished": finished,
                "target": target,
                "progress": (f"{finished:,} of {target:,}" if target else f"{finished:,}") if is_complete(study) else NOT_WHOLE,
                "about": study.user_attrs.get("about", ""),
            }
    for name, about in known_studies().items():
        rows.setdefault(name, {"study": name, "finished": 0, "target": None, "progress": "not started", "about": about})
    return list(rows.values())


def _summary_json(trial: TrialSummary | None) -> dict[str, Any] | None:
    return None if trial is None else dataclasses.asdict(trial)


def _running(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.RUNNING]


def _has_owner(trial: FrozenTrial, watch: Observer) -> bool:
    """Whether a run that lives trains it."""
    found = owner(trial)
    return found is not None and watch.is_alive(found)


def _failed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.FAIL]
