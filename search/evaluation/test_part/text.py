"""An opening of the sealed test signers as lines of text."""

from __future__ import annotations

from data_utils.wording import align, counted
from search import BASELINE_TRIAL
from search.study.openings import Opening
from search.wording import labeled, or_dash


def opening_lines(opening: Opening) -> list[str]:
    """The scores on the sealed signers, the gain over the baseline, and the accuracy on each signer."""
    names = {one.trial: "baseline" if one.trial == BASELINE_TRIAL else f"trial {one.trial}" for one in opening.scores}
    count = "first opening" if opening.count == 1 else f"opening {opening.count}"
    signers = f"{counted(len(opening.signers), 'signer')}, {counted(opening.clips, 'clip')}"
    lines = [f"sealed   {signers}, opened {opening.time[:10]} ({count})", *labeled("people", opening.caution)]
    lines += labeled("version", opening.commit)
    head = ["", "top1", "sd", "loss", "sd", "loss_ts", "ece", "ece_ts", "mass", "mass_ts"]
    rows = []
    for one in opening.scores:
        accuracy_and_loss = (one.top1, one.top1_sd, one.loss, one.loss_sd, one.loss_ts)
        calibration = (one.ece, one.ece_ts, one.ece_mass, one.ece_mass_ts)
        rows.append([names[one.trial], *map(or_dash, accuracy_and_loss + calibration)])
    lines += align([head, *rows], right=range(1, len(head)), gap=" ")
    lines += labeled("gain", _gain_text(opening))
    temperatures = ", ".join(f"{one.temperature:.2f} ({names[one.trial]})" for one in opening.scores)
    lines += labeled("note", f"_ts: after temperature scaling fitted on the validation clips, {temperatures}")
    lines += labeled("", "ece: calibration error in bins of equal width; mass: in bins with equal numbers of clips")
    by_signer = zip(*(one.signers for one in opening.scores), strict=True)
    cells = [[ones[0].signer, f"{ones[0].clips:,}", *(f"{one.top1:.4f}" for one in ones)] for ones in by_signer]
    return [*lines, *align([["signer", "clips", *names.values()], *cells], right=range(1, len(names) + 2))]


def _gain_text(opening: Opening) -> str:
    if opening.trial == BASELINE_TRIAL:
        return "none: the baseline is recommended"
    if opening.gain is None or opening.gain_low is None or opening.gain_high is None:
        return "unknown: the baseline has no models to compare with"
    interval = f"95% interval {opening.gain_low:+.4f} to {opening.gain_high:+.4f}, over seeds and clips"
    return f"{opening.gain:+.4f} in accuracy with the seeds that both trained with ({interval})"
