"""What is recorded of a trial besides its curve: predictions, confidence, and its attempts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from conftest import Cli
from launch import TINY_STUDY, is_in_trial, start_cli, stored_trials, wait_until

from model.metrics import ECE_BINS, confusion, measure, reliability
from search.definition.trial_attributes import attribute
from search.study.attempts import ATTEMPTS, read_attempts
from search.study.folder import trial_folder
from search.trial.files import read_rows, rows_text
from search.trial.outcome import AnswerCount, Confidence, SignerScore

LOGITS = torch.log(torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.91, 0.04, 0.05], [0.2, 0.2, 0.6]]))
LABELS = torch.tensor([0, 1, 1, 2])


def test_confusion_by_hand() -> None:
    """Rows are true words: the third clip shows word 1 and is predicted as word 0."""
    assert confusion(LOGITS, LABELS).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_reliability_by_hand() -> None:
    """Confidences 0.6, 0.8, 0.9 and 0.91: the last two share a bin, and one of them is right."""
    low, middle, high = reliability(LOGITS, LABELS)
    assert [one.clips for one in (low, middle, high)] == [1, 1, 2]
    assert [one.accuracy for one in (low, middle, high)] == [1.0, 1.0, 0.5]
    assert high.confidence == pytest.approx(0.905)
    assert [round(one.low * ECE_BINS) for one in (low, middle, high)] == [9, 12, 13]


@pytest.mark.parametrize("seed", range(5))
def test_reliability_gives_the_calibration_error(seed: int) -> None:
    """The gaps of the bins, weighted by their clips, add up to the reported error."""
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(50, 7, generator=draw)
    labels = torch.randint(7, (50,), generator=draw)
    bins = reliability(logits, labels)
    assert sum(one.clips for one in bins) == 50
    gap = sum(abs(one.accuracy - one.confidence) * one.clips for one in bins) / 50
    assert gap == pytest.approx(measure(logits, labels).ece, abs=1e-12)


def test_csv_round_trip(tmp_path: Path) -> None:
    """Labels with commas, quotes and line breaks are read back unchanged."""
    rows = [AnswerCount(0, 'a, "b"', "手話\nは", 3), AnswerCount(1, "<script>", "", 1)]
    (tmp_path / "answers.csv").write_text(rows_text(AnswerCount, rows), encoding="utf-8")
    assert read_rows(AnswerCount, tmp_path / "answers.csv") == rows
    assert read_rows(AnswerCount, tmp_path / "none.csv") == []


def test_validation_results_agree(searched: Path, tiny: Path) -> None:
    """Answers, signers and confidences add up to the same clips and the same accuracy."""
    words = set(json.loads((tiny / "sign_to_prediction_index_map.json").read_text(encoding="utf-8")))
    for trial in stored_trials(searched):
        folder = trial_folder(searched / "runs" / "tiny", trial.number)
        answers = read_rows(AnswerCount, folder / "answers.csv")
        signers = read_rows(SignerScore, folder / "signers.csv")
        confidences = read_rows(Confidence, folder / "confidence.csv")
        clips = sum(row.clips for row in signers)
        assert sum(row.clips for row in answers) == clips
        right = sum(row.clips for row in answers if row.word == row.answer)
        assert right == pytest.approx(sum(row.val_top1 * row.clips for row in signers))
        assert {row.word for row in answers} == words
        trained = [row for row in confidences if row.temperature == 1.0]
        assert sum(row.clips for row in trained) == clips
        assert sum(row.accuracy * row.clips for row in trained) == pytest.approx(right)
        assert sum(row.clips for row in confidences) == 2 * clips, "once as trained, once after temperature scaling"


def test_attempts(searched: Path) -> None:
    """One run with one worker makes one attempt per trial, in order."""
    begun = [read_attempts(attribute(trial, ATTEMPTS)) for trial in stored_trials(searched)]
    assert [len(attempts) for attempts in begun] == [1] * 6
    assert len({(attempt.run, attempt.worker) for (attempt,) in begun}) == 1
    begins = [attempt.begin for (attempt,) in begun]
    assert begins == sorted(begins)
    assert all(abs(time.time() - begin) < 3600 for begin in begins), "seconds since 1970"


def test_attempts_name_the_worker(place: Path, tiny: Path, cli: Cli) -> None:
    """Attempts of two workers have different worker numbers."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 4, "--workers", 2).code == 0
    workers = {attempt.worker for trial in stored_trials(place) for attempt in read_attempts(attribute(trial, ATTEMPTS))}
    assert workers == {0, 1}


def test_an_interrupted_trial_has_two_attempts(place: Path, tiny: Path) -> None:
    """The first attempt ends with the interruption; the second belongs to another run."""
    (place / "tiny.yaml").write_text(TINY_STUDY.replace("epochs: 2", "epochs: 400"), encoding="utf-8")
    first = start_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "1", cwd=place)
    wait_until(is_in_trial(place, 0), first)
    first.terminate()
    first.communicate(timeout=60)
    (attempt,) = read_attempts(attribute(stored_trials(place)[0], ATTEMPTS))
    assert attempt.end is not None
    assert attempt.end >= attempt.begin
    second = start_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "1", cwd=place)
    wait_until(lambda: len(read_attempts(attribute(stored_trials(place)[0], ATTEMPTS))) == 2, second)
    second.terminate()
    second.communicate(timeout=60)
    attempts = read_attempts(attribute(stored_trials(place)[0], ATTEMPTS))
    assert len({one.run for one in attempts}) == 2
    assert attempts[1].begin >= attempts[0].begin
