"""What one trial is, and what a worker does with it: configurations -> data -> training, put aside and taken up again."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_utils.files import ASIDE
from data_utils.prepared import fingerprint
from model.checkpoint import BadCheckpoint, load_checkpoint, save_checkpoint
from model.latency import latency_ms
from model.metrics import best_temperature, confusion, measure, reliability
from model.training import Diverged, Training
from search.curves import Step
from search.definition import Plan
from search.errors import os_errors
from search.machine import THREADS, made_with
from search.models import save_models
from search.parts import Parts, Turn
from search.records import Answered, Confidence, SignerScore
from search.settings import Configs

CHECKPOINT = "checkpoint"
"""A file of this name in a trial's folder, from its first epoch until it ends."""

_SAVING_SHARE = 0.01
"""Writing checkpoints takes about this share of the time: after each epoch where epochs are long, every few where they are
short."""

_SECOND_SAVE_S = 1.0
"""How long after the first checkpoint the next one may come: the first says little of what one costs."""


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to know of a trial."""

    trial: int
    configs: Configs
    seed: int
    """Decides starting weights, order of the clips, augmentation and dropout."""

    plan: Plan

    device: str
    folder: Path
    """Where the trial's checkpoint lies."""

    again: bool = False
    """It was begun before, and goes on from its checkpoint if there is one."""

    folds: tuple[tuple[str, ...], ...] = ()
    """Groups of training signers that validate in turn, instead of those of the study."""

    keeps_models: bool = False
    """The weights of the epochs that count are left in its folder."""

    def once_more(self) -> Job:
        """The same, to go on from its checkpoint."""
        return replace(self, again=True)


def trial_seed(study_seed: int, trial: int) -> int:
    """The seed of a trial, from the study's seed and the trial's number."""
    return int(np.random.SeedSequence([study_seed, 0, trial]).generate_state(1)[0])


def training_seed(seed: int, training: int) -> int:
    """The seed of one of a trial's trainings: the trial's own for the first."""
    return seed if training == 0 else int(np.random.SeedSequence([seed, training]).generate_state(1)[0])


def fresh_seed(study_seed: int, number: int) -> int:
    """The seed of a training that confirms, by its number from 1: the same for all that are compared, and no trial's own."""
    return int(np.random.SeedSequence([study_seed, 2, number]).generate_state(1)[0])


def sampler_seed(study_seed: int, trial: int) -> int:
    """The sampler's seed when it is asked for a trial. With one seed for all it would repeat itself at each resume."""
    return int(np.random.SeedSequence([study_seed, 1, trial]).generate_state(1)[0])


@dataclass(frozen=True)
class Outcome:
    """What a trial that has trained to its end gave, beside its curves."""

    signers: tuple[SignerScore, ...]
    answers: tuple[Answered, ...]
    """What the models answered, word by word; pairs that did not happen are left out."""

    confidences: tuple[Confidence, ...]
    """How sure they are and how right, before and after temperature scaling."""

    parameters: int
    """Numbers that the model learned."""

    latency_ms: float | None
    """Milliseconds for one clip; None where nobody asked."""

    models: tuple[str, ...] = ()
    """SHA-256 of the files of weights that were kept, one a training."""


def start_trainings(
    configs: Configs, seed: int, device: str, plan: Plan, turns: Sequence[Turn], num_words: int
) -> list[Training]:
    """The trainings of a trial, ready for their first epoch: for each fold in turn, its repeats.

    Raises:
        ValueError: the settings do not fit together or do not fit the data.
    """
    torch.set_num_threads(THREADS)
    trainings: list[Training] = []
    for turn in turns:
        for _ in range(plan.repeats):
            trainings.append(
                Training(
                    configs.model,
                    configs.train,
                    configs.augment,
                    train=turn.train,
                    validation=turn.validation,
                    num_words=num_words,
                    seed=training_seed(seed, len(trainings)),
                    device=device,
                    objective=plan.objective,
                    beside=trainings[0].train if trainings else None,
                )
            )
    return trainings


