"""The short form of `soak.py`: a few events for each kind of search."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from signal import SIGKILL, SIGSTOP, SIGTERM

import pytest
from launch import outcomes
from soak import NAME, Event, soak, uninterrupted

from data_utils.synthetic.synthetic import synthesize

TRIALS, EPOCHS = 4, 24

# (workers, runs at once) -> events, in this order, at random moments: each kind once where it makes a difference.
EVENTS: dict[tuple[int, int], list[Event]] = {
    (0, 1): [("coordinator", SIGSTOP), ("coordinator", SIGKILL), ("coordinator", SIGTERM)],
    (2, 1): [("worker", SIGKILL), ("worker", SIGSTOP), ("coordinator", SIGKILL), ("coordinator", SIGTERM)],
    (1, 2): [("worker", SIGKILL), ("coordinator", SIGKILL), ("coordinator", SIGTERM)],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data set as in the long form."""
    folder = tmp_path_factory.mktemp("soak") / "data"
    synthesize(folder, clips=120, signs=3, signers=4, seed=1)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)  # starting a command is slow on a busy machine
@pytest.mark.parametrize(("workers", "at_once"), EVENTS)
def test_search_with_killed_processes(workers: int, at_once: int, data: Path, tmp_path: Path) -> None:
    """A search whose processes are killed, suspended and terminated ends with the results of an uninterrupted search."""
    events = EVENTS[workers, at_once]
    report = soak(tmp_path / "interrupted", data, workers, events, seed=7, at_once=at_once, trials=TRIALS, epochs=EPOCHS)
    assert not report.failures, "\n".join(report.failures)
    assert report.sent == Counter(f"{who} {number.name}" for who, number in events)
    if workers == 0:
        assert outcomes(tmp_path / "interrupted", NAME) == uninterrupted(tmp_path / "uninterrupted", data, TRIALS, EPOCHS)
