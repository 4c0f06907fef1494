"""Trains settings of a space and writes their learning curves, on which `search_methods.py` lets search methods compete.

    python benchmarks/make_curves.py DATA --output curves.npz
    python benchmarks/make_curves.py DATA --study benchmarks/wide_space.yaml --settings 200 --output wide.npz

Settings are spread over the space; a few are trained with several seeds, since what differs between those is the noise of a
search. Nothing stops early. Ctrl-C keeps what is done: the same command goes on.

The file holds, for a set NAME (the data set's folder): `NAME_config` float64 `[N, S]` in the order of the space, a choice as
its index, `NAME_seed` int64 `[N]`, `NAME_curve` float32 `[N, epochs, 8]` with the columns of `COLUMNS`, and `NAME_study`, the
text of the study file.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc

from data_utils.splits import split_signers
from model.training import Diverged, Training, fit
from search.definition.cube import Cube
from search.definition.definition import StudyDefinition
from search.definition.ranges import Choices
from search.definition.study_file import load_definition
from search.trial.clips import TrialClips, data_store, open_indexed

COLUMNS = ("val_loss", "val_loss_ts", "val_top1", "val_ece", "temperature", "train_loss", "val_top5", "val_ece_mass")


class Bench:
    """The clips of one data set, and the study whose settings are trained on them."""

    def __init__(self, folder: Path, study: str, store: Path) -> None:
        self.definition = load_definition(study)
        data, signers = open_indexed(folder, store), self.definition.signers
        split = split_signers(data.words_of, train=signers.train, validation=signers.validation, test=signers.test, seed=0)
        self.clips, self.num_words = TrialClips(data, split, data_store(store), lambda event: None), len(data.words)

    def curve(self, params: dict[str, Any], seed: int) -> np.ndarray:
        """float32 `[epochs, 8]`; the epochs after a divergence are infinite."""
        configs = self.definition.configs(params)
        fold = self.clips.folds(configs.preprocess)[0]
        train = replace(configs.train, patience=0)
        parts = {"train": fold.train, "validation": fold.validation, "num_words": self.num_words, "seed": seed}
        training = Training(configs.model, train, configs.augment, **parts)
        curve = np.full((train.epochs, len(COLUMNS)), np.inf, dtype=np.float32)
        with contextlib.suppress(Diverged):
            fit(training)
        for number, record in enumerate(training.history):
            curve[number] = [getattr(record, column) for column in COLUMNS]
        return curve


_bench: list[Bench] = []


def _open(folder: Path, study: str, store: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _bench.append(Bench(folder, study, store))


def _curve(job: tuple[dict[str, Any], int]) -> np.ndarray:
    return _bench[0].curve(*job)


def jobs(definition: StudyDefinition, settings: int, repeated: int, seeds: int) -> Iterator[tuple[dict[str, Any], int]]:
    """The baseline and `repeated` settings with `seeds` seeds each, then the other settings with one."""
    cube = Cube(definition.space)
    sequence = qmc.Sobol(len(cube.space), seed=0).random_base2(settings.bit_length())[:settings]
    for number, position in enumerate([None, *cube.from_unit(sequence)]):
        params = dict(definition.baseline) if position is None else cube.settings(position)
        yield from ((params, seed) for seed in range(seeds if number <= repeated else 1))


def row(params: dict[str, Any], definition: StudyDefinition) -> list[float]:
    """A setting as numbers; a choice is its index. Of a dimension that does not apply, NaN."""
    space = definition.space
    values = [params.get(dim.name, np.nan) for dim in space]
    pairs = zip(space, values, strict=True)
    return [float(dim.domain.choices.index(value)) if isinstance(dim.domain, Choices) else float(value) for dim, value in pairs]


def _is_same(
    arrays: Mapping[str, np.ndarray], name: str, text: str, definition: StudyDefinition, done: list[tuple[dict[str, Any], int]]
) -> bool:
    """Whether a file's trainings are those that this command would have made first."""
    return (
        str(arrays[f"{name}_study"]) == text
        and np.array_equal(arrays[f"{name}_seed"], [seed for _, seed in done])
        and np.array_equal(arrays[f"{name}_config"], [row(params, definition) for params, _ in done], equal_nan=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--study", default="label_smoothing")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--settings", type=int, default=100, help="without the baseline")
    parser.add_argument("--repeated", type=int, default=9, help="settings with several seeds, beside the baseline")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    name, study = options.data.resolve().name, options.study
    definition = load_definition(study)
    todo = list(jobs(definition, options.settings, options.repeated, options.seeds))
    arrays = dict(np.load(options.output)) if options.output.exists() else {}
    curves = list(arrays.get(f"{name}_curve", []))
    text = Path(definition.source).read_text(encoding="utf-8")
    if curves and not _is_same(arrays, name, text, definition, todo[: len(curves)]):
        parser.error(f"{options.output} holds other trainings of {name}: name another file")
    with tempfile.TemporaryDirectory() as store:
        start = (options.data, study, Path(store))
        with ProcessPoolExecutor(options.workers, get_context("spawn"), _open, start) as pool:
            try:
                for curve in pool.map(_curve, todo[len(curves) :]):
                    curves.append(curve)
                    print(f"\r{len(curves)} of {len(todo)} trainings", end="", flush=True)
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
    done = todo[: len(curves)]
    arrays[f"{name}_config"] = np.array([row(params, definition) for params, _ in done])
    arrays[f"{name}_seed"] = np.array([seed for _, seed in done])
    arrays[f"{name}_curve"] = np.array(curves, dtype=np.float32)
    arrays[f"{name}_study"] = np.array(text)
    part = options.output.with_suffix(".part.npz")
    np.savez_compressed(part, **arrays)
    part.replace(options.output)
    print(f"\n{options.output}: {len(done)} trainings of {name}")


if __name__ == "__main__":
    main()
