"""Text of `search retrain`: epochs, the plan for all signers, and the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_utils.wording import counted
from model.record import EpochRecord
from search.wording import labeled

if TYPE_CHECKING:
    from search.exporting.final import FinalPlan
    from search.exporting.retrain import Retrained


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """One epoch of a training with validation."""
    return (
        f"epoch {record.epoch:>3}/{epochs}  train_loss {record.train_loss:.4f}  val_loss {record.val_loss:.4f}  "
        f"top1 {record.val_top1:.4f}  {record.seconds:.1f}s"
    )


def final_lines(plan: FinalPlan) -> list[str]:
    """What a training on all signers will do."""
    exported = plan.setup.exported
    opened = f", {len(plan.opened)} of them sealed until a test opened them" if plan.opened else ""
    lines = [f"signers  {len(plan.signers)}{opened}", f"epochs   {plan.epochs}, as in the search"]
    if (clips := plan.setup.split.clips) is not None:
        lines[0] = f"clips    all of {counted(len(plan.signers), 'signer')}{', also the opened ones' if plan.opened else ''}"
        lines += labeled("people", exported.caution)
    if plan.left_out:
        sealed = counted(len(plan.left_out), "sealed signer") if clips is None else counted(clips.num_test, "sealed clip")
        lines += labeled("sealed", f"without the {sealed}: no test has opened them for this configuration")
    if plan.differences:
        lines += ["note     differences from the recorded training:", *(f"  {line}" for line in plan.differences)]
    kind = plan.setup.split.kind
    known = f"top1 {exported.recorded['val_top1']:.4f} on the validation {kind} of the search"
    if exported.sealed:
        known += f", {exported.sealed['top1']:.4f} on the sealed {kind}"
    unmeasured = "the model is not measured" if plan.left_out else f"no {kind[:-1]} is left to measure the model on"
    return [*lines, *labeled("expect", f"{unmeasured}; trained on fewer {kind}, the configuration gave {known}")]


def retrained_lines(result: Retrained) -> list[str]:
    """Whether the recorded value was reproduced and, if not, why that may be."""
    lines = [
        *labeled("people", result.caution),
        f"recorded {result.name} {result.recorded!r}",
        f"now      {result.name} {result.value!r}, top1 {result.measured['val_top1']:.4f} at epoch {result.measured['epoch']}",
    ]
    if result.invalid:
        return [*lines, result.invalid]
    if result.is_reproduced:
        return [*lines, f"the recorded {result.name} was reproduced bit for bit"]
    gap = result.value - result.recorded
    if not result.differences:
        return [*lines, f"NOT reproduced: it differs by {gap:+.3e} although nothing else differs from the recorded training"]
    differences = (f"  {line}" for line in result.differences)
    return [*lines, f"it differs by {gap:+.3e}; differences from the recorded training:", *differences]
