"""From a confirmed study to words: `export --model`, `predict`, `retrain --all-signers`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import optuna
import pytest
import torch
import yaml
from conftest import Cli
from launch import ROOT, environment
from safetensors.torch import load_file

from data_utils.hdf5 import read_unlabeled
from data_utils.landmarks import FILE_PARTS
from data_utils.prepared import open_data, prepare
from data_utils.words import read_words
from model import Training, fit, load_bundle
from model.bundle import CONFIG, WEIGHTS
from search.exporting.card import card_text
from search.exporting.export import Exported, read_export
from search.exporting.writing import ConfirmModel, Provenance, metrics_of, provenance_of
from search.study.companion import TRAINING_DISTRIBUTIONS
from search.study.trials import trial_result
from search.trial.job import training_seed
from search.trial.machine import THREADS
from search.trial.result import MEASURED


def rows_of(text: str) -> list[dict[str, str]]:
    """The CSV that `predict` prints."""
    return list(csv.DictReader(io.StringIO(text)))


def truth_of(path: Path, words: tuple[str, ...]) -> dict[str, str]:
    """The word of each clip in a signer's file, read with h5py only."""
    with h5py.File(path) as h5:
        return {name: words[int(h5[name]["token"][0])] for name in h5}


def accuracy(rows: list[dict[str, str]], truth: dict[str, str]) -> float:
    """Share of clips whose most likely word is right."""
    assert {row["clip"] for row in rows} == set(truth)
    return statistics.fmean(row["word_1"] == truth[row["clip"]] for row in rows)


