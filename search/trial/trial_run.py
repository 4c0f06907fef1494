"""What one trial is, and what a worker does with it: configurations -> data -> training, put aside and taken up again."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

import torch

from model.checkpoint import BadCheckpoint, load_checkpoint, save_checkpoint
from model.latency import latency_ms
from model.metrics import best_temperature, confusion, measure, reliability
from model.training import Diverged, Training
from search.definition.definition import Plan
from search.definition.settings import Configs
from search.errors import os_errors
from search.trial.checkpoint import _SAVING_SHARE, _SECOND_SAVE_S, CHECKPOINT, _about
from search.trial.clips import Fold, TrialClips
from search.trial.curves import Step
from search.trial.job import Job, training_seed
from search.trial.machine import THREADS, made_with
from search.trial.outcome import AnswerCount, Confidence, Outcome, SignerScore
from search.trial.weights import save_models


def start_trainings(
    configs: Configs, seed: int, device: str, plan: Plan, folds: Sequence[Fold], num_words: int
) -> list[Training]:
    """The trainings of a trial, ready for their first epoch: for each fold in turn, its repeats.

    Raises:
        ValueError: the settings do not fit together or do not fit the data.
    """
    torch.set_num_threads(THREADS)
    trainings: list[Training] = []
    for fold in folds:
        for _ in range(plan.repeats):
            trainings.append(
                Training(
                    configs.model,
                    configs.train,
                    configs.augment,
                    train=fold.train,
                    validation=fold.validation,
                    num_words=num_words,
                    seed=training_seed(seed, len(trainings)),
                    device=device,
                    objective=plan.objective,
                    share_with=trainings[0].train if trainings else None,
                )
            )
    return trainings


class TrialRun:
    """A trial in training, step by step. Put aside at any moment, it goes on from its last checkpoint with the same numbers."""

    def __init__(self, job: Job, trial_clips: TrialClips) -> None:
        """Fresh trainings, or those that were begun before.

        Raises:
            DataError: the data set is damaged.
            ResourceError: the prepared data or the checkpoint cannot be read.
            ValueError: the settings do not fit together or do not fit the data.
        """
        self._job = job
        trial_clips = trial_clips.with_folds(job.folds)
        self._folds = trial_clips.folds(job.configs.preprocess)
        self._words = trial_clips.data.words
        self.made_with = made_with(job.device)
        self._about = _about(job, trial_clips, self.made_with)
        self.path = job.folder / CHECKPOINT
        self.trainings = self._fresh()
        self.resume_note = ""
        """How a trial that was begun before goes on, for people; empty for a fresh one."""

        if job.is_resumed:
            self.resume_note = self._take_up()
        self._told = 0
        self._saved = self.steps_done
        self._save_from = 0.0  # the first epoch is saved at once
        self._cost_s = math.inf
        """What a checkpoint takes when nothing disturbs it; known once a second one was written."""

    @property
    def steps_done(self) -> int:
        """Steps so far, those before the last cut too."""
        lengths = [len(training.history) for training in self.trainings]
        return sum(lengths) if self._job.plan.one_by_one else max(lengths)

    @property
    def max_steps(self) -> int:
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
        return self._is_trained and self._told == self.steps_done

    @property
    def _is_trained(self) -> bool:
        return all(training.finished for training in self.trainings)

    def next_step(self) -> Step | None:
        """A step that was trained before the last cut and not told since, else one more; None when all have run.

        Raises:
            Diverged: a loss is not finite.
        """
        if self._told == self.steps_done:
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
            is_last=self._is_trained and number + 1 == self.steps_done,
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

    def _on_validation_clips(self) -> tuple[list[SignerScore], list[AnswerCount], list[Confidence]]:
        """What each training does at the epoch that counts: by signer, by word, by confidence."""
        signers: list[SignerScore] = []
        answers: list[AnswerCount] = []
        confidences: list[Confidence] = []
        for number, training in enumerate(self.trainings):
            fold = self._folds[number // self._job.plan.repeats]
            logits_CK = training.kept_logits()
            labels_C = torch.from_numpy(fold.validation.labels_C)
            for n, signer in enumerate(fold.signers):
                mine = torch.from_numpy(fold.signer_C == n)
                metrics = measure(logits_CK[mine], labels_C[mine])
                signers.append(SignerScore(number, signer, int(mine.sum()), metrics.loss, metrics.top1))
            clips_KK = confusion(logits_CK, labels_C)
            for word, answer in clips_KK.nonzero().tolist():
                answers.append(AnswerCount(number, self._words[word], self._words[answer], int(clips_KK[word, answer])))
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
        if self._saved == self.steps_done or self.is_over or not (at_once or began >= self._save_from):
            return
        what = f"the checkpoint of trial {self._job.trial} cannot be written"
        hint = "is the disk full or read-only? The same command goes on with this trial"
        with os_errors(what, where=self.path, hint=hint):
            save_checkpoint(self.trainings, self.path, self._about)
        first, self._saved = self._save_from == 0.0, self.steps_done
        ended = time.perf_counter()
        if first:
            self._save_from = ended + _SECOND_SAVE_S
            return
        self._cost_s = min(ended - began, self._cost_s)
        self._save_from = ended + self._cost_s / _SAVING_SHARE

    def _fresh(self) -> list[Training]:
        job = self._job
        return start_trainings(job.configs, job.seed, job.device, job.plan, self._folds, len(self._words))

    def _take_up(self) -> str:
        if not self.path.exists():
            return "starting over (no checkpoint)"
        what = f"the checkpoint of trial {self._job.trial} cannot be read"
        try:
            with os_errors(what, where=self.path, hint="delete it, and the trial starts over"):
                load_checkpoint(self.trainings, self.path, self._about)
        except BadCheckpoint as error:
            self.trainings = self._fresh()
            return f"starting over (unusable checkpoint: {error})"
        begun = sum(bool(training.history) for training in self.trainings)
        if self._job.plan.one_by_one:
            return f"resuming in training {begun} of {len(self.trainings)}"
        epoch = max(len(training.history) for training in self.trainings)
        return f"resuming after epoch {epoch}" + (f" of its {begun} trainings" if begun > 1 else "")


def own_fault(error: Exception) -> str:
    """Why a trial failed, if the error is its own; empty if something else is wrong."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"out of memory: {error}".splitlines()[0]
    return str(error) if isinstance(error, Diverged | ValueError) else ""
