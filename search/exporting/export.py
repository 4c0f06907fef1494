"""`search export`: a trial's configuration as a file that trains again anywhere."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import optuna
from annotated_types import Ge, Gt
from optuna.trial import FrozenTrial, TrialState

from data_utils.splits import Split
from data_utils.wording import caution_of
from model.objective import Objective
from search import BASELINE_TRIAL
from search.definition.objectives import StudyObjective, primary_index
from search.definition.settings import GROUPS, LEGACY_DEFAULTS, Configs, build, build_configs, require_mapping
from search.definition.trial_attributes import attribute
from search.definition.yaml_text import dump_yaml, parse_yaml
from search.errors import DefinitionError, NegativeAnswer
from search.running.summary import baseline_summary
from search.study.checked import CheckedStudy
from search.study.confirmed import from_plain, load_confirmed, num_values
from search.study.openings import openings
from search.study.order import FIRST_ORDER, ORDER_SEED, STACK, shared_order
from search.study.recommendation import MIN_TRIALS, Choice, Recommendation, require_choice
from search.study.study import get_trial, study_data, study_objectives, study_plan
from search.study.study_id import study_id
from search.study.trials import STATE_NAMES, complete_trials, lacking, num_finished, pareto_front, trial_result, trial_settings
from search.trial.result import MEASURED
from search.wording import format_value, utc_now, wrap

EXPORT_SCHEMA = 2
_READABLE_SCHEMAS = (1, EXPORT_SCHEMA)
"""Files of schema 1 lack newer settings."""

EXPORT_HINT = "`islr-search export --output FILE` writes one"


@dataclass(frozen=True, kw_only=True)
class ExportedData:
    """The data of an exported configuration."""

    folder: str
    """Folder of the data set; `retrain --data` overrides it."""

    fingerprint: str
    words: list[str]
    train: list[str]
    validation: list[str]
    folds: list[list[str]] = field(default_factory=list)
    """Groups of training signers that validate in turn; empty with a single validation part."""

    test: list[str]
    """Sealed signers: neither the search nor `retrain` reads their clips. In a split by clip, the signers of sealed clips."""

    clips: dict[str, Any] = field(default_factory=dict)
    """How the clips were divided, as in `ClipSplit`; empty: the split is by signer."""

    @property
    def split(self) -> Split:
        """The split of the search.

        Raises:
            ValueError: `clips` has a wrong value.
        """
        return from_plain(Split, {**dataclasses.asdict(self), "clips": self.clips or None})


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported configuration."""

    schema: int
    study: str
    study_id: str = ""
    """The study's own id; empty in files of earlier versions, and for a study of one that was not continued since."""

    about: str
    trial: int
    exported: str
    seed: int
    order_seed: Annotated[int, Ge(0)] | None = None
    """Seed of the order of the clips, and of the augmentation, that the study's trials share; None: those of `seed`."""

    first_order: Annotated[int, Ge(0)] | None = None
    """Which epoch of the shared order its first epoch is."""

    stack: Annotated[int, Ge(0)] | None = None
    """The width of the stack that it was trained in; 0: several widths. None: it trained alone."""

    recorded: dict[str, int | float]
    baseline: dict[str, int | float] = field(default_factory=dict)
    front: list[dict[str, int | float]] = field(default_factory=list)
    """The Pareto front of several objectives: trials with their values."""

    confirmed: dict[str, Any] = field(default_factory=dict)
    """Results with fresh seeds; empty if the trial was not confirmed."""

    sealed: dict[str, Any] = field(default_factory=dict)
    """Results on the sealed signers; empty if they were not opened for this trial."""

    objective: dict[str, str] = field(default_factory=dict)
    """The compared metric and how a learning curve is reduced to one value."""

    repeats: Annotated[int, Gt(0)] = 1
    """Trainings per fold, each with its own seed."""

    model: dict[str, Any]
    train: dict[str, Any]
    preprocess: dict[str, Any]
    augment: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any]
    made_with: dict[str, Any]

    @property
    def recorded_data(self) -> ExportedData:
        """The data set and split of the search."""
        return ExportedData(**self.data)

    @property
    def caution(self) -> str:
        """What limits its results; empty for a split by signer."""
        return caution_of("clips" if self.data.get("clips") else "signers")