@pytest.fixture(scope="module")
def bundle(once_confirmed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the confirmed study, exported by the command. Read-only."""
    folder = tmp_path_factory.mktemp("models") / "model"
    command = [sys.executable, "-m", "search", "export", "tiny", "--model", str(folder)]
    subprocess.run(command, cwd=once_confirmed, env=environment(), check=True, capture_output=True, timeout=120)
    return folder


def test_export_writes_the_median_model(confirmed: Path, cli: Cli) -> None:
    """`export --model` writes the model with the median value, with its weights, temperature and numbers."""
    done = cli("export", "tiny", "--model", "model")
    assert (done.code, done.out) == (0, ""), done.err
    assert "wrote a model to model: the median by val_loss of the 3 models" in done.err
    assert "README.md, SHA256SUMS, config.yaml, labels.json, metrics.json, model.safetensors" in done.err
    assert len(done.err.splitlines()) < 6
    exported = yaml.safe_load((confirmed / "model" / CONFIG).read_text(encoding="utf-8"))
    metrics = json.loads((confirmed / "model" / "metrics.json").read_text(encoding="utf-8"))
    storage = f"sqlite:///{confirmed / 'runs' / 'studies.db'}"
    trials = optuna.load_study(study_name="tiny/confirm", storage=storage).trials
    mine = sorted((t for t in trials if t.params["candidate"] == exported["trial"]), key=lambda t: t.values[0])
    assert len(mine) == 3
    kept = confirmed / "runs" / "tiny/confirm" / "trials" / f"{mine[1].number:04d}" / "model.safetensors"
    expected, found = load_file(kept), load_file(confirmed / "model" / WEIGHTS)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    result = trial_result(mine[1])
    assert metrics["this_model"]["validation"]["val_loss"] == result["val_loss"] == mine[1].values[0]
    assert metrics["this_model"]["temperature"] == result["temperature"] == load_bundle("model").temperature
    assert metrics["this_model"]["seed"] == mine[1].user_attrs["seed"]
    assert metrics["this_model"]["sealed"] is None
    assert metrics["configuration"]["confirmed"]["mean"] == pytest.approx(statistics.fmean(t.values[0] for t in mine))
    again = cli("export", "tiny", "--model", "model")
    assert (again.code, again.err.splitlines()[0]) == (2, "error: the path already exists")
    printed = yaml.safe_load(cli("export", "tiny", "--model", "other", "--output", "-").out)
    assert {**printed, "exported": ""} == {**exported, "exported": ""}


def test_export_keeps_what_is_there(confirmed: Path, cli: Cli) -> None:
    """A file is not overwritten without --force, and nothing else is written either."""
    best = confirmed / "best.yaml"
    best.write_text("mine", encoding="utf-8")
    done = cli("export", "--output", "best.yaml", "--model", "model")
    assert (done.code, done.out, best.read_text(encoding="utf-8")) == (2, "", "mine")
    assert done.err.endswith("already exists\n  --> best.yaml\nhint: name another file, or replace this one with --force\n")
    assert not (confirmed / "model").exists()
    done = cli("export", "--output", "best.yaml", "--force")
    assert (done.code, yaml.safe_load(best.read_text(encoding="utf-8"))["study"]) == (0, "tiny")
    assert cli("trials", "--output", "trials.csv").code == cli("trials", "--output", "trials.csv").code == 0


def test_predictions_have_the_stated_accuracy(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """On validation clips and on opened sealed clips, `predict` reaches the accuracy that `metrics.json` states."""
    assert cli("test", "tiny").code == 0
    assert cli("export", "tiny", "--model", "model").code == 0
    mine = json.loads((confirmed / "model" / "metrics.json").read_text(encoding="utf-8"))["this_model"]
    words = read_words(tiny)
    for part, name in (("validation", "val_top1"), ("sealed", "top1")):
        (signer,) = mine[part]["signers"]
        done = cli("predict", "model", tiny / f"{signer}.hdf5")
        assert done.code == 0
        rows = rows_of(done.out)
        assert len(rows) == mine[part]["clips"]
        assert accuracy(rows, truth_of(tiny / f"{signer}.hdf5", words)) == pytest.approx(mine[part][name], abs=1e-12)
    losses = []
    guesses = [
        json.loads(line) for line in cli("predict", "model", tiny / f"{signer}.hdf5", "--top", 99, "--json").out.splitlines()
    ]
    for guess in guesses:
        truth = truth_of(tiny / f"{signer}.hdf5", words)[guess["clip"]]
        losses.append(-np.log(next(word["probability"] for word in guess["words"] if word["word"] == truth)))
    assert statistics.fmean(losses) == pytest.approx(mine["sealed"]["loss_ts"], abs=1e-5)
    card = (confirmed / "model" / "README.md").read_text(encoding="utf-8")
    assert f"| this model | sealed: 1 signer ({signer}), {len(guesses)} clips | {mine['sealed']['top1']:.4f} |" in card


def test_all_file_formats_give_the_same_prediction(bundle: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """The same clip gets the same prediction in every format, with irises too; an order that was found is told once."""
    from kaggle_tree import write_clip

    name, clip = next(iter(read_unlabeled(tiny / "9001.hdf5")))
    assert isinstance(clip, np.ndarray)
    with h5py.File(tmp_path / "bare.h5", "w") as h5:
        h5.create_group(name).create_dataset("feature", data=clip)
    write_clip(tmp_path / "clip.parquet", clip)
    np.save(tmp_path / "last.npy", clip.transpose(1, 2, 0))
    np.save(tmp_path / "first.npy", clip)
    filled = np.nan_to_num(clip).astype(np.float64)
    pose = np.concatenate([filled[:, :, 489:522], np.ones((1, clip.shape[1], 33))])
    parts = [pose, filled[:, :, :468], filled[:, :, 468:489], filled[:, :, 522:]]
    rows_TV = np.concatenate([part.transpose(1, 2, 0).reshape(clip.shape[1], -1) for part in parts], axis=1)
    np.save(tmp_path / "rows.npy", rows_TV)
    np.save(tmp_path / "irises.npy", np.insert(rows_TV, [33 * 4 + 468 * 3] * 30, 0.5, axis=1))
    (tmp_path / "frames").mkdir()
    for number, row in enumerate(rows_TV):
        np.save(tmp_path / "frames" / f"{number}.npy", row)
    with h5py.File(tmp_path / "irises.HDF5", "w") as h5:
        h5.create_group(name).create_dataset("feature", data=np.insert(clip, [468] * 10, 0.5, axis=2))
    named = {part: clip[:, :, place].transpose(1, 2, 0) for part, place in FILE_PARTS.items()}
    np.savez(tmp_path / "parts.npz", **named)
    for number in (1, 2):
        np.save(tmp_path / f"other{number}.npy", np.roll(rows_TV, 126, axis=1))  # hands first
    files = ["bare.h5", "clip.parquet", "last.npy", "first.npy", "rows.npy", "irises.npy", "frames"]
    files += ["irises.HDF5", "parts.npz", "other1.npy", "other2.npy"]
    done = cli("predict", bundle, tiny / "9001.hdf5", *(tmp_path / file for file in files))
    why = "not the usual one; found by how hands and face fit the body"
    told = f"{tmp_path / 'other1.npy'}: order of the parts: left_hand, right_hand, pose, face ({why})\n"
    assert (done.code, done.err) == (0, told)
    rows = rows_of(done.out)
    first, others = rows[0], rows[-len(files) :]
    assert (first["clip"], int(first["frames"])) == (name, clip.shape[1])
    assert [Path(row["file"]).name for row in others] == files
    for row in others:
        assert [row[key] for key in first if key not in ("file", "clip")] == [
            first[key] for key in first if key not in ("file", "clip")
        ]


def test_csv_and_json(bundle: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """CSV and JSON hold the same numbers; `--top` is limited to the number of words; `--output` writes a file."""
    one = cli("predict", bundle, tiny / "9001.hdf5", "--top", 1)
    assert one.out.splitlines()[0] == "file,clip,frames,word_1,probability_1,problem"
    every = rows_of(cli("predict", bundle, tiny / "9001.hdf5", "--top", 9).out)
    assert [key for key in every[0] if key.startswith("word")] == ["word_1", "word_2", "word_3"]
    lines = [json.loads(line) for line in cli("predict", bundle, tiny / "9001.hdf5", "--json").out.splitlines()]
    for row, line in zip(every, lines, strict=True):
        assert (line["schema"], line["file"], line["clip"], line["frames"]) == (1, row["file"], row["clip"], int(row["frames"]))
        assert [word["word"] for word in line["words"]] == [row[f"word_{n}"] for n in (1, 2, 3)]
        assert [f"{word['probability']:.6f}" for word in line["words"]] == [row[f"probability_{n}"] for n in (1, 2, 3)]
        assert sum(word["probability"] for word in line["words"]) == pytest.approx(1, abs=1e-6)
    done = cli("predict", bundle, tiny / "9001.hdf5", "--output", tmp_path / "new" / "words.csv")
    assert (done.code, done.out) == (0, "")
    assert rows_of((tmp_path / "new" / "words.csv").read_text(encoding="utf-8")) == every


def test_faulty_clips_are_reported(bundle: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """Faulty clips are rows with a reason, the others are predicted, and the exit code is 1."""
    clips = [clip for _, clip in read_unlabeled(tiny / "9001.hdf5")]
    with h5py.File(tmp_path / "mixed.hdf5", "w") as h5:
        h5.create_group("a").create_dataset("feature", data=clips[0])
        h5.create_group("b").create_dataset("feature", data=np.full((3, 4, 543), np.nan, np.float32))
        h5.create_group("c")
        h5.create_group("d").create_dataset("feature", data=clips[1])
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY\x01\x00torn")
    np.save(tmp_path / "flat.npy", np.zeros(7))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive", np.zeros((4, 1662)))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    (tmp_path / "torn.hdf5").write_bytes((tiny / "9001.hdf5").read_bytes()[:3000])
    (tmp_path / "torn.parquet").write_bytes(b"PAR1torn")
    files = ["mixed.hdf5", "torn.npy", "flat.npy", "objects.npy", "archive.npy", "torn.hdf5", "torn.parquet"]
    done = cli("predict", bundle, *(tmp_path / file for file in files))
    assert done.code == 1
    rows = rows_of(done.out)
    assert [(Path(row["file"]).name, row["clip"], bool(row["word_1"]), bool(row["problem"])) for row in rows] == [
        ("mixed.hdf5", "a", True, False),
        ("mixed.hdf5", "b", False, True),
        ("mixed.hdf5", "c", False, True),
        ("mixed.hdf5", "d", True, False),
        ("torn.npy", "torn", False, True),
        ("flat.npy", "flat", False, True),
        ("objects.npy", "objects", False, True),
        ("archive.npy", "archive", False, True),
        ("torn.hdf5", "torn", False, True),
        ("torn.parquet", "torn", False, True),
    ]
    assert done.err == "8 of 10 clips could not be read: see the column `problem`\n"
    lines = [json.loads(line) for line in cli("predict", bundle, tmp_path / "mixed.hdf5", "--json").out.splitlines()]
    assert [("problem" in line, "words" in line) for line in lines] == [
        (False, True),
        (True, False),
        (True, False),
        (False, True),
    ]


def test_file_name_that_is_not_utf8(bundle: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """The byte is escaped in CSV; JSON restores the name."""
    file = tmp_path / os.fsdecode(b"caf\xe9.npy")
    np.save(file, next(clip for _, clip in read_unlabeled(tiny / "9001.hdf5") if isinstance(clip, np.ndarray)))
    done = cli("predict", bundle, file, "--output", tmp_path / "words.csv")
    assert done.code == 0, done.err
    (row,) = rows_of((tmp_path / "words.csv").read_text(encoding="utf-8"))
    assert (row["file"], row["clip"], row["problem"]) == (f"{tmp_path}/caf\\udce9.npy", "caf\\udce9", "")
    assert cli("predict", bundle, file, "--json", "--output", tmp_path / "words.jsonl").code == 0
    assert json.loads((tmp_path / "words.jsonl").read_text(encoding="utf-8"))["file"] == str(file)


@pytest.mark.parametrize("output", ["", "file/words.csv", "file/new/words.csv"])
def test_unwritable_output_is_refused(
    output: str, bundle: Path, tiny: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output that is a folder, or lies below a file, is refused before the first prediction."""
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    monkeypatch.setattr("search.exporting.predict.predictions", lambda *_: pytest.fail("too late"))
    done = cli("predict", bundle, tiny / "9001.hdf5", "--output", tmp_path / output)
    assert (done.code, done.err.splitlines()[0]) == (2, "error: the output file cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("nothing.npy", "there is no such file"),
        ("words.txt", "this file format is not supported"),
        ("empty", "the folder contains no frames"),
        ("signers", "the folder contains no frames"),
        ("release", "the folder contains no frames"),
        ("clips", "the files in the folder are clips, not frames"),
    ],
)
def test_refused_files(file: str, first: str, bundle: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """Files without clips are refused before the first prediction: exit code 2, and nothing on stdout."""
    (tmp_path / "words.txt").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for folder, name in (("signers", "9001.hdf5"), ("release", "1.parquet"), ("clips", "a.npy")):
        (tmp_path / folder).mkdir()
        shutil.copy(tiny / "9001.hdf5", tmp_path / folder / name)
    np.save(tmp_path / "clips" / "a.npy", np.full((9, 258), 0.5))
    done = cli("predict", bundle, tiny / "9001.hdf5", tmp_path / file)
    assert (done.code, done.out, done.err.splitlines()[0]) == (2, "", f"error: {first}")
    assert done.err.splitlines()[1] == f"  --> {tmp_path / file}"
    ending = {"signers": "hdf5", "release": "parquet", "clips": "npy"}.get(file)
    assert (f"hint: name its files one by one: {tmp_path / file}/*.{ending}\n" in done.err) == (ending is not None)


def test_predict_needs_no_optuna(bundle: Path, tiny: Path, tmp_path: Path) -> None:
    """`predict` works where Optuna cannot be imported."""
    code = "import sys; sys.modules['optuna'] = None; from search.cli import main; main()"
    command = [sys.executable, "-c", code, "predict", str(bundle), str(tiny / "9001.hdf5")]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert all(line.endswith(" ...") for line in done.stderr.splitlines()), "only what a slow machine is doing"
    assert len(rows_of(done.stdout)) == len(truth_of(tiny / "9001.hdf5", read_words(tiny)))
    assert list(tmp_path.iterdir()) == []


def test_export_of_a_model_without_a_confirmation(searched_copy: Path, cli: Cli) -> None:
    """A search keeps only numbers; the hint names commands that give a model, and they work."""
    done = cli("export", "tiny", "--model", "model", "--output", "best.yaml")
    assert (done.code, done.out) == (1, "")
    assert re.match(r"error: there is no model of (trial \d|the baseline): a search keeps only numbers", done.err)
    assert not (searched_copy / "model").exists()
    assert not (searched_copy / "best.yaml").exists()
    *_, hint = done.err.splitlines()
    for command in re.findall(r"`islr-search ([^`]*)`", hint)[1:]:
        assert cli(*command.split()).code == 0
    assert load_bundle("model").metrics["kind"] == "retrained"


@pytest.mark.parametrize("fault", ["no package", "a link", "no output"])
def test_export_checks_everything_first(fault: str, confirmed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package, a link and an unwritable output are reported before a model is read."""
    monkeypatch.setattr("search.exporting.writing.read_models", lambda *_: pytest.fail("too late"))
    monkeypatch.setattr("model.onnx._PACKAGES", ("a_missing_package",) if fault == "no package" else ())
    (confirmed / "empty").mkdir()
    (confirmed / "link").symlink_to("empty")
    output = "tiny.yaml/best.yaml" if fault == "no output" else "best.yaml"
    model = "link" if fault == "a link" else "model"
    done = cli("export", "tiny", "--model", model, "--onnx", "--output", output)
    assert (done.code, done.out) == (2, "")
    assert not (confirmed / "best.yaml").exists()


def known(**changes: Any) -> Exported:
    """An exported configuration without a study."""
    data = {"folder": "d", "fingerprint": "f", "words": ["a", "b"], "train": ["1", "2"], "validation": ["3"], "test": ["4"]}
    groups: dict[str, Any] = {"model": {"width": 8}, "train": {"lr": 0.1}, "preprocess": {}, "data": data}
    recorded = {"epoch": 2, "val_loss": 0.5, "val_top1": 0.75, "temperature": 1.5}
    objective = {"metric": "val_loss", "reduce": "best"}
    usual = Exported(
        schema=2,
        study="s",
        about="?",
        trial=3,
        exported="",
        seed=1,
        recorded=recorded,
        objective=objective,
        made_with={},
        **groups,
    )
    return dataclasses.replace(usual, **changes)


def card_of(exported: Exported, **changes: Any) -> str:
    """The card of a model that was trained on all signers, on one line."""
    provenance = Provenance(
        kind="final", text="t", seed=1, epochs=2, temperature=1.5, made_with={}, train=("1", "2", "3"), fingerprint="f"
    )
    provenance = dataclasses.replace(provenance, **changes)
    return " ".join(card_text(exported, metrics_of(exported, provenance), "m").split())


@pytest.mark.parametrize(
    ("confirmed", "text"),
    [
        (
            {"seeds": 0, "recommended": False},
            "fresh seeds, and all of these trainings failed: its value in the search may be luck.",
        ),
        ({"seeds": 3, "mean": 0.5, "recommended": True}, "Confirmed with 3 fresh seeds: val_loss 0.5000."),
        (
            {"seeds": 3, "mean": 0.5, "recommended": False},
            "Not confirmed: trained again with 3 fresh seeds, it was not the recommended one: val_loss 0.5000.",
        ),
        (
            {"seeds": 1, "mean": 0.5, "recommended": False, "dropped_after": 1},
            "Not confirmed: trained again with 1 fresh seed, it was clearly worse and was dropped early: val_loss 0.5000.",
        ),
    ],
)
def test_card_describes_the_confirmation(confirmed: dict[str, Any], text: str) -> None:
    """The card calls only the recommended trial confirmed, and gives a mean only if there is one."""
    card = card_of(known(confirmed={"objective": "val_loss", "time": "", **confirmed}))
    assert text in card
    assert ("Confirmed with" in card) is confirmed["recommended"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            {"values": [None, None, None], "failed": [1, 2, 3], "mean": None, "dropped_after": None},
            "all of these trainings failed",
        ),
        (
            {"values": [0.5, None, None], "failed": [], "mean": 0.5, "measured": False, "dropped_after": 1},
            "Not confirmed: trained again with 1 fresh seed, it was clearly worse and was dropped early: val_loss 0.5000",
        ),
    ],
    ids=["all failed", "dropped"],
)
def test_card_of_an_unconfirmed_trial(row: dict[str, Any], text: str, confirmed: Path, cli: Cli) -> None:
    """A trial that was not recommended can be exported and trained, with one thread, and its card says so."""
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{confirmed / 'runs' / 'studies.db'}")
    stored = json.loads(study.user_attrs["confirmed"])
    one = next(row for row in stored["found"]["rows"] if row["trial"] not in (0, stored["found"]["recommended"]))
    one |= {**dict.fromkeys(("sd", "low", "high", "change", "change_low", "change_high", "better")), **row}
    study.set_user_attr("confirmed", json.dumps(stored))
    assert cli("export", "tiny", "--trial", one["trial"], "--output", "best.yaml").code == 0
    torch.set_num_threads(3)
    done = cli("retrain", "best.yaml", "--all-signers", "--output", "model")
    assert done.code == 0, done.err
    assert torch.get_num_threads() == THREADS == 1
    assert text in (confirmed / "model" / "README.md").read_text(encoding="utf-8")


def test_card_names_left_out_and_validation_signers() -> None:
    """The card names the sealed signers that were left out, and says how the search validated."""
    card = card_of(known())
    assert "was trained on all signers, so no signer is left to measure it on. The numbers above" in card
    assert "| in the search | validation signers | 0.7500 | 0.5000 |" in card
    card = card_of(known(), left_out=("4",))
    assert "was trained on all signers except the sealed ones, 1 signer (4): no test has opened them" in card
    assert "no signer is left" not in card
    folds = known(data={**known().data, "validation": [], "folds": [["1"], ["2"]]})
    assert "| in the search | training signers, by fold | 0.7500 | 0.5000 |" in card_of(folds)


@pytest.mark.parametrize(
    ("count", "training", "text"),
    [
        (1, 0, "the only model that the confirmation trained for trial 3"),
        (2, 1, "the worse by val_loss of the 2 models that the confirmation trained for trial 3"),
        (3, 1, "the median by val_loss of the 3 models that the confirmation trained for trial 3"),
        (4, 1, "the upper median by val_loss of the 4 models that the confirmation trained for trial 3"),
    ],
)
def test_which_model_was_exported(count: int, training: int, text: str) -> None:
    """The text fits any number of models, and the seed is that of the chosen training."""
    measured = {"epoch": 2, "val_loss": 0.5, **dict.fromkeys(MEASURED, 1.0)}
    attributes = {"seed": 11, "made_with": "{}"}
    trial = optuna.trial.create_trial(
        value=0.5, params={"seed": 1}, distributions={"seed": TRAINING_DISTRIBUTIONS["seed"]}, user_attrs=attributes
    )
    provenance = provenance_of(ConfirmModel(trial, training, 0.5, measured), 12, count, known(), [])
    assert provenance.text == text
    assert provenance.seed == training_seed(11, training)


def test_damaged_model_file_is_refused(confirmed: Path, cli: Cli) -> None:
    """A changed file of weights is refused, and no other model is exported instead."""
    for path in (confirmed / "runs").rglob("model.safetensors"):
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    done = cli("export", "tiny", "--model", "model")
    assert (done.code, done.err.splitlines()[0]) == (1, "error: the model's file is missing or was changed")
    assert not (confirmed / "model").exists()


@pytest.mark.slow
def test_folds_have_no_single_model(place: Path, tiny: Path, cli: Cli) -> None:
    """With folds no model can be exported; the hint names commands that train one on all signers, and they work."""
    folds = ("--set", "data.folds=2", "--set", "data.test=none", "--trials", 3)
    assert cli("run", "tiny.yaml", "--data", tiny, *folds).code == 0
    assert cli("confirm", "tiny", "--top", 1, "--seeds", 2).code == 0
    done = cli("export", "tiny", "--model", "model")
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        "error: with folds, no model was trained on all training signers",
    )
    *_, hint = done.err.splitlines()
    for command in re.findall(r"`islr-search ([^`]*)`", hint):
        assert cli(*command.split()).code == 0
    assert load_bundle("model").metrics["this_model"]["train"]["signers"] == ["9001", "9002", "9003", "9004"]


def test_median_over_repeats_and_seeds(place: Path, tiny: Path, cli: Cli) -> None:
    """With repeats, the median is taken over all models of all seeds, each with its own result on the sealed clips."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--set", "repeats=2", "--trials", 2).code == 0
    assert cli("confirm", "tiny", "--top", 1, "--seeds", 2).code == 0
    assert cli("test", "tiny").code == 0
    assert cli("export", "tiny", "--model", "model").code == 0
    mine = load_bundle("model").metrics["this_model"]
    storage = f"sqlite:///{place / 'runs' / 'studies.db'}"
    trials = optuna.load_study(study_name="tiny/confirm", storage=storage).trials
    number = load_bundle("model").metrics["trial"]
    values = sorted(one["value"] for t in trials if t.params["candidate"] == number for one in trial_result(t)["trainings"])
    assert len(values) == 4
    assert mine["validation"]["val_loss"] == values[2], "the upper median"
    (signer,) = mine["sealed"]["signers"]
    rows = rows_of(cli("predict", "model", tiny / f"{signer}.hdf5").out)
    found = accuracy(rows, truth_of(tiny / f"{signer}.hdf5", read_words(tiny)))
    assert found == pytest.approx(mine["sealed"]["top1"], abs=1e-12)


def final(folder: Path) -> dict[str, Any]:
    """The `this_model` section of a model that was trained on all signers."""
    metrics = load_bundle(folder).metrics
    assert metrics["kind"] == "final"
    mine: dict[str, Any] = metrics["this_model"]
    assert (mine["validation"], mine["sealed"]) == (None, None)
    return mine


def test_retrain_on_all_signers(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """Train and validation signers for the epochs of the search; the sealed ones only after a test has opened them."""
    assert cli("export", "tiny", "--output", "before.yaml").code == 0
    done = cli("retrain", "before.yaml", "--all-signers", "--output", "before")
    assert (done.code, done.out) == (0, "")
    assert "without the 1 sealed signer: no test has opened them" in " ".join(done.err.split())
    exported, configs = read_export(Path("before.yaml"))
    mine = final(Path("before"))
    assert mine["train"]["left_out"] == exported.data["test"]
    assert " trained on all signers except the sealed ones for the epochs" in mine["about"]
    (sealed,) = exported.data["test"]
    card = (confirmed / "before" / "README.md").read_text(encoding="utf-8")
    assert f"trained on all signers except the sealed ones, 1 signer ({sealed}): no test has opened them" in card
    assert "no signer is left" not in card
    used = [*exported.data["train"], *exported.data["validation"]]
    assert mine["train"]["signers"] == used
    assert (mine["epochs"], mine["temperature"]) == (exported.recorded["epoch"], exported.recorded["temperature"])
    # The weights are those of a plain training on these signers; validation does not affect them.
    data = open_data(tiny)
    training = Training(
        configs.model,
        configs.train,
        configs.augment,
        train=prepare(data, used, configs.preprocess, mirrored=True),
        validation=prepare(data, exported.data["test"], configs.preprocess, mirrored=False),
        num_words=3,
        seed=exported.seed,
    )
    fit(training, lambda record: record.epoch < mine["epochs"])
    weights = load_bundle("before").model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in training.model.state_dict().items())

    assert cli("test", "tiny").code == 0
    assert cli("export", "tiny", "--output", "after.yaml").code == 0
    assert cli("retrain", "after.yaml", "--all-signers", "--output", "after").code == 0
    assert final(Path("after"))["train"]["signers"] == [*used, *exported.data["test"]]
    assert final(Path("after"))["train"]["left_out"] == []
    assert cli("retrain", "after/config.yaml", "--all-signers", "--output", "again").code == 0
    assert (confirmed / "after" / WEIGHTS).read_bytes() == (confirmed / "again" / WEIGHTS).read_bytes()
    card = (confirmed / "after" / "README.md").read_text(encoding="utf-8")
    assert "no signer is left to measure it on" in card
    assert "| this model |" not in card


def test_final_training_has_no_early_stopping(confirmed: Path, cli: Cli) -> None:
    """It trains for the recorded epoch, regardless of patience and of the maximum number of epochs."""
    assert cli("export", "tiny", "--output", "best.yaml").code == 0
    content = yaml.safe_load(Path("best.yaml").read_text(encoding="utf-8"))
    content["train"] |= {"epochs": 9, "patience": 1}
    content["recorded"]["epoch"] = 6
    Path("best.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    done = cli("retrain", "best.yaml", "--all-signers", "--output", "model")
    assert done.code == 0
    assert [line.split()[1] for line in done.err.splitlines() if line.startswith("epoch ")] == [f"{n}/6" for n in range(1, 7)]
    assert final(Path("model"))["epochs"] == 6


@pytest.mark.parametrize("option", ["--all-signers", "--onnx"])
def test_model_needs_an_output(option: str, confirmed: Path, cli: Cli) -> None:
    """`--all-signers` and `--onnx` need an `--output` that does not exist yet."""
    assert cli("export", "tiny", "--output", "best.yaml").code == 0
    done = cli("retrain", "best.yaml", option)
    assert (done.code, done.err.splitlines()[0]) == (2, f"error: {option} needs --output")
    (confirmed / "mine").mkdir()
    (confirmed / "mine" / "notes").write_text("", encoding="utf-8")
    done = cli("retrain", "best.yaml", "--all-signers", "--output", "mine")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: the path already exists")
    assert cli("export", "tiny", "--onnx").code == 2


def test_card_escapes_words(place: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """Markup in words is shown as text."""
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    words = {"<script>alert(1)</script>": 0, "a|b\n# c": 1, "手話": 2}
    (data / "sign_to_prediction_index_map.json").write_text(json.dumps(words), encoding="utf-8")
    assert cli("run", "tiny.yaml", "--data", data, "--trials", 1).code == 0
    assert cli("export", "tiny", "--output", "best.yaml").code == 0
    assert cli("retrain", "best.yaml", "--output", "model").code == 0
    card = (place / "model" / "README.md").read_text(encoding="utf-8")
    line = next(line for line in card.splitlines() if line.startswith("Words: "))
    assert line == r"Words: \<script\>alert\(1\)\</script\>, a\|b \# c, 手話"
    rows = rows_of(cli("predict", "model", data / "9001.hdf5").out)
    assert {row["word_1"] for row in rows} <= set(words)


def test_package_contains_the_card() -> None:
    """The template is part of the package."""
    assert (ROOT / "search" / "exporting" / "templates" / "card.md").is_file()
