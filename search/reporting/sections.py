"""The sections of a report below its answer: one question each, with figures, tables and sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import counted, format_duration
from search.definition.space import Dimension
from search.definition.trial_attributes import attribute
from search.evaluation.analysis.cost import Cost
from search.evaluation.confirm.text import signers_text
from search.exporting.export import export_text, exported_of, reason
from search.reporting.answer import sentence
from search.reporting.cells import Cell, Number, Table, number_cell, number_cells, percent, share_of, signed, whole
from search.reporting.facts import Facts
from search.reporting.figures.answers import by_signer, worst_pairs
from search.reporting.figures.figure import Figure, name_of
from search.reporting.grid import grid_tables, grid_texts
from search.reporting.numbers import accuracy_cell, interval_note, other_objectives, sealed_share, value_cell
from search.study.opening_record import other_studies
from search.study.openings import Opening
from search.study.order import ORDER_SEED
from search.study.trials import trial_result, trial_settings
from search.wording import format_number, format_params, format_value, trial_name

_MAX_BEST = 10
_MAX_FAILURES = 20


@dataclass(frozen=True)
class Section:
    """One question, and what answers it."""

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    texts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    listing: str = ""
    """Text that is shown as it is, such as a configuration."""


def sections(facts: Facts, drawn: Mapping[str, Figure]) -> Iterator[Section]:
    """All sections in order. `drawn` has every figure of the study by name."""

    def of(*names: str) -> tuple[Figure, ...]:
        return tuple(drawn[name] for name in names if name in drawn)

    best_by = "What is best along each parameter?" if facts.studied is None else f"What is the best {facts.studied.name}?"
    metric_texts = tuple(sentence(found.text) for found in facts.analysis.readings.values())
    if (grid := facts.analysis.grid) is not None:
        texts, tables = tuple(grid_texts(grid)), tuple(grid_tables(facts, grid))
        yield Section("settings", "Do the settings differ?", of("settings"), texts, tables)
    yield Section("noise", "Is it more than noise?", of("confirmation"), tuple(_noise(facts)), tuple(_confirmation(facts)))
    yield Section("inside", "Is the best inside the space?", (), tuple(_edges(facts)), (_space(facts),))
    yield Section(
        "mattered", "Which parameters mattered?", of("importance"), tuple(_not_judged(facts)), tuple(_importance(facts))
    )
    yield Section("best-by", best_by, of("isolation"), metric_texts, tuple(_isolation(facts)))
    yield Section("curves", "How did the trials learn?", of("learning-curves"))
    yield Section("history", "How did the search go?", of("history", "front"), (), tuple(_best_trials(facts)))
    yield Section("space", "Where are the good settings?", of("slices", "contour", "parallel"))
    yield Section("words", "Which words are confused?", of("confusion"), (), tuple(_pairs(facts)))
    yield Section("signers", "Which signers are hard?", of("signers"), tuple(_caution(facts)), tuple(_signers(facts)))
    yield Section("sure", "Is its confidence calibrated?", of("reliability"))
    sealed = f"What about the sealed test {facts.held_out}?"
    yield Section("sealed", sealed, (), tuple(_test_texts(facts)), tuple(_test_scores(facts)))
    yield Section("time", "Which worker trained what when?", of("timeline"))
    yield Section("cost", "What did it cost?", (), (), (_cost(facts),))
    yield Section("failures", "What failed?", (), tuple(_failure_texts(facts)), tuple(_failures(facts)))
    yield Section("again", "How to reproduce it", (), tuple(_reproduce(facts)), (_made_with(facts),), _configuration(facts))


def _noise(facts: Facts) -> Iterator[str]:
    noise, luck = facts.analysis.noise, facts.analysis.luck
    if noise is None or luck is None:
        yield "The noise is unknown: no setting was trained twice."
        return
    trials = counted(facts.analysis.complete, "equally good trial")
    subject = facts.objective if facts.confirmed is not None else f"{facts.objective} of a trial"
    yield (
        f"Between seeds, {subject} has a standard deviation of {noise.sd:.4f} (95% interval {noise.low:.4f} to "
        f"{noise.high:.4f}). The best of {trials} would look better than it is by about {luck:.4f}, or by more if others were "
        "pruned."
    )
    if facts.confirmed is not None:
        same = f"The intervals below cover other seeds on the same validation {facts.held_out}."
        yield f"{same} {sentence(signers_text(facts.confirmed))}"


def _confirmation(facts: Facts) -> Iterator[Table]:
    if facts.confirmed is None:
        return
    found = facts.confirmed.found
    rows: list[tuple[Cell, ...]] = []
    for n, row in enumerate(found.rows):
        path, star = f"confirm.found.rows.{n}", " *" if row.trial == found.recommended else ""
        values = number_cells(path, row, ("searched", "estimate", "mean"))
        of: tuple[str, Any] = ("confirm.found", found) if row.trial == found.recommended else (path, row)
        values += [*number_cells(*of, ("low", "high")), *number_cells(path, row, ("sd",))]
        change = number_cell(f"{path}.change", row.change, signed)
        better = number_cell(f"{path}.better", row.better)
        name = name_of(row.trial) + star + ("" if row.measured else " (compared)")
        rows.append((name, *values, change, better, format_params(row.params)))
    header = ("", "searched", "estimate", "mean", "95% from", "to", "sd", "change", "better", "settings")
    note = (
        f"{facts.confirmed.objective}, lower is better. searched: value in the search, with one seed. estimate: true value by "
        "all trainings and nearby trials of the search. change: mean difference to the baseline with the same seeds. better: "
        "probability of being better than it. *: recommended. (compared): by these seeds candidates were compared, so that a "
        "low mean is partly luck; the seeds of the others had no part in the choice. "
        f"{interval_note(found)}"
    )
    yield Table(header, tuple(rows), note)


def _edges(facts: Facts) -> Iterator[str]:
    if facts.chosen is None:
        yield "Unknown: no trial has trained to its end."
    elif not facts.analysis.edges:
        yield f"Yes: {trial_name(facts.chosen.number)} is not at the end of any range that could be wider."
    for advice in facts.analysis.edges:
        yield (
            f"{advice.name} {format_number(advice.value)} is at the {advice.edge} end of its range {advice.old.text()}. "
            f"Try `--set '{advice.text}' --allow-wider`."
        )


def _space(facts: Facts) -> Table:
    chosen = facts.chosen
    rows = ((dim.name, dim.text(), dim.role, "" if chosen is None else _param_cell(chosen, dim)) for dim in facts.space)
    return Table(("parameter", "range", "role", "chosen"), tuple(rows))


def _param_cell(trial: FrozenTrial, dim: Dimension) -> Cell:
    """A trial's value of a parameter; an empty cell if the trial does not have it."""
    value = trial.params.get(dim.name, "")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return Number(f"trials.{trial.number}.param_{dim.name}", value, format_number)


