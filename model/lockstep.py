"""Trainings in lockstep: the next epoch of each, those that may share their batches in one stack.

    results = run_epochs(trainings, width=16)

A slot's numbers depend on nothing in the other slots. On a GPU they depend on the number of slots, because that decides how a
sum is divided: so a stack always has the same number there, and copies of the first slot fill it up.

Between two epochs every training is an ordinary one. For an epoch, weights and optimizer states are gathered into matrices
with a row for each slot, and written back at its end.
"""

# S slots with the copies, W floats of a slot's weights, B clips of a batch, C clips of a set, K words

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from data_utils.batches import ordered_batches
from model.device_clips import DeviceClips
from model.flat import Places
from model.loss import StackedLoss, measure_smoothing
from model.metrics import Metrics, measure
from model.paths import TorchPath
from model.record import EpochRecord
from model.stack import StackedDropout, StackedModel
from model.stacked_optimizer import StackedAdam
from model.training import Diverged, Training, copied

_VALIDATION_ROWS = 16384
"""Frames of all slots together that are validated at once."""

LEAST_ROWS = 1024
"""Frames of a slot that are validated at once, at least."""


def stack_key(training: Training) -> Hashable:
    """Trainings with equal keys can train their next epoch in one stack: the same network, batches and kind of optimizer.

    Dropout, label smoothing, the learning rate with its schedule, weight decay, clipping and averaging may differ. A training
    that the compiled kernel trains has a key of its own.
    """
    if training.choice.library is not None:
        return id(training)
    generators = training.generators
    states = generators.order.bit_generator.state, generators.augment.bit_generator.state
    order = json.dumps(states, default=str) if training.order is None else (training.order.seed, training.clock)
    network = replace(training.model.config, dropout=0.0, init="sound")
    clips = id(training.train.clips), id(training.validation and training.validation.clips)
    config = training.config
    return network, training.augment, config.optimizer, config.batch_size, config.precision, clips, order


def run_epochs(trainings: Sequence[Training], width: int) -> list[EpochRecord | Diverged]:
    """Trains the next epoch of each training; those with equal keys together, at most `width` of them.

    The record of a training, or why it diverged, in the order of the trainings. The same width gives the same numbers on the
    same device, whatever else is trained. An error such as too little memory leaves the trainings of its stack as they were;
    those of earlier stacks have advanced.
    """
    groups: dict[Hashable, list[Training]] = {}
    for training in trainings:
        groups.setdefault(stack_key(training), []).append(training)
    results: dict[int, EpochRecord | Diverged] = {}
    for group in groups.values():
        for first in range(0, len(group), width):
            slots = group[first : first + width]
            by_kernel = slots[0].choice.library is not None
            results |= zip(map(id, slots), [_alone(slots[0])] if by_kernel else _together(slots, width), strict=True)
    return [results[id(training)] for training in trainings]


def run_epoch(training: Training, width: int | None) -> EpochRecord:
    """Trains the next epoch of one training with the numbers that it has in stacks of this width; None or 0: alone.

    Raises:
        Diverged: a loss is not finite.
    """
    if not width:
        return training.run_epoch()
    [result] = run_epochs([training], width)
    if isinstance(result, Diverged):
        raise result
    return result


def _alone(training: Training) -> EpochRecord | Diverged:
    try:
        return training.run_epoch()
    except Diverged as error:
        return error


def _together(slots: Sequence[Training], width: int) -> list[EpochRecord | Diverged]:
    began = time.perf_counter()
    lead = slots[0]
    dropout_states = [slot.generators.dropout.get_state() for slot in slots]
    shared = lead.generators.order.bit_generator, lead.generators.augment.bit_generator
    shared_states = [generator.state for generator in shared]
    results: list[EpochRecord | Diverged] = []
    kept: list[dict[str, Tensor] | None] = []
    try:
        lead.begin_epoch()
        stack = _Stack(slots, width)
        train_losses, metrics = stack.train(), stack.validate()
        seconds = (time.perf_counter() - began) / len(slots)
        for number, slot in enumerate(slots):
            results.append(_record(slot, train_losses[number], metrics[number], seconds))
            kept.append(copied(stack.averaged(number)) if _is_kept(slot, results[number]) else None)
    except BaseException:
        for slot, state in zip(slots, dropout_states, strict=True):
            slot.generators.dropout.set_state(state)
        for generator, before in zip(shared, shared_states, strict=True):
            generator.state = before
        raise
    stack.write_back()  # from here on nothing needs memory
    for slot, result, weights in zip(slots, results, kept, strict=True):
        if isinstance(result, EpochRecord):
            slot.add_epoch(result, width, weights)
    return results


def _record(slot: Training, train_loss: float, metrics: Metrics, seconds: float) -> EpochRecord | Diverged:
    try:
        return slot.next_record(slot.checked_train_loss(train_loss), metrics, seconds)
    except Diverged as error:
        return error


def _is_kept(slot: Training, result: EpochRecord | Diverged) -> bool:
    return isinstance(result, EpochRecord) and slot.would_keep(result)


