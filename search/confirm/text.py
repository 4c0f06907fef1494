"""A confirmation as people read it."""

from __future__ import annotations

from search.confirm.evidence import BASELINE, Confirmation, Row
from search.confirm.record import Confirmed
from search.events import ConfirmFinished
from search.wording import columns, duration, or_dash, params_text, study_words


def confirm_footer(event: ConfirmFinished, storage: str) -> list[str]:
    """What a confirmation has found, and what to do next."""
    study, found = study_words(event.study, storage), event.confirmed.found
    saved = f", {found.saved} saved by dropping clear losers" if found.saved else ""
    lines = ["", f"{found.trainings} trainings with fresh seeds{saved}, {duration(event.seconds)} this time"]
    lines += [*confirmed_lines(event.confirmed), *pairs_lines(found)]
    if found.recommended is not None:
        lines.append(f"next     python -m search test {study}")
        lines.append(f"         python -m search export {study} --output best.yaml")
    return lines


def confirmed_lines(confirmed: Confirmed) -> list[str]:
    """A confirmation as a table, and what it comes to."""
    found = confirmed.found
    rows = [_confirmed_cells(row, found) for row in found.rows]
    head = ["", "trial", "searched", "mean", "95 %", "sd", "estimate", "gain", "95 %", "better"]
    lines = columns([head, *rows], right=range(1, len(head)))
    lines.append("         estimate: the mean, once the search's trials nearby are heard; gain: against the baseline")
    lines += [f"out      {text}" for text in _out_of_the_race(found)]
    best = next((row for row in found.rows if row.trial == found.recommended), None)
    if best is None:
        return [*lines, f"none is recommended: {found.why}"]
    name = "the baseline" if best.trial == BASELINE else f"trial {best.trial}"
    pick = f", as the pick of {found.picked_from}" if found.picked_from > 1 else ""
    interval = "" if found.low is None or found.high is None else f" (95 % {found.low:.4f} to {found.high:.4f}{pick})"
    lines.append(f"use      {name}: {confirmed.objective} {or_dash(best.mean)}{interval} over {found.seeds} seeds")
    lines.append(f"         {params_text(best.params)}")
    lines.append(f"because  {found.why}")
    lines.append(f"verdict  {found.verdict}{_gain_text(best, found)}")
    lines += _luck_lines(found)
    lines.append(f"noise    {or_dash(found.noise)} between seeds; other signers vary more, and only `test` asks some")
    return lines


def pairs_lines(found: Confirmation) -> list[str]:
    """How probably each setting is better than each other."""
    names = ["base" if row.trial == BASELINE else str(row.trial) for row in found.rows]
    cells = [[name, *map(or_dash, line)] for name, line in zip(names, found.better_than, strict=True)]
    table = columns([["", *names], *cells], right=range(len(names) + 1))
    return [
        "pairs    how probably the setting of the row is better than that of the column",
        *(f"         {line}" for line in table),
    ]


def _confirmed_cells(row: Row, found: Confirmation) -> list[str]:
    star = "*" if row.trial == found.recommended else ""
    cells = [or_dash(row.searched), or_dash(row.mean), _half(row.low, row.high), or_dash(row.sd), or_dash(row.estimate)]
    if row.trial == BASELINE:
        return [star, "base", *cells, "", "", ""]
    gain = "-" if row.gain is None else f"{row.gain:+.4f}"
    return [star, str(row.trial), *cells, gain, _half(row.gain_low, row.gain_high), or_dash(row.better)]


def _half(low: float | None, high: float | None) -> str:
    """An interval by how far it reaches on either side of its middle."""
    return "-" if low is None or high is None else f"±{(high - low) / 2:.4f}"


def _out_of_the_race(found: Confirmation) -> list[str]:
    """Who failed or was dropped, in words."""
    failed = [row for row in found.rows if row.failed]
    texts = [f"trial {row.trial} failed with seed {', '.join(map(str, row.failed))}" for row in failed]
    dropped = [row for row in found.rows if row.dropped_after is not None and not row.failed]
    return texts + [f"trial {row.trial} was clearly behind after {row.dropped_after} seeds" for row in dropped]


def _luck_lines(found: Confirmation) -> list[str]:
    """How far the search's best number, which was picked for being low, is from what its setting gives."""
    searched = [row for row in found.rows if row.searched is not None and row.optimism is not None]
    best = min(searched, key=lambda row: (row.searched, row.trial), default=None)
    if best is None or best.optimism is None:
        return []
    side = "better" if best.optimism > 0 else "worse"
    whose = "of the baseline" if best.trial == BASELINE else f"of trial {best.trial}"
    gap = f"{abs(best.optimism):.4f} {side}"
    return [f"luck     the search's best, {best.searched:.4f} {whose}, is {gap} than its mean with fresh seeds"]


def _gain_text(row: Row, found: Confirmation) -> str:
    if row.gain is None or found.gain_low is None or found.gain_high is None or row.better is None:
        return ""
    sure = f"{row.better:.3f}" if row.better < 0.9995 else "over 0.999"
    return f": {row.gain:+.4f} (95 % {found.gain_low:+.4f} to {found.gain_high:+.4f}), with probability {sure}"
