"""The short form of `soak.py`: a few events against each kind of search."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from signal import SIGKILL, SIGSTOP, SIGTERM

import pytest
from launch import outcomes
from soak import NAME, Event, soak, undisturbed

from data_utils.synthetic.synthetic import synthesize

TRIALS, EPOCHS = 4, 24

# (workers, runs at once) -> what strikes: each kind of event once where it differs, at moments that are drawn.
EVENTS: dict[tuple[int, int], list[Event]] = {
    (0, 1): [("coordinator", SIGSTOP), ("coordinator", SIGKILL), ("coordinator", SIGTERM)],
    (2, 1): [("worker", SIGKILL), ("worker", SIGSTOP), ("coordinator", SIGKILL), ("coordinator", SIGTERM)],
    (1, 2): [("worker", SIGKILL), ("coordinator", SIGKILL), ("coordinator", SIGTERM)],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of the long form."""
    folder = tmp_path_factory.mktemp("soak") / "data"
    synthesize(folder, clips=120, signs=3, signers=4, seed=1)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine every start of a command takes its time
@pytest.mark.parametrize(("workers", "at_once"), EVENTS)
def test_a_search_under_fire(workers: int, at_once: int, data: Path, tmp_path: Path) -> None:
    """Killed, stopped and ended at random moments, it ends where it would have: exact, whole and with nothing left behind."""
    events = EVENTS[workers, at_once]
    report = soak(tmp_path / "fire", data, workers, events, seed=7, at_once=at_once, trials=TRIALS, epochs=EPOCHS)
    assert not report.wrong, "\n".join(report.wrong)
    assert report.struck == Counter(f"{who} {number.name}" for who, number in events)
    if workers == 0:
        assert outcomes(tmp_path / "fire", NAME) == undisturbed(tmp_path / "peace", data, TRIALS, EPOCHS)
