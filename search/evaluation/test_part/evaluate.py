"""`search test`: the recommended configuration and the baseline on the sealed signers.

The one place where clips of the test part are read. They are prepared in memory; no file holds them.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial
from safetensors.torch import load

from data_utils.prepared import ClipSet, DataSet, prepare
from model.objective import all_values
from model.training import fit
from model.transformer import DeviceClips, TransformerEnISLR, logits_of
from search import BASELINE_TRIAL
from search.definition.settings import Configs
from search.errors import NegativeAnswer, os_errors
from search.evaluation.confirm.trial_source import fresh_folds
from search.evaluation.test_part.scores import SeedLogits, gain_interval, right, score
from search.events import Listener, Notice
from search.running.preparing import open_same
from search.storage.errors import database_errors
from search.storage.leases.choice import lease_of
from search.storage.opening import open_storage
from search.study.companion import CANDIDATE, SEED, companion_name, trainings_of
from search.study.confirmed import Confirmed, stored_confirmed
from search.study.identity import require_ours
from search.study.openings import Opening, all_openings, opened_before, openings, store_opening, tool_version
from search.study.study import load_study, study_data, study_plan
from search.study.trials import configs_of, num_finished, trial_result
from search.trial.clips import TrialClips, data_store
from search.trial.files import trial_folder
from search.trial.trial_run import start_trainings
from search.trial.weights import read_models, save_models
from search.wording import trial_name


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What `search test` was asked for."""

    study: str
    storage: str
    runs: Path
    data: Path | None
    """None: where the data of the search lay."""

    again: bool
    """Open the sealed signers although they were opened before."""


def evaluate_test_part(options: EvaluationOptions, emit: Listener) -> Opening:
    """Opens the sealed signers, and records it. What was opened before is only shown, unless it is to be opened again.

    Raises:
        ExplainedError: anything that a person should put right; see `search.errors`.
    """
    with database_errors(options.storage):
        storage = open_storage(options.storage, create=False)
        study = load_study(storage, options.study)
        require_ours(study)
        confirmed, trial = _recommended(study)
        seen = next((look for look in reversed(openings(study)) if look.scores), None)
        if seen is not None and not options.again:
            _tell_of(seen, trial, emit)
            return seen
        if opened := opened_before(study, storage):
            emit(Notice(f"{opened}: what was chosen since then may have been chosen to please them"))
        if num_finished(study.get_trials(deepcopy=False)) != confirmed.trials:
            emit(Notice("the search has gone on since it was confirmed: what it found since is not tested"))
        tester = _Tester(storage, study, options, emit)
        models = tester.ready(trial)
        with lease_of(options.storage, study.study_name) as lease:
            with lease.wait_for_turn():
                opening = Opening(
                    time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    commit=tool_version(),
                    count=len(all_openings(study, storage)) + 1,
                    trial=trial,
                    signers=study_data(study).split.test,
                    clips=tester.num_clips,
                )
                store_opening(study, opening)  # first: a look that is cut off has been a look
            opening = tester.opened(opening, models)
            with lease.wait_for_turn():
                store_opening(study, opening)
        return opening


def _recommended(study: optuna.Study) -> tuple[Confirmed, int]:
    """The confirmation, and what it recommends.

    Raises:
        NegativeAnswer: there is nothing to test, or nobody to test it on.
    """
    confirmed = stored_confirmed(study)
    if not study_data(study).split.test:
        raise NegativeAnswer(
            f"the study `{study.study_name}` has no sealed signers",
            hint="a study with `data.test` set to `auto`, or to a list of signers, seals some",
        )
    if confirmed is None or confirmed.found.recommended is None:
        raise NegativeAnswer(
            f"nothing of `{study.study_name}` is confirmed yet, and the sealed signers are not for choosing",
            hint=f"`python -m search confirm {study.study_name}` comes first",
        )
    return confirmed, confirmed.found.recommended


def _tell_of(seen: Opening, trial: int, emit: Listener) -> None:
    emit(Notice(f"the sealed signers were opened on {seen.time[:10]}: this is what was seen then. `--again` opens them again"))
    if seen.trial != trial:
        emit(Notice(f"trial {trial} is recommended now; this was seen of trial {seen.trial}"))


@dataclass(frozen=True)
class _Trained:
    """A training of the confirmation with its models."""

    trial: FrozenTrial
    models: Sequence[TransformerEnISLR]


