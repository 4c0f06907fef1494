"""The short form of `tests/fuzz.py`: a few hundred broken inputs, and tests of its checks."""

from __future__ import annotations

from pathlib import Path

import fuzz
import pytest
from launch import TINY_STUDY, Answer


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "examples"), [("definitions", 130), ("names", 70), ("data", 50)])
def test_broken_inputs(kind: str, examples: int, tmp_path: Path) -> None:
    """Every input is used or refused with a proper error, in time, and a refusal leaves nothing behind."""
    tally = fuzz.fuzz(kind, examples, 0, tmp_path, tmp_path / "wrong")
    assert tally.codes["inputs"] == examples
    command = "run" if kind == "data" else "dry run"
    assert tally.codes[f"{command}: exit 0"], "none of them was valid"
    assert tally.codes[f"{command}: exit 2"], "none of them was broken"


@pytest.mark.parametrize("code", fuzz.CODE, ids=range(len(fuzz.CODE)))
@pytest.mark.parametrize("frame", ["{}", "about: {}", "fixed: {{lr: {}}}", "space: {{? {} : 1}}", "{} : 1"], ids=range(5))
def test_a_study_runs_no_code(code: str, frame: str, tmp_path: Path) -> None:
    """A YAML tag that would run Python code is refused anywhere in a study, and runs nothing."""
    (tmp_path / "valid").mkdir()
    tally = fuzz.Tally()
    fuzz.check_study(fuzz.Study(frame.format(code).encode(), [], trained=False), tmp_path / "valid", tally)
    fuzz.check_study(fuzz.Study(TINY_STUDY.encode(), [f"about={code}"], trained=False), tmp_path / "valid", tally)
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
def test_bad_results_are_detected(done: Answer) -> None:
    """A wrong exit code, a traceback or an improper error is detected."""
    with pytest.raises(fuzz.BadResult):
        fuzz.require_answer(done)


def test_a_hang_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that keeps the program busy is stopped at the time limit."""

    def busy(_arguments: list[str]) -> int:
        while True:
            pass

    monkeypatch.setattr(fuzz, "LIMIT_S", 0.2)
    monkeypatch.setattr(fuzz, "execute", busy)
    with pytest.raises(fuzz.BadResult, match="still busy"):
        fuzz.search("run")


def test_a_started_study_is_detected(searched: Path) -> None:
    """A study's folder, or a study in the database, is detected."""
    with pytest.raises(fuzz.BadResult, match="the error left"):
        fuzz.require_nothing_started(searched)


@pytest.mark.slow
def test_a_crash_is_attributed_to_its_input(tmp_path: Path) -> None:
    """If the process that reads data sets dies, its input fails, and the next input gets a new process."""
    fuzz.write_valid_data(tmp_path / "place" / "data")
    (tmp_path / "place" / "tiny.yaml").write_text(fuzz.DATA_STUDY, encoding="utf-8")
    child = fuzz.Child()
    try:
        with pytest.raises(fuzz.BadResult, match="the process died"):
            child.ask(tmp_path / "nowhere")
        assert {command: done.code for command, done in child.ask(tmp_path / "place").items()} == {"check": 0, "run": 0}
    finally:
        child.close()
