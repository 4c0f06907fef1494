"""A study's answer, and what is to be told of single trials, as Markdown."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search import BASELINE_TRIAL
from search.reporting.answer import answer_of, sentence
from search.reporting.cells import Table, texts_of
from search.reporting.facts import Facts
from search.study.confirmed import CandidateResult
from search.wording import format_number, format_value

MARKER = "*What follows is written by the search and is replaced when it changes.*"
"""Above this line a person writes, from it on the search does."""

_OWN = re.compile(r"([\\`*_\[\]|~$])")
"""What Markdown, its tables and its formulas read as more than a letter."""

_OWN_AT_START = re.compile(r"^(\d*)([-+=#.):])(?=[-+=#\s]|$)")
"""What makes a list or a heading where a line begins with it."""

_MOST_BESTS = 20
_MOST_FAILED = 50
_LONGEST_REASON = 1000


def markdown(text: Any) -> str:
    """Text of other people, on one line, that neither Markdown nor HTML makes anything of."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return _OWN_AT_START.sub(r"\1\\\2", _OWN.sub(r"\\\1", line))


def code_block(lines: Sequence[str]) -> str:
    """A code block that shows lines as they are."""
    longest = max(map(len, re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)  # more than stand together anywhere inside
    return "\n".join([f"{fence}sh", *lines, fence])


def with_ours(whole: str, ours: str) -> str:
    """A note with our part renewed: what a person wrote above the marker stays, letter by letter."""
    theirs = theirs_of(whole)
    gap = "" if not theirs or theirs.endswith("\n\n") else "\n\n"
    return f"{theirs}{gap}{MARKER}\n\n---\n\n{ours}"


def theirs_of(whole: str) -> str:
    """What a person has written: all that stands above the marker."""
    return whole.split(MARKER, maxsplit=1)[0]


def study_note(facts: Facts) -> str:
    """Question, answer so far, numbers, settings, warnings, commands."""
    answer = answer_of(facts)
    parts = [f"## {markdown(answer.question)}", f"**{markdown(answer.headline)}** {markdown(answer.because)}"]
    if answer.numbers is not None:
        parts.append(_table(answer.numbers))
    if answer.settings:
        parts.append("### Settings\n\n" + _params(answer.settings))
    if answer.warnings:
        parts.append("### Keep in mind\n\n" + "\n".join(f"- {markdown(warning)}" for warning in answer.warnings))
    if answer.commands:
        lines = [line for what, command in answer.commands for line in (f"# {what}", " ".join(command.splitlines()))]
        parts.append("### What to do next\n\n" + code_block(lines))
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    width = len(table.head)
    rows = [texts_of(list(row)) for row in table.rows]
    lines = [[markdown(cell) for cell in [*row, *[""] * (width - len(row))]] for row in [list(table.head), *rows]]
    rule = [":--", *["--:"] * (width - 1)]
    note = f"\n\n{markdown(table.note)}" if table.note else ""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [lines[0], rule, *lines[1:]]) + note


def _params(params: Mapping[str, Any]) -> str:
    return "\n".join(f"- {markdown(name)}: **{markdown(format_number(value))}**" for name, value in params.items())


def trial_notes(facts: Facts) -> dict[int, str]:
    """What is told of the trials that stand out, by their numbers."""
    told: dict[int, list[str]] = {}
    baseline = facts.baseline
    if baseline is not None:
        told.setdefault(baseline.number, []).append("**The baseline**: the setting that all others are compared with.")
    for trial in _new_bests(facts)[-_MOST_BESTS:]:
        if trial.number != BASELINE_TRIAL:
            told.setdefault(trial.number, []).append("**A new best** when it finished.")
    for row in () if facts.confirmed is None else facts.confirmed.found.rows:
        told.setdefault(row.trial, []).extend(_confirmed_lines(facts, row))
    for trial in facts.of_state(TrialState.FAIL)[-_MOST_FAILED:]:
        told.setdefault(trial.number, []).extend(_failed_lines(trial))
    return {n: "\n\n".join([*lines, *_about(facts, facts.trials[n])]) + "\n" for n, lines in sorted(told.items())}


def _new_bests(facts: Facts) -> list[FrozenTrial]:
    """The complete trials that were better than all that had finished before them, in the order in which they finished."""
    ended = sorted((t for t in facts.complete if t.datetime_complete), key=lambda t: (t.datetime_complete, t.number))
    found: list[FrozenTrial] = []
    lowest = math.inf
    for trial in ended:
        if (value := trial.values[facts.primary]) < lowest:
            found.append(trial)
            lowest = value
    return found


def _confirmed_lines(facts: Facts, row: CandidateResult) -> Iterator[str]:
    assert facts.confirmed is not None, "a row belongs to a confirmation"
    found, objective = facts.confirmed.found, markdown(facts.confirmed.objective)
    known = [value for value in row.values if value is not None]
    if row.trial == found.recommended:
        yield f"**Recommended.** {markdown(sentence(found.why))}"
    if row.mean is None or not known:
        yield "**Trained again** with fresh seeds, of which none came to its end."
        return
    low, high = (found.low, found.high) if row.trial == found.recommended else (row.low, row.high)
    pick = f" as the pick of {found.picked_from}" if row.trial == found.recommended and found.picked_from > 1 else ""
    interval = "" if low is None or high is None else f" (95 % interval{pick}: {format_value(low)} to {format_value(high)})"
    many = "1 fresh seed" if len(known) == 1 else f"{len(known)} fresh seeds"
    yield f"**Trained again** with {many}: {objective} {format_value(row.mean)} on average{interval}."


def _failed_lines(trial: FrozenTrial) -> Iterator[str]:
    reason = str(trial.user_attrs.get("reason") or "the reason was not kept")
    yield f"**Failed**: {markdown(reason[:_LONGEST_REASON])}"
    if deaths := trial.user_attrs.get("deaths"):
        yield "Its workers died:\n\n" + "\n".join(f"- {markdown(death)}" for death in deaths[-10:])


def _about(facts: Facts, trial: FrozenTrial) -> Iterator[str]:
    """Value, parameters and seed."""
    value = facts.value(trial)
    lines = [] if value is None else [f"- {markdown(facts.objective)}: **{markdown(format_value(value))}**"]
    if trial.params:
        lines.append(_params(trial.params))
    if (seed := trial.user_attrs.get("seed")) is not None:
        lines.append(f"- seed: {markdown(seed)}")
    if lines:
        yield "\n".join(lines)
