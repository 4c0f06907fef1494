"""Reading a finished study: tables, single trials, export and retraining."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
import yaml
from conftest import Cli
from launch import TRIAL_FILES, stored_trials

from data_utils.prepared import fingerprint, open_data
from model import load_bundle
from search.study.trials import best_trial


@pytest.fixture(autouse=True)
def in_searched(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests read the same finished study."""
    monkeypatch.chdir(searched)


@pytest.fixture
def exported(cli: Cli, tmp_path: Path) -> Path:
    """The best configuration as a file."""
    assert cli("export", "tiny", "--output", tmp_path / "best.yaml").code == 0
    return tmp_path / "best.yaml"


def changed(exported: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> Path:
    """Edits an exported file."""
    content = yaml.safe_load(exported.read_text(encoding="utf-8"))
    change(content)
    exported.write_text(yaml.safe_dump(content), encoding="utf-8")
    return exported


def test_export_is_complete(exported: Path, searched: Path, tiny: Path) -> None:
    """It holds settings, seed, split, words, data fingerprint, versions and results."""
    content = yaml.safe_load(exported.read_text(encoding="utf-8"))
    best = best_trial(stored_trials(searched))
    assert best is not None
    assert (content["study"], content["trial"], content["schema"]) == ("tiny", best.number, 2)
    assert content["recorded"]["val_loss"] == best.value
    assert content["seed"] == best.user_attrs["seed"]
    assert content["train"]["lr"] == best.params["lr"]
    assert content["data"]["fingerprint"] == fingerprint(open_data(tiny))
    signers = [signer for part in ("train", "validation", "test") for signer in content["data"][part]]
    assert sorted(signers) == ["9001", "9002", "9003", "9004"]
    assert content["data"]["words"] == ["listen", "look", "shhh"]
    assert content["made_with"].keys() >= {"islr-search", "torch", "numpy", "h5py", "python", "device", "processor", "threads"}
    assert content["baseline"]["val_loss"] == stored_trials(searched)[0].value


def test_retrain_reproduces_the_value(exported: Path, cli: Cli, tmp_path: Path, tiny: Path) -> None:
    """From a copy of the data in another place, bit for bit, and the model is written."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in tiny.iterdir():
        (elsewhere / path.name).write_bytes(path.read_bytes())
    done = cli("retrain", exported, "--data", elsewhere, "--output", tmp_path / "model")
    assert done.code == 0
    recorded = yaml.safe_load(exported.read_text(encoding="utf-8"))["recorded"]["val_loss"]
    assert done.out.splitlines()[0] == f"recorded val_loss {recorded!r}"
    assert done.out.splitlines()[1].startswith(f"now      val_loss {recorded!r}, ")
    assert done.out.splitlines()[2] == "the recorded val_loss was reproduced bit for bit"
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "model.safetensors",
        "labels.json",
        "config.yaml",
        "metrics.json",
        "README.md",
        "SHA256SUMS",
        "curve.csv",
    }
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert metrics["this_model"]["validation"]["val_loss"] == recorded
    assert metrics["configuration"]["searched"]["val_loss"] == recorded
    again = cli("retrain", tmp_path / "model" / "config.yaml")
    assert again.out.splitlines()[2] == "the recorded val_loss was reproduced bit for bit"


def test_retrain_with_another_seed(exported: Path, cli: Cli) -> None:
    """The output lists the difference, and it is no failure."""
    done = cli("retrain", exported, "--seed", 5)
    assert done.code == 0
    assert "it differs by" in done.out
    assert "  seed: " in done.out
    assert "-> 5" in done.out
    assert "data:" not in done.out


def test_retrain_on_another_kind_of_cpu(exported: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the number does not come back exactly, the kind of CPU is named; a record without it is compared as unknown."""
    made = yaml.safe_load(exported.read_text(encoding="utf-8"))["made_with"]
    assert made["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert made["processor"] not in ("", platform.machine()) or not Path("/proc/cpuinfo").exists()

    def differs(content: dict[str, Any]) -> None:
        content["recorded"]["val_loss"] += 1e-9

    assert "although nothing else differs" in cli("retrain", changed(exported, differs)).out
    with monkeypatch.context() as patch:
        patch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2000")
        done = cli("retrain", changed(exported, differs))
    assert done.code == 0
    assert done.out.splitlines()[-1] == f"  instructions: {made['instructions']} -> AVX2000"

    def forget(content: dict[str, Any]) -> None:
        differs(content)
        del content["made_with"]["instructions"]
        content["made_with"]["processor"] = "x86_64"

    done = cli("retrain", changed(exported, forget))
    assert done.code == 0
    assert done.out.splitlines()[-2:] == [
        f"  instructions: not recorded -> {made['instructions']}",
        f"  processor: not recorded -> {made['processor']}",
    ]


def contents_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]:
    """A model folder: results of the model, results of its configuration, the configuration that trains it again, the card."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    again = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return metrics["this_model"], metrics["configuration"], again, (folder / "README.md").read_text(encoding="utf-8")


def test_retrained_values_are_separate_from_the_search(exported: Path, cli: Cli, tmp_path: Path) -> None:
    """Results of another seed belong to the model, not to the search; differences are listed."""
    recorded = yaml.safe_load(exported.read_text(encoding="utf-8"))
    assert cli("retrain", exported, "--seed", 5, "--output", tmp_path / "model").code == 0
    mine, known, again, card = contents_of(tmp_path / "model")
    assert known["searched"] == recorded["recorded"]
    assert known["baseline"] == recorded["baseline"]
    assert mine["seed"] == again["seed"] == 5
    assert again["recorded"]["val_loss"] == mine["validation"]["val_loss"] != recorded["recorded"]["val_loss"]
    assert f"seed: {recorded['seed']} -> 5" in mine["differences"]
    assert f"seed: {recorded['seed']} -\\> 5" in card


def test_retrained_values_of_other_data(exported: Path, cli: Cli, tmp_path: Path, tiny: Path) -> None:
    """Each result keeps the fingerprint of its data; the new configuration drops what was found on the old data."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tiny, elsewhere)
    with h5py.File(elsewhere / "9001.hdf5", "r+") as h5:
        h5[sorted(h5)[0]]["feature"][...] *= 0.9
    recorded = yaml.safe_load(exported.read_text(encoding="utf-8"))
    recorded["confirmed"] = {"objective": "val_loss", "seeds": 2, "mean": 0.5, "recommended": True, "time": ""}
    exported.write_text(yaml.safe_dump(recorded), encoding="utf-8")
    assert cli("retrain", exported, "--data", elsewhere, "--output", tmp_path / "model").code == 0
    mine, known, again, card = contents_of(tmp_path / "model")
    assert known["fingerprint"] == recorded["data"]["fingerprint"] != mine["train"]["fingerprint"]
    assert (known["searched"], known["confirmed"]) == (recorded["recorded"], recorded["confirmed"])
    assert (again["baseline"], again["confirmed"]) == ({}, {})
    assert again["data"]["fingerprint"] == mine["train"]["fingerprint"]
    assert "- Differences from the recorded training, which gave the numbers of the configuration: data: fingerprint " in card


@pytest.mark.parametrize("more", [(), ("--all-signers",)], ids=["alone", "all signers"])
def test_missing_onnx_package_is_reported_first(
    more: tuple[str, ...], exported: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing package is reported before the training."""
    monkeypatch.setattr("model.onnx._PACKAGES", ("a_missing_package",))
    done = cli("retrain", exported, "--output", tmp_path / "model", "--onnx", *more)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "error: a package that the ONNX export needs is not installed",
        "expected: a_missing_package",
        "hint: pip install 'islr-search[onnx]'",
    ]
    assert "epoch" not in done.err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("more", [(), ("--all-signers",)], ids=["alone", "all signers"])
def test_output_is_checked_first(more: tuple[str, ...], exported: Path, cli: Cli, tmp_path: Path) -> None:
    """A link and an unwritable place are reported before the training."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for place, code, first in (
        ("link", 2, "the path is a symbolic link, which a folder cannot replace"),
        ("best.yaml/model", 3, "the model cannot be written"),
    ):
        done = cli("retrain", exported, "--output", tmp_path / place, *more)
        assert (done.code, done.err.splitlines()[0]) == (code, f"error: {first}")


def test_all_signers_with_schema_1(exported: Path, cli: Cli, tmp_path: Path) -> None:
    """Schema 1 has neither temperature nor objective: the logits stay unchanged, and the output says so."""

    def as_schema_1(content: dict[str, Any]) -> None:
        for name in ("objective", "confirmed", "sealed", "repeats", "augment"):
            content.pop(name, None)
        for name in ("temperature", "val_top5", "val_ece", "val_ece_mass", "val_loss_ts"):
            content["recorded"].pop(name)
        content.update(schema=1)
        content["train"].pop("patience")

    changed(exported, as_schema_1)
    done = cli("retrain", exported, "--all-signers", "--output", tmp_path / "model")
    assert done.code == 0, done.err
    assert "temperature: not recorded -> 1.0" in done.err
    mine, _, _, card = contents_of(tmp_path / "model")
    assert (load_bundle(tmp_path / "model").temperature, mine["temperature"]) == (1.0, 1.0)
    assert "divided by 1.000 (the temperature, not fitted because the exported configuration records none) before" in card
    assert "- Objective: val\\_loss" in card or "- Objective: val_loss" in card


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda c: c["recorded"].pop("epoch"), "the exported configuration records no epoch"),
        (lambda c: c["recorded"].pop("val_top1"), "the exported configuration records no val_top1"),
        (lambda c: c["recorded"].update(epoch=0), "`recorded.epoch` has a wrong value"),
        (lambda c: c["recorded"].update(temperature=0.0), "`recorded.temperature` has a wrong value"),
    ],
)
def test_all_signers_with_edited_files(
    change: Callable[[dict[str, dict[str, object]]], object], first: str, exported: Path, cli: Cli, tmp_path: Path
) -> None:
    """Numbers that the model or its card needs are checked before the training."""
    done = cli("retrain", changed(exported, change), "--all-signers", "--output", tmp_path / "model")
    assert (done.code, done.err.splitlines()[0]) == (2, f"error: {first}")


