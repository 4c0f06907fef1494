"""The short form of `tests/fuzz.py`: a few hundred broken inputs, and that the checks see what they are to see."""

from __future__ import annotations

from pathlib import Path

import fuzz
import pytest
from launch import TINY_STUDY, Answer


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "examples"), [("definitions", 130), ("names", 70), ("data", 50)])
def test_broken_inputs(kind: str, examples: int, tmp_path: Path) -> None:
    """Whatever comes in is used or refused in the form of errors, in time, and a refusal leaves nothing behind."""
    tally = fuzz.fuzz(kind, examples, 0, tmp_path, tmp_path / "wrong")
    assert tally.codes["inputs"] == examples
    command = "run" if kind == "data" else "dry run"
    assert tally.codes[f"{command}: exit 0"], "none of them was sound"
    assert tally.codes[f"{command}: exit 2"], "none of them was broken"


@pytest.mark.parametrize("code", fuzz.CODE, ids=range(len(fuzz.CODE)))
@pytest.mark.parametrize("frame", ["{}", "about: {}", "fixed: {{lr: {}}}", "space: {{? {} : 1}}", "{} : 1"], ids=range(5))
def test_a_study_runs_no_code(code: str, frame: str, tmp_path: Path) -> None:
    """A tag that asks Python to do something is refused, wherever it stands, and nothing is done."""
    (tmp_path / "sound").mkdir()
    tally = fuzz.Tally()
    fuzz.check_study(fuzz.Study(frame.format(code).encode(), [], trained=False), tmp_path / "sound", tally)
    fuzz.check_study(fuzz.Study(TINY_STUDY.encode(), [f"about={code}"], trained=False), tmp_path / "sound", tally)
    assert tally.codes == {"dry run: exit 2": 2}


@pytest.mark.parametrize(
    "done",
    [
        Answer(4, "", "error: a fault\nhint: report it\n"),
        Answer(2, "out", "error: x\nhint: y\n"),
        Answer(2, "", ""),
        Answer(2, "", "error: x\n"),
        Answer(2, "", "error: x\nstray\nhint: y\n"),
        Answer(2, "", "error: x\nhint: y\n\n"),
        Answer(0, "Traceback (most recent call last):", ""),
    ],
)
def test_what_is_no_answer(done: Answer) -> None:
    """A wrong exit code, a traceback, or an error in another form is seen."""
    with pytest.raises(fuzz.Wrong):
        fuzz.require_answer(done)


def test_a_hang_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that keeps the program busy is stopped."""

    def busy(_arguments: list[str]) -> int:
        while True:
            pass

    monkeypatch.setattr(fuzz, "LIMIT_S", 0.2)
    monkeypatch.setattr(fuzz, "answer", busy)
    with pytest.raises(fuzz.Wrong, match="still busy"):
        fuzz.search("run")


def test_a_study_that_was_begun_is_seen(searched: Path) -> None:
    """A folder or a study in the database is noticed."""
    with pytest.raises(fuzz.Wrong, match="the error left"):
        fuzz.require_nothing_begun(searched)


@pytest.mark.slow
def test_a_crash_is_laid_to_its_input(tmp_path: Path) -> None:
    """When the process that reads data sets dies, the input that it had is told, and the next gets a new process."""
    fuzz.write_sound(tmp_path / "place" / "data")
    (tmp_path / "place" / "tiny.yaml").write_text(fuzz.DATA_STUDY, encoding="utf-8")
    child = fuzz.Child()
    try:
        with pytest.raises(fuzz.Wrong, match="the process died"):
            child.ask(tmp_path / "nowhere")
        assert {command: done.code for command, done in child.ask(tmp_path / "place").items()} == {"check": 0, "run": 0}
    finally:
        child.close()