class _Stack:
    """Trainings with equal keys, for one epoch."""

    def __init__(self, slots: Sequence[Training], width: int) -> None:
        """`width`: the most slots of a stack. On a GPU there are always as many: copies of the first training fill them up."""
        self._slots, self._lead = slots, slots[0]
        self._validation_rows = max(_VALIDATION_ROWS // width, LEAST_ROWS)
        size = width if slots[0].device.type == "cuda" else len(slots)
        self._filled = [*slots, *[slots[0]] * (size - len(slots))]
        lead, device = slots[0], slots[0].device
        self._places = places = Places.of(lead.model)
        self._steps = -(-len(lead.train.clips) // lead.config.batch_size)
        has_moving = any(slot.averaged is not slot.model for slot in slots)
        count = 4 if has_moving else 3
        matrices = torch.zeros(count, size, places.size, device=device)
        self._weights_SW, self._averages_SW, self._squares_SW = matrices[:3]
        self._moving_SW = matrices[3] if has_moving else None
        self._dropout = StackedDropout(
            [slot.model.config.dropout for slot in self._filled],
            [slot.generators.dropout if number < len(slots) else None for number, slot in enumerate(self._filled)],
            device,
        )
        self._loss = StackedLoss([slot.loss for slot in self._filled], device)
        for number, slot in enumerate(slots):
            used = measure_smoothing(self._loss.of_slot(number), slot.model.num_words, slot.config.label_smoothing_over)
            assert math.isclose(used, slot.label_smoothing_used, abs_tol=1e-9), "a slot's loss is that of its training"
        self._copy(to_stack=True)
        matrices[:, len(slots) :] = matrices[:, :1]
        self._weights_SW.requires_grad_()
        self._model = StackedModel(lead.model, places, self._weights_SW)

    def train(self) -> list[float]:
        """Trains on every clip once; each slot's mean loss."""
        lead = self._lead
        optimizer = StackedAdam(
            [slot.config for slot in self._filled],
            [len(slot.history) * self._steps for slot in self._filled],
            self._steps,
            self._places,
            weights_SW=self._weights_SW,
            averages_SW=self._averages_SW,
            squares_SW=self._squares_SW,
            moving_SW=self._moving_SW,
        )
        total_S = torch.zeros(len(self._filled), dtype=torch.float64, device=lead.device)
        assert isinstance(lead.path, TorchPath), "the kernel trains alone"
        with contextlib.closing(lead.path.batches()) as batches:  # after an error nothing draws from the generators
            for number, (frames_MF, layout, labels_B) in enumerate(batches):
                loss_S = self._loss(self._model.logits(frames_MF, layout, self._dropout), labels_B)
                self._weights_SW.grad = None
                loss_S.sum().backward()  # type: ignore[no-untyped-call]  # torch's stubs leave it untyped
                assert self._weights_SW.grad is not None
                optimizer.step(number, self._weights_SW.grad)
                total_S += loss_S.detach() * len(labels_B)
        return [total / len(lead.train.clips) for total in total_S.tolist()[: len(self._slots)]]

    def validate(self) -> list[Metrics]:
        """The validation metrics of each slot."""
        if self._lead.validation is None:
            return [slot.no_metrics() for slot in self._slots]
        labels_C = torch.from_numpy(self._lead.validation.clips.labels_C)
        return [measure(logits_CK, labels_C) for logits_CK in self._logits(self._lead.validation)]

    def averaged(self, number: int) -> dict[str, Tensor]:
        """Views of the weights of a slot that are validated, by name."""
        return self._places.views((self._weights_SW if self._moving_SW is None else self._moving_SW).detach()[number])

    @torch.inference_mode()
    def _logits(self, validation: DeviceClips) -> Float[Tensor, "S C K"]:
        """Logits of the validation clips by each slot's averaged weights, on the CPU."""
        lead, clips = self._lead, validation.clips
        weights_SW = self._weights_SW if self._moving_SW is None else self._moving_SW
        model = StackedModel(lead.model, self._places, weights_SW)
        none = StackedDropout([0.0] * len(weights_SW), [None] * len(weights_SW), lead.device)
        result_SCK = torch.empty(len(self._slots), len(clips), lead.model.num_words)
        for batch in ordered_batches(clips, self._validation_rows, lead.model.frames_multiple, validation.rule):
            logits_SBK = model.logits(*validation.take(batch, lead.model.config.pooling), none)
            result_SCK[:, torch.from_numpy(batch.clips_B)] = logits_SBK[: len(self._slots)].float().cpu()
        return result_SCK

    def write_back(self) -> None:
        """Gives every training its weights and its state after the epoch."""
        self._copy(to_stack=False)
        for slot in self._slots[1:]:
            for name in ("order", "augment"):
                generator = getattr(slot.generators, name)
                generator.bit_generator.state = getattr(self._lead.generators, name).bit_generator.state

    @torch.no_grad()
    def _copy(self, *, to_stack: bool) -> None:
        """Copies all weights and optimizer states from the trainings to the rows, or back."""
        rows: list[Tensor] = []
        theirs: list[Tensor] = []
        steps: list[Tensor] = []

        def pair(matrix_SW: Tensor, number: int, tensors: Mapping[str, Tensor]) -> None:
            rows.extend(self._places.views(matrix_SW[number]).values())
            theirs.extend(tensors[name] for name in self._places.offsets)

        for number, slot in enumerate(self._slots):
            state = slot.optimizer.begin()
            pair(self._weights_SW.detach(), number, dict(slot.model.named_parameters()))
            pair(self._averages_SW, number, {name: values["exp_avg"] for name, values in state.items()})
            pair(self._squares_SW, number, {name: values["exp_avg_sq"] for name, values in state.items()})
            steps += [values["step"] for values in state.values()]
            if self._moving_SW is not None:
                pair(self._moving_SW, number, dict(slot.averaged.named_parameters()))
        if to_stack:
            torch._foreach_copy_(rows, theirs)
        else:
            torch._foreach_copy_(theirs, rows)
            torch._foreach_add_(steps, self._steps)