def test_retrain_on_changed_data(exported: Path, cli: Cli, tmp_path: Path, tiny: Path) -> None:
    """A changed file changes the fingerprint; a missing signer is an error."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in tiny.iterdir():
        (elsewhere / path.name).write_bytes(path.read_bytes() + (b"\0" if path.name == "9001.hdf5" else b""))
    done = cli("retrain", exported, "--data", elsewhere)
    assert done.code == 0
    assert "  data: fingerprint " in done.out or "was reproduced" in done.out
    (elsewhere / "9001.hdf5").rename(elsewhere / "1e5.hdf5")
    lost = cli("retrain", exported, "--data", elsewhere)
    assert lost.code == 2
    assert lost.err.splitlines()[-4:][0].startswith("error: there is no signer `9001`")


def test_value_that_is_not_reproduced(exported: Path, cli: Cli) -> None:
    """If only the recorded value differs, the exit code is 1."""
    changed(exported, lambda content: content["recorded"].update(val_loss=0.5))
    done = cli("retrain", exported)
    assert done.code == 1
    assert "NOT reproduced: it differs by " in done.out


@pytest.mark.parametrize(
    ("change", "code", "first"),
    [
        (lambda c: c.update(lr=1), 2, "unknown key `lr`"),
        (lambda c: c["train"].update(learning_rate=1), 2, "unknown key `train.learning_rate`"),
        (lambda c: c["train"].update(lr=-1.0), 2, "`train.lr` has a wrong value"),
        (lambda c: c["train"].update(lr=float("nan")), 2, "`train.lr` has a wrong value"),
        (lambda c: c["model"].update(heads=5), 2, "the settings are not compatible"),
        (lambda c: c.update(model=3), 2, "`the exported configuration.model` has a wrong value"),
        (lambda c: c.update(schema=3), 2, "the file has an unsupported schema"),
        (lambda c: c.pop("seed"), 2, "`the exported configuration` lacks `seed`"),
        (lambda c: c["recorded"].pop("val_loss"), 2, "the file records no val_loss to compare with"),
        (lambda c: c["data"].update(words=["a", "b", "c"]), 2, "the words of the data set differ from the recorded ones"),
        (lambda c: c["data"].update(train=["9009"]), 2, "there is no signer `9009` for the train part"),
        (lambda c: c["data"].update(folder="/nowhere/at/all"), 2, "there is no such data folder"),
        (lambda c: c["made_with"].update(device="cuda:77"), 2, "the device `cuda` cannot be used"),
        (lambda c: c["train"].update(lr=1e30), 1, "the training failed"),
    ],
)
def test_edited_files(
    change: Callable[[dict[str, dict[str, object]]], object], code: int, first: str, exported: Path, cli: Cli
) -> None:
    """Files that cannot be trained are refused with an error."""
    done = cli("retrain", changed(exported, change))
    errors = done.err[done.err.index("error: ") :].splitlines()
    assert (done.code, errors[0]) == (code, f"error: {first}")
    assert done.out == ""


def test_export_of_other_trials(cli: Cli, searched: Path) -> None:
    """Any complete trial can be exported; a trial that does not exist is refused."""
    done = cli("export", "tiny", "--trial", 0)
    assert done.code == 0
    assert yaml.safe_load(done.out)["train"]["lr"] == 1e-3
    assert cli("export", "tiny", "--trial", 99).code == 2


def test_export_without_a_complete_trial(place: Path, tiny: Path, cli: Cli) -> None:
    """Without a complete trial the exit code is 1."""
    os.chdir(place)
    cli("run", "tiny.yaml", "--data", tiny, "--set", "lr=1e30", "--max-failures", 0)
    done = cli("export", "tiny")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: no trial of `tiny` is complete yet\n")
    assert cli("export", "tiny", "--trial", 0).code == 2


def test_names_like_numbers(place: Path, tiny: Path, cli: Cli, tmp_path: Path) -> None:
    """Signers and words that YAML reads as numbers survive export and retraining."""
    os.chdir(place)
    odd = tmp_path / "odd"
    odd.mkdir()
    for old, new in (("9001", "1e5"), ("9002", "0012"), ("9003", "12:30"), ("9004", "no")):
        (odd / f"{new}.hdf5").write_bytes((tiny / f"{old}.hdf5").read_bytes())
    (odd / "words.json").write_text(json.dumps({"2e3": 0, "手話": 1, "yes": 2}), encoding="utf-8")
    assert cli("run", "tiny.yaml", "--data", odd, "--trials", 1).code == 0
    assert cli("export", "tiny", "--output", "best.yaml").code == 0
    done = cli("retrain", "best.yaml")
    assert (done.code, done.out.splitlines()[-1]) == (0, "the recorded val_loss was reproduced bit for bit")


def test_trials_as_csv(cli: Cli, searched: Path, tmp_path: Path) -> None:
    """One row per trial, with full precision."""
    rows = list(csv.DictReader(io.StringIO(cli("trials", "tiny", "--format", "csv").out)))
    named = cli("trials", "tiny", "--output", tmp_path / "t.csv")
    assert (named.out, list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text(encoding="utf-8"))))) == ("", rows)
    trials = stored_trials(searched)
    assert [float(row["val_loss"]) for row in rows] == [trial.value for trial in trials]
    assert [float(row["param_lr"]) for row in rows] == [trial.params["lr"] for trial in trials]
    assert {row["state"] for row in rows} == {"complete"}


def test_trials_as_jsonl(cli: Cli, searched: Path, tmp_path: Path) -> None:
    """The same rows as JSON, also into a file."""
    assert cli("trials", "tiny", "--output", tmp_path / "a" / "t.jsonl").out == ""
    rows = [json.loads(line) for line in (tmp_path / "a" / "t.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["val_loss"] for row in rows] == [trial.value for trial in stored_trials(searched)]
    assert {row["schema"] for row in rows} == {1}


@pytest.mark.parametrize("columns", [60, 80, 120, None])
def test_trials_as_a_table(columns: int | None, cli: Cli, searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aligned columns that fit the terminal, in order of the numbers; the best is starred."""
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    trials = stored_trials(searched)
    best = best_trial(trials)
    assert best is not None
    head, *rows = cli("trials", "tiny").out.splitlines()
    assert head.split()[:4] == ["trial", "state", "val_loss", "top1"]
    assert [row[head.index("val_loss") :][:8].strip() for row in rows] == [f"{trial.value:.4f}" for trial in trials]
    assert [row.strip("* ").split()[0] for row in rows] == [str(trial.number) for trial in trials]
    assert [row.startswith("*") for row in rows] == [trial.number == best.number for trial in trials]
    assert len({len(row) for row in rows}) == 1
    assert max(map(len, [head, *rows])) <= (columns or 1000)
    assert ("dropout" in head) == (columns != 60)
    ranked = sorted(trials, key=lambda trial: trial.value or 0)[:2]
    first = head.index("time") + 4
    _, *rows = cli("trials", "tiny", "--top", "2").out.splitlines()
    shown = [row[first:].split()[0] for row in rows]
    assert shown == [f"{trial.params['label_smoothing']:.4g}" for trial in ranked]


