"""Opens an exported configuration with its data set, ready to train again. All checks are made before any training starts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_utils.clip_split import split_clips
from data_utils.errors import DataError
from data_utils.prepared import DataSet, fingerprint
from data_utils.splits import Split
from model.bundle import require_new
from model.onnx import require_onnx
from model.paths import choose_path
from model.training import Diverged, SharedOrder
from search.definition.settings import Configs
from search.errors import NegativeAnswer
from search.exporting.export import Exported, ExportedData
from search.trial.clips import data_store, open_indexed
from search.trial.machine import machine_differences, made_with
from search.trial.trial_run import with_path


@dataclass(frozen=True, kw_only=True)
class Setup:
    """An exported configuration with its data set, seed and device."""

    exported: Exported
    configs: Configs
    data: DataSet
    fingerprint: str
    """Fingerprint of the data set as it is now."""

    seed: int
    order: SharedOrder | None
    """The recorded order of the clips, shared by the trials of the study; None: an order of its own, drawn from the seed."""

    stack: int | None
    """The recorded width of the stack that it was trained in; None: it trains alone."""

    device: str
    made_with: dict[str, Any]
    """Versions and machine, as they are now."""

    differences: list[str]
    """What differs from the recorded training, one line each."""

    store: Path
    """Folder for prepared clips."""

    output: Path | None
    """Folder for the model; None if it is not kept."""

    onnx: bool
    """Whether to write the model as ONNX too."""

    split: Split
    """The recorded split; one by clip is made again from the data set."""


def set_up(
    exported: Exported,
    configs: Configs,
    *,
    data: Path | None,
    seed: int | None,
    device: str,
    runs: Path,
    output: Path | None,
    onnx: bool,
) -> Setup:
    """Opens the data set and checks that the model can be written. `data` and `seed` are the recorded ones if None.

    Raises:
        BundleError, ResourceError: the model cannot be written to `output`.
        ResourceError: this machine does not have the recorded precision.
        DataError: the data set is missing, its words differ, or a package that `onnx` needs is missing.
    """
    if output is not None:
        require_new(output)
    if onnx:
        require_onnx()
    stored = exported.recorded_data
    data_set = _open_recorded(stored, data, runs)
    split = _made_again(stored, data_set)
    seed = exported.seed if seed is None else seed
    configs = with_path(configs, exported.made_with)
    path = choose_path(configs.model, configs.train, torch.device(device))
    found, here = fingerprint(data_set), made_with(device, path.kernel, configs.train.precision)
    return Setup(
        exported=exported,
        configs=configs,
        data=data_set,
        fingerprint=found,
        seed=seed,
        order=_recorded_order(exported) if seed == exported.seed else None,  # another seed stands for all that is random
        stack=exported.stack or None,
        device=device,
        made_with=here,
        differences=_differences(exported, found, split, seed, here),
        store=data_store(runs),
        output=output,
        onnx=onnx,
        split=split,
    )


@contextlib.contextmanager
def training_errors() -> Iterator[None]:
    """Converts the errors of a training into a `NegativeAnswer`."""
    try:
        yield
    except (Diverged, ValueError) as error:
        raise NegativeAnswer(
            "the training failed",
            got=str(error),
            hint="if the file was edited, export it again with `islr-search export`",
        ) from error


def _open_recorded(stored: ExportedData, folder: Path | None, runs: Path) -> DataSet:
    data_set = open_indexed(folder or Path(stored.folder), runs, kind=stored.split.kind)
    if list(data_set.words) != stored.words:
        raise DataError(
            "the words of the data set differ from the recorded ones",
            file=data_set.folder,
            got=", ".join(data_set.words)[:100],
            expected=", ".join(stored.words)[:100],
        )
    return data_set


def _recorded_order(exported: Exported) -> SharedOrder | None:
    return None if exported.order_seed is None else SharedOrder(exported.order_seed, exported.first_order or 0)


def _made_again(stored: ExportedData, data_set: DataSet) -> Split:
    """The recorded split. One by clip is a function of the data, so that other data are divided too.

    Raises:
        DataError: the data set has too few clips for it.
    """
    if (clips := stored.split.clips) is None:
        return stored.split
    return split_clips(
        data_set.entries,
        data_set.words,
        train=clips.signers,
        test=clips.test,
        folds=clips.folds,
        seed=clips.seed,
        fold_seed=clips.fold_seed,
    )


def _differences(exported: Exported, data_fingerprint: str, split: Split, seed: int, here: dict[str, Any]) -> list[str]:
    lines = []
    was_divided, is_divided = exported.recorded_data.split.clips, split.clips
    if was_divided is not None and is_divided is not None and was_divided.digest != is_divided.digest:
        digests = f"digest {was_divided.digest[:12]}... -> {is_divided.digest[:12]}..."
        lines.append(f"split: other clips in training and validation, {digests}")
    if data_fingerprint != exported.data["fingerprint"]:
        lines.append(f"data: fingerprint {exported.data['fingerprint'][:12]}... -> {data_fingerprint[:12]}...")
    if seed != exported.seed:
        lines.append(f"seed: {exported.seed} -> {seed}")
        if exported.order_seed is not None:
            lines.append("order of the clips: shared by the trials of the study -> its own")
    if exported.stack == 0:
        lines.append("stack: several widths, or partly alone -> alone")
    return [*lines, *machine_differences(exported.made_with, here)]
