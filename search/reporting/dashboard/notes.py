"""Notes in Markdown: a study's answer, and what distinguishes single trials."""

from __future__ import annotations

import html
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.definition.trial_attributes import attribute
from search.evaluation.confirm.text import signers_text
from search.reporting.answer import answer_of, sentence
from search.reporting.cells import Table, cell_texts
from search.reporting.facts import Facts
from search.reporting.figures.figure import name_of
from search.study.companion import CANDIDATE, SEED
from search.study.confirmed import CandidateResult, num_values
from search.study.recommendation import Recommendation
from search.wording import format_number, format_value, prose_and_code

MARKER = "*What follows is written by the search and is replaced when it changes.*"
"""A person's text is above this line, ours is below it. Stored: earlier notes contain the same line."""

_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
"""Characters that have a meaning in Markdown, in its tables and in formulas."""

_SPECIAL_AT_START = re.compile(r"^(\d*)([-+=#.):])(?=[-+=#\s]|$)")
"""Characters that start a list or a heading at the beginning of a line."""

_MAX_BESTS = 20
_MAX_FAILED = 50
_MAX_REASON_CHARACTERS = 1000
_MAX_DEATHS = 10


def markdown(text: Any) -> str:
    """A user's text on one line, escaped for Markdown and HTML."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return _SPECIAL_AT_START.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", line))


def prose(text: str) -> str:
    """A sentence with text between backticks as code; everything else is escaped."""
    parts = prose_and_code(" ".join(text.split()))
    shown = (f"`{part}`" if n % 2 else _SPECIAL.sub(r"\\\1", html.escape(part, quote=False)) for n, part in enumerate(parts))
    return _SPECIAL_AT_START.sub(r"\1\\\2", "".join(shown))


def code_block(lines: Sequence[str]) -> str:
    """A code block that shows lines as they are."""
    longest = max(map(len, re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}sh", *lines, fence])


def with_ours(whole: str, ours: str) -> str:
    """A note with our part replaced. What a person wrote above the marker stays, character by character."""
    theirs = theirs_of(whole)
    gap = "" if not theirs or theirs.endswith("\n\n") else "\n\n"
    return f"{theirs}{gap}{MARKER}\n\n---\n\n{ours}"


def theirs_of(whole: str) -> str:
    """What a person wrote: everything above the marker."""
    return whole.split(MARKER, maxsplit=1)[0]


def study_note(facts: Facts) -> str:
    """Question, answer so far, numbers, settings, warnings and commands."""
    parts = _answer_parts(facts)
    if facts.companion is not None:
        parts.insert(2, f"Trainings with fresh seeds: {_link(facts.companion)}.")
    return "\n\n".join(parts) + "\n"


def confirmation_note(facts: Facts) -> str:
    """The same answer, and what the trials of a confirmation are."""
    what = (
        f"The trials of this study are trainings of the confirmation of {_link(facts.study)}: trials of that study "
        "(`candidate` is the trial's number there) and its baseline, each trained again with fresh seeds."
    )
    heading, *parts = _answer_parts(facts)
    return "\n\n".join([heading, what, *parts]) + "\n"


def _link(study: optuna.Study) -> str:
    """A link to the page of another study of the same dashboard."""
    return f"[{markdown(study.study_name)}](/dashboard/studies/{study._study_id})"


def _answer_parts(facts: Facts) -> list[str]:
    answer = answer_of(facts)
    parts = [f"## {markdown(answer.question)}", f"**{markdown(answer.headline)}** {markdown(answer.because)}"]
    if answer.numbers is not None:
        parts.append(_table(answer.numbers))
    if answer.settings:
        parts.append("### Settings\n\n" + _params(answer.settings))
    if answer.warnings:
        parts.append("### Warnings\n\n" + "\n".join(f"- {prose(warning)}" for warning in answer.warnings))
    if answer.commands:
        lines = [line for what, command in answer.commands for line in (f"# {what}", " ".join(command.splitlines()))]
        parts.append("### Next steps\n\n" + code_block(lines))
    return parts


def _table(table: Table) -> str:
    width = len(table.header)
    rows = [[*cells, *[""] * (width - len(cells))] for cells in (list(table.header), *map(cell_texts, table.rows))]
    lines = [[markdown(cell) for cell in row] for row in rows]
    rule = [":--", *["--:"] * (width - 1)]
    note = f"\n\n{markdown(table.note)}" if table.note else ""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [lines[0], rule, *lines[1:]]) + note


def _params(params: Mapping[str, Any]) -> str:
    return "\n".join(f"- {markdown(name)}: **{markdown(format_number(value))}**" for name, value in params.items())


def trial_notes(facts: Facts) -> dict[int, str]:
    """Notes by trial number: for the baseline, new bests, the believed, confirmed and failed trials."""
    notes: defaultdict[int, list[str]] = defaultdict(list)
    if facts.baseline is not None:
        notes[facts.baseline.number].append("**The baseline**: all other settings are compared with it.")
    for trial in _new_bests(facts)[-_MAX_BESTS:]:
        if trial.number != BASELINE_TRIAL:
            notes[trial.number].append("**A new best** when it finished.")
    if facts.believed is not None:
        notes[facts.believed.trial].append(_believed_text(facts.objective, facts.believed))
    for row in () if facts.confirmed is None else facts.confirmed.found.rows:
        notes[row.trial] += _confirmed_lines(facts, row)
    for trial in facts.trials_in_state(TrialState.FAIL)[-_MAX_FAILED:]:
        notes[trial.number] += _failed_lines(trial)
    trials = {trial.number: trial for trial in facts.trials}
    return {n: "\n\n".join([*lines, *_numbers(facts, trials[n])]) + "\n" for n, lines in sorted(notes.items()) if n in trials}


def _new_bests(facts: Facts) -> list[FrozenTrial]:
    """The complete trials that were better than all that had finished before them, in the order in which they finished."""
    finished = sorted((t for t in facts.complete if t.datetime_complete), key=lambda t: (t.datetime_complete, t.number))
    found: list[FrozenTrial] = []
    lowest = math.inf
    for trial in finished:
        if (value := facts.values[trial.number]) < lowest:
            found.append(trial)
            lowest = value
    return found


def _believed_text(objective: str, believed: Recommendation) -> str:
    interval = f"{format_value(believed.low)} to {format_value(believed.high)}"
    return (
        f"**Believed to be the best.** Mean {markdown(objective)} over seeds: {format_value(believed.mean)} (95% interval "
        f"{interval}), estimated by a Gaussian process over {counted(believed.complete, 'complete trial')}."
    )


def _confirmed_lines(facts: Facts, row: CandidateResult) -> Iterator[str]:
    assert facts.confirmed is not None, "a row belongs to a confirmation"
    found, objective = facts.confirmed.found, markdown(facts.confirmed.objective)
    is_recommended = row.trial == found.recommended
    if is_recommended:
        yield f"**Recommended.** {markdown(sentence(found.why))}"
    if not row.failed and all(value is None for value in row.values):
        yield "**A candidate** of the confirmation, which needed no training of it."
        return
    count = num_values(row, found)
    if row.mean is None or not count:
        yield "**Trained again** with fresh seeds; no training finished."
        return
    low, high = (found.low, found.high) if is_recommended else (row.low, row.high)
    interval = ""
    if low is not None and high is not None:
        interval = f" (95% interval {format_value(low)} to {format_value(high)})"
        if is_recommended and found.picked_from > 1:
            widened = f"widened because it was chosen from {found.picked_from} candidates"
            interval = f"{interval[:-1]}, {widened})"
    seeds = counted(count, "fresh seed")
    yield f"**Trained again** with {seeds}: mean {objective} {format_value(row.mean)}{interval}."
    if is_recommended:
        yield markdown(sentence(signers_text(facts.confirmed)))
    elif not row.measured:
        yield "By these seeds it was compared with others: a low mean is partly luck."


def training_notes(facts: Facts) -> dict[int, str]:
    """Notes of the trainings of a confirmation by trial number: of which trial each is, and why one failed."""
    notes = {}
    for training in facts.fresh:
        name = name_of(training.params[CANDIDATE])
        lines = [f"**{name.capitalize()}** of {_link(facts.study)}, trained with fresh seed {training.params[SEED]}."]
        if training.state == TrialState.FAIL:
            lines += _failed_lines(training)
        notes[training.number] = "\n\n".join(lines) + "\n"
    return notes


def _failed_lines(trial: FrozenTrial) -> Iterator[str]:
    reason = str(attribute(trial, "reason") or "no reason was recorded")
    yield f"**Failed**: {markdown(reason[:_MAX_REASON_CHARACTERS])}"
    if deaths := attribute(trial, "deaths"):
        yield "Its workers died:\n\n" + "\n".join(f"- {markdown(death)}" for death in deaths[-_MAX_DEATHS:])


def _numbers(facts: Facts, trial: FrozenTrial) -> Iterator[str]:
    """Value, parameters and seed as a list."""
    value = facts.value(trial)
    lines = [] if value is None else [f"- {markdown(facts.objective)}: **{markdown(format_value(value))}**"]
    if trial.params:
        lines.append(_params(trial.params))
    if (seed := attribute(trial, "seed")) is not None:
        lines.append(f"- seed: {markdown(seed)}")
    if lines:
        yield "\n".join(lines)
