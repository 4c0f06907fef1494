"""Trainings from an exported configuration, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_utils.wording import counted
from model.record import EpochRecord
from search.wording import labeled

if TYPE_CHECKING:
    from search.exporting.export import Exported
    from search.exporting.final import FinalPlan
    from search.exporting.retrain import Retrained


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """One epoch of a training that is watched alone."""
    return (
        f"epoch {record.epoch:>3}/{epochs}  train_loss {record.train_loss:.4f}  val_loss {record.val_loss:.4f}  "
        f"top1 {record.val_top1:.4f}  {record.seconds:.1f}s"
    )


def final_lines(plan: FinalPlan, exported: Exported) -> list[str]:
    """What a training on all signers is going to do."""
    opened = f", {len(plan.sealed)} of them sealed until a test opened them" if plan.sealed else ""
    lines = [
        f"signers  {len(plan.signers)}{opened}",
        f"epochs   {plan.epochs}, as many as counted in the search",
    ]
    if plan.left_out:
        text = f"without the {counted(len(plan.left_out), 'sealed signer')}: no test has opened them for this configuration"
        lines += labeled("sealed", text)
    if plan.differences:
        lines += ["note     not as in the record:", *(f"  {line}" for line in plan.differences)]
    known = f"top1 {exported.recorded['val_top1']:.4f} on the validation signers of the search"
    if exported.sealed:
        known += f", {exported.sealed['top1']:.4f} on the sealed ones"
    nobody = "it is measured on nobody" if plan.left_out else "nobody is left to measure it on"
    return [*lines, *labeled("expect", f"{nobody}; trained on fewer it gave {known}")]


def retrained_lines(result: Retrained) -> list[str]:
    """Whether the recorded number came back, and if not, why that may be."""
    lines = [
        f"recorded {result.name} {result.recorded!r}",
        f"now      {result.name} {result.value!r}, top1 {result.measured['val_top1']:.4f} at epoch {result.measured['epoch']}",
    ]
    if result.invalid:
        return [*lines, result.invalid]
    if result.came_back:
        return [*lines, f"the recorded {result.name} came back, bit for bit"]
    gap = result.value - result.recorded
    if result.should_come_back:
        return [*lines, f"it did NOT come back: {gap:+.3e}, although nothing that was recorded has changed"]
    return [*lines, f"it differs by {gap:+.3e}; not as in the record:", *(f"  {line}" for line in result.differences)]
