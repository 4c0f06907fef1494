"""The ledger: what Optuna sees at once, and the database with the next batch, is what Optuna's own storage would have."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search.running import turns
from search.running.ledger import Ledger
from search.storage import tables
from search.storage.errors import as_resource_error, is_unreachable
from search.storage.leases.choice import lease_of
from search.storage.leases.lease import LeaseLost, TurnLost
from search.storage.opening import open_storage

SHAPES = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "layers": IntDistribution(1, 4),
    "norm": CategoricalDistribution(["pre", "post", None]),
}


@pytest.fixture(params=["sqlite", "postgresql", "journal", "sqlite, one by one"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty storage of each kind; and one whose tables have a form that is not known, so that Optuna's calls write them."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    if request.param == "journal":
        return f"journal:///{tmp_path / 'studies.journal'}"
    if "one by one" in request.param:
        monkeypatch.setattr(tables, "SCHEMA_VERSION", "another")
    return f"sqlite:///{tmp_path / 'studies.db'}"


@pytest.fixture
def server_url(postgres_url: str) -> str:
    """An empty database of a server."""
    return postgres_url


@contextmanager
def ledger_in(url: str, name: str = "s", lease_s: float = 60) -> Iterator[Ledger]:
    """A run's ledger of a study, which is made if it is not there."""
    storage = open_storage(url, create=True)
    optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    with lease_of(url, name, lease_s=lease_s) as lease:
        yield Ledger(storage, name, lease)


def script(study: optuna.Study) -> None:
    """What a run does to a study: every kind of value, every end."""
    study.enqueue_trial({"lr": 0.01, "layers": 2, "norm": None})
    for number in range(5):
        study.sampler = optuna.samplers.RandomSampler(seed=number)
        trial = study.ask(SHAPES)
        trial.set_user_attr("owner", {"run": "x", "pid": number})
        trial.set_user_attr("text", "Gebärde 手話 'quoted' \"twice\"")
        trial.set_user_attr("text", "again")
        trial.storage.set_trial_system_attr(trial._trial_id, "fixed", [1, None, {"a": 1.5}])
        for step, value in enumerate([1.25, math.inf, -math.inf, 0.1 + 0.2, 5e-324, math.nan][: number + 2]):
            trial.report(value, step)
        if number == 3:
            study.tell(trial, state=TrialState.FAIL)
        elif number == 2:
            study.tell(trial, state=TrialState.PRUNED)
        elif number < 4:
            study.tell(trial, 1 / 3 + number)


def facts(trials: list[FrozenTrial]) -> list[Any]:
    """All that a trial is, but its times; NaN as a word, so that it equals itself."""
    return [
        (
            t.number,
            t.state.name,
            t.params,
            {name: repr(shape) for name, shape in t.distributions.items()},
            repr(t.values),
            {step: repr(value) for step, value in t.intermediate_values.items()},
            t.user_attrs,
            {key: value for key, value in t.system_attrs.items() if not key.startswith("random")},
            t.datetime_start is not None,
            t.datetime_complete is not None,
        )
        for t in trials
    ]


def stored(url: str, name: str = "s") -> list[FrozenTrial]:
    """The trials of a study, read anew."""
    return optuna.load_study(study_name=name, storage=open_storage(url, create=False)).get_trials()


def test_the_same_as_without(url: str) -> None:
    """In memory at once, in the storage after a flush: exactly what Optuna's own storage holds after the same calls."""
    plain = optuna.create_study(storage=optuna.storages.InMemoryStorage(), study_name="s")
    script(plain)
    with ledger_in(url) as ledger:
        study = ledger.open()
        script(study)
        assert facts(study.get_trials()) == facts(plain.get_trials())
        ledger.flush()
        assert facts(stored(url)) == facts(plain.get_trials())
        assert ledger.waiting_s == 0
        with lease_of(url, "other") as lease:
            assert facts(Ledger(open_storage(url, create=False), "s", lease).open().get_trials()) == facts(plain.get_trials())


def test_times_are_the_same_everywhere(url: str) -> None:
    """A trial's end is kept as Optuna keeps it: local time, whatever the storage makes of it."""
    with ledger_in(url) as ledger:
        study = ledger.open()
        study.tell(study.ask(), 1.0)
        ledger.flush()
        known, read = study.get_trials()[0].datetime_complete, stored(url)[0].datetime_complete
        assert known is not None
        assert read is not None
        assert abs((known - read).total_seconds()) < 5


def test_nothing_is_written_before_a_flush(url: str) -> None:
    """The run's own samplers and pruners see it; others when it is written, all at once."""
    with ledger_in(url) as ledger:
        study = ledger.open()
        trial = study.ask(SHAPES)
        trial.report(1.0, 1)
        trial.set_user_attr("k", "v")
        assert ledger.unwritten == [0]
        assert ledger.waiting_s > 0
        before = stored(url)[0]
        assert (before.params, before.intermediate_values, before.user_attrs) == ({}, {}, {})
        study.tell(trial, 2.0)
        assert study.best_value == 2.0
        ledger.flush()
        after = stored(url)[0]
        assert (after.params, after.values, after.user_attrs) == (trial.params, [2.0], {"k": "v"})