class TrialRun:
    """A trial in training, step by step. Put aside at any moment, it goes on from its last checkpoint with the same numbers."""

    def __init__(self, job: Job, parts: Parts) -> None:
        """Fresh trainings, or those that were begun before.

        Raises:
            DataError: the data set is damaged.
            ResourceError: the prepared data or the checkpoint cannot be read.
            ValueError: the settings do not fit together or do not fit the data.
        """
        self._job = job
        if job.folds:
            parts = replace(parts, split=replace(parts.split, folds=job.folds))
        self._turns = parts.turns(job.configs.preprocess)
        self._words = parts.data.words
        self.made_with = made_with(job.device)
        self._about = _about(job, parts, self.made_with)
        self.path = job.folder / CHECKPOINT
        self.trainings = self._fresh()
        self.remark = ""
        """How a trial that was begun before goes on, for people; empty for a fresh one."""

        if job.again:
            self.remark = self._take_up()
        self._told = 0
        self._saved = self.done
        self._save_from = 0.0  # the first epoch is saved at once
        self._cost_s = math.inf
        """What a checkpoint takes when nothing disturbs it; known once a second one was written."""

    @property
    def done(self) -> int:
        """Steps so far, those before the last cut too."""
        lengths = [len(training.history) for training in self.trainings]
        return sum(lengths) if self._job.plan.one_by_one else max(lengths)

    @property
    def most(self) -> int:
        """Steps that there can be."""
        epochs = self._job.configs.train.epochs
        return epochs * len(self.trainings) if self._job.plan.one_by_one else epochs

    @property
    def seconds(self) -> float:
        """What the epochs so far took."""
        return sum(record.seconds for training in self.trainings for record in training.history)

    @property
    def label_smoothing(self) -> float:
        """The eps that the loss functions really use; of several the one that is furthest from the setting."""
        wished = self._job.configs.train.label_smoothing
        return max((training.label_smoothing_used for training in self.trainings), key=lambda eps: abs(eps - wished))

    @property
    def is_over(self) -> bool:
        """Whether all epochs have run and were told."""
        return self._is_trained and self._told == self.done

    @property
    def _is_trained(self) -> bool:
        return all(training.finished for training in self.trainings)

    def next_step(self) -> Step | None:
        """A step that was trained before the last cut and not told since, else one more; None when all have run.

        Raises:
            Diverged: a loss is not finite.
        """
        if self._told == self.done:
            going_on = [training for training in self.trainings if not training.finished]
            if not going_on:
                return None
            for training in going_on[:1] if self._job.plan.one_by_one else going_on:
                training.run_epoch()
        step = self._step(self._told)
        self._told += 1
        return step

    def _step(self, number: int) -> Step:
        """A step that has been trained, by its number from 0."""
        epochs: dict[int, int] = {}
        if self._job.plan.one_by_one:
            first = 0
            for n, training in enumerate(self.trainings):
                if first <= number < first + len(training.history):
                    epochs = {n: number - first}
                first += len(training.history)
        else:
            epochs = {n: number for n, training in enumerate(self.trainings) if number < len(training.history)}
        over = {n for n, epoch in epochs.items() if self.trainings[n].finished and epoch + 1 == len(self.trainings[n].history)}
        return Step(
            records={n: self.trainings[n].history[epoch] for n, epoch in epochs.items()},
            over=frozenset(over),
            is_last=self._is_trained and number + 1 == self.done,
        )

    def outcome(self) -> Outcome:
        """What the trained models give at the epochs that count. Only when all have run. Keeps them, if the job says so.

        Raises:
            ResourceError: they cannot be written.
        """
        first = self.trainings[0]
        assert first.validation is not None, "a trial validates"
        signers, answers, confidences = self._on_validation_clips()
        models: tuple[str, ...] = ()
        if self._job.keeps_models:
            hint = "is the disk full or read-only? The same command goes on with this trial"
            with os_errors("the models of a trial cannot be written", where=self._job.folder, hint=hint):
                models = save_models(self.trainings, self._job.folder)
        return Outcome(
            signers=tuple(signers),
            answers=tuple(answers),
            confidences=tuple(confidences),
            parameters=sum(weight.numel() for weight in first.model.parameters()),
            latency_ms=latency_ms(first.model, first.validation) if self._job.plan.wants_latency else None,
            models=models,
        )

    def _on_validation_clips(self) -> tuple[list[SignerScore], list[Answered], list[Confidence]]:
        """What each training does at the epoch that counts: by signer, by word, by confidence."""
        signers: list[SignerScore] = []
        answers: list[Answered] = []
        confidences: list[Confidence] = []
        for number, training in enumerate(self.trainings):
            turn = self._turns[number // self._job.plan.repeats]
            logits_CK = training.kept_logits()
            labels_C = torch.from_numpy(turn.validation.labels_C)
            for n, signer in enumerate(turn.signers):
                mine = torch.from_numpy(turn.signer_C == n)
                metrics = measure(logits_CK[mine], labels_C[mine])
                signers.append(SignerScore(number, signer, int(mine.sum()), metrics.loss, metrics.top1))
            clips_KK = confusion(logits_CK, labels_C)
            for word, answer in clips_KK.nonzero().tolist():
                answers.append(Answered(number, self._words[word], self._words[answer], int(clips_KK[word, answer])))
            for temperature in (1.0, best_temperature(logits_CK, labels_C)):
                bins = reliability(logits_CK / temperature, labels_C)
                confidences += [Confidence(number, temperature, *dataclasses.astuple(one)) for one in bins]
        return signers, answers, confidences

    def save(self, *, at_once: bool = False) -> None:
        """Writes a checkpoint if there is something new to keep, and, unless it is wanted `at_once`, if it is time for one.

        Raises:
            ResourceError: it cannot be written.
        """
        began = time.perf_counter()
        if self._saved == self.done or self.is_over or not (at_once or began >= self._save_from):
            return
        what = f"the checkpoint of trial {self._job.trial} cannot be written"
        hint = "is the disk full or read-only? The same command goes on with this trial"
        with os_errors(what, where=self.path, hint=hint):
            save_checkpoint(self.trainings, self.path, self._about)
        first, self._saved = self._save_from == 0.0, self.done
        ended = time.perf_counter()
        if first:
            self._save_from = ended + _SECOND_SAVE_S
            return
        self._cost_s = min(ended - began, self._cost_s)
        self._save_from = ended + self._cost_s / _SAVING_SHARE

    def _fresh(self) -> list[Training]:
        job = self._job
        return start_trainings(job.configs, job.seed, job.device, job.plan, self._turns, len(self._words))

    def _take_up(self) -> str:
        if not self.path.exists():
            return "it starts over: no epoch was kept"
        what = f"the checkpoint of trial {self._job.trial} cannot be read"
        try:
            with os_errors(what, where=self.path, hint="delete it, and the trial starts over"):
                load_checkpoint(self.trainings, self.path, self._about)
        except BadCheckpoint as error:
            self.trainings = self._fresh()
            return f"it starts over: its checkpoint cannot be used, {error}"
        begun = sum(bool(training.history) for training in self.trainings)
        if self._job.plan.one_by_one:
            return f"it goes on in training {begun} of {len(self.trainings)}"
        epoch = max(len(training.history) for training in self.trainings)
        return f"it goes on after epoch {epoch}" + (f" of its {begun} trainings" if begun > 1 else "")


def remove_checkpoint(folder: Path) -> None:
    """Deletes the checkpoint of a trial that has ended, and what killed processes left half written.

    Raises:
        OSError: it cannot be deleted.
    """
    for path in (folder / CHECKPOINT, *folder.glob(f".*{ASIDE}")):
        path.unlink(missing_ok=True)


def own_fault(error: Exception) -> str:
    """Why a trial failed, if the error is its own; empty if something else is wrong."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"out of memory: {error}".splitlines()[0]
    return str(error) if isinstance(error, Diverged | ValueError) else ""


def _about(job: Job, parts: Parts, machine: dict[str, Any]) -> str:
    """What decides a trial's numbers. A checkpoint that was made with anything else is of no use."""
    about = {
        "seed": job.seed,
        "settings": job.configs.as_dict(),
        "data": fingerprint(parts.data),
        **parts.split.parts(),
        "folds": parts.split.folds,
        "plan": dataclasses.asdict(job.plan),
        "made_with": {name: value for name, value in machine.items() if name != "optuna"},  # it has no part in training
    }
    return json.dumps(about, sort_keys=True)