def choose_trial(study: CheckedStudy, requested: int | None, *, searched: bool) -> tuple[FrozenTrial, str]:
    """The trial to export and a sentence on why: the one of the requested number, else the one that `chosen_trial` chooses.

    `searched` takes the one with the best value.

    Raises:
        DefinitionError: there is no trial of this number.
        NegativeAnswer: no trial is complete, or the confirmation recommends a baseline that failed in the search.
    """
    if requested is not None:
        return get_trial(study, requested), f"this is trial {requested}, as requested"
    choice = require_choice(study)
    if searched:
        return choice.best, f"this is trial {choice.best.number}, the best of the search; its value is partly luck"
    if choice.trial.state != TrialState.COMPLETE:
        raise NegativeAnswer(
            f"the confirmation recommends the baseline, but the baseline failed in the search of `{study.study_name}`",
            got=str(attribute(choice.trial, "reason", "no reason was recorded")),
            hint="there is no recorded value to reproduce; `--searched` exports the best trial of the search",
        )
    return choice.trial, reason(study, choice)


def reason(study: optuna.Study, choice: Choice) -> str:
    """Why a trial was chosen, and which other trial has the best value, as a sentence without a full stop."""
    trial, believed, trials = choice.trial, choice.believed, study.get_trials(deepcopy=False)
    command, several = f"`islr-search confirm {study.study_name}`", len(study_objectives(study)) > 1
    confirmed = load_confirmed(study) if choice.by == "confirmation" else None
    if confirmed is not None:
        baseline = " (the baseline)" if trial.number == BASELINE_TRIAL else ""
        text = f"this is trial {trial.number}{baseline}, confirmed with fresh seeds"
        if (new := num_finished(trials) - confirmed.trials) > 0:
            more = "1 trial has" if new == 1 else f"{new:,} trials have"
            text += f"; {more} finished since, repeat {command} to include {'it' if new == 1 else 'them'}"
        return text
    if believed is None:
        few = len(complete_trials(trials)) < MIN_TRIALS
        why = "" if several else "; too few trials for a model" if few else "; no model fits its trials"
        text = f"this is trial {trial.number}, the best of the search{why}"
    else:
        text = _believed_text(study_objectives(study)[0].name, believed)
    return f"{text}; not confirmed: {command} shows how much is luck"


def _believed_text(objective: str, believed: Recommendation) -> str:
    estimate = (
        f"mean {objective} over seeds {format_value(believed.mean)} (95% interval {format_value(believed.low)} to "
        f"{format_value(believed.high)}), estimated from {believed.complete:,} trials"
    )
    if believed.trial == believed.best:
        return f"this is trial {believed.trial}: it has the best value, and the model believes in it too ({estimate})"
    return (
        f"this is trial {believed.trial}, which the model believes in: {estimate}. Trial {believed.best} has the best value, "
        f"{format_value(believed.best_value)}, which is partly luck; `--trial {believed.best}` exports it"
    )


def exported_of(study: optuna.Study, trial: FrozenTrial) -> Exported:
    """A trial's configuration: settings, seed, data fingerprint, split, versions and results.

    Raises:
        DefinitionError: the trial is not complete, so that there is no value to compare with.
    """
    if trial.state != TrialState.COMPLETE:
        raise DefinitionError(
            f"trial {trial.number} is not complete",
            where=f"study {study.study_name}",
            got=STATE_NAMES[trial.state],
            expected="a complete trial",
            hint=f"`islr-search trials {study.study_name}` lists them",
        )
    if missing := lacking(trial):
        raise DefinitionError(
            f"trial {trial.number} was not trained by this tool: it cannot be trained again",
            where=f"study {study.study_name}",
            got=f"no {', no '.join(missing)}",
            hint=f"`islr-search export {study.study_name}` exports the best trial of this tool",
        )
    trials, data, plan = study.get_trials(deepcopy=False), study_data(study), study_plan(study)
    result, baseline, objectives = trial_result(trial), baseline_summary(trials), study_objectives(study)
    front, order = pareto_front(trials, primary_index(objectives)) if len(objectives) > 1 else [], shared_order(study, trial)
    value = result.get("all_values", {}).get(f"{plan.objective.metric}_{plan.objective.reduce}", result["val_loss"])
    return Exported(
        schema=EXPORT_SCHEMA,
        study=study.study_name,
        study_id=study_id(study) or "",
        about=study.user_attrs.get("about", ""),
        trial=trial.number,
        exported=utc_now(),
        seed=attribute(trial, "seed"),
        order_seed=order.get(ORDER_SEED),
        first_order=order.get(FIRST_ORDER),
        stack=attribute(trial, STACK),
        recorded={**{name: result[name] for name in MEASURED if name in result}, objective_name(plan.objective): value},
        baseline={} if baseline is None else {**baseline.values, "val_top1": baseline.val_top1},
        front=[{"trial": t.number, **trial_result(t).get("values", {})} for t in front],
        confirmed=_confirmed_results(study, trial),
        sealed=_sealed_results(study, trial),
        objective=dataclasses.asdict(plan.objective),
        repeats=plan.repeats,
        **trial_settings(trial),
        data={
            "folder": data.folder,
            "fingerprint": data.fingerprint,
            "words": list(data.words),
            **{part: list(signers) for part, signers in data.split.parts().items()},
            "folds": [list(fold) for fold in data.split.folds],
            **({} if data.split.clips is None else {"clips": dataclasses.asdict(data.split.clips)}),
        },
        made_with=json.loads(attribute(trial, "made_with", "{}")),
    )