def _not_judged(facts: Facts) -> Iterator[str]:
    if facts.analysis.importance is not None:
        for name, why in facts.analysis.importance.not_judged.items():
            yield f"{name} is not judged: {why}."


def _importance(facts: Facts) -> Iterator[Table]:
    found = facts.analysis.importance
    if found is None:
        return
    rows: list[tuple[Cell, ...]] = []
    for n, one in enumerate(found.params):
        path = f"analyze.importance.params.{n}"
        rows.append((one.name, *number_cells(path, one, ("importance", "low", "high"), percent)))
    yield Table(("parameter", "share", "from", "to"), tuple(rows), "from, to: the range of 90% of bootstrap resamples.")


def _isolation(facts: Facts) -> Iterator[Table]:
    for name, bins in facts.analysis.isolation.items():
        rows: list[tuple[Cell, ...]] = []
        for n, one in enumerate(bins):
            path = f"analyze.isolation.{name}.{n}"
            counts = [Number(f"{path}.count", one.count, whole), number_cell(f"{path}.best", one.best)]
            trial = number_cell(f"{path}.trial", one.trial, whole)
            rows.append((one.text, *counts, trial, number_cell(f"{path}.confident", one.confident)))
        note = "confident: 90% of bootstrap resamples of these trials reach this value or better."
        yield Table((name, "trials", "best", "trial", "confident"), tuple(rows), note)


