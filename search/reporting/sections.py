"""The sections of a report below its answer: figures, tables and sentences on one question each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import counted
from search.definition.space import Dimension
from search.evaluation.analysis.cost import Cost
from search.exporting.export import export_text, exported_of
from search.reporting.answer import sentence, trial_number, value_column
from search.reporting.cells import Cell, Change, Count, Number, ParameterNumber, Seconds, Share, Table, known
from search.reporting.facts import Facts
from search.reporting.figures.answers import by_signer, worst_pairs
from search.reporting.figures.figure import Figure
from search.reporting.figures.trust import name_of
from search.study.trials import trial_result, trial_settings
from search.wording import format_number, format_params, trial_name

_BEST = 10
_FAILURES = 20


@dataclass(frozen=True)
class Section:
    """One question, and what answers it."""

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    texts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    listing: str = ""
    """Text that stands as it is, such as a configuration."""


def sections(facts: Facts, drawn: Mapping[str, Figure]) -> Iterator[Section]:
    """All of them in order. `drawn` has every figure of the study by its name."""

    def of(*names: str) -> tuple[Figure, ...]:
        return tuple(drawn[name] for name in names if name in drawn)

    yield Section("noise", "Is it more than noise?", of("confirmation"), tuple(_noise(facts)), tuple(_confirmation(facts)))
    yield Section("inside", "Is it inside the space?", (), tuple(_edges(facts)), (_space(facts),))
    yield Section(
        "mattered", "Which parameters mattered?", of("importance"), tuple(_not_judged(facts)), tuple(_importance(facts))
    )
    yield Section("best-by", _isolation_title(facts), of("isolation"), tuple(_readings(facts)), tuple(_isolation(facts)))
    yield Section("curves", "How did they learn?", of("learning-curves"))
    yield Section("history", "How did the search go?", of("history", "front"), (), tuple(_best_trials(facts)))
    yield Section("space", "Where do the good ones lie?", of("slices", "contour", "parallel"))
    yield Section("words", "Which words are mistaken?", of("confusion"), (), tuple(_pairs(facts)))
    yield Section("signers", "Which signers are hard?", of("signers"), (), tuple(_signers(facts)))
    yield Section("sure", "Does it know when it is right?", of("reliability"))
    yield Section("sealed", "What do the sealed signers say?", (), tuple(_sealed_texts(facts)), tuple(_sealed(facts)))
    yield Section("time", "Who trained what when?", of("timeline"))
    yield Section("cost", "What did it cost?", (), (), (_cost(facts),))
    yield Section("failures", "What failed?", (), tuple(_failure_texts(facts)), tuple(_failures(facts)))
    yield Section("again", "How to get it again", (), tuple(_reproduce(facts)), (_made_with(facts),), _configuration(facts))


def _noise(facts: Facts) -> Iterator[str]:
    noise, luck = facts.analysis.noise, facts.analysis.luck
    if noise is None or luck is None:
        yield "The noise is unknown: nothing was trained twice."
        return
    yield (
        f"From seed to seed the {facts.objective} moves by {noise.sd:.4f} (standard deviation; 95 % {noise.low:.4f} to "
        f"{noise.high:.4f}). The best of {counted(facts.analysis.complete, 'equal trial')} would look {luck:.4f} "
        "better than it is, and more so the more were pruned beside them."
    )
    if facts.confirmed is not None:
        yield "The interval is over seeds, on the same validation signers; other signers vary more."


def _confirmation(facts: Facts) -> Iterator[Table]:
    if facts.confirmed is None:
        return
    rows: list[tuple[Cell, ...]] = []
    for n, row in enumerate(facts.confirmed.found.rows):
        place = f"confirm.found.rows.{n}"
        cells: list[Cell] = [name_of(row.trial) + (" *" if row.trial == facts.confirmed.found.recommended else "")]
        for name in ("searched", "mean", "low", "high", "sd", "change", "better"):
            value: float | None = getattr(row, name)
            cells.append(known(f"{place}.{name}", value, Change if name == "change" else Number))
        rows.append((*cells, format_params(row.params)))
    head = ("", "searched", "mean", "95 % from", "to", "sd", "change", "better", "settings")
    note = (
        f"{facts.confirmed.objective}, lower is better. searched: in the search, with one seed. change: mean difference to the "
        "baseline with the same seeds. better: how probably it is better than the baseline. *: recommended. Each interval is "
        "by itself; that of the answer above is wider where it was picked from several."
    )
    yield Table(head, tuple(rows), note)


def _edges(facts: Facts) -> Iterator[str]:
    if facts.chosen is None:
        yield "This is not known: no trial has trained to its end."
    elif not facts.analysis.edges:
        whose = trial_name(facts.chosen.number)
        yield f"Yes: {whose} lies at no end of a range that could be wider."
    for advice in facts.analysis.edges:
        place = f"the {advice.edge} end of its range {advice.old.text()}"
        yield f"{advice.name} {format_number(advice.value)} lies at {place}: try --set '{advice.text}' --allow-wider."


def _space(facts: Facts) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (dim.name, dim.text(), dim.role, _chosen_value(facts, dim)) for dim in facts.space
    )
    return Table(("parameter", "range", "role", "chosen"), rows)


def _chosen_value(facts: Facts, dim: Dimension) -> Cell:
    if facts.chosen is None or dim.name not in facts.chosen.params:
        return ""
    value = facts.chosen.params[dim.name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return ParameterNumber(f"trials.{facts.chosen.number}.param_{dim.name}", value)


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
        numbers = {"importance": one.importance, "low": one.low, "high": one.high}
        rows.append((one.name, *(Share(f"analyze.importance.params.{n}.{name}", x) for name, x in numbers.items())))
    yield Table(("parameter", "share", "from", "to"), tuple(rows), "Nine of ten bootstrap draws lie between from and to.")


def _isolation_title(facts: Facts) -> str:
    return "What is best along each parameter?" if facts.studied is None else f"What is the best {facts.studied.name}?"


def _readings(facts: Facts) -> Iterator[str]:
    yield from (sentence(found.text) for found in facts.analysis.readings.values())


def _isolation(facts: Facts) -> Iterator[Table]:
    for name, bins in facts.analysis.isolation.items():
        rows: list[tuple[Cell, ...]] = []
        for n, one in enumerate(bins):
            place = f"analyze.isolation.{name}.{n}"
            cells: list[Cell] = [one.text, Count(f"{place}.count", one.count)]
            cells.append(known(f"{place}.best", one.best))
            cells.append("" if one.trial is None else Count(f"{place}.trial", one.trial))
            cells.append(known(f"{place}.confident", one.confident))
            rows.append(tuple(cells))
        note = "confident: what the best of as many trials, drawn anew from these, reaches nine times in ten."
        yield Table((name, "trials", "best", "trial", "confident"), tuple(rows), note)


def _best_trials(facts: Facts) -> Iterator[Table]:
    ranked = sorted(facts.complete, key=lambda trial: (trial.values[facts.primary], trial.number))[:_BEST]
    if not ranked:
        return
    column = value_column(facts)
    rows = [_trial_cells(facts, trial, column) for trial in ranked]
    note = f"The lowest of {counted(len(facts.complete), 'complete trial')}; `trials` and `show N` tell all."
    yield Table(("trial", facts.objective, "accuracy", "epoch", *(dim.name for dim in facts.space)), tuple(rows), note)


def _trial_cells(facts: Facts, trial: FrozenTrial, column: str) -> tuple[Cell, ...]:
    result = trial_result(trial)
    cells: list[Cell] = [str(trial.number), trial_number(trial, column, trial.values[facts.primary])]
    cells.append(trial_number(trial, "val_top1", result["val_top1"]))
    cells.append(Count(f"trials.{trial.number}.epoch", result["epoch"]))
    for dim in facts.space:
        value = trial.params.get(dim.name, "")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        cells.append(ParameterNumber(f"trials.{trial.number}.param_{dim.name}", value) if is_number else str(value))
    return tuple(cells)


def _pairs(facts: Facts) -> Iterator[Table]:
    clips = facts.clips_of(facts.chosen)
    pairs = [] if clips is None else worst_pairs(clips)
    if pairs:
        rows = tuple((word, answer, f"{count:,}", f"{of:,}") for word, answer, count, of in pairs)
        yield Table(("signed", "answered", "answers", "of"), rows)


def _signers(facts: Facts) -> Iterator[Table]:
    clips, baseline = facts.clips_of(facts.chosen), facts.clips_of(facts.baseline)
    if clips is None:
        return
    groups = [clips] if baseline is None or baseline.trial == clips.trial else [clips, baseline]
    means = [by_signer(one) for one in groups]
    counts = {row.signer: row.clips for row in clips.signers}
    rows = [
        (signer, f"{counts[signer]:,}", *(f"{one[signer]:.4f}" if signer in one else "" for one in means))
        for signer in sorted(means[0], key=lambda signer: means[0][signer])
    ]
    head = ("signer", "clips", *(name_of(one.trial) for one in groups))
    yield Table(head, tuple(rows), "Mean accuracy, the hardest signer first.")


def _sealed_texts(facts: Facts) -> Iterator[str]:
    sealed = len(facts.data.split.test)
    if not sealed:
        yield "No signers are sealed in this study."
    elif not facts.looks:
        yield f"Nothing yet: {counted(sealed, 'signer')} sealed, never looked at."
    for name in dict.fromkeys(name for name, _ in facts.looks):
        looks = [look for whose, look in facts.looks if whose == name]
        last, times = looks[-1], "once" if len(looks) == 1 else f"{len(looks)} times"
        signers = f"{counted(len(last.signers), 'signer')} with {counted(last.clips, 'clip')}"
        yield f"{signers}: opened for `{name}` {times}, last on {last.time[:10]}."


def _sealed(facts: Facts) -> Iterator[Table]:
    if facts.opening is not None:
        n, opening = facts.opening
        names = ("top1", "top1_sd", "loss", "loss_sd", "loss_ts", "ece", "ece_ts", "temperature")
        rows: list[tuple[Cell, ...]] = []
        for m, score in enumerate(opening.scores):
            cells: list[Cell] = [name_of(score.trial)]
            for name in names:
                value: float | None = getattr(score, name)
                cells.append(known(f"openings.{n}.scores.{m}.{name}", value))
            rows.append(tuple(cells))
        note = "sd: from seed to seed. _ts: after division by the temperature, which suited the validation clips."
        yield Table(("", "accuracy", "sd", "loss", "sd", "loss_ts", "ece", "ece_ts", "temperature"), tuple(rows), note)


def _cost(facts: Facts) -> Table:
    ledger = facts.analysis.ledger
    rows = [_cost_cells(state, cost, f"ledger.by_state.{state}") for state, cost in ledger.by_state.items() if cost.trials]
    rows.append(_cost_cells("saved by pruning, at most", ledger.saved, "ledger.saved"))
    confirming = facts.analysis.confirming
    if confirming is not None:
        for state, cost in confirming.by_state.items():
            if cost.trials:
                rows.append(_cost_cells(f"confirming, {state}", cost, f"confirming.by_state.{state}"))
    deaths = f"Workers died {ledger.deaths:,} times, in {ledger.struck:,} trials." if ledger.deaths else ""
    return Table(("", "trials", "epochs", "CPU", "GPU", "elsewhere"), tuple(rows), deaths)


def _cost_cells(name: str, cost: Cost, place: str) -> tuple[Cell, ...]:
    base = f"analyze.{place}"
    counts = (Count(f"{base}.trials", cost.trials), Count(f"{base}.epochs", cost.epochs))
    times = (Seconds(f"{base}.{kind}", getattr(cost, kind)) for kind in ("cpu_s", "gpu_s", "other_s"))
    return (name, *counts, *times)


def _failure_texts(facts: Facts) -> Iterator[str]:
    found = facts.analysis.infeasible
    yield f"{found.failed:,} of {found.finished:,} trials failed." if found.failed else "Nothing failed."
    yield from (sentence(place) for place in found.places)


def _failures(facts: Facts) -> Iterator[Table]:
    failed = facts.of_state(TrialState.FAIL)
    if not failed:
        return
    rows = tuple(
        (f"{trial.number}", str(trial.user_attrs.get("reason", "no reason was recorded")), format_params(trial.params))
        for trial in failed[-_FAILURES:]
    )
    note = "" if len(failed) <= _FAILURES else f"The last {_FAILURES} of {len(failed):,}; `trials` lists them all."
    yield Table(("trial", "reason", "settings"), rows, note)


def _reproduce(facts: Facts) -> Iterator[str]:
    split = {part: ", ".join(signers) or "none" for part, signers in facts.data.split.parts().items()}
    yield f"Data: {facts.data.folder}, fingerprint {facts.data.fingerprint}."
    if folds := facts.data.split.folds:
        yield f"Folds, each of which validates in turn: {'; '.join(', '.join(fold) for fold in folds)}."
    yield f"Signers: {'; '.join(f'{part} {names}' for part, names in split.items())}."
    yield f"The study's seed is {facts.seed}; every trial's own follows from it."
    if facts.chosen is not None and trial_settings(facts.chosen):
        yield (
            "The configuration below is what `export` writes; `retrain` trains it again and compares the number that it gives "
            "with the one recorded. On the same machine and versions it comes back bit for bit."
        )


def _made_with(facts: Facts) -> Table:
    about = {} if facts.chosen is None else json.loads(facts.chosen.user_attrs.get("made_with", "{}"))
    return Table(("made with", ""), tuple((name, str(value)) for name, value in about.items()))


def _configuration(facts: Facts) -> str:
    if facts.chosen is None or facts.chosen.state != TrialState.COMPLETE:
        return ""
    return export_text(exported_of(facts.opened, facts.chosen))
