"""A look at the sealed signers as people read it."""

from __future__ import annotations

from data_utils.wording import align
from search import BASELINE_TRIAL
from search.study.openings import Opening
from search.wording import labeled, or_dash


def sealed_lines(opening: Opening) -> list[str]:
    """What the sealed signers say."""
    names = {score.trial: "baseline" if score.trial == BASELINE_TRIAL else f"trial {score.trial}" for score in opening.scores}
    signers = "1 signer" if len(opening.signers) == 1 else f"{len(opening.signers)} signers"
    looks = "for the first time" if opening.count == 1 else f"time {opening.count}"
    lines = [
        f"sealed   {signers}, {opening.clips:,} clips, opened {opening.time[:10]}, {looks}",
        *labeled("by", opening.commit),
    ]
    head = ["", "top1", "sd", "loss", "sd", "loss_ts", "ece", "ece_ts", "mass", "mass_ts"]
    rows = [
        [
            names[score.trial],
            *(or_dash(value) for value in (score.top1, score.top1_sd, score.loss, score.loss_sd, score.loss_ts)),
            *(or_dash(value) for value in (score.ece, score.ece_ts, score.ece_mass, score.ece_mass_ts)),
        ]
        for score in opening.scores
    ]
    lines += align([head, *rows], right=range(1, len(head)), gap=" ")
    lines += _gain_lines(opening)
    temperatures = ", ".join(f"{score.temperature:.2f} ({names[score.trial]})" for score in opening.scores)
    lines += labeled("note", f"_ts: after the temperature that suited the validation clips, {temperatures}")
    lines += labeled("", "ece: calibration error in bins of equal width; mass: in bins of equally many clips")
    by_signer = zip(*(score.signers for score in opening.scores), strict=True)
    cells = [[ones[0].signer, f"{ones[0].clips:,}", *(f"{one.top1:.4f}" for one in ones)] for ones in by_signer]
    return [*lines, *align([["signer", "clips", *names.values()], *cells], right=range(1, len(names) + 2))]


def _gain_lines(opening: Opening) -> list[str]:
    if opening.trial == BASELINE_TRIAL:
        return labeled("gain", "none: the baseline is what is recommended")
    if opening.gain is None or opening.gain_low is None or opening.gain_high is None:
        return labeled("gain", "unknown: the baseline has no model to compare with")
    interval = f"95 % {opening.gain_low:+.4f} to {opening.gain_high:+.4f}, over seeds and clips"
    return labeled("gain", f"{opening.gain:+.4f} in accuracy ({interval})")
