"""Only `test` opens the sealed signers, for what was confirmed, and every opening is recorded."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Collection
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from conftest import Cli
from launch import CONFIRM, stored_trials
from safetensors.torch import load_file, save

from data_utils import hdf5
from data_utils.folder import SignerFile
from data_utils.prepared import open_data, prepare
from model.device_clips import DeviceClips
from model.transformer import TransformerEnISLR, logits_of
from search.evaluation.test_part.evaluate import Evaluator
from search.evaluation.test_part.scores import gain_interval
from search.exporting.export import read_export
from search.study.openings import Opening, openings
from search.study.study import study_data
from search.study.trials import trial_configs


def study_of(folder: Path) -> optuna.Study:
    """The study `tiny`, read with Optuna alone."""
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{folder / 'runs' / 'studies.db'}")


def recommended(folder: Path) -> int:
    """The trial that the confirmation recommends."""
    return int(json.loads(study_of(folder).user_attrs["confirmed"])["found"]["recommended"])


def recommend(folder: Path, trial: int) -> None:
    """Changes the recommendation of the stored confirmation."""
    study = study_of(folder)
    stored = json.loads(study.user_attrs["confirmed"])
    stored["found"]["recommended"] = trial
    study.set_user_attr("confirmed", json.dumps(stored))


def other_than_baseline(folder: Path) -> int:
    """A confirmed trial that is not the baseline, which is recommended from now on."""
    rows = json.loads(study_of(folder).user_attrs["confirmed"])["found"]["rows"]
    trial = next(row["trial"] for row in rows if row["trial"] and row["measured"])
    recommend(folder, trial)
    return int(trial)


def test_numbers(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """Accuracy and loss are those of the kept models on the sealed clips, computed another way."""
    trial = other_than_baseline(confirmed)
    done = cli("test", "tiny", "--json")
    assert done.code == 0
    result = json.loads(done.out)
    study = study_of(confirmed)
    (opening,) = openings(study)
    assert json.loads(json.dumps(result["scores"])) == json.loads(study.user_attrs["openings"])[0]["scores"]
    assert (opening.count, opening.trial, opening.signers) == (1, trial, study_data(study).split.test)
    data = open_data(tiny)
    right: dict[int, list[np.ndarray]] = {}
    losses: dict[int, list[float]] = {}
    for one in stored_trials(confirmed, "tiny/confirm"):
        number = one.params["candidate"]
        configs = trial_configs(study.get_trials()[number])
        clips = prepare(data, opening.signers, configs.preprocess, mirrored=False)
        model = TransformerEnISLR(configs.model, len(data.words), torch.Generator())
        model.load_state_dict(load_file(f"runs/tiny/confirm/trials/{one.number:04d}/model.safetensors"))
        logits_CK = logits_of(model, DeviceClips(clips, torch.device("cpu"))).double()
        labels_C = torch.from_numpy(clips.labels_C)
        right.setdefault(number, []).append((logits_CK.argmax(1) == labels_C).numpy())
        losses.setdefault(number, []).append(torch.nn.functional.cross_entropy(logits_CK, labels_C).item())
        assert opening.clips == len(clips)
    for score in opening.scores:
        assert score.top1 == pytest.approx(np.mean(right[score.trial]))
        assert score.top1_sd == pytest.approx(np.std([hits.mean() for hits in right[score.trial]], ddof=1))
        assert score.loss == pytest.approx(np.mean(losses[score.trial]))
        assert np.average([s.top1 for s in score.signers], weights=[s.clips for s in score.signers]) == pytest.approx(
            score.top1
        )
    assert [score.trial for score in opening.scores] == [trial, 0]
    assert opening.gain == pytest.approx(np.mean(right[trial]) - np.mean(right[0]))
    assert opening.gain_low is not None
    assert opening.gain_high is not None
    assert opening.gain_low <= opening.gain <= opening.gain_high


def test_only_once(confirmed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second `test` shows the recorded scores and opens nothing; `--again` opens, warns and counts."""
    first = cli("test", "tiny")
    assert (first.code, "first opening" in first.out) == (0, True)
    read = spied(monkeypatch)
    second = cli("test", "tiny")
    assert (second.code, second.out) == (0, first.out)
    assert "`--again` opens them again" in second.err
    assert not read
    third = cli("test", "tiny", "--again")
    assert (third.code, "opening 2" in third.out) == (0, True)
    assert "were opened once" in third.err
    assert "were opened 2 times" in cli("confirm", "tiny", "--top", 2, "--seeds", 3).err, (
        "choosing after an opening is pointed out"
    )
    assert read == set(study_data(study_of(confirmed)).split.test)
    assert [opening.count for opening in openings(study_of(confirmed))] == [1, 2]
    assert "opened 2 times" in cli("status", "tiny").out


