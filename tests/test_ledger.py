"""The ledger: Optuna sees changes at once, the database after a flush, both exactly as with Optuna's own storage."""

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
from search.study.trials import trial_curve

SHAPES = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "layers": IntDistribution(1, 4),
    "norm": CategoricalDistribution(["pre", "post", None]),
}


@pytest.fixture(params=["sqlite", "postgresql", "journal", "sqlite, one by one"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty storage of each kind, and one with an unknown schema version, which is written with Optuna's own calls."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    if request.param == "journal":
        return f"journal:///{tmp_path / 'studies.journal'}"
    if "one by one" in request.param:
        monkeypatch.setattr(tables, "SCHEMA_VERSION", "another")
    return f"sqlite:///{tmp_path / 'studies.db'}"


@pytest.fixture
def server_url(postgres_url: str) -> str:
    """An empty database on a server."""
    return postgres_url


@contextmanager
def ledger_in(url: str, name: str = "s", lease_s: float = 60) -> Iterator[Ledger]:
    """A run's ledger of a study, which is created if it does not exist."""
    storage = open_storage(url, create=True)
    optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    with lease_of(url, name, lease_s=lease_s) as lease:
        yield Ledger(storage, name, lease)


def view(ledger: Ledger) -> optuna.Study:
    """The study of a ledger as Optuna reads it."""
    return optuna.load_study(study_name=ledger._name, storage=ledger)


def fill(study: optuna.Study) -> None:
    """Adds trials with every kind of value and every end state."""
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
    """All fields of each trial except its times; NaN as text, so that it equals itself."""
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
    """The trials of a study, read from the storage."""
    return optuna.load_study(study_name=name, storage=open_storage(url, create=False)).get_trials()


def test_same_as_optuna_storage(url: str) -> None:
    """In memory at once, and in the storage after a flush, trials equal those of Optuna's own storage after the same calls."""
    plain = optuna.create_study(storage=optuna.storages.InMemoryStorage(), study_name="s")
    fill(plain)
    with ledger_in(url) as ledger:
        study = view(ledger)
        fill(study)
        assert facts(study.get_trials()) == facts(plain.get_trials())
        ledger.flush()
        assert facts(stored(url)) == facts(plain.get_trials())
        assert ledger.waiting_s == 0
        with lease_of(url, "other") as lease:
            assert facts(view(Ledger(open_storage(url, create=False), "s", lease)).get_trials()) == facts(plain.get_trials())


def test_times(url: str) -> None:
    """The end of a trial is stored as in Optuna: in local time, for every kind of storage."""
    with ledger_in(url) as ledger:
        study = view(ledger)
        study.tell(study.ask(), 1.0)
        ledger.flush()
        cached, read = study.get_trials()[0].datetime_complete, stored(url)[0].datetime_complete
        assert cached is not None
        assert read is not None
        assert abs((cached - read).total_seconds()) < 5


@pytest.mark.parametrize("flushes", [True, False])
def test_dropped_reports(flushes: bool, url: str) -> None:
    """Dropped reports are gone for this run and for others. A storage that cannot delete keeps NaN, which Optuna ignores."""
    with ledger_in(url) as ledger, lease_of(url, "other") as lease:
        study = ledger.open(print)
        trial = study.ask()
        for step in range(1, 6):
            trial.report(float(step), step)
        if flushes:
            ledger.flush()
        ledger.drop_reports(trial._trial_id, 2)
        assert study.get_trials()[0].intermediate_values == {1: 1.0, 2: 2.0}
        if flushes:
            ledger.flush()
        ledger.set_trial_intermediate_value(trial._trial_id, 3, 0.5)
        expected = {1: 1.0, 2: 2.0, 3: 0.5}
        assert study.get_trials()[0].intermediate_values == expected
        ledger.flush()
        other = Ledger(open_storage(url, create=False), "s", lease)
        assert other.open(print).get_trials()[0].intermediate_values == expected
        assert trial_curve(stored(url)[0]) == expected
        can_delete = "journal" not in url and tables.SCHEMA_VERSION != "another"
        kept = [step for step, value in stored(url)[0].intermediate_values.items() if math.isnan(value)]
        assert kept == ([4, 5] if not can_delete else [])
        ledger.drop_reports(trial._trial_id, 0)
        study.tell(trial, state=TrialState.FAIL)
        ledger.flush()
        assert ledger.open(print).get_trials()[0].intermediate_values == trial_curve(stored(url)[0]) == {}


def test_nothing_is_written_before_a_flush(url: str) -> None:
    """The run's own samplers and pruners see changes at once; other runs see them after a flush."""
    with ledger_in(url) as ledger:
        study = view(ledger)
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


def test_changes_by_other_runs(url: str) -> None:
    """A refresh reads the trials and reports of other runs; an enqueued trial is taken by one run only."""
    with ledger_in(url) as mine, ledger_in(url) as theirs:
        other = view(theirs).ask(SHAPES)
        theirs.flush()
        mine.refresh()
        assert view(mine).get_trials()[0].params == other.params
        other.report(3.0, 1)
        theirs.flush()
        mine.refresh()
        assert view(mine).get_trials()[0].intermediate_values == {1: 3.0}
        optuna.load_study(study_name="s", storage=open_storage(url, create=False)).enqueue_trial({"lr": 0.02})
        mine.refresh()
        theirs.refresh()
        first, second = view(mine).ask(SHAPES), view(theirs).ask(SHAPES)
        assert first.number == 1
        assert first.params["lr"] == 0.02
        assert second.number == 2
        mine.flush()
        theirs.flush()
        assert [t.number for t in stored(url)] == [0, 1, 2]


def test_trial_ended_by_another_program(url: str) -> None:
    """Such a trial stays as the other program left it; the rest of the batch is written."""
    with ledger_in(url) as ledger:
        study = view(ledger)
        ended, running = study.ask(), study.ask()
        ledger.flush()
        other = optuna.load_study(study_name="s", storage=open_storage(url, create=False))
        other.tell(0, 9.0)
        ended.report(1.0, 1)
        running.report(2.0, 1)
        study.tell(ended, 1.0)
        ledger.flush()
        assert ledger.ended_elsewhere == [0]
        trials = stored(url)
        assert (trials[0].values, trials[0].intermediate_values) == ([9.0], {})
        assert trials[1].intermediate_values == {1: 2.0}
        assert study.get_trials()[0].values == [9.0]
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            ended.report(3.0, 2)


def test_batch_is_written_twice(server_url: str) -> None:
    """Writing a batch again after a lost connection changes nothing and does not mark its trials as ended by others."""
    with ledger_in(server_url) as ledger:
        study = view(ledger)
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
    """Ends all connections to the database except its own, as a server does when it shuts down."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(
            sqlalchemy.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


@pytest.mark.parametrize("table", ["studies", "trials", "trial_params", "trial_intermediate_values"])
def test_connection_lost_while_reading(table: str, server_url: str) -> None:
    """A connection lost during any query is recognized as an unreachable server, and the error quotes the server."""
    with ledger_in(server_url) as mine, ledger_in(server_url) as theirs:
        study = view(theirs)
        study.ask(SHAPES).report(1.0, 1)
        theirs.flush()
        queries = []

        def lose(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if f"FROM {table}" in statement.replace("\n", "") and not queries:
                queries.append(statement)
                end_connections(server_url)

        engine = mine._behind.engine  # type: ignore[attr-defined]  # a server's storage has one
        sqlalchemy.event.listen(engine, "before_cursor_execute", lose)
        with pytest.raises(Exception, match=r".") as caught:
            mine.refresh()
        sqlalchemy.event.remove(engine, "before_cursor_execute", lose)
        assert queries
        assert is_unreachable(caught.value)
        assert "terminating connection due to administrator command" in str(as_resource_error(server_url, caught.value))
        mine.refresh()
        assert view(mine).get_trials()[0].intermediate_values == {1: 1.0}


def test_lost_turn(server_url: str) -> None:
    """A trial taken in a lost turn is released; pending changes of other trials are written later."""
    with ledger_in(server_url) as ledger:
        study = view(ledger)
        running = study.ask(SHAPES)
        running.report(1.0, 1)

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


def test_changes_in_a_lost_turn_are_discarded(server_url: str) -> None:
    """A trial that another run took over in the meantime keeps that run's owner and parameters."""
    with ledger_in(server_url) as mine, ledger_in(server_url) as theirs:

        def lose() -> None:
            with mine.turn(1) as is_mine:
                assert is_mine
                view(mine).ask({"lr": SHAPES["lr"]}).set_user_attr("owner", mine.lease.stored())
                end_connections(server_url)
                with theirs.turn(1) as is_theirs:
                    assert is_theirs
                    trial = optuna.Trial(view(theirs), view(theirs).get_trials()[0]._trial_id)
                    trial.suggest_float("lr", 1e-5, 1e-1, log=True)
                    trial.set_user_attr("owner", theirs.lease.stored())

        with pytest.raises(TurnLost):
            lose()
        mine.flush()
        mine.refresh()
        trial = stored(server_url)[0]
        assert trial.user_attrs["owner"]["run"] == theirs.lease.owner.run
        assert trial.params == view(theirs).get_trials()[0].params == view(mine).get_trials()[0].params
        assert [ledger.holds(view(ledger).get_trials()[0]) for ledger in (mine, theirs)] == [False, True]


def test_time_limit_of_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slow sampler a turn ends after one trial, because other runs and the workers are waiting."""
    with ledger_in(f"sqlite:///{tmp_path / 'studies.db'}") as ledger:
        for max_s, num_trials in ((60.0, 3), (0.1, 1)):
            monkeypatch.setattr(turns, "_MAX_TURN_S", max_s)

            def ask() -> Any:
                time.sleep(0.2)
                return view(ledger).ask(SHAPES)

            assert len(turns.take_in_turn(ledger, turns.WaitNotices(lambda event: None), 3, ask)) == num_trials


def test_trial_failed_in_a_lost_turn(server_url: str) -> None:
    """After a refresh the trial is running again, as in the database."""
    with ledger_in(server_url) as ledger:
        study = view(ledger)

        def lose() -> None:
            with ledger.turn(1):
                study.tell(study.ask(), state=TrialState.FAIL)
                end_connections(server_url)

        with pytest.raises(TurnLost):
            lose()
        ledger.refresh()
        assert study.get_trials()[0].state == stored(server_url)[0].state == TrialState.RUNNING


def test_lost_lease(server_url: str) -> None:
    """A run that lost its lease writes nothing; after it has rejoined, it continues with the stored study."""
    with ledger_in(server_url, lease_s=60) as ledger, lease_of(server_url, "s") as other:
        study = view(ledger)
        trial = study.ask(SHAPES)
        trial.set_user_attr("owner", ledger.lease.stored())
        ledger.flush()
        trial.report(1.0, 1)
        with sqlalchemy.create_engine(server_url, poolclass=sqlalchemy.NullPool).begin() as connection:
            connection.execute(
                sqlalchemy.text("UPDATE islr_search_runs SET renewed = 0, lease_s = 1e-9 WHERE run = :run"),
                {"run": ledger.lease.owner.run},
            )
        assert other.reclaim_from(ledger.lease.owner)
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
def test_samplers_and_pruners_are_not_affected(
    pruner: Callable[[], optuna.pruners.BasePruner], make: Callable[[], optuna.samplers.BaseSampler], tmp_path: Path
) -> None:
    """Samplers and pruners decide the same with a ledger that is flushed now and then as with Optuna's own storage."""

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
        actual = search(view(ledger), lambda: ledger.flush() if next(calls) % 7 == 0 else None)
    assert actual == expected
