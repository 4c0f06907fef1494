"""A look at the sealed signers as people read it."""

from __future__ import annotations

from collections.abc import Mapping

from search.confirm.evidence import BASELINE
from search.sealed.record import Opening
from search.wording import columns, or_dash


def sealed_lines(opening: Opening) -> list[str]:
    """What the sealed signers say."""
    names = {score.trial: "baseline" if score.trial == BASELINE else f"trial {score.trial}" for score in opening.scores}
    signers = "1 signer" if len(opening.signers) == 1 else f"{len(opening.signers)} signers"
    looks = "for the first time" if opening.count == 1 else f"time {opening.count}"
    lines = [
        f"sealed   {signers}, {opening.clips:,} clips, opened {opening.time[:10]}, {looks}",
        f"by       {opening.commit}",
    ]
    head = ["", "top1", "sd", "loss", "sd", "loss_ts", "ece", "ece_ts", "ece_mass", "ece_mass_ts"]
    rows = [
        [
            names[score.trial],
            *(or_dash(value) for value in (score.top1, score.top1_sd, score.loss, score.loss_sd, score.loss_ts)),
            *(or_dash(value) for value in (score.ece, score.ece_ts, score.ece_mass, score.ece_mass_ts)),
        ]
        for score in opening.scores
    ]
    lines += columns([head, *rows], right=range(1, len(head)))
    if opening.gain is not None and opening.gain_low is not None and opening.gain_high is not None:
        interval = f"95 % {opening.gain_low:+.4f} to {opening.gain_high:+.4f}, over seeds and clips"
        lines.append(f"gain     {opening.gain:+.4f} in accuracy ({interval})")
    if len(opening.scores) == 1:
        lines.append("gain     none: the baseline is what is recommended" if opening.trial == BASELINE else "gain     unknown")
    lines.append("note     _ts: after the temperature that suited the validation clips, T " + _temperatures(opening, names))
    by_signer = zip(*(score.signers for score in opening.scores), strict=True)
    cells = [[ones[0].signer, f"{ones[0].clips:,}", *(f"{one.top1:.4f}" for one in ones)] for ones in by_signer]
    return [*lines, *columns([["signer", "clips", *names.values()], *cells], right=range(1, len(names) + 2))]


def _temperatures(opening: Opening, names: Mapping[int, str]) -> str:
    return ", ".join(f"{score.temperature:.2f} ({names[score.trial]})" for score in opening.scores)