def _best_trials(facts: Facts) -> Iterator[Table]:
    if not facts.ranked:
        return
    rows = []
    for trial in facts.ranked[:_MAX_BEST]:
        result = trial_result(trial)
        others = (format_value(trial.values[n]) for n in other_objectives(facts))
        cells: list[Cell] = [str(trial.number), value_cell(facts, trial), *others, accuracy_cell(facts, trial)]
        cells.append(Number(f"trials.{trial.number}.epoch", result["epoch"], whole))
        rows.append((*cells, *(_param_cell(trial, dim) for dim in facts.space)))
    best = "The only complete trial" if len(facts.complete) == 1 else f"The best of {len(facts.complete):,} complete trials"
    note = f"{best}. `trials` lists every trial; `show` shows one in full."
    others = (facts.objectives[n].name for n in other_objectives(facts))
    header = ("trial", facts.objective, *others, "accuracy", "epoch", *(dim.name for dim in facts.space))
    yield Table(header, tuple(rows), note)


def _pairs(facts: Facts) -> Iterator[Table]:
    models = facts.model_answers(facts.chosen)
    pairs = [] if models is None else worst_pairs(models)
    if pairs:
        rows = tuple((word, answer, share_of(of)(count / of)) for word, answer, count, of in pairs)
        yield Table(("signed", "answered", "how often"), rows)


def _signers(facts: Facts) -> Iterator[Table]:
    models, baseline = facts.model_answers(facts.chosen), facts.model_answers(facts.baseline)
    if models is None:
        return
    groups = [models] if baseline is None or baseline.trial == models.trial else [models, baseline]
    means = [by_signer(one) for one in groups]
    counts = [Counter[str]() for _ in groups]
    for one, count in zip(groups, counts, strict=True):
        for row in one.signers:
            count[row.signer] += row.clips
    rows = [
        (signer, *(share_of(of[signer])(one[signer]) if signer in one else "" for one, of in zip(means, counts, strict=True)))
        for signer in sorted(means[0], key=lambda signer: means[0][signer])
    ]
    header = ("signer", *(name_of(one.trial) for one in groups))
    yield Table(header, tuple(rows), "Correct answers of all the setting's models, the hardest signer first.")


def _caution(facts: Facts) -> Iterator[str]:
    if facts.caution:
        yield sentence(facts.caution)


def _test_texts(facts: Facts) -> Iterator[str]:
    yield from _caution(facts)
    sealed = len(facts.data.split.test)
    if not sealed:
        yield f"This study has no sealed test {facts.held_out}."
    elif not facts.all_openings:
        clips = "" if facts.data.split.clips is None else f"{counted(facts.data.split.clips.num_test, 'clip')} of "
        yield f"Nothing yet: {clips}{counted(sealed, 'signer')} sealed, never opened."
    by_study: dict[str, list[Opening]] = {}
    for one in facts.all_openings:
        name = next(iter(other_studies([one], facts.study)), f"`{facts.name}`")
        by_study.setdefault(name, []).append(one.opening)
    for name, openings in by_study.items():
        last, times = openings[-1], "once" if len(openings) == 1 else f"{len(openings)} times"
        signers = f"{counted(len(last.signers), 'signer')} with {counted(last.clips, 'clip')}"
        yield f"{signers}: opened for {name} {times}, last on {last.time[:10]}."


def _test_scores(facts: Facts) -> Iterator[Table]:
    if facts.last_opening is not None:
        n, opening = facts.last_opening
        names = ("top1_sd", "loss", "loss_sd", "loss_ts", "ece", "ece_ts", "temperature")
        rows: list[tuple[Cell, ...]] = []
        for m, score in enumerate(opening.scores):
            path = f"openings.{n}.scores.{m}"
            accuracy = number_cell(f"{path}.top1", score.top1, sealed_share(opening, score))
            rows.append((name_of(score.trial), accuracy, *number_cells(path, score, names)))
        note = (
            "sd: standard deviation between seeds. ece: expected calibration error. _ts: after temperature scaling with the "
            "temperature fitted to the validation clips."
        )
        yield Table(("", "accuracy", "sd", "loss", "sd", "loss_ts", "ece", "ece_ts", "temperature"), tuple(rows), note)


