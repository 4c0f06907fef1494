"""Training an exported configuration again: does its number come back?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from data_utils.errors import DataError
from data_utils.files import write_whole
from data_utils.prepared import fingerprint
from data_utils.splits import split_signers
from model.record import EpochRecord
from model.training import Diverged, fit
from search.coordinator import StopRequest
from search.definition import dump_yaml
from search.errors import DefinitionError, NegativeAnswer
from search.events import Listener
from search.records import curve_text
from search.results.export import Exported, ExportedData
from search.settings import Configs
from search.study import MEASURED
from search.trial import Parts, data_store, made_with, open_indexed, start_training


@dataclass(frozen=True)
class Retrained:
    """What came of training an exported configuration again."""

    recorded: float
    value: float
    history: list[EpochRecord]
    best: EpochRecord
    differences: list[str]
    """In words, what is not as it was."""

    @property
    def came_back(self) -> bool:
        """Whether the recorded val_loss came back bit for bit."""
        return self.value == self.recorded

    @property
    def should_come_back(self) -> bool:
        """Whether it had to: nothing is different."""
        return not self.differences


def retrain(
    exported: Exported,
    configs: Configs,
    *,
    data: Path | None,
    seed: int | None,
    device: str,
    runs: Path,
    emit: Listener,
    on_epoch: Callable[[EpochRecord], bool],
    output: Path | None,
    stop: StopRequest,
) -> Retrained | None:
    """Trains an exported configuration on its own split and compares with the recorded number. None if it was stopped.

    With `output`, writes `model.safetensors` (weights of the best epoch), `config.yaml`, `metrics.json` and `curve.csv` there.

    Raises:
        DataError: the data set or one of its signers is not there, or its words differ.
        NegativeAnswer: the training fails.
    """
    stored = ExportedData(**exported.data)
    data_set = open_indexed(data or Path(stored.folder), runs)
    if list(data_set.words) != stored.words:
        raise DataError(
            "the words are not those of the record",
            file=data_set.folder,
            got=", ".join(data_set.words)[:100],
            expected=", ".join(stored.words)[:100],
        )
    split = split_signers(data_set.words_of, train=stored.train, validation=stored.validation, test="none")
    used_seed = exported.seed if seed is None else seed
    differences = _differences(exported, fingerprint(data_set), used_seed, made_with(device))
    try:
        training = start_training(configs, used_seed, device, Parts(data_set, split, data_store(runs), emit))
        history = fit(training, on_epoch)
    except (Diverged, ValueError) as error:
        raise NegativeAnswer(
            "the training failed", got=str(error), hint="was the file changed? `python -m search export` writes it anew"
        ) from error
    if stop.reason:
        return None
    result = Retrained(
        recorded=float(exported.recorded["val_loss"]),
        value=training.best.val_loss,
        history=history,
        best=training.best,
        differences=differences,
    )
    if output is not None:
        _write(output, training.best_state, configs, used_seed, result, data_set.words)
    return result


def _differences(exported: Exported, data_fingerprint: str, seed: int, here: Mapping[str, Any]) -> list[str]:
    found = []
    if data_fingerprint != exported.data["fingerprint"]:
        found.append(f"data: fingerprint {exported.data['fingerprint'][:12]}... -> {data_fingerprint[:12]}...")
    if seed != exported.seed:
        found.append(f"seed: {exported.seed} -> {seed}")
    for name in sorted(here.keys() | exported.made_with.keys()):
        was, now = exported.made_with.get(name, "not recorded"), here.get(name, "not there")
        if was != now and name != "optuna":  # the sampler has no part in training
            found.append(f"{name}: {was} -> {now}")
    return found


def _write(
    folder: Path, weights: Mapping[str, Any], configs: Configs, seed: int, result: Retrained, words: tuple[str, ...]
) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / ".model.safetensors.part"
        save_file({name: value.cpu().contiguous() for name, value in weights.items()}, aside)
        aside.replace(folder / "model.safetensors")
        settings = {"seed": seed, "words": list(words), **configs.as_dict()}
        write_whole(folder / "config.yaml", dump_yaml(settings))
        metrics = {"schema": 1, **{name: getattr(result.best, name) for name in MEASURED}, "recorded_val_loss": result.recorded}
        write_whole(folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
        write_whole(folder / "curve.csv", curve_text(result.history))
    except OSError as error:
        raise DefinitionError(
            "the output folder cannot be written", where=str(folder), got=error.strerror, hint="name another with --output"
        ) from error
