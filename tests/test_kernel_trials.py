"""A trial keeps to its path: recorded, resumed and trained again by what trained it first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_engine_contract import job_of, trial_clips_of

from model.record import EpochRecord
from search.trial.trial_run import TrialRun


def curve(run: TrialRun) -> list[tuple[float, float]]:
    """Training and validation loss of every epoch, after training to the end."""
    while run.next_step() is not None:
        run.save()
    history: list[EpochRecord] = run.trainings[0].history
    return [(record.train_loss, record.val_loss) for record in history]


def test_a_trial_begun_by_pytorch_ends_by_pytorch(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one of an earlier version: it goes on from its checkpoint with the same numbers, although there is a kernel."""
    clips, job = trial_clips_of(tiny, tmp_path), job_of(0, tmp_path)
    monkeypatch.setenv("SEARCH_KERNEL", "off")
    whole = curve(TrialRun(replace(job, folder=tmp_path / "whole"), clips))
    begun = TrialRun(job, clips)
    begun.next_step()
    begun.save(at_once=True)
    assert "kernel" not in begun.made_with
    monkeypatch.delenv("SEARCH_KERNEL")

    resumed = TrialRun(job.resumed(), clips)
    assert resumed.resume_note == "resuming after epoch 1"
    assert "kernel" not in resumed.made_with
    assert curve(resumed) == whole
    fresh = TrialRun(replace(job, folder=tmp_path / "fresh"), clips)
    assert "kernel" in fresh.made_with
    assert curve(fresh) != whole


def test_a_trial_begun_by_the_kernel_is_not_ended_by_pytorch(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel is gone, it starts over; with the kernel it resumes, with the same numbers."""
    clips, job = trial_clips_of(tiny, tmp_path), job_of(0, tmp_path)
    whole = curve(TrialRun(replace(job, folder=tmp_path / "whole"), clips))
    begun = TrialRun(job, clips)
    begun.next_step()
    begun.save(at_once=True)
    with monkeypatch.context() as patch:
        patch.setenv("SEARCH_KERNEL", "off")
        elsewhere = TrialRun(job.resumed(), clips)
        assert elsewhere.steps_done == 0
        assert elsewhere.resume_note == "starting over (unusable checkpoint: it belongs to another training)"
        assert "SEARCH_KERNEL=off" in elsewhere.path_note
    resumed = TrialRun(job.resumed(), clips)
    assert resumed.resume_note == "resuming after epoch 1"
    assert resumed.made_with == begun.made_with
    assert curve(resumed) == whole


def test_a_damaged_checkpoint_starts_over_by_the_kernel(tmp_path: Path, tiny: Path) -> None:
    """Whatever the file says."""
    clips, job = trial_clips_of(tiny, tmp_path), job_of(0, tmp_path)
    begun = TrialRun(job, clips)
    begun.next_step()
    begun.save(at_once=True)
    file = job.folder / "checkpoint"
    file.write_bytes(file.read_bytes()[:-5])
    again = TrialRun(job.resumed(), clips)
    assert again.resume_note == "starting over (unusable checkpoint: it is damaged)"
    assert "kernel" in again.made_with


@pytest.mark.slow
def test_a_study_says_once_why_pytorch_trains(cli, place: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """And what it costs. An exported trial of each path is trained again by its own, to its number."""
    monkeypatch.setenv("SEARCH_KERNEL", "off")
    ran = cli("run", "tiny.yaml", "--data", tiny, "--trials", "2")
    assert ran.code == 0
    shown = ran.out + ran.err
    assert shown.count("no compiled kernel (SEARCH_KERNEL=off)") == 1
    assert "takes about four times as long" in " ".join(shown.split())
    assert cli("export", "tiny", "--trial", "0", "--output", "torch.yaml").code == 0

    monkeypatch.delenv("SEARCH_KERNEL")
    ran = cli("run", "tiny.yaml", "--data", tiny, "--trials", "3")
    assert ran.code == 0
    assert "kernel" not in ran.out + ran.err
    assert cli("export", "tiny", "--trial", "2", "--output", "kernel.yaml").code == 0
    for name in ("torch", "kernel"):
        again = cli("retrain", f"{name}.yaml")
        assert again.code == 0, again.err
        assert "reproduced" in again.out
        assert ("kernel" in (place / f"{name}.yaml").read_text(encoding="utf-8").split("made_with")[1]) == (name == "kernel")

    monkeypatch.setenv("SEARCH_KERNEL", "off")
    elsewhere = cli("retrain", "kernel.yaml")
    assert elsewhere.code == 0
    assert "kernel: 1 " in elsewhere.out
    assert "-> missing" in elsewhere.out


def test_bf16_is_refused_before_anything_starts(cli, place: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """On a machine that cannot have it."""
    monkeypatch.setenv("SEARCH_KERNEL", "off")
    ran = cli("run", "tiny.yaml", "--data", tiny, "--set", "train.precision=bf16")
    assert ran.code == 2
    assert "the precision bf16 cannot be used here" in ran.err
    ran = cli("run", "tiny.yaml", "--data", tiny, "--set", "train.precision=tf32")
    assert (ran.code, "the precision tf32 cannot be used here" in ran.err) == (2, True), ran.err
    assert "it is for a GPU, and the device is cpu" in ran.err
    assert "--set train.precision=float32" in ran.err
    assert not (place / "runs").exists()
    assert json.dumps(sorted(path.name for path in place.iterdir())) == '["tiny.yaml"]'
