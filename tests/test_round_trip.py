"""The whole path on real recordings: from a downloaded release to predictions for unseen signers."""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import Cli
from kaggle_tree import write_kaggle_tree
from launch import ROOT, environment, run_cli

from data_utils.folder import signer_files
from data_utils.hdf5 import Clip, read_clips
from data_utils.words import read_words
from model import load_bundle

ASL3 = ROOT.parent / "shared" / "data" / "asl3"
STUDY = """\
about: Three real signs
trials: 3
pruner: {name: none}
fixed: {epochs: 8, batch_size: 16, patience: 0, width: 32, ffn_width: 64}
space:
  label_smoothing: {low: 0.0, high: 0.6}
  lr: {low: 1e-3, high: 1e-2, log: true}
baseline: {label_smoothing: 0.0, lr: 3e-3}
"""

pytestmark = pytest.mark.skipif(not ASL3.is_dir(), reason="the recordings asl3 are not available")


@pytest.fixture(scope="module")
def clips() -> dict[str, list[Clip]]:
    """The recordings by signer."""
    words = read_words(ASL3)
    return {file.signer: list(read_clips(file, len(words))) for file in signer_files(ASL3)}


def data_utils(*words: str, cwd: Path) -> None:
    """Runs a `data_utils` command, which must succeed."""
    command = [sys.executable, "-m", "data_utils", *words]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def write_holistic_tree(folder: Path, clips: dict[str, list[Clip]], words: tuple[str, ...]) -> None:
    """Writes the recordings as MediaPipe Holistic frames: a file of 1662 numbers each, zeros where nothing was detected."""
    for signer, own in clips.items():
        for clip in own:
            place = folder / signer / words[clip.label] / clip.name
            place.mkdir(parents=True)
            points_TJC = np.nan_to_num(clip.feature_CTJ.astype(np.float64)).transpose(1, 2, 0)
            for number, points_JC in enumerate(points_TJC):
                pose = np.concatenate([points_JC[489:522], np.full((33, 1), 0.9)], axis=1)
                parts = [pose, points_JC[:468], points_JC[468:489], points_JC[522:]]
                np.save(place / f"{number}.npy", np.concatenate([part.reshape(-1) for part in parts]))


def require_same(found: Path, clips: dict[str, list[Clip]], names: dict[str, str]) -> None:
    """Checks that an imported set holds exactly the same recordings. `names` maps clip names to imported ones."""
    words = read_words(found)
    files = signer_files(found)
    assert [file.signer for file in files] == sorted(clips)
    for file in files:
        imported = {clip.name: clip for clip in read_clips(file, len(words))}
        assert set(imported) == {names[clip.name] for clip in clips[file.signer]}
        for clip in clips[file.signer]:
            mine = imported[names[clip.name]]
            assert words[mine.label] == read_words(ASL3)[clip.label]
            np.testing.assert_array_equal(mine.feature_CTJ, clip.feature_CTJ)


def test_import_of_holistic_frames(clips: dict[str, list[Clip]], tmp_path: Path) -> None:
    """Frames as MediaPipe Holistic gives them import to the same recordings."""
    few = {signer: own[:4] for signer, own in clips.items()}
    words = read_words(ASL3)
    write_holistic_tree(tmp_path / "MP_Data", few, words)
    data_utils("import-holistic", "MP_Data", "data", cwd=tmp_path)
    require_same(tmp_path / "data", few, {c.name: f"{words[c.label]}__{c.name}" for own in few.values() for c in own})


@pytest.mark.slow
def test_from_a_release_to_predictions(
    clips: dict[str, list[Clip]], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Import, search, confirm, test, export, predict: sealed signers are recognized as accurately as `metrics.json` states."""
    words = read_words(ASL3)
    write_kaggle_tree(tmp_path / "release", clips, words)
    data_utils("import-kaggle", "release", "data", "--workers", "2", cwd=tmp_path)
    require_same(tmp_path / "data", clips, {clip.name: clip.name for own in clips.values() for clip in own})

    monkeypatch.chdir(tmp_path)
    (tmp_path / "signs.yaml").write_text(STUDY, encoding="utf-8")
    for command in (
        ("run", "signs.yaml", "--data", "data"),
        ("confirm", "signs", "--top", "1", "--seeds", "2"),
        ("test", "signs"),
    ):
        done = cli(*command)
        assert done.code == 0, done.err
    # In another process, where the shape checks of the tests do not disturb the ONNX exporter.
    done = run_cli("export", "signs", "--model", "model", "--onnx", "--output", "best.yaml", cwd=tmp_path)
    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text(encoding="utf-8"))
    for part, name in (("sealed", "top1"), ("validation", "val_top1")):
        stated = metrics["this_model"][part]
        files = [
            f"release/train_landmark_files/{signer}/{c.name}.parquet" for signer in stated["signers"] for c in clips[signer]
        ]
        done = cli("predict", "model", *files, "--output", f"{part}.csv")
        assert done.code == 0, done.err
        truth = {clip.name: words[clip.label] for signer in stated["signers"] for clip in clips[signer]}
        with (tmp_path / f"{part}.csv").open(encoding="utf-8", newline="") as stream:
            hits = [row["word_1"] == truth[row["clip"]] for row in csv.DictReader(stream)]
        assert len(hits) == stated["clips"] == len(truth)
        assert statistics.fmean(hits) == pytest.approx(stated[name], abs=1e-12)
    bundle = load_bundle(tmp_path / "model")
    session = onnxruntime.InferenceSession(tmp_path / "model" / "model.onnx")
    for clip in (clip for own in clips.values() for clip in own[::5]):
        probabilities, _ = session.run(None, {"landmarks": clip.feature_CTJ})
        np.testing.assert_allclose(probabilities, bundle.probabilities([clip.feature_CTJ])[0], atol=1e-4)
    done = run_cli("retrain", "best.yaml", cwd=tmp_path)  # in another process than the search
    assert done.out.splitlines()[-1] == "the recorded val_loss was reproduced bit for bit"