class _Tester:
    """Finds the models of a confirmation, and lets them read the sealed clips."""

    def __init__(
        self, storage: optuna.storages.BaseStorage, study: optuna.Study, options: EvaluationOptions, emit: Listener
    ) -> None:
        self._study = study
        self._runs = options.runs
        self._emit = emit
        self._data: DataSet = open_same(study, options.data, options.runs)
        self._companion = load_study(storage, companion_name(study.study_name))
        self._plan = study_plan(study)
        self._split = study_data(study).split

    @property
    def num_clips(self) -> int:
        """How many clips are sealed."""
        return sum(len(entry.labels) for entry in self._data.entries_of(self._split.test, mirrored=False))

    def ready(self, trial: int) -> Mapping[int, Sequence[_Trained]]:
        """The confirmed trainings of a trial and of the baseline, all with their models.

        Raises:
            ResourceError: weights cannot be written.
        """
        trials = self._companion.get_trials(deepcopy=False)
        trained = {number: trainings_of(trials, number) for number in dict.fromkeys((trial, BASELINE_TRIAL))}
        return {number: [_Trained(one, self._models(one)) for one in ones] for number, ones in trained.items() if ones}

    def opened(self, opening: Opening, models: Mapping[int, Sequence[_Trained]]) -> Opening:
        """What the models do on the sealed clips."""
        entries = self._data.entries_of(self._split.test, mirrored=False)
        names = [entry.file.signer for entry in entries]
        signer_C = np.repeat(np.arange(len(entries)), [len(entry.labels) for entry in entries])
        said, scores = {}, []
        for number, ones in models.items():
            clips = prepare(self._data, self._split.test, self._configs(number).preprocess, mirrored=False)
            labels_C = torch.from_numpy(clips.labels_C)
            seeds = [self._said(one, clips) for one in ones]
            said[number] = right(seeds, labels_C)
            scores.append(score(number, seeds, labels_C, signer_C, names))
        opening = replace(opening, scores=tuple(scores))
        if len(said) < 2:
            return opening
        common = [[one.trial.params[SEED] for one in ones] for ones in models.values()]
        both = sorted(set(common[0]) & set(common[1]))
        ours_SC, base_SC = (
            rows[[found.index(seed) for seed in both]] for rows, found in zip(said.values(), common, strict=True)
        )
        if not both:
            return opening
        low, high = gain_interval(ours_SC, base_SC, np.random.default_rng(self._study.user_attrs["seed"]))
        return replace(opening, gain=float(ours_SC.mean() - base_SC.mean()), gain_low=low, gain_high=high)

    def _said(self, trained: _Trained, clips: ClipSet) -> SeedLogits:
        on_device = DeviceClips(clips, torch.device("cpu"))
        result = trial_result(trained.trial)
        temperatures = [one["temperature"] for one in result.get("trainings", [result])]
        logits = [logits_of(model, on_device) for model in trained.models]
        return SeedLogits(trained.trial.params[SEED], logits, temperatures)

    def _configs(self, number: int) -> Configs:
        return configs_of(self._study.get_trials(deepcopy=False)[number])

    def _models(self, trained: FrozenTrial) -> list[TransformerEnISLR]:
        """The models of a training from its files; they are trained again if a file is gone, or is not what was written."""
        folder = trial_folder(self._runs, self._companion.study_name, trained.number)
        digests = trial_result(trained).get("models", [])
        files = read_models(folder, digests)
        if not files:
            return self._trained_again(trained, folder)
        configs, models = self._configs(trained.params[CANDIDATE]), []
        for file in files:
            models.append(TransformerEnISLR(configs.model, len(self._data.words), torch.Generator()))
            models[-1].load_state_dict(load(file))
        return models

    def _trained_again(self, trained: FrozenTrial, folder: Path) -> list[TransformerEnISLR]:
        number, seed = trained.params[CANDIDATE], trained.user_attrs["seed"]
        which = f"the model of {trial_name(number)} with seed {trained.params[SEED]}"
        self._emit(Notice(f"{which} is gone, or not as it was written: it is trained again"))
        configs = self._configs(number)
        split = replace(self._split, folds=fresh_folds(self._split, self._data.words_of, seed))
        folds = TrialClips(self._data, split, data_store(self._runs), self._emit).folds(configs.preprocess)
        device = json.loads(trained.user_attrs["made_with"])["device"]
        device = device if torch.cuda.is_available() else "cpu"
        trainings = start_trainings(configs, seed, device, self._plan, folds, len(self._data.words))
        for training in trainings:
            fit(training)
        objective = self._plan.objective
        name = f"{objective.metric}_{objective.reduce}"
        was = trial_result(trained)["all_values"][name]
        now = sum(all_values(training.history)[name] for training in trainings) / len(trainings)  # as it was recorded
        if now != was:
            self._emit(Notice(f"it gives {now:.4f} where it gave {was:.4f}: this is another machine, or another version"))
        with os_errors("the models of a trial cannot be written", where=folder, hint="is the disk full or read-only?"):
            save_models(trainings, folder)
        return [training.kept_model().cpu() for training in trainings]