def test_what_others_do_is_read(url: str) -> None:
    """Trials of other runs with their reports, and one that was enqueued, taken by one run only."""
    with ledger_in(url) as mine, ledger_in(url) as theirs:
        other = theirs.open().ask(SHAPES)
        theirs.flush()
        mine.refresh()
        assert mine.open().get_trials()[0].params == other.params
        other.report(3.0, 1)
        theirs.flush()
        mine.refresh()
        assert mine.open().get_trials()[0].intermediate_values == {1: 3.0}
        optuna.load_study(study_name="s", storage=open_storage(url, create=False)).enqueue_trial({"lr": 0.02})
        mine.refresh()
        theirs.refresh()
        first, second = mine.open().ask(SHAPES), theirs.open().ask(SHAPES)
        assert first.number == 1
        assert first.params["lr"] == 0.02
        assert second.number == 2
        mine.flush()
        theirs.flush()
        assert [t.number for t in stored(url)] == [0, 1, 2]


def test_a_trial_that_another_program_ends(url: str) -> None:
    """It is left as that program left it; the rest of the batch is written."""
    with ledger_in(url) as ledger:
        study = ledger.open()
        lost, kept = study.ask(), study.ask()
        ledger.flush()
        other = optuna.load_study(study_name="s", storage=open_storage(url, create=False))
        other.tell(0, 9.0)
        lost.report(1.0, 1)
        kept.report(2.0, 1)
        study.tell(lost, 1.0)
        ledger.flush()
        assert ledger.ended_elsewhere == [0]
        trials = stored(url)
        assert (trials[0].values, trials[0].intermediate_values) == ([9.0], {})
        assert trials[1].intermediate_values == {1: 2.0}
        assert study.get_trials()[0].values == [9.0]
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            lost.report(3.0, 2)


def test_a_batch_that_was_written_before_the_connection_broke(server_url: str) -> None:
    """Written once more, it changes nothing, and nobody else is blamed for the end of its trials."""
    with ledger_in(server_url) as ledger:
        study = ledger.open()
        trial = study.ask(SHAPES)
        trial.report(1.0, 1)
        study.tell(trial, 1.0)
        changes = dict(ledger._changes)
        ledger.flush()
        before = facts(stored(server_url))
        ledger._changes = changes
        ledger.flush()
        assert facts(stored(server_url)) == before
        assert ledger.ended_elsewhere == []


def end_connections(url: str) -> None:
    """Ends all connections to the database but the one that does it, as a server does that goes down."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(
            sqlalchemy.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


@pytest.mark.parametrize("table", ["studies", "trials", "trial_params", "trial_intermediate_values"])
def test_a_server_that_goes_while_trials_are_read(table: str, server_url: str) -> None:
    """Whichever of the many questions the connection is lost at, it is known for a server that is away, and in its words."""
    with ledger_in(server_url) as mine, ledger_in(server_url) as theirs:
        study = theirs.open()
        study.ask(SHAPES).report(1.0, 1)
        theirs.flush()
        asked = []

        def lose(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if f"FROM {table}" in statement.replace("\n", "") and not asked:
                asked.append(statement)
                end_connections(server_url)

        engine = mine._behind.engine  # type: ignore[attr-defined]  # a server's storage has one
        sqlalchemy.event.listen(engine, "before_cursor_execute", lose)
        with pytest.raises(Exception, match=r".") as caught:
            mine.refresh()
        sqlalchemy.event.remove(engine, "before_cursor_execute", lose)
        assert asked
        assert is_unreachable(caught.value)
        assert "terminating connection due to administrator command" in str(as_resource_error(server_url, caught.value))
        mine.refresh()
        assert mine.open().get_trials()[0].intermediate_values == {1: 1.0}


def test_a_turn_that_is_lost(server_url: str) -> None:
    """What was taken in it is let go of, and found again by whoever has the next turn; what else waited is written later."""
    with ledger_in(server_url) as ledger:
        study = ledger.open()
        kept = study.ask(SHAPES)
        kept.report(1.0, 1)

        def lose() -> None:
            with ledger.turn(1) as is_mine:
                assert is_mine
                study.ask(SHAPES)
                end_connections(server_url)

        with pytest.raises(TurnLost):
            lose()
        with ledger.turn(1) as is_mine:
            assert is_mine
        trials = study.get_trials()
        assert [ledger.holds(trial) for trial in trials] == [True, False]
        assert stored(server_url)[0].intermediate_values == {1: 1.0}


def test_what_is_written_in_a_lost_turn_does_not_land(server_url: str) -> None:
    """Another run has had the turn meanwhile, and adopted the trial: its parameters stay, and it is its own."""
    with ledger_in(server_url) as mine, ledger_in(server_url) as theirs:

        def lose() -> None:
            with mine.turn(1) as is_mine:
                assert is_mine
                mine.open().ask({"lr": SHAPES["lr"]}).set_user_attr("owner", mine.lease.stored())
                end_connections(server_url)
                with theirs.turn(1) as is_theirs:
                    assert is_theirs
                    trial = optuna.Trial(theirs.open(), theirs.open().get_trials()[0]._trial_id)
                    trial.suggest_float("lr", 1e-5, 1e-1, log=True)
                    trial.set_user_attr("owner", theirs.lease.stored())

        with pytest.raises(TurnLost):
            lose()
        mine.flush()
        mine.refresh()
        trial = stored(server_url)[0]
        assert trial.user_attrs["owner"]["run"] == theirs.lease.owner.run
        assert trial.params == theirs.open().get_trials()[0].params == mine.open().get_trials()[0].params
        assert [ledger.holds(ledger.open().get_trials()[0]) for ledger in (mine, theirs)] == [False, True]


def test_a_turn_is_not_held_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a sampler thinks for long other runs want their turn, and workers their verdicts: one trial at a time, then."""
    with ledger_in(f"sqlite:///{tmp_path / 'studies.db'}") as ledger:
        for lasts_s, running in ((60.0, 3), (0.1, 1)):
            monkeypatch.setattr(turns, "_MAX_TURN_S", lasts_s)

            def ask() -> Any:
                time.sleep(0.2)
                return ledger.open().ask(SHAPES)

            assert len(turns.take_in_turn(ledger, turns.WaitNotices(lambda event: None), 3, ask)) == running


