"""Trains a trial step by step: its folds and repeats, a checkpoint now and then, and the outcome of its models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from data_utils.prepared import ClipSet
from model.checkpoint import BadCheckpoint
from model.latency import latency_ms
from model.metrics import best_temperature, confusion, measure, reliability
from model.objective import Objective
from model.training import Diverged, SharedOrder, Training
from search.definition.definition import Plan
from search.definition.settings import Configs
from search.errors import os_errors
from search.trial.checkpoint import Checkpoint, Pace
from search.trial.clips import Fold, TrialClips
from search.trial.curves import Step
from search.trial.files import DISK_HINT
from search.trial.job import Job, training_seed
from search.trial.machine import KERNEL, THREADS, made_with
from search.trial.outcome import AnswerCount, Confidence, Outcome, SignerScore
from search.trial.weights import save_models


def start_trainings(
    configs: Configs,
    seed: int,
    device: str,
    plan: Plan,
    folds: Sequence[Fold],
    num_words: int,
    order: SharedOrder | None = None,
) -> list[Training]:
    """The trainings of a trial before their first epoch: all repeats of the first fold, then of the next.

    Raises:
        ValueError: the settings are not compatible with each other or with the data.
    """
    trainings: list[Training] = []
    for fold in folds:
        for _ in range(plan.repeats):
            trainings.append(
                new_training(
                    configs,
                    train=fold.train,
                    validation=fold.validation,
                    num_words=num_words,
                    seed=training_seed(seed, len(trainings)),
                    device=device,
                    objective=plan.objective,
                    order=order,
                )
            )
    return trainings


def new_training(
    configs: Configs,
    *,
    train: ClipSet,
    validation: ClipSet | None,
    num_words: int,
    seed: int,
    device: str,
    objective: Objective,
    order: SharedOrder | None = None,
) -> Training:
    """A training before its first epoch, with `THREADS` threads. All commands train with trainings that are made here.

    Raises: same as `start_trainings`.
    """
    torch.set_num_threads(THREADS)
    return Training(
        configs.model,
        configs.train,
        configs.augment,
        train=train,
        validation=validation,
        num_words=num_words,
        seed=seed,
        device=device,
        objective=objective,
        order=order,
    )


def with_path(configs: Configs, recorded: Mapping[str, Any]) -> Configs:
    """The settings of a training that takes the path of a recorded one, as far as this machine can; see `made_with`."""
    return configs if KERNEL in recorded else _by_torch(configs)


def _by_torch(configs: Configs) -> Configs:
    precision = "float32" if configs.train.precision == "bf16" else configs.train.precision
    train = dataclasses.replace(configs.train, kernel="torch", precision=precision)
    return dataclasses.replace(configs, train=train)


class TrialRun:
    """A trial in training. Interrupted at any moment, it resumes from its last checkpoint with the same numbers."""

    def __init__(self, job: Job, trial_clips: TrialClips, pace: Pace | None = None) -> None:
        """Fresh trainings, or those of the checkpoint if the job is resumed.

        `pace`: of the checkpoints; None: a pace of its own.

        Raises:
            DataError: the data set is damaged.
            ResourceError: the prepared data or the checkpoint cannot be read.
            ValueError: the settings are not compatible with each other or with the data.
        """
        self._job = job
        self._trial_clips = trial_clips = trial_clips.with_split(job.split)
        self._folds = trial_clips.folds(job.configs.preprocess)
        self._words = trial_clips.data.words
        self._configs = job.configs
        self._order = None if job.order_seed is None else SharedOrder(job.order_seed, job.first_order or 0)
        self._pace = pace or Pace()
        self._num_reported = 0
        """Steps that `next_step` has returned."""

        self._begin()
        self.resume_note = self._resume() if job.is_resumed else ""
        """How an interrupted trial resumes, as text; empty for a new one."""

        self._num_saved = self.steps_done

    @property
    def path_note(self) -> str:
        """Why PyTorch trains although the settings allow the kernel; empty otherwise."""
        return self.trainings[0].choice.reason

    @property
    def first_order(self) -> int | None:
        """Which of the study's shared epochs was the trial's first; None if the study does not share them."""
        order = self.trainings[0].order
        return None if order is None else order.first

    @property
    def stack(self) -> int | None:
        """The width of the stacks that trained its epochs so far; 0 for several widths; None if each was trained alone."""
        widths = {training.stack for training in self.trainings if training.history}
        return widths.pop() if len(widths) == 1 else 0 if widths else None

    @property
    def steps_done(self) -> int:
        """Steps trained so far, including those of the checkpoint."""
        lengths = [len(training.history) for training in self.trainings]
        return sum(lengths) if self._job.plan.one_by_one else max(lengths)

    @property
    def max_steps(self) -> int:
        """Number of steps if no training stops early."""
        epochs = self._job.configs.train.epochs
        return epochs * len(self.trainings) if self._job.plan.one_by_one else epochs

    @property
    def seconds(self) -> float:
        """Training time of the epochs so far."""
        return sum(record.seconds for training in self.trainings for record in training.history)

    @property
    def label_smoothing(self) -> float:
        """The eps that the loss functions really use; of several the one that differs most from the setting."""
        setting = self._job.configs.train.label_smoothing
        return max((training.label_smoothing_used for training in self.trainings), key=lambda eps: abs(eps - setting))

    @property
    def is_complete(self) -> bool:
        """Whether all epochs have been trained and reported."""
        return self._is_trained and self._num_reported == self.steps_done

    @property
    def _is_trained(self) -> bool:
        return all(training.finished for training in self.trainings)

    @property
    def due(self) -> list[Training]:
        """The trainings whose next epoch belongs to the next step; none if that step has been trained, or is the end."""
        return [] if self._num_reported < self.steps_done else self.next_to_train

    @property
    def next_to_train(self) -> list[Training]:
        """The trainings whose next epoch belongs to the first step that has not been trained."""
        unfinished = [training for training in self.trainings if not training.finished]
        return unfinished[:1] if self._job.plan.one_by_one else unfinished

    def next_step(self) -> Step | None:
        """The next step: a restored one that has not been reported yet, else a new one; None after the last.

        Raises:
            Diverged: a loss is not finite.
        """
        for training in self.due:
            training.run_epoch()
        if self._num_reported == self.steps_done:
            return None
        step = self._step(self._num_reported)
        self._num_reported += 1
        return step

    def _step(self, number: int) -> Step:
        """A trained step by its number from 0."""
        epochs: dict[int, int] = {}
        if self._job.plan.one_by_one:
            first = 0
            for n, training in enumerate(self.trainings):
                if first <= number < first + len(training.history):
                    epochs = {n: number - first}
                first += len(training.history)
        else:
            epochs = {n: number for n, training in enumerate(self.trainings) if number < len(training.history)}
        ended = {n for n, epoch in epochs.items() if self.trainings[n].finished and epoch + 1 == len(self.trainings[n].history)}
        return Step(
            records={n: self.trainings[n].history[epoch] for n, epoch in epochs.items()},
            ended=frozenset(ended),
            is_last=self._is_trained and number + 1 == self.steps_done,
        )

    def save(self, *, at_once: bool = False) -> None:
        """Writes a checkpoint if there are new epochs and, unless `at_once`, if one is due.

        Raises:
            ResourceError: it cannot be written.
        """
        has_news = self._num_saved < self.steps_done and not self.is_complete
        if has_news and (at_once or self._checkpoint.is_due):
            self._checkpoint.save(self.trainings)
            self._num_saved = self.steps_done

    def outcome(self) -> Outcome:
        """Results of the trained models at their kept epochs, after the last step. Saves the weights if the job says so.

        Raises:
            ResourceError: they cannot be written.
        """
        first = self.trainings[0]
        assert first.validation is not None, "a trial validates"
        signers, answers, confidences = self._validation_results()
        models: tuple[str, ...] = ()
        if self._job.keeps_models:
            with os_errors("the models of a trial cannot be written", where=self._job.folder, hint=DISK_HINT):
                models = save_models(self.trainings, self._job.folder)
        return Outcome(
            signers,
            answers,
            confidences,
            parameters=sum(weight.numel() for weight in first.model.parameters()),
            latency_ms=latency_ms(first.model, first.validation) if self._job.plan.wants_latency else None,
            models=models,
        )

    def _validation_results(self) -> tuple[tuple[SignerScore, ...], tuple[AnswerCount, ...], tuple[Confidence, ...]]:
        """Results of each training at its kept epoch: by signer, by word, by confidence."""
        signers: list[SignerScore] = []
        answers: list[AnswerCount] = []
        confidences: list[Confidence] = []
        for number, training in enumerate(self.trainings):
            fold = self._folds[number // self._job.plan.repeats]
            logits_CK = training.kept_logits()
            labels_C = torch.from_numpy(fold.validation.labels_C)
            for n, signer in enumerate(fold.signers):
                of_signer_C = torch.from_numpy(fold.signer_C == n)
                metrics = measure(logits_CK[of_signer_C], labels_C[of_signer_C])
                signers.append(SignerScore(number, signer, int(of_signer_C.sum()), metrics.loss, metrics.top1))
            clips_KK = confusion(logits_CK, labels_C)
            for word, answer in clips_KK.nonzero().tolist():
                answers.append(AnswerCount(number, self._words[word], self._words[answer], int(clips_KK[word, answer])))
            for temperature in (1.0, best_temperature(logits_CK, labels_C)):
                bins = reliability(logits_CK / temperature, labels_C)
                confidences += [Confidence(number, temperature, *dataclasses.astuple(one)) for one in bins]
        return tuple(signers), tuple(answers), tuple(confidences)

    def _begin(self) -> None:
        """Fresh trainings, and the checkpoint that fits them."""
        job = self._job
        self.trainings = start_trainings(
            self._configs, job.seed, job.device, job.plan, self._folds, len(self._words), self._order
        )
        self.made_with = made_with(job.device, self.trainings[0].choice.kernel, self._configs.train.precision)
        self._checkpoint = Checkpoint(job, self._trial_clips, self.made_with, self._pace)

    def _resume(self) -> str:
        """Restores the checkpoint if possible; the note on it."""
        if not self._checkpoint.exists:
            return "starting over (no checkpoint)"
        try:
            if KERNEL in self.made_with and self._checkpoint.is_made_by_torch():
                self._configs = _by_torch(self._configs)
                self._begin()
            self._checkpoint.restore(self.trainings)
        except BadCheckpoint as error:
            self._configs = self._job.configs
            self._begin()
            return f"starting over (unusable checkpoint: {error})"
        begun = sum(bool(training.history) for training in self.trainings)
        if self._job.plan.one_by_one:
            return f"resuming in training {begun} of {len(self.trainings)}"
        return f"resuming after epoch {self.steps_done}" + (f" of its {begun} trainings" if begun > 1 else "")


def failure_reason(error: Exception) -> str:
    """Why the trial failed, if the error is caused by its settings; empty for other errors."""
    return str(error) if isinstance(error, Diverged | ValueError) else ""