def test_status(cli: Cli, searched: Path) -> None:
    """Lines for people and the same numbers as JSON."""
    best = best_trial(stored_trials(searched))
    assert best is not None
    done = cli("status", "tiny")
    assert "trials   6 of 6 finished (6 complete)" in done.out.splitlines()
    assert f"best     trial {best.number}: val_loss {best.value:.4f}" in done.out
    assert "now      no run is working on it" in done.out.splitlines()
    found = json.loads(cli("status", "tiny", "--json").out)
    assert (found["schema"], found["finished"], found["target"], found["working"]) == (1, 6, 6, False)
    assert found["best"]["value"] == best.value
    assert found["baseline"]["params"] == {"label_smoothing": 0.0, "lr": 1e-3, "dropout": 0.1}


def test_status_watch_on_a_pipe(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each update is written at once, not only at the end."""
    looks = iter([None, None])

    def sleep(_seconds: float) -> None:
        if next(looks, "end") == "end":
            raise KeyboardInterrupt

    monkeypatch.setattr("search.commands.searching.time.sleep", sleep)
    done = cli("status", "tiny", "--watch")
    assert (done.code, done.out.count("trials   6 of 6 finished")) == (130, 3)


def test_list(cli: Cli) -> None:
    """Studies in the database come first, then study files that can be run."""
    shipped = ["architecture", "article", "augmentation", "folds", "label_smoothing", "quick"]
    assert [line.split()[0] for line in cli("list").out.splitlines()] == ["study", "tiny", *shipped]
    rows = [json.loads(line) for line in cli("list", "--json").out.splitlines()]
    assert [(row["study"], row["finished"], row["target"]) for row in rows] == [
        ("tiny", 6, 6),
        *((name, 0, None) for name in shipped),
    ]


def test_show(cli: Cli, searched: Path) -> None:
    """Parameters, result, curve and files of one trial."""
    trial = stored_trials(searched)[2]
    shown = json.loads(cli("show", "tiny", 2, "--json").out)
    assert shown["params"] == trial.params
    assert {row["epoch"]: row["val_loss"] for row in shown["curve"]} == trial.intermediate_values
    assert shown["files"] == [f"runs/tiny/trials/0002/{name}" for name in TRIAL_FILES]
    assert [row["clips"] for row in shown["signers"]] == [12]
    assert shown["signers"][0]["val_loss"] == trial.value, "one signer validates"
    text = cli("show", "tiny", 2).out
    assert "trial    2 of tiny: complete" in text
    assert f"value    val_loss {trial.value:.4f}" in text
    assert "chance is 0.3333" in text
    assert "trial    0 of tiny (the baseline): complete" in cli("show", "tiny", 0).out


def test_show_without_files(cli: Cli, tmp_path: Path) -> None:
    """Without the files, the curve comes from the database."""
    shown = json.loads(cli("show", "tiny", 1, "--runs", tmp_path, "--json").out)
    assert (shown["files"], shown["curve"], list(shown["reported"])) == ([], [], ["1", "2"])
    assert cli("show", "tiny", 1, "--runs", tmp_path).out.splitlines()[-3].split() == ["epoch", "val_loss"]


def test_doctor(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    """All checks pass here; a faulty data set fails one."""
    done = cli("doctor", "--data", tiny)
    assert (done.code, done.out.splitlines()[-1]) == (0, "no problems found")
    checks = [json.loads(line) for line in cli("doctor", "--json").out.splitlines()]
    assert {check["verdict"] for check in checks} <= {"ok", "note"}
    (tmp_path / "bad").mkdir()
    wrong = cli("doctor", "--data", tmp_path / "bad")
    assert (wrong.code, wrong.out.splitlines()[-1]) == (1, "2 wrong")