def test_another_recommendation_since(confirmed: Path, cli: Cli) -> None:
    """Scores of one trial are not shown as those of another."""
    trial = other_than_baseline(confirmed)
    assert cli("test", "tiny").code == 0
    recommend(confirmed, 0)
    done = cli("test", "tiny")
    assert f"trial 0 is recommended now; these are scores of trial {trial}" in done.err


def spied(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Signers whose landmarks are read from now on."""
    read: set[str] = set()
    real = hdf5.read_clips

    def spy(file: SignerFile, num_words: int, names: Collection[str] | None = None) -> object:
        read.add(file.signer)
        return real(file, num_words, names)

    monkeypatch.setattr(hdf5, "read_clips", spy)
    return read


def test_nothing_else_reads_them(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search, confirmation, export and retraining read no sealed landmark, and no file that they prepare holds one."""
    read = spied(monkeypatch)
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 3).code == 0
    assert cli(*CONFIRM).code == 0
    assert cli("export", "tiny", "--output", "best.yaml").code == 0
    assert cli("retrain", "best.yaml").code == 0
    split = study_data(study_of(place)).split
    assert len(split.test) == 1
    assert read == {*split.train, *split.validation}
    abouts = list(Path("runs/prepared").glob("*/about.json"))
    assert abouts
    for about in abouts:
        signers = {Path(name).stem for name in json.loads(about.read_text())["signers"]}
        assert signers <= {*split.train, *split.validation}
    assert cli("test", "tiny").code == 0
    assert read == {*split.train, *split.validation, *split.test}
    assert list(Path("runs/prepared").glob("*/about.json")) == abouts, "sealed clips are prepared in memory only"


def test_an_interrupted_opening_counts(confirmed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The opening is recorded before the evaluation."""

    def interrupted(self: Evaluator, opening: Opening, models: object) -> Opening:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "evaluate", interrupted)
        assert cli("test", "tiny").code == 130
    assert [(opening.count, opening.scores) for opening in openings(study_of(confirmed))] == [(1, ())]
    done = cli("test", "tiny")
    assert (done.code, "opening 2" in done.out, "were opened once" in done.err) == (0, True, True)


@pytest.mark.parametrize("damage", ["deleted", "cut", "another's", "another shape"])
def test_missing_models(damage: str, confirmed: Path, cli: Cli) -> None:
    """Missing or changed models are trained again, with the same scores."""
    shutil.copytree(confirmed / "runs", confirmed / "whole")
    paths = sorted(Path("runs/tiny/confirm/trials").glob("*/model.safetensors"))
    first = paths[0].read_bytes()
    for path in paths[1:]:
        if damage == "deleted":
            path.unlink()
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:100])
        else:  # it can be read, and holds other weights
            path.write_bytes(first if damage == "another's" else save({"x": torch.zeros(3)}))
    done = cli("test", "tiny", "--json")
    assert done.code == 0
    assert "is missing or was changed: it is trained again" in done.err
    assert "its value is now" not in done.err
    shutil.rmtree("runs")
    Path("whole").rename("runs")
    again, whole = (json.loads(answer.out) for answer in (done, cli("test", "tiny", "--json")))
    assert again["scores"] == whole["scores"]


@pytest.mark.slow
def test_missing_models_of_pytorch(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch has trained is trained again by PyTorch, although there is a kernel."""
    monkeypatch.setenv("SEARCH_KERNEL", "off")
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2).code == 0
    assert cli("confirm", "tiny", "--top", 1, "--seeds", 2).code == 0
    for path in Path("runs/tiny/confirm/trials").glob("*/model.safetensors"):
        path.unlink()
    monkeypatch.delenv("SEARCH_KERNEL")
    done = cli("test", "tiny")
    assert "it is trained again" in done.err
    assert "its value is now" not in done.err


def test_models_of_folds(place: Path, tiny: Path, cli: Cli) -> None:
    """Every fold's model is evaluated; missing ones are trained again with the same scores."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2, "--set", "data.folds=3").code == 0
    assert cli("confirm", "tiny", "--top", 1, "--seeds", 2).code == 0
    first = cli("test", "tiny", "--json")
    paths = sorted(Path("runs/tiny/confirm/trials").glob("*/model-2.safetensors"))
    assert len(paths) == 4
    for path in paths:
        path.unlink()
    again = cli("test", "tiny", "--again", "--json")
    assert json.loads(again.out)["scores"] == json.loads(first.out)["scores"]
    assert again.err.count("it is trained again") == 2 * len(json.loads(first.out)["scores"])
    assert "its value is now" not in again.err


def test_the_same_signers_under_another_name(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """A second study on the same data has the same sealed signers: an opening counts for both."""
    assert cli("test", "tiny").code == 0
    second = cli("run", "tiny.yaml", "--data", tiny, "--as", "second", "--trials", 2)
    assert "were opened once (also for `tiny`)" in second.err
    assert cli("confirm", "second", "--top", 1, "--seeds", 2).code == 0
    done = cli("test", "second")
    assert (done.code, "opening 2" in done.out, "were opened once" in done.err) == (0, True, True)


def test_another_study_in_the_same_folders(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """Weights of a study with the same name in another database are not used, and do not replace this study's."""
    whole = json.loads(cli("test", "tiny", "--json").out)
    other = ("--storage", "sqlite:///other.db")
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 3, "--seed", 3, *other).code == 0
    assert cli(*CONFIRM, *other).code == 0
    again = cli("test", "tiny", "--again", "--json")
    assert "is missing or was changed" not in again.err
    assert json.loads(again.out)["scores"] == whole["scores"]


