"""A confirmation as people read it."""

from __future__ import annotations

from data_utils.wording import align
from search import BASELINE_TRIAL
from search.events import ConfirmFinished
from search.study.confirmed import Confirmation, Confirmed, Row
from search.wording import format_duration, format_params, labeled, or_dash, study_args, trial_name


def confirm_footer(event: ConfirmFinished, storage: str, runs: str) -> list[str]:
    """What a confirmation has found, and what to do next."""
    found = event.confirmed.found
    saved = f", {found.saved} saved by dropping clear losers" if found.saved else ""
    lines = ["", f"{found.trainings} trainings with fresh seeds{saved}, {format_duration(event.seconds)} this time"]
    lines += [*confirmed_lines(event.confirmed), *pairs_lines(found)]
    if found.recommended is not None:
        commands = [f"export {study_args(event.study, storage)} --output best.yaml"]
        if event.confirmed.sealed:
            commands.insert(0, f"test {study_args(event.study, storage, runs)}")
        lines += [f"{'next' if n == 0 else '':8} python -m search {command}" for n, command in enumerate(commands)]
    return lines


def confirmed_lines(confirmed: Confirmed) -> list[str]:
    """A confirmation as a table, and what it comes to."""
    found = confirmed.found
    rows = [_confirmed_cells(row, found) for row in found.rows]
    head = ["trial", "searched", "mean", "95 %", "sd", "estimate", "change", "95 %", "better"]
    lines = align([head, *rows], right=range(len(head)))
    legend = f"{confirmed.objective}, lower is better. change: mean difference to the baseline; better: how probably it is"
    estimate = "; estimate: the mean, once the search's trials nearby are heard"
    lines += labeled("", legend + (estimate if any(row.estimate is not None for row in found.rows) else ""))
    for text in _out_of_the_race(found):
        lines += labeled("out", text)
    best = next((row for row in found.rows if row.trial == found.recommended), None)
    if best is None:
        return [*lines, *labeled("use", f"none is recommended: {found.why}")]
    name = trial_name(best.trial)
    pick = f", as the pick of {found.picked_from}" if found.picked_from > 1 else ""
    interval = "" if found.low is None or found.high is None else f" (95 % {found.low:.4f} to {found.high:.4f}{pick})"
    lines += labeled("use", f"{name}: {confirmed.objective} {or_dash(best.mean)}{interval} over {found.seeds} seeds")
    lines += labeled("", format_params(best.params))
    lines += labeled("because", found.why)
    lines += labeled("verdict", f"{found.verdict}{_change_text(best, found)}")
    for text in _luck(found):
        lines += labeled("luck", text)
    return lines + labeled("noise", f"{or_dash(found.noise)} between seeds, on the same validation signers; others vary more")


def pairs_lines(found: Confirmation) -> list[str]:
    """How probably each setting is better than each other."""
    names = ["base" if row.trial == BASELINE_TRIAL else str(row.trial) for row in found.rows]
    cells = [[name, *map(or_dash, line)] for name, line in zip(names, found.better_than, strict=True)]
    table = align([["", *names], *cells], right=range(len(names) + 1))
    return [
        *labeled("pairs", "how probably the setting of the row is better than that of the column"),
        *(f"         {line}" for line in table),
    ]


def _confirmed_cells(row: Row, found: Confirmation) -> list[str]:
    star = "*" if row.trial == found.recommended else ""
    name = "base" if row.trial == BASELINE_TRIAL else str(row.trial)
    cells = [or_dash(row.searched), or_dash(row.mean), _half(row.low, row.high), or_dash(row.sd), or_dash(row.estimate)]
    if row.trial == BASELINE_TRIAL:
        return [star + name, *cells, "", "", ""]
    change = "-" if row.change is None else f"{row.change:+.4f}"
    return [star + name, *cells, change, _half(row.change_low, row.change_high), or_dash(row.better)]


def _half(low: float | None, high: float | None) -> str:
    """An interval by how far it reaches on either side of its middle."""
    return "-" if low is None or high is None else f"±{(high - low) / 2:.4f}"


def _out_of_the_race(found: Confirmation) -> list[str]:
    """Who failed or was dropped, in words."""
    failed = [row for row in found.rows if row.failed]
    texts = [
        f"{trial_name(row.trial)} failed with seed {', '.join(map(str, row.failed))}"
        + (f": {row.reason}" if row.reason else "")
        for row in failed
    ]
    dropped = [row for row in found.rows if row.dropped_after is not None and not row.failed]
    return texts + [f"trial {row.trial} was clearly behind after {row.dropped_after} seeds" for row in dropped]


def _luck(found: Confirmation) -> list[str]:
    """How far the search's best number, which was picked for being low, is from what its setting gives."""
    searched = [row for row in found.rows if row.searched is not None and row.optimism is not None]
    best = min(searched, key=lambda row: (row.searched, row.trial), default=None)
    if best is None or best.optimism is None:
        return []
    gap = f"{abs(best.optimism):.4f} {'better' if best.optimism > 0 else 'worse'}"
    return [f"the search's best, {best.searched:.4f} of {trial_name(best.trial)}, is {gap} than its mean with fresh seeds"]


def _change_text(row: Row, found: Confirmation) -> str:
    if row.change is None or row.better is None or row.trial == BASELINE_TRIAL:
        return ""
    interval = ""
    if found.change_low is not None and found.change_high is not None:
        interval = f" (95 % {found.change_low:+.4f} to {found.change_high:+.4f})"
    sure = f"{row.better:.3f}" if row.better < 0.9995 else "over 0.999"
    return f": a change of {row.change:+.4f}{interval}, better with probability {sure}"
