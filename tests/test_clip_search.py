"""A search with one signer, by clips: from `run` to a model, with what limits it on everything that is written."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Cli, run_in
from launch import TINY_STUDY

from data_utils import hdf5
from data_utils.clip_split import split_clips
from data_utils.folder import SignerFile
from data_utils.hdf5 import Clip, read_clips, write_signer
from data_utils.normalize import PreprocessConfig
from data_utils.parts import sealed_entries
from data_utils.prepared import open_data
from data_utils.synthetic.synthetic import synthesize
from data_utils.wording import SAME_PEOPLE
from data_utils.words import DICTIONARY_NAME
from search.api import load
from search.errors import DefinitionError
from search.evaluation.confirm.trial_source import fresh_split
from search.reporting.dashboard.notes import study_note
from search.reporting.facts import Facts
from search.study.identity import IDENTITY, require_same
from search.study.opening_record import openings_of_signers
from search.study.study import study_data
from search.trial.clips import TrialClips

BY_CLIPS = ("--set", "data.split=clips")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one signer with mirrored copies: 36 clips of 3 words. Read-only."""
    folder = tmp_path_factory.mktemp("data") / "alone"
    synthesize(folder, clips=36, signs=3, signers=1, seed=1)
    own = list(read_clips(SignerFile(folder / "9001.hdf5", "9001", mirrored=False), 3))
    flipped = [Clip(one.name, one.feature_CTJ * np.array([-1, 1, 1], np.float32)[:, None, None], one.label) for one in own]
    write_signer(folder / "9001_swap.hdf5", flipped)
    return folder


@pytest.fixture(scope="module")
def read() -> Iterator[set[tuple[str, str]]]:
    """File and name of every clip whose landmarks are read while the tests of this file run."""
    names: set[tuple[str, str]] = set()
    real = (
        hdf5._clip_or_faults
    )  # not `_read_feature`: a split by clip needs the digest of every clip, of which it keeps no more

    def spy(h5: object, path: Path, name: str, num_words: int) -> object:
        names.add((path.name, name))
        return real(h5, path, name, num_words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "_clip_or_faults", spy)
        yield names


