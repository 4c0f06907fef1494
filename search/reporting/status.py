"""The state of a study as lines and as plain values; the list of all studies."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from data_utils.errors import ExplainedError
from data_utils.wording import counted
from search.definition.objectives import primary_index
from search.definition.study_file import known_studies
from search.definition.trial_attributes import attribute
from search.evaluation.confirm.text import confirmed_answer, confirmed_table
from search.events import TrialSummary
from search.reporting.summaries import answer_lines
from search.running.machine_failures import lost_baseline
from search.running.summary import baseline_summary, trial_summary
from search.storage.leases.choice import observe
from search.storage.leases.lease import Observer
from search.storage.opening import has_studies
from search.storage.read_only import open_read_only
from search.storage.url import redact_url
from search.study.companion import CONFIRMS
from search.study.confirmed import Confirmed, load_confirmed
from search.study.identity import IDENTITY, is_complete
from search.study.openings import is_record, openings
from search.study.presence import study_names
from search.study.recommendation import believed_trial
from search.study.study import checked_study, split_kind, study_caution, study_objectives, study_plan
from search.study.trials import FINISHED_STATES, best_trial, count_states, num_finished, owner, pareto_front, trial_curve
from search.wording import labeled, study_args

_MAX_FAILED = 10
"""Failed trials that `status_lines` shows; `status_json` has them all."""

INCOMPLETE_COPY = "incomplete copy: still being made, or interrupted"


def status_json(study: optuna.Study, storage: str) -> dict[str, Any]:
    """The state of a study as plain values."""
    trials = study.get_trials(deepcopy=False)
    objectives, one_by_one = study_objectives(study), study_plan(study).one_by_one
    best, baseline, front = _summaries(study, trials)
    observer = observe(storage, study.study_name)
    runs = observer.num_runs()
    return {
        "study": study.study_name,
        "about": study.user_attrs.get("about", ""),
        "split": split_kind(study),
        "caution": study_caution(study),
        "finished": num_finished(trials),
        "target": study.user_attrs.get("target"),
        "working": runs > 0,
        "runs": runs,
        "trials": count_states(trials),
        "best": _as_json(best),
        "believed": _as_json(believed_trial(study)),
        "baseline": _as_json(baseline),
        "objectives": [objective.name for objective in objectives],
        "confirmed": _as_json(load_confirmed(study)),
        "openings": [_as_json(one) for one in openings(study)],
        "front": [_as_json(one) for one in front],
        "running": [
            {
                "trial": t.number,
                "epoch": 0 if one_by_one else max(trial_curve(t), default=0),
                "reported": len(trial_curve(t)),
                "params": t.params,
                "alive": _is_alive(t, observer),
            }
            for t in trials
            if t.state == TrialState.RUNNING
        ],
        "failed": [{"trial": t.number, "reason": attribute(t, "reason", "")} for t in trials if t.state == TrialState.FAIL],
    }


def status_lines(study: optuna.Study, storage: str, room: int | None = None) -> list[str]:
    """The state of a study for people, in at most `room` columns: what was found, then how far it is, then what to type next.

    Commands stay on one line, to be copied.
    """
    trials = study.get_trials(deepcopy=False)
    observer = observe(storage, study.study_name)
    runs = observer.num_runs()
    counts = ", ".join(f"{count} {state}" for state, count in count_states(trials).items() if count and state != "waiting")
    about = study.user_attrs.get("about", "")
    working = {0: "no run is working on it", 1: "a run is working on it"}.get(runs, f"{runs} runs are working on it")
    lines = labeled("study", study.study_name + (f": {about}" if about else ""), room)
    lines += labeled("people", study_caution(study), room)
    best, baseline, front = _summaries(study, trials)
    confirmed = load_confirmed(study)
    searched = answer_lines(
        best, baseline, list(filter(None, front)), None if confirmed or best is None else believed_trial(study), room
    )
    if confirmed is not None:
        since = num_finished(trials) - confirmed.trials
        more = f"; {counted(since, 'trial')} finished since" if since > 0 else ""
        lines += [*confirmed_answer(confirmed, room or 80), f"confirmed on {confirmed.time[:10]}{more}", ""]
        lines += [*map(str, searched), *confirmed_table(confirmed, room or 80), ""]
    else:
        lines += [*searched, ""]
    done = f"{num_finished(trials):,} of {study.user_attrs.get('target', 0):,} finished ({counts or 'none yet'})"
    lines += [*labeled("trials", done, room), f"now      {working}"]
    lines += labeled("baseline", lost_baseline(study.study_name, trials), room)
    if opened := openings(study):
        times = "once" if len(opened) == 1 else f"{len(opened)} times"
        lines.append(f"sealed   opened {times}, last on {opened[-1].time[:10]}; `test` shows the results")
    for trial in (t for t in trials if t.state == TrialState.RUNNING):
        progress = _progress(study, trial_curve(trial))
        if _is_alive(trial, observer):
            lines.append(f"running  trial {trial.number}: {progress}")
        else:
            lines += [f"orphaned trial {trial.number}: {progress}", "         the next run resumes it"]
    lines += _failed_lines(study.study_name, [t for t in trials if t.state == TrialState.FAIL])
    return lines if best is None or runs else [*lines, _next_command(study, confirmed, storage)]


def _next_command(study: optuna.Study, confirmed: Confirmed | None, storage: str) -> str:
    """What to type next: each check once, then what is done with the result."""
    args = study_args(study.study_name, redact_url(storage))
    if confirmed is None:
        return f"next     islr-search confirm {args}"
    if confirmed.sealed and not openings(study):
        return f"next     islr-search test {args}"
    return f"next     islr-search export {args} --output best.yaml"


def _summaries(
    study: optuna.Study, trials: Sequence[FrozenTrial]
) -> tuple[TrialSummary | None, TrialSummary | None, list[TrialSummary | None]]:
    """The best trial, the baseline, and the Pareto front (empty with one objective)."""
    objectives = study_objectives(study)
    primary = primary_index(objectives)
    front = pareto_front(trials, primary) if len(objectives) > 1 else []
    return trial_summary(best_trial(trials, primary)), baseline_summary(trials), [trial_summary(trial) for trial in front]


def _as_json(value: Any) -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)


def _failed_lines(study: str, failed: Sequence[FrozenTrial]) -> list[str]:
    """The last failed trials with their reasons, and how many there are before them."""
    lines = []
    if before := len(failed[:-_MAX_FAILED]):
        lines.append(f"failed   {before:,} more before these; `islr-search trials {study}` lists them")
    return lines + [
        f"failed   trial {t.number}: {attribute(t, 'reason', 'no reason was recorded')}" for t in failed[-_MAX_FAILED:]
    ]


def _progress(study: optuna.Study, curve: dict[int, float]) -> str:
    if not curve:
        return "in training, nothing reported yet"
    last, name = curve[max(curve)], study_objectives(study)[0].name
    if study_plan(study).one_by_one:
        return f"{counted(len(curve), 'training')} done, the last with {name} {last:.4f}"
    return f"epoch {max(curve)}, {name} {last:.4f}"


def all_studies(storage: str) -> list[dict[str, Any]]:
    """The studies of the database, and the definitions without a study there; each name once."""
    rows: dict[str, dict[str, Any]] = {}
    if has_studies(storage):
        opened = open_read_only(storage)
        for name in sorted(study_names(opened)):
            if (row := _row(opened, name)) is not None:
                rows[name] = row
    for name, about in known_studies().items():
        new = {"finished": 0, "target": None, "progress": "not started", "about": about, "split": None}
        rows.setdefault(name, {"study": name, **new})
    return list(rows.values())


def _row(storage: optuna.storages.BaseStorage, name: str) -> dict[str, Any] | None:
    """One study of the list; None for a confirmation."""
    finished, target, about, split = 0, None, "", "signers"
    with contextlib.suppress(KeyError):  # deleted in this moment
        study = checked_study(storage, name, notify=lambda text: None)
        finished = storage.get_n_trials(study._study_id, FINISHED_STATES)
        progress = f"{finished:,}"
        try:
            attributes, is_whole = study.user_attrs, is_complete(study)
        except ExplainedError as error:
            about = f"{error.what}: {error.got}" if error.got else error.what
        else:
            if CONFIRMS in attributes or is_record(name):
                return None
            target, about = attributes.get("target"), attributes.get("about", "")
            split = split_kind(study) if IDENTITY in attributes else split
            progress = INCOMPLETE_COPY if not is_whole else f"{finished:,} of {target:,}" if target else progress
        return {"study": name, "finished": finished, "target": target, "progress": progress, "about": about, "split": split}
    return None


def _is_alive(trial: FrozenTrial, observer: Observer) -> bool:
    """Whether the run that took the trial is alive."""
    found = owner(trial)
    return found is not None and observer.is_alive(found)
