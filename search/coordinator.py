"""The main path: ask for parameters, hand them out, report epochs, prune, tell the result, until the target is met.

The coordinator is the only writer of the study. It knows no screen (it emits events) and no worker (it talks to an engine).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState

from model.record import EpochRecord
from search.definition import StudyDefinition, dump_yaml
from search.engines import Engine, EpochDone, JobDone, JobFailed
from search.errors import DefinitionError, NegativeAnswer, ResourceError
from search.events import EpochFinished, Listener, RunFinished, TrialFinished, TrialStarted
from search.records import curve_text, trial_folder, write_whole
from search.study import STATE_NAMES, baseline_summary, best_trial, count_states, num_finished, store_result, summary
from search.trial import Job, made_with, sampler_seed, trial_seed


class StopRequest(Protocol):
    """Something that may ask the run to end at the next epoch."""

    @property
    def reason(self) -> str:
        """Why; empty while nobody asks."""
        ...


@dataclass
class _Running:
    """A trial in training."""

    trial: optuna.Trial
    job: Job
    reported: int
    """Epochs that a stopped run had reported already: they come again, and are not reported twice."""

    started: float = field(default_factory=time.perf_counter)
    history: list[EpochRecord] = field(default_factory=list)


class Coordinator:
    """One study on its way to its target."""

    def __init__(
        self,
        study: optuna.Study,
        definition: StudyDefinition,
        engine: Engine,
        *,
        target: int,
        device: str,
        runs: Path,
        emit: Listener,
        stop: StopRequest,
        max_failures: int = 10,
    ) -> None:
        self.study = study
        self.definition = definition
        self.engine = engine
        self.target = target
        self.device = device
        self.runs = runs
        self.emit = emit
        self.stop = stop
        self.max_failures = max_failures
        self.running: dict[int, _Running] = {}
        self.failures = 0
        study.pruner = definition.pruner.make()

    def run(self) -> RunFinished:
        """Searches until the target is met, or until it is asked to stop.

        Trials cut short stay RUNNING; the next run starts them over.

        Raises:
            NegativeAnswer: more trials failed than `max_failures`.
            DataError: the data set is damaged.
        """
        started = time.perf_counter()
        left_behind = [t.number for t in self._trials() if t.state == TrialState.RUNNING]
        try:
            while not self.stop.reason:
                while self._wants_another():
                    self._start(left_behind.pop(0) if left_behind else None)
                if not self.running:
                    break
                self._handle_next_event()
        finally:
            self.engine.close()
        return self._finished(time.perf_counter() - started)

    def _wants_another(self) -> bool:
        room = len(self.running) < self.engine.slots
        return room and num_finished(self._trials()) + len(self.running) < self.target

    def _start(self, left_behind: int | None) -> None:
        """Asks the sampler for a new trial, or takes up one that a stopped run left, and gives it to the engine."""
        trials = self._trials()
        waiting = [t.number for t in trials if t.state == TrialState.WAITING]
        number = left_behind if left_behind is not None else waiting[0] if waiting else len(trials)
        self.study.sampler = self.definition.sampler.make(sampler_seed(self.definition.seed, number))
        reported = 0
        if left_behind is None:
            trial = self.study.ask()
            assert trial.number == number, "somebody else adds trials to this study"
        else:
            # The storage's own number of the trial: Optuna's way back to a trial that another process asked for.
            trial = optuna.Trial(self.study, trials[left_behind]._trial_id)
            reported = max(trials[left_behind].intermediate_values, default=0)
        params = self._suggest(trial)
        try:
            configs = self.definition.configs(params)
        except DefinitionError as error:  # the baseline's go together: it was checked when the study was read
            self._refuse(trial, params, error.got or error.what)
            return
        job = Job(number, configs, trial_seed(self.definition.seed, number), self.device)
        trial.set_user_attr("seed", job.seed)
        trial.set_user_attr("settings", json.dumps(job.configs.as_dict()))
        trial.set_user_attr("made_with", json.dumps(made_with(self.device)))
        self.running[number] = _Running(trial, job, reported)
        self.engine.start(job)
        self.emit(TrialStarted(number, params, job.configs.train.epochs, again=left_behind is not None))

    def _suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """A value for every dimension. A trial cut off between two suggestions gets the same as if it had not been."""
        known = self._trials()[trial.number]
        params = {}
        for dim in self.definition.space:
            if dim.name in known.params and dim.name not in trial.relative_params:
                # Drawn before the cut: drawn again, so that the sampler's generator stands where it stood.
                self.study.sampler.sample_independent(self.study, known, dim.name, dim.distribution())
            params[dim.name] = dim.suggest(trial)
        return params

    def _refuse(self, trial: optuna.Trial, params: dict[str, Any], reason: str) -> None:
        """Fails a trial whose parameters do not go together."""
        trial.set_user_attr("reason", reason)
        self.study.tell(trial, state=TrialState.FAIL)
        self.emit(
            TrialFinished(
                trial=trial.number,
                state=STATE_NAMES[TrialState.FAIL],
                params=params,
                value=None,
                val_top1=None,
                epochs=0,
                seconds=0.0,
                is_best=False,
                finished=num_finished(self._trials()),
                target=self.target,
                reason=reason,
            )
        )
        self._count_failure(reason)

    def _handle_next_event(self) -> None:
        event = self.engine.next_event()
        running = self.running[event.trial]
        match event:
            case EpochDone(record=record):
                running.history.append(record)
                self.emit(EpochFinished(event.trial, record))
                if self._is_hopeless(running, record):
                    self.engine.drop(event.trial)
                    self._tell(running, TrialState.PRUNED)
                else:
                    self.engine.go(event.trial)
            case JobDone():
                self._tell(running, TrialState.COMPLETE)
            case JobFailed(reason=reason):
                self._tell(running, TrialState.FAIL, reason)

    def _is_hopeless(self, running: _Running, record: EpochRecord) -> bool:
        """Reports an epoch and asks the pruner. Epochs that were reported before a stop were judged then, but for the last."""
        if record.epoch < running.reported:
            return False
        if record.epoch > running.reported:
            running.trial.report(record.val_loss, record.epoch)
        if record.epoch == running.job.configs.train.epochs:
            return False  # it has trained to its end: nothing is left to save
        return running.trial.should_prune()

    def _tell(self, running: _Running, state: TrialState, reason: str = "") -> None:
        """Writes the trial's files, then its result: a trial that is finished in the study has its files."""
        number, history = running.job.trial, running.history
        seconds = time.perf_counter() - running.started
        self._write_files(running)
        if history:
            store_result(running.trial, history, seconds)
        if reason:
            running.trial.set_user_attr("reason", reason)
        before = best_trial(self._trials())
        value = min(record.val_loss for record in history) if state == TrialState.COMPLETE else None
        del self.running[number]
        self.study.tell(running.trial, value, state)
        self._announce(running, state, reason, seconds, None if before is None else before.value)
        if state == TrialState.FAIL:
            self._count_failure(reason)

    def _write_files(self, running: _Running) -> None:
        folder = trial_folder(self.runs, self.definition.name, running.job.trial)
        settings = {"trial": running.job.trial, "seed": running.job.seed, **running.job.configs.as_dict()}
        try:
            write_whole(folder / "config.yaml", dump_yaml(settings))
            write_whole(folder / "curve.csv", curve_text(running.history))
        except OSError as error:
            raise ResourceError(
                "a trial's files cannot be written",
                where=str(folder),
                got=error.strerror,
                hint="is the disk full or read-only? The same command goes on with this trial",
            ) from error

    def _announce(self, running: _Running, state: TrialState, reason: str, seconds: float, best_before: float | None) -> None:
        best_epoch = min(running.history, key=lambda record: record.val_loss, default=None)
        gave = best_epoch if state != TrialState.FAIL else None
        beats = gave is not None and (best_before is None or gave.val_loss < best_before)
        self.emit(
            TrialFinished(
                trial=running.job.trial,
                state=STATE_NAMES[state],
                params=running.trial.params,
                value=None if gave is None else gave.val_loss,
                val_top1=None if gave is None else gave.val_top1,
                epochs=len(running.history),
                seconds=seconds,
                is_best=state == TrialState.COMPLETE and beats,
                finished=num_finished(self._trials()),
                target=self.target,
                reason=reason,
            )
        )

    def _count_failure(self, reason: str) -> None:
        self.failures += 1
        if self.failures > self.max_failures:
            raise NegativeAnswer(
                f"{self.failures} trials of this run failed, more than --max-failures {self.max_failures}",
                where=f"study {self.definition.name}",
                got=f"the last one: {reason}",
                hint=f"`python -m search trials {self.definition.name}` lists them; perhaps a range is too wide",
            )

    def _finished(self, seconds: float) -> RunFinished:
        trials = self._trials()
        result = RunFinished(
            study=self.definition.name,
            finished=num_finished(trials),
            target=self.target,
            counts=count_states(trials),
            best=summary(best_trial(trials)),
            baseline=baseline_summary(trials),
            seconds=seconds,
            stopped_by=self.stop.reason,
        )
        self.emit(result)
        return result

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False)