@pytest.fixture(scope="module")
def once(alone: Path, read: set[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the confirmed study `tiny`. Read-only."""
    folder = tmp_path_factory.mktemp("clips") / "place"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    read.clear()
    run_in(folder, "run", "tiny.yaml", "--data", str(alone), "--trials", "3", *BY_CLIPS)
    run_in(folder, "confirm", "tiny", "--top", "1", "--seeds", "2")
    return folder


@pytest.fixture
def copy(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `once`, as the current directory."""
    shutil.copytree(once, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def test_sealed_clips_are_read_by_test_alone(once: Path, alone: Path, read: set[tuple[str, str]], cli: Cli, copy: Path) -> None:
    """Neither search, confirmation nor retraining reads a sealed clip or its mirrored copy; `test` reads nothing else."""
    study = load("tiny").optuna
    entries = open_data(alone, with_digests=True).entries
    (sealed,) = sealed_entries(study_data(study).split, entries)
    held_out = {(file, name) for file in ("9001.hdf5", "9001_swap.hdf5") for name in sealed.names}
    assert read, "clips were prepared"
    assert not read & held_out
    assert {file for file, _ in read} == {"9001.hdf5", "9001_swap.hdf5"}, "mirrored copies train"
    read.clear()
    done = cli("test", "tiny")
    assert (done.code, f"1 signer, {len(sealed.names)} clips" in done.out) == (0, True)
    assert SAME_PEOPLE in " ".join(done.out.split())
    assert read == {("9001.hdf5", name) for name in sealed.names}
    assert cli("run", "tiny.yaml", "--data", alone, "--as", "other", "--trials", 1, *BY_CLIPS, "--seed", 4).code == 0
    known = cli("run", "tiny.yaml", "--data", alone, "--as", "other", "--trials", 1, *BY_CLIPS, "--seed", 4).err
    assert "were opened once (also for `tiny`)" in known, "another seed seals clips of the same signer"
    again = cli("run", "tiny.yaml", "--data", alone, "--as", "third", "--from", "tiny", "--trials", 1, *BY_CLIPS)
    assert (again.code, "the study `tiny` has opened what is sealed here" in again.err) == (2, True)
    assert f"{len(sealed.names)} clips of 9001, opened by `islr-search test`" in again.err
    assert "seal the same" not in again.err
    assert len(openings_of_signers(load("other").optuna, load("other").opened()[1], Path("runs"))) == 1


def test_everything_says_so(once: Path, alone: Path, cli: Cli, copy: Path) -> None:
    """What a person or a program reads of a study by clips carries the same sentence."""
    written = {
        name: " ".join((done.out + done.err).split())
        for name, done in {
            "status": cli("status", "tiny"),
            "status of a program": cli("status", "tiny", "--json"),
            "list": cli("list"),
            "show": cli("show", "tiny", 1),
            "show of a program": cli("show", "tiny", 1, "--json"),
            "dry run": cli("run", "tiny.yaml", *BY_CLIPS, "--dry-run"),
            "export": cli("export", "tiny", "--output", "best.yaml"),
            "model": cli("export", "tiny", "--model", "model"),
            "predict": cli("predict", "model", alone / "9001.hdf5"),
            "retrain": cli("retrain", "best.yaml"),
            "final": cli("retrain", "best.yaml", "--all-signers", "--output", "final"),
            "trials": cli("trials", "tiny"),
            "confirm": cli("confirm", "tiny", "--top", 1, "--seeds", 2),
            "report": cli("report", "tiny", "--output", "report.html"),
        }.items()
    }
    del written["report"]
    files = ("best.yaml", "report.html", "model/README.md", "model/metrics.json", "model/config.yaml", "final/README.md")
    written |= {name: " ".join(Path(name).read_text(encoding="utf-8").split()) for name in files}
    assert [name for name, text in written.items() if SAME_PEOPLE.lower() not in text.lower()] == []
    assert f"people {SAME_PEOPLE}" in written["confirm"]
    table = cli("trials", "tiny", "--format", "csv")
    assert SAME_PEOPLE not in table.out + table.err
    assert "reproduced bit for bit" in written["retrain"]
    for page in ("report.html", "model/README.md", "final/README.md"):
        for lie in ("same validation signers", "signers that they were not", "signers that were not", "had not seen"):
            assert lie not in written[page], page
    study = load("tiny")
    assert study.caution == study.configuration()[0].caution == SAME_PEOPLE
    assert json.loads(cli("list", "--json").out.splitlines()[0])["split"] == "clips"
    opened, storage = study.opened()
    assert SAME_PEOPLE[1:] in study_note(Facts(opened, storage, url=study.storage, runs=Path("runs")))


def test_the_division_belongs_to_the_study(once: Path, alone: Path, cli: Cli, copy: Path) -> None:
    """Another seed, kind of split or division is another study; the same options continue it."""
    run = ("run", "tiny.yaml", "--data", alone, "--trials", 4)
    assert "data: folds: none -> 2" in cli(*run, *BY_CLIPS, "--set", "data.folds=2").err
    assert "data: clips: digest" in cli(*run, *BY_CLIPS, "--seed", 2).err
    assert cli(*run, *BY_CLIPS).code == 0
    by_signer = {"data: split": "signers", "data: test signers": "9001", "data: fingerprint": "another"}
    optuna_study = load("tiny").optuna
    with pytest.raises(DefinitionError) as refused:
        require_same(optuna_study, json.loads(optuna_study.user_attrs[IDENTITY]) | by_signer)
    fingerprint_line, split_line = (refused.value.got or "").splitlines()
    assert fingerprint_line.startswith("data: fingerprint: ")
    assert split_line.strip() == "the split was by clip and is now by signer", "one line for all of the split"
    stored = yaml.safe_load(cli("export", "tiny").out)["data"]["clips"]
    assert stored["num_train"] + stored["num_validation"] + stored["num_test"] == 36
    assert len(stored["digest"]) == len(stored["sealed"]) == 32


def test_workers_divide_alike(alone: Path, tmp_path: Path) -> None:
    """A worker that is given index and clips finds the same folds; fresh folds have the same test part."""
    data = open_data(alone, with_digests=True)
    split = split_clips(data.entries, data.words, folds=2)
    here = TrialClips(data, split, tmp_path, emit=lambda event: None)
    config = PreprocessConfig()
    sent_data, sent_split = pickle.loads(pickle.dumps((data, split)))
    there = TrialClips(sent_data, sent_split, tmp_path / "none", emit=lambda event: None, transferred=here.clips(config))
    for mine, theirs in zip(here.folds(config), there.folds(config), strict=True):
        for one, other in ((mine.train, theirs.train), (mine.validation, theirs.validation)):
            np.testing.assert_array_equal(one.starts_C, other.starts_C)
            np.testing.assert_array_equal(one.labels_C, other.labels_C)
        assert len(mine.train) > len(mine.validation), "with mirrored copies"
        assert not set(mine.train.starts_C) & set(mine.validation.starts_C)
    fresh = fresh_split(split, data, 5)
    assert (fresh.clips is not None, split.clips is not None) == (True, True)
    assert fresh.clips.sealed == split.clips.sealed  # type: ignore[union-attr]
    assert fresh.clips.digest != split.clips.digest  # type: ignore[union-attr]


def test_changed_copies_are_pointed_out(alone: Path, tmp_path: Path) -> None:
    """A search that trains on a clip and validates on its changed copy says so; a split by signer cannot tear them apart."""
    (tmp_path / "twice").mkdir()
    shutil.copy(alone / DICTIONARY_NAME, tmp_path / "twice")
    own = list(read_clips(SignerFile(alone / "9001.hdf5", "9001", mirrored=False), 3))
    noise = np.random.default_rng(0)
    copied = [
        Clip(f"copy{one.name}", one.feature_CTJ + noise.normal(0, 0.002, one.feature_CTJ.shape).astype(np.float32), one.label)
        for one in own
    ]
    write_signer(tmp_path / "twice" / "9001.hdf5", [*own, *copied])
    data = open_data(tmp_path / "twice", with_digests=True)
    clips = TrialClips(data, split_clips(data.entries, data.words), tmp_path / "store", emit=lambda event: None)
    clips.folds(PreprocessConfig())
    (line,) = clips.warnings(PreprocessConfig())
    assert "occur more than once, changed (such as 9001.hdf5: " in line


def test_folds_of_clips(place: Path, alone: Path, cli: Cli) -> None:
    """Folds by clip are searched, confirmed with other folds, exported, and trained again bit for bit."""
    run = ("run", "tiny.yaml", "--data", alone, "--trials", 1, *BY_CLIPS, "--set", "data.folds=2")
    done = cli(*run)
    assert (done.code, "in 2 cross-validation folds" in done.err) == (0, True)
    assert cli("export", "tiny", "--output", "folds.yaml").code == 0
    assert "reproduced bit for bit" in cli("retrain", "folds.yaml").out
    text = (place / "folds.yaml").read_text(encoding="utf-8")
    (place / "folds.yaml").write_text(text.replace("    seed: 0", "    seed: 1"), encoding="utf-8")
    assert "split: other clips in training and validation, digest" in cli("retrain", "folds.yaml").out