def test_not_yet(searched: Path, place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a confirmation, or without sealed signers, nothing is opened."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2).code == 0
    done = cli("test", "tiny")
    assert (done.code, "nothing of `tiny` is confirmed yet" in done.err) == (1, True)
    bare = ("--as", "bare", "--set", "data.test=none")
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2, *bare).code == 0
    assert cli("confirm", "bare", "--top", 1, "--seeds", 2).code == 0
    done = cli("test", "bare")
    assert (done.code, "has no sealed signers" in done.err) == (1, True)


def test_search_after_an_opening(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """A search that continues gets a notice, and no other can start from it with the same signers sealed."""
    assert cli("test", "tiny").code == 0
    more = cli("run", "tiny.yaml", "--data", tiny, "--more", 1)
    assert "can no longer be tested on them fairly" in more.err
    split = study_data(study_of(confirmed)).split
    parts = [f"data.{part}=[{', '.join(signers)}]" for part, signers in split.parts().items()]
    sets = [word for part in parts for word in ("--set", part)]
    done = cli("run", "tiny.yaml", "--data", tiny, "--as", "new", "--from", "tiny", *sets)
    assert (done.code, "has opened what is sealed here" in done.err) == (2, True)


def test_export_prefers_what_is_confirmed(confirmed: Path, cli: Cli) -> None:
    """The recommended trial with its evidence; `--searched` gives the best of the search; each says which it is."""
    best = min((t for t in study_of(confirmed).get_trials()), key=lambda t: t.value or 0).number
    trial = other_than_baseline(confirmed)
    done = cli("export", "tiny", "--output", "best.yaml")
    assert f"this is trial {trial}, confirmed with fresh seeds" in done.err
    exported, _ = read_export(Path("best.yaml"))
    row = next(row for row in rows_of(confirmed) if row["trial"] == trial)
    assert exported.trial == trial
    assert exported.confirmed["mean"] == row["mean"]
    assert exported.sealed == {}
    assert cli("test", "tiny").code == 0
    assert cli("export", "tiny", "--output", "best.yaml", "--force").code == 0
    assert read_export(Path("best.yaml"))[0].sealed["top1"] == openings(study_of(confirmed))[0].scores[0].top1
    done = cli("export", "tiny", "--searched", "--output", "raw.yaml")
    assert f"this is trial {best}, the best of the search; its value is partly luck" in done.err
    assert read_export(Path("raw.yaml"))[0].trial == best
    assert cli("export", "tiny", "--searched", "--trial", 1).code == 2
    assert cli("retrain", "best.yaml").code == 0


def rows_of(folder: Path) -> list[dict[str, object]]:
    """The rows of the confirmation."""
    return list(json.loads(study_of(folder).user_attrs["confirmed"])["found"]["rows"])


def test_the_interval_by_hand() -> None:
    """With one seed and two clips that differ by 0 and 1, a resample gives 0, 1/2 or 1 with probability 1/4, 1/2, 1/4."""
    ours_SC, base_SC = np.array([[1.0, 1.0]]), np.array([[1.0, 0.0]])
    assert gain_interval(ours_SC, base_SC, np.random.default_rng(0)) == (0.0, 1.0)
    same_SC = np.ones((3, 4))
    assert gain_interval(same_SC, same_SC - 0.5, np.random.default_rng(0)) == pytest.approx((0.5, 0.5))


def test_the_interval_covers() -> None:
    """In simulations the interval covers the true gain in at least 90% of cases."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        ours_C, base_C = rng.beta(6, 2, size=60), rng.beta(5, 3, size=60)  # how likely each clip is right
        ours_SC, base_SC = (rng.random((5, 60)) < p_C for p_C in (ours_C, base_C))
        low, high = gain_interval(ours_SC.astype(float), base_SC.astype(float), rng)
        held += low <= 6 / 8 - 5 / 8 <= high
    assert held >= 90


def test_the_record_is_plain_json(confirmed: Path, cli: Cli) -> None:
    """Other programs can read when the signers were opened, and by which version."""
    assert cli("test", "tiny").code == 0
    with sqlite3.connect("runs/studies.db") as database:
        query = "SELECT value_json FROM study_user_attributes WHERE key = 'openings'"
        (stored,) = (json.loads(json.loads(row[0])) for row in database.execute(query))
    assert stored[0]["time"].endswith("+00:00")
    assert stored[0]["commit"].startswith("islr-search ")
