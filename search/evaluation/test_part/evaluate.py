"""`search test`: evaluates the recommended configuration and the baseline on the sealed test signers.

This is the only place that reads clips of the test part. They are prepared in memory, never in a file.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial
from safetensors.torch import load

from data_utils.parts import sealed_entries
from data_utils.prepared import ClipSet, DataSet, prepare_entries
from model import lockstep
from model.device_clips import DeviceClips
from model.objective import all_values
from model.training import fit
from model.transformer import TransformerEnISLR, logits_of
from search import BASELINE_TRIAL
from search.definition.settings import Configs
from search.definition.trial_attributes import attribute
from search.errors import NegativeAnswer, os_errors
from search.evaluation.confirm.trial_source import fresh_split
from search.evaluation.test_part.scores import SeedLogits, gain_interval, hit_rates, score_setting
from search.events import Listener, Notice
from search.running.preparing import open_same
from search.storage.errors import database_errors
from search.storage.leases.choice import lease_of
from search.storage.opening import opened_storage
from search.study.claiming import claim
from search.study.companion import CANDIDATE, SEED, complete_trainings, find_companion
from search.study.confirmed import Confirmed, load_confirmed
from search.study.folder import claim_folder, trial_folder
from search.study.identity import require_usable
from search.study.opening_record import describe_openings, openings_of_signers, record_openings, recorded
from search.study.openings import Opening, openings, store_opening, tool_version
from search.study.order import STACK
from search.study.study import load_study, study_data, study_plan
from search.study.trials import num_finished, require_trial, trial_configs, trial_result
from search.trial.clips import TrialClips, data_store
from search.trial.machine import device_kind
from search.trial.trial_run import start_trainings, with_path
from search.trial.weights import read_models, save_models
from search.wording import trial_name, utc_now


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """The options of `search test`."""

    study: str
    storage: str
    runs: Path
    data: Path | None
    """None: the data folder of the search."""

    again: bool
    """Open the sealed signers even if they were opened before."""


def evaluate_test_part(options: EvaluationOptions, emit: Listener) -> Opening:
    """Opens the sealed signers, and records the opening. With an earlier opening, only returns it, unless `again` is set.

    Raises:
        ExplainedError: anything that a person should put right; see `search.errors`.
    """
    with database_errors(options.storage), opened_storage(options.storage, create=False) as storage:
        study = load_study(storage, options.study, lambda text: emit(Notice(text)))
        require_usable(study)
        confirmed, trial = _recommended(study)
        earlier = next((opening for opening in reversed(openings(study)) if opening.scores), None)
        if earlier is not None and not options.again:
            text = f"the sealed {earlier.split} were opened on {earlier.time[:10]}; these are the scores of that opening"
            emit(Notice(f"{text}. `--again` opens them again"))
            if earlier.trial != trial:
                emit(Notice(f"trial {trial} is recommended now; these are scores of trial {earlier.trial}"))
            return earlier
        if opened := describe_openings(study, storage, options.runs):
            emit(Notice(f"{opened}: what was chosen since then may be biased towards them"))
        if num_finished(study.get_trials(deepcopy=False)) > confirmed.trials:
            emit(Notice("the search has continued since it was confirmed: what it found since then is not tested"))
        with lease_of(options.storage, study.study_name) as lease:
            with lease.wait_for_turn():
                for text in claim(study, storage, options.runs, options.storage).notices:
                    emit(Notice(text))
            evaluator = Evaluator(storage, study, options, emit)
            models = evaluator.load_models(trial)
            with lease.wait_for_turn():
                opening = Opening(
                    time=utc_now(),
                    commit=tool_version(),
                    count=len(openings_of_signers(study, storage, options.runs)) + 1,
                    trial=trial,
                    signers=study_data(study).split.test,
                    clips=evaluator.num_clips,
                    split=study_data(study).split.kind,
                )
                _store(opening, study, storage, options.runs)  # first: an interrupted opening counts
            opening = evaluator.evaluate(opening, models)
            with lease.wait_for_turn():
                _store(opening, study, storage, options.runs)
        return opening


def _store(opening: Opening, study: optuna.Study, storage: optuna.storages.BaseStorage, runs: Path) -> None:
    """Stores an opening in the record first, which outlives the study, then with the study."""
    record_openings(study, storage, runs, [recorded(study, opening)])
    store_opening(study, opening)


def _recommended(study: optuna.Study) -> tuple[Confirmed, int]:
    """The confirmation, and the trial that it recommends.

    Raises:
        NegativeAnswer: nothing is confirmed, or no signers are sealed.
    """
    split = study_data(study).split
    if not split.test:
        names = " or a list of signers" if split.clips is None else ", and the words have enough clips"
        raise NegativeAnswer(
            f"the study `{study.study_name}` has no sealed {split.kind}",
            hint=f"a study seals some if `data.test` is `auto`{names}",
        )
    confirmed = load_confirmed(study)
    if confirmed is None or confirmed.found.recommended is None:
        raise NegativeAnswer(
            f"nothing of `{study.study_name}` is confirmed yet, and the sealed {split.kind} must not be used for choosing",
            hint=f"run `islr-search confirm {study.study_name}` first",
        )
    return confirmed, confirmed.found.recommended


@dataclass(frozen=True)
class _Trained:
    """A training of the confirmation with its models."""

    training: FrozenTrial
    models: Sequence[TransformerEnISLR]


class Evaluator:
    """Loads the models of a confirmation, and evaluates them on the sealed clips."""

    def __init__(
        self, storage: optuna.storages.BaseStorage, study: optuna.Study, options: EvaluationOptions, emit: Listener
    ) -> None:
        self._study = study
        self._runs = options.runs
        self._emit = emit
        self._data: DataSet = open_same(study, options.data, options.runs)
        companion = find_companion(study, storage)
        if companion is None:
            raise NegativeAnswer(
                f"the trainings of the confirmation of `{study.study_name}` were deleted",
                hint=f"run `islr-search confirm {study.study_name}` again",
            )
        self._folder, _ = claim_folder(options.runs, companion, options.storage)
        self._companion = companion
        self._plan = study_plan(study)
        self._split = study_data(study).split
        self._sealed = sealed_entries(self._split, self._data.entries)

    @property
    def num_clips(self) -> int:
        """The number of sealed clips."""
        return sum(len(entry.labels) for entry in self._sealed)

    def load_models(self, trial: int) -> Mapping[int, Sequence[_Trained]]:
        """The complete trainings of a trial and of the baseline, with their models.

        Raises:
            ResourceError: weights cannot be written.
        """
        trials = self._companion.get_trials(deepcopy=False)
        complete = {number: complete_trainings(trials, number) for number in dict.fromkeys((trial, BASELINE_TRIAL))}
        return {number: [_Trained(one, self._models(one)) for one in ones] for number, ones in complete.items() if ones}

    def evaluate(self, opening: Opening, models: Mapping[int, Sequence[_Trained]]) -> Opening:
        """The opening with the models' scores on the sealed clips."""
        names = [entry.file.signer for entry in self._sealed]
        signer_C = np.repeat(np.arange(len(names)), [len(entry.labels) for entry in self._sealed])
        hits, scores = [], []
        for number, ones in models.items():
            clips = prepare_entries(self._sealed, self._configs(number).preprocess)
            labels_C = torch.from_numpy(clips.labels_C)
            seeds = [self._logits(one, clips) for one in ones]
            hits.append(dict(zip([one.seed for one in seeds], hit_rates(seeds, labels_C), strict=True)))
            scores.append(score_setting(number, seeds, labels_C, signer_C, names))
        opening = replace(opening, scores=tuple(scores))
        common = sorted(set.intersection(*map(set, hits))) if len(hits) > 1 else []
        if not common:
            return opening
        ours_SC, base_SC = (np.stack([one[seed] for seed in common]) for one in hits)
        low, high = gain_interval(ours_SC, base_SC, np.random.default_rng(self._study.user_attrs["seed"]))
        return replace(opening, gain=float(ours_SC.mean() - base_SC.mean()), gain_low=low, gain_high=high)

    def _logits(self, trained: _Trained, clips: ClipSet) -> SeedLogits:
        on_device = DeviceClips(clips, torch.device("cpu"))
        result = trial_result(trained.training)
        temperatures = [one["temperature"] for one in result.get("trainings", [result])]
        logits = [logits_of(model, on_device) for model in trained.models]
        return SeedLogits(trained.training.params[SEED], logits, temperatures)

    def _configs(self, number: int) -> Configs:
        return trial_configs(require_trial(self._study, self._study.get_trials(deepcopy=False), number))

    def _models(self, training: FrozenTrial) -> list[TransformerEnISLR]:
        """The models of a training from its files; trained again if a file is missing or was changed."""
        folder = trial_folder(self._folder.path, training.number)
        files = read_models(folder, trial_result(training).get("models", []))
        if not files:
            return self._train_again(training, folder)
        configs, models = self._configs(training.params[CANDIDATE]), []
        for file in files:
            models.append(TransformerEnISLR(configs.model, len(self._data.words), torch.Generator()))
            models[-1].load_state_dict(load(file))
        return models

    def _train_again(self, training: FrozenTrial, folder: Path) -> list[TransformerEnISLR]:
        number, seed = training.params[CANDIDATE], attribute(training, "seed")
        which = f"the model of {trial_name(number)} with seed {training.params[SEED]}"
        self._emit(Notice(f"{which} is missing or was changed: it is trained again"))
        made = json.loads(attribute(training, "made_with", "{}"))
        configs = with_path(self._configs(number), made)
        split = fresh_split(self._split, self._data, seed)
        folds = TrialClips(self._data, split, data_store(self._runs), self._emit).folds(configs.preprocess)
        device = device_kind(made.get("device", "cpu")) if torch.cuda.is_available() else "cpu"
        trainings = start_trainings(configs, seed, device, self._plan, folds, len(self._data.words))
        for one in trainings:
            fit(one, run_epoch=functools.partial(lockstep.run_epoch, width=attribute(training, STACK)))
        name = f"{self._plan.objective.metric}_{self._plan.objective.reduce}"
        recorded = trial_result(training)["all_values"][name]
        now = sum(all_values(one.history)[name] for one in trainings) / len(trainings)  # summed as when it was recorded
        if now != recorded:
            text = f"its value is now {now:.4f} instead of {recorded:.4f}"
            was_mixed, other = attribute(training, STACK) == 0, "the machine or a version differs from that of the confirmation"
            why = "it was trained in stacks of several widths" if was_mixed else other
            self._emit(Notice(f"{text}: {why}"))
        with os_errors("the models of a trial cannot be written", where=folder, hint="is the disk full or read-only?"):
            save_models(trainings, folder)
        return [one.kept_model().cpu() for one in trainings]
