"""The short form of `soak.py`: a few events against each kind of search."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch import outcomes
from soak import NAME, soak, undisturbed

from data_utils.synthetic import synthesize

TRIALS, EPOCHS, EVENTS = 4, 45, 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of the long form."""
    folder = tmp_path_factory.mktemp("soak") / "data"
    synthesize(folder, clips=120, signs=3, signers=4, seed=1)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine every start of a command takes its time
@pytest.mark.parametrize(("workers", "at_once"), [(0, 1), (2, 1), (1, 2)])
def test_a_search_under_fire(workers: int, at_once: int, data: Path, tmp_path: Path) -> None:
    """Killed, stopped and ended at random moments, it ends where it would have: exact, whole and with nothing left behind."""
    report = soak(tmp_path / "fire", data, workers, events=EVENTS, seed=7, at_once=at_once, trials=TRIALS, epochs=EPOCHS)
    assert not report.wrong, "\n".join(report.wrong)
    assert report.events == EVENTS
    if workers == 0:
        assert outcomes(tmp_path / "fire", NAME) == undisturbed(tmp_path / "peace", data, TRIALS, EPOCHS)