def test_what_was_refused_in_a_lost_turn_is_not_forgotten(server_url: str) -> None:
    """The ledger knows again what the database does: the trial is still in training, and nobody's."""
    with ledger_in(server_url) as ledger:
        study = ledger.open()

        def lose() -> None:
            with ledger.turn(1):
                study.tell(study.ask(), state=TrialState.FAIL)
                end_connections(server_url)

        with pytest.raises(TurnLost):
            lose()
        ledger.refresh()
        assert study.get_trials()[0].state == stored(server_url)[0].state == TrialState.RUNNING


def test_a_run_that_others_have_buried(server_url: str) -> None:
    """It writes nothing any more; under a new name it goes on with what there is."""
    with ledger_in(server_url, lease_s=60) as ledger, lease_of(server_url, "s") as heir:
        study = ledger.open()
        trial = study.ask(SHAPES)
        trial.set_user_attr("owner", ledger.lease.stored())
        ledger.flush()
        trial.report(1.0, 1)
        with sqlalchemy.create_engine(server_url, poolclass=sqlalchemy.NullPool).begin() as connection:
            connection.execute(
                sqlalchemy.text("UPDATE islr_search_runs SET renewed = 0, lease_s = 1e-9 WHERE run = :run"),
                {"run": ledger.lease.owner.run},
            )
        assert heir.reclaim_from(ledger.lease.owner)
        with pytest.raises(LeaseLost):
            ledger.flush()
        assert stored(server_url)[0].intermediate_values == {}
        ledger.lease.rejoin()
        ledger.forget()
        assert not ledger.holds(study.get_trials()[0])
        assert study.get_trials()[0].intermediate_values == {}
        ledger.flush()


@pytest.mark.parametrize(
    "pruner",
    [
        lambda: optuna.pruners.MedianPruner(2, 1),
        lambda: optuna.pruners.HyperbandPruner(1, 9),
        lambda: optuna.pruners.WilcoxonPruner(n_startup_steps=2),
    ],
)
@pytest.mark.parametrize("make", [lambda: optuna.samplers.TPESampler(seed=1), lambda: optuna.samplers.QMCSampler(seed=1)])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_samplers_and_pruners_see_no_difference(
    pruner: Callable[[], optuna.pruners.BasePruner], make: Callable[[], optuna.samplers.BaseSampler], tmp_path: Path
) -> None:
    """Flushed now and then, or written at once by Optuna itself: the same points, the same verdicts."""

    def search(study: optuna.Study, after_each: Callable[[], None]) -> list[Any]:
        study.sampler, study.pruner = make(), pruner()
        for _ in range(12):
            trial = study.ask({name: SHAPES[name] for name in ("lr", "layers")})
            value, pruned = 0.0, False
            for step in range(1, 10):
                value = abs(math.log10(trial.params["lr"]) + 3) + trial.params["layers"] / step
                trial.report(value, step)
                after_each()
                if trial.should_prune():
                    pruned = True
                    break
            study.tell(trial, None if pruned else value, TrialState.PRUNED if pruned else TrialState.COMPLETE)
        return [(t.params, t.values, t.state.name, t.intermediate_values) for t in study.get_trials()]

    plain = optuna.create_study(storage=optuna.storages.InMemoryStorage(), study_name="s")
    expected = search(plain, lambda: None)
    with ledger_in(f"sqlite:///{tmp_path / 'studies.db'}") as ledger:
        calls = iter(range(10**6))
        found = search(ledger.open(), lambda: ledger.flush() if next(calls) % 7 == 0 else None)
    assert found == expected