def _cost(facts: Facts) -> Table:
    ledger = facts.analysis.ledger
    rows = [_cost_cells(state, cost, f"ledger.by_state.{state}") for state, cost in ledger.by_state.items() if cost.trials]
    rows.append(_cost_cells("saved by pruning, at most", ledger.saved, "ledger.saved"))
    confirming = facts.analysis.confirming
    for state, cost in {} if confirming is None else confirming.by_state.items():
        if cost.trials:
            rows.append(_cost_cells(f"confirmation, {state}", cost, f"confirming.by_state.{state}"))
    deaths = f"Workers died {ledger.deaths:,} times, in {counted(ledger.struck, 'trial')}." if ledger.deaths else ""
    return Table(("", "trials", "epochs", "CPU", "GPU", "other devices"), tuple(rows), deaths)


def _cost_cells(name: str, cost: Cost, place: str) -> tuple[Cell, ...]:
    path = f"analyze.{place}"
    times = number_cells(path, cost, ("cpu_s", "gpu_s", "other_s"), format_duration)
    return (name, *number_cells(path, cost, ("trials", "epochs"), whole), *times)


def _failure_texts(facts: Facts) -> Iterator[str]:
    found = facts.analysis.infeasible
    yield f"{found.failed:,} of {found.finished:,} trials failed." if found.failed else "No trial failed."
    yield from (sentence(place) for place in found.places)


def _failures(facts: Facts) -> Iterator[Table]:
    failed = facts.trials_in_state(TrialState.FAIL)
    if not failed:
        return
    rows = tuple(
        (f"{trial.number}", str(attribute(trial, "reason", "no reason was recorded")), format_params(trial.params))
        for trial in failed[-_MAX_FAILURES:]
    )
    note = "" if len(failed) <= _MAX_FAILURES else f"The last {_MAX_FAILURES} of {len(failed):,}; `trials` lists them all."
    yield Table(("trial", "reason", "settings"), rows, note)


def _reproduce(facts: Facts) -> Iterator[str]:
    parts = {part: ", ".join(signers) or "none" for part, signers in facts.data.split.parts().items()}
    yield f"Data: {facts.data.folder}, fingerprint {facts.data.fingerprint}."
    yield from _caution(facts)
    if (clips := facts.data.split.clips) is not None:
        yield f"{sentence(clips.text())} Seed {clips.seed}, digest of the division {clips.digest}."
    elif folds := facts.data.split.folds:
        yield f"Folds, each used once for validation: {'; '.join(', '.join(fold) for fold in folds)}."
    yield f"Signers: {'; '.join(f'{part} {names}' for part, names in parts.items())}."
    yield f"The study's seed is {facts.seed}; the seed of every trial is derived from it."
    if (seed := facts.study.user_attrs.get(ORDER_SEED)) is not None:
        yield f"Its trials share an order of the clips and an augmentation, drawn from {seed}: they can train in lockstep."
    if facts.chosen is not None and trial_settings(facts.chosen):
        yield (
            "`export` writes the configuration below; `retrain` trains it again and compares the result with the recorded "
            "number. On the same machine with the same versions they are equal, bit for bit."
        )


def _made_with(facts: Facts) -> Table:
    versions = {} if facts.chosen is None else json.loads(attribute(facts.chosen, "made_with", "{}"))
    return Table(("made with", ""), tuple((name, str(value)) for name, value in versions.items()))


def _configuration(facts: Facts) -> str:
    if facts.choice is None or facts.choice.trial.state != TrialState.COMPLETE:
        return ""
    return export_text(exported_of(facts.study, facts.choice.trial), reason(facts.study, facts.choice))