def export_text(exported: Exported, why: str = "") -> str:
    """An exported configuration as YAML for `read_export`. `why` is the reason for this trial, from `choose_trial`."""
    written = dataclasses.asdict(exported)
    optional = ("front", ORDER_SEED, FIRST_ORDER, STACK)
    content = {name: value for name, value in written.items() if name not in optional or value not in ([], None)}
    return (
        f"# The configuration of trial {exported.trial} of the study {exported.study}. "
        f"Train it again: islr-search retrain FILE\n{_comment(why)}{_comment(exported.caution)}{dump_yaml(content)}"
    )


def _comment(text: str) -> str:
    return "".join(f"{line}\n" for line in wrap("# ", text[:1].upper() + text[1:], "# ", 120)) if text else ""


def _confirmed_results(study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """The trial's results in the confirmation; empty if it was not trained again."""
    confirmed = load_confirmed(study)
    row = None if confirmed is None else next((r for r in confirmed.found.rows if r.trial == trial.number), None)
    if confirmed is None or row is None or not (row.failed or num_values(row, confirmed.found)):
        return {}
    is_chosen = confirmed.found.recommended == trial.number
    intervals = confirmed.found if is_chosen else row  # the recommended one's are widened: it was chosen from several
    numbers = {
        "mean": row.mean,
        "sd": row.sd,
        "low": intervals.low,
        "high": intervals.high,
        "change": row.change,
        "change_low": intervals.change_low,
        "change_high": intervals.change_high,
        "better_than_baseline": row.better,
        "dropped_after": row.dropped_after,
    }
    return {
        "objective": confirmed.objective,
        "seeds": num_values(row, confirmed.found),
        **{name: value for name, value in numbers.items() if value is not None},
        "recommended": is_chosen,
        "time": confirmed.time,
    }


def _sealed_results(study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """The trial's results in the latest opening that includes it; empty if there is none."""
    for opening in reversed(openings(study)):
        for score in opening.scores:
            if score.trial == trial.number:
                numbers = {"top1": score.top1, "top1_sd": score.top1_sd, "loss": score.loss, "temperature": score.temperature}
                counts = {"seeds": score.seeds, "clips": opening.clips, "opened": opening.count}
                return {**numbers, **counts, "time": opening.time}
    return {}


def read_export(path: Path) -> tuple[Exported, Configs]:
    """An exported configuration with its checked settings.

    Raises:
        DefinitionError: the file is not an exported configuration, or it was edited into one that cannot be trained.
    """
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DefinitionError("the exported configuration cannot be read", where=where, got=reason, hint=EXPORT_HINT) from error
    raw = parse_yaml(text, where)
    exported = build(Exported, raw, "the exported configuration", where)
    if exported.schema not in _READABLE_SCHEMAS:
        expected = " or ".join(map(str, _READABLE_SCHEMAS))
        raise DefinitionError("the file has an unsupported schema", where=where, got=str(exported.schema), expected=expected)
    try:
        build(ExportedData, exported.data, "data", where).split  # noqa: B018 (reads what `build` does not look into)
    except ValueError as error:  # pydantic's
        got = " ".join(str(error).split())[:200]
        raise DefinitionError("`data.clips` has a wrong value", where=where, got=got, hint=EXPORT_HINT) from error
    values: dict[str, Any] = dict(LEGACY_DEFAULTS) if exported.schema == 1 else {}
    for group in GROUPS:
        settings = getattr(exported, group)
        require_mapping(settings, group, where)
        values |= {f"{group}.{name}": value for name, value in settings.items()}
    name = objective_name(build(Objective, exported.objective, "objective", where))
    if name not in exported.recorded:
        raise DefinitionError(f"the file records no {name} to compare with", where=where, hint=EXPORT_HINT)
    return exported, build_configs(values, where)


def objective_name(objective: Objective) -> str:
    """The name of the recorded value that training again should reproduce."""
    return StudyObjective(metric=objective.metric, reduce=objective.reduce).name
