"""`copy`: a copied study is identical, or is refused by every command."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Cli
from launch import TINY_STUDY, environment, num_reports, run_cli, start_cli, stored_trials, wait_until
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import get_note, save_note
from postgres import Postgres

from search.definition.objectives import StudyObjective
from search.errors import ResourceError
from search.storage.bulk import add_trials, remove_study
from search.storage.leases.choice import lease_of
from search.storage.opening import open_storage
from search.study.comparing import Snapshot, are_equal, differences
from search.study.copying import copy_study
from search.study.opening_record import openings_of_signers
from search.study.openings import Opening, store_opening
from search.study.study import study_data

DATA = {"folder": "data", "fingerprint": "f", "words": ["a", "b"], "test": [], "train": [], "validation": []}
ATTRIBUTES = {"identity": "{}", "seed": 0, "data": json.dumps(DATA)}
"""What every study of this tool has."""

OWN = ("copied", "id", "confirmed_study")
"""What a copy has of its own."""

KINDS = ["sqlite", "journal", "postgres"]
WAYS = [("sqlite", "postgres"), ("postgres", "sqlite"), ("sqlite", "journal"), ("journal", "postgres"), ("postgres", "journal")]
LONG = ("--set", "epochs=60")
START = datetime.datetime(2026, 3, 29, 1, 59, 59, 123_457)
SHAPES: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "layers": IntDistribution(1, 64, log=True),
    "activation": CategoricalDistribution(("relu", "gelu", None, 3, True)),
}
NewPlace = Callable[[str], str]


@pytest.fixture(autouse=True)
def far_from_greenwich() -> Iterator[None]:
    """Local time is not UTC: Optuna returns the one, and stores the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def new_place(tmp_path: Path, request: pytest.FixtureRequest) -> NewPlace:
    """Creates empty databases by their kind, and returns their URLs."""

    def make(kind: str) -> str:
        if kind == "postgres":
            return str(request.getfixturevalue("postgres").new_database()[1])
        number = sum(1 for _ in tmp_path.glob("place-*"))
        (tmp_path / f"place-{number}").mkdir()
        return f"{'sqlite' if kind == 'sqlite' else 'journal'}:///{tmp_path}/place-{number}/studies"

    return make


@contextlib.contextmanager
def storage_at(url: str, *, create: bool = False) -> Iterator[optuna.storages.BaseStorage]:
    """A storage that is closed afterwards."""
    storage = open_storage(url, create=create)
    yield storage
    storage.remove_session()
    if isinstance(storage, optuna.storages._CachedStorage):
        storage._backend.engine.dispose()


def contents(url: str, name: str = "tiny") -> dict[str, Any]:
    """All that a storage holds of a study, as exact text; without what a copy has of its own."""
    with storage_at(url) as storage:
        study = optuna.load_study(study_name=name, storage=storage)
        system = storage.get_study_system_attrs(study._study_id)
        noted = study.trials if any(key.startswith("dashboard:") for key in system) else []
        notes = {trial.number: get_note(trial_of(study, trial)) for trial in noted}
        return {
            "directions": study.directions,
            "metrics": study.metric_names,
            "user": {key: repr(value) for key, value in sorted(study.user_attrs.items()) if key not in OWN},
            "system": {key: repr(value) for key, value in sorted(system.items()) if not key.startswith("dashboard:")},
            "notes": {number: note for number, note in notes.items() if note},
            "trials": [as_text(trial) for trial in study.trials],
        }


def trial_of(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """A trial as the dashboard's functions take it."""
    return optuna.Trial(study, trial._trial_id)


def as_text(trial: FrozenTrial) -> str:
    """A trial but for its id."""
    parts: list[Any] = [trial.number, trial.state, trial.values, trial.datetime_start, trial.datetime_complete]
    parts += [trial.params, trial.distributions]  # in their order
    parts += [sorted(some.items()) for some in (trial.intermediate_values, trial.user_attrs, trial.system_attrs)]
    return repr(parts)


def unusual_trials() -> list[FrozenTrial]:
    """Trials of every state, with values that a storage may handle wrongly."""

    def trial(number: int, state: TrialState, values: list[float] | None, **more: Any) -> FrozenTrial:
        params = more.pop("params", {})
        begun = {"datetime_start": None if state == TrialState.WAITING else START + datetime.timedelta(days=number)}
        ended = {"datetime_complete": START + datetime.timedelta(days=number, hours=1) if state.is_finished() else None}
        fixed = {"value": None, "values": values, "params": params, "distributions": {name: SHAPES[name] for name in params}}
        parts = {"user_attrs": {}, "system_attrs": {}, "intermediate_values": {}, **begun, **ended, **fixed, **more}
        return FrozenTrial(number=number, state=state, trial_id=number, **parts)

    reports = {1: 0.1 + 0.2, 2: math.nan, 3: math.inf, 4: -math.inf, 5: 5e-324, 6: 1.7976931348623157e308, 30: -1 / 3}
    params = {"layers": 7, "lr": 1e-5 * 1.1, "activation": None, "dropout": 0.1 * 3}  # not in the order of the alphabet
    odd = {
        "empty": {},
        "deep": [1, 1.0, True, None, {"手話": ["\0", "\U0001f91f", "'; DROP TABLE trials; --"]}],
        "long": "x" * 50_000,
    }
    return [
        trial(0, TrialState.COMPLETE, [0.1 + 0.2], params=params, intermediate_values=reports, user_attrs=odd),
        trial(1, TrialState.PRUNED, None, params={"lr": 0.1}, intermediate_values={1: 2.0}, system_attrs={"a": {"b": [None]}}),
        trial(2, TrialState.PRUNED, [math.inf], params={"activation": True}),
        trial(3, TrialState.FAIL, None, user_attrs={"reason": "died"}),
        trial(4, TrialState.RUNNING, None, params=params, intermediate_values={1: 1.0}, user_attrs={"owner": {"run": "gone"}}),
        trial(5, TrialState.WAITING, None, system_attrs={"fixed_params": {"lr": 0.01}}),
        trial(6, TrialState.COMPLETE, [-math.inf], params={"activation": 3}, user_attrs={"nan": math.nan, "text": ""}),
    ]


def make_unusual(url: str) -> None:
    """Writes the unusual trials with Optuna's own calls, beside another study, and a note on one of them."""
    with storage_at(url, create=True) as storage:
        optuna.create_study(storage=storage, study_name="another").enqueue_trial({})
        study = optuna.create_study(storage=storage, study_name="tiny", directions=["minimize"])
        for key, value in ATTRIBUTES.items():
            study.set_user_attr(key, value)
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            study.set_metric_names(["top1"])
        for trial in unusual_trials():
            storage.create_new_trial(study._study_id, trial)
        save_note(study, "of the study")
        save_note(trial_of(study, study.trials[2]), "of trial 2 " * 1000)


@pytest.mark.parametrize(("here", "there"), WAYS)
def test_nothing_is_lost(here: str, there: str, new_place: NewPlace, cli: Cli) -> None:
    """Every state, number, time, attribute and note is copied, to a database that holds other studies and assigns other ids."""
    source, target = new_place(here), new_place(there)
    make_unusual(source)
    with storage_at(target, create=True) as storage:
        for number in range(3):
            optuna.create_study(storage=storage, study_name=f"other {number}").enqueue_trial({})
    before = contents(source)
    done = cli("copy", "tiny", "--storage", source, "--to", target)
    assert done.code == 0, done.err
    assert contents(target) == before == contents(source)
    assert before["notes"] == {2: "of trial 2 " * 1000}
    assert done.out.startswith("copied tiny to ")
    assert done.out.endswith(": 7 trials with 9 reported values; read back and compared: identical\n")
    assert done.out.count("\n") == 1


def test_many_objectives_and_no_trial(new_place: NewPlace, cli: Cli) -> None:
    """A study of several objectives, and one that has no trial yet."""
    source, target = new_place("sqlite"), new_place("postgres")
    with storage_at(source, create=True) as storage:
        for name, values in (("tiny", [0.5, -0.25]), ("none", None)):
            study = optuna.create_study(storage=storage, study_name=name, directions=["minimize", "minimize"])
            goals = [dataclasses.asdict(StudyObjective(metric=metric)) for metric in ("val_loss", "parameters")]
            for key, value in {**ATTRIBUTES, "goals": goals}.items():
                study.set_user_attr(key, value)
            if values:
                study.add_trial(optuna.trial.create_trial(values=values))
    for name in ("tiny", "none"):
        assert cli("copy", name, "--storage", source, "--to", target).code == 0
        assert contents(target, name) == contents(source, name)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_what_single_calls_are(kind: str, new_place: NewPlace) -> None:
    """Written in batches the trials are those that Optuna's own calls write, and a removed study leaves no row."""
    one, other = new_place(kind), new_place(kind)
    make_unusual(one)
    with storage_at(other, create=True) as storage:
        study = storage.create_new_study([StudyDirection.MAXIMIZE], "tiny")
        ids = [number for batch in add_trials(storage, study, unusual_trials()) for number in batch]
        assert ids == [trial._trial_id for trial in storage.get_all_trials(study)]
    assert contents(other)["trials"] == contents(one)["trials"]
    with storage_at(other) as storage:
        remove_study(storage, study)
        assert storage.get_all_studies() == []
        if isinstance(storage, optuna.storages._CachedStorage):
            assert rows(storage, "version_info") == 1
            names = optuna.storages._rdb.models.BaseModel.metadata.tables.keys() - {"version_info"}
            assert {name: rows(storage, name) for name in names} == dict.fromkeys(names, 0)


def rows(storage: optuna.storages._CachedStorage, table: str) -> int:
    """How many rows a table has."""
    with storage._backend.engine.connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def test_there_and_back(confirmed: Path, new_place: NewPlace, cli: Cli) -> None:
    """From SQLite over PostgreSQL back to SQLite: the study and its confirmation are what they were, to every command too."""
    first, middle, last = f"sqlite:///{confirmed}/runs/studies.db", new_place("postgres"), new_place("sqlite")
    names = ("tiny", "tiny/confirm")
    before = {name: contents(first, name) for name in names}
    commands = [[command, "tiny", "--storage"] for command in ("status", "trials", "export", "analyze")]
    outputs = [without_time(cli(*words, first).out) for words in commands]
    trained = len(stored_trials(confirmed, names[1]))
    for here, there in ((first, middle), (middle, last)):
        done = cli("copy", "tiny.yaml", "--storage", here, "--to", there)
        assert done.code == 0, done.err
        assert f": 6 trials with 12 reported values and {trained} trainings of its confirmation; " in done.out
        assert {name: contents(there, name) for name in names} == before
        assert [without_time(cli(*words, there).out) for words in commands] == outputs
    assert {name: contents(first, name) for name in names} == before


def without_time(text: str) -> list[str]:
    """Without when a configuration was exported, from which of two studies, and the next command, which names the storage."""
    return [line for line in text.splitlines() if not line.startswith(("exported:", "study_id:", "next "))]


@pytest.mark.slow
@pytest.mark.parametrize(("here", "there"), WAYS[:2])
def test_half_run_copied_and_run_to_its_end(here: str, there: str, new_place: NewPlace, tiny: Path, tmp_path: Path) -> None:
    """A study that is killed in a trial, copied, and continued in the target ends like an uninterrupted one."""
    (tmp_path / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    whole, source, target = new_place("sqlite"), new_place(here), new_place(there)
    run = ("run", "tiny.yaml", "--data", str(tiny), "--trials", "4", *LONG, "--storage")
    assert run_cli(*run, whole, "--runs", "whole", cwd=tmp_path).code == 0
    process = start_cli(*run, source, cwd=tmp_path)
    wait_until(lambda: num_reports(source, 2) >= 2, process)
    process.kill()
    process.communicate()
    left = num_reports(source, 2)
    copied = run_cli("copy", "tiny", "--storage", source, "--to", target, cwd=tmp_path)
    assert copied.code == 0, copied.err
    status = run_cli("status", "tiny", "--storage", target, cwd=tmp_path)
    assert "orphaned trial 2" in status.out
    done = run_cli(*run, target, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "trial 2 was interrupted: resuming after epoch" in done.err
    assert outcome(target) == outcome(whole)
    assert num_reports(source, 2) == left


def outcome(url: str) -> list[tuple[object, ...]]:
    """What must be equal whenever a search is repeated."""
    with storage_at(url) as storage:
        trials = optuna.load_study(study_name="tiny", storage=storage).trials
    return [(t.number, t.state.name, list(t.params.items()), t.values, t.intermediate_values) for t in trials]


@pytest.mark.parametrize(("here", "there"), WAYS[:3])
def test_nothing_is_overwritten(here: str, there: str, new_place: NewPlace, cli: Cli) -> None:
    """An existing study is not changed, whether it is a copy, another study, or one of another program."""
    source, target = new_place(here), new_place(there)
    make_unusual(source)
    assert cli("copy", "tiny", "--storage", source, "--to", target).code == 0
    with storage_at(target) as storage:
        optuna.load_study(study_name="tiny", storage=storage).enqueue_trial({"lr": 0.02})
        optuna.create_study(storage=storage, study_name="another").set_user_attr("mine", 1)
    with storage_at(source) as storage:
        for key, value in ATTRIBUTES.items():
            optuna.load_study(study_name="another", storage=storage).set_user_attr(key, value)
    before = [contents(target, name) for name in ("tiny", "another")]
    for name in ("tiny", "another"):
        refused = cli("copy", name, "--storage", source, "--to", target)
        assert refused.code == 2
        assert refused.err.startswith(f"error: the target already holds a study `{name}`\n  --> ")
    assert [contents(target, name) for name in ("tiny", "another")] == before


def test_the_same_database_by_another_name(
    new_place: NewPlace, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study is not copied onto itself, however the URL is spelled."""
    source = new_place("sqlite")
    make_unusual(source)
    before, path = contents(source), Path(source.removeprefix("sqlite:///"))
    monkeypatch.chdir(path.parent)
    (tmp_path / "link").symlink_to(path)
    os.link(path, tmp_path / "hard")
    for other in (
        source,
        "sqlite:///studies",
        f"sqlite:///{tmp_path}/link",
        f"sqlite:///{tmp_path}/hard",
        "journal:///studies",
    ):
        refused = cli("copy", "tiny", "--storage", source, "--to", other)
        assert (refused.code, refused.err.splitlines()[0]) == (2, "error: source and target are the same storage")
    assert contents(source) == before


def test_the_same_server_by_another_name(postgres: Postgres, cli: Cli) -> None:
    """A study is not copied onto itself on a server, even if the URLs differ."""
    name, source = postgres.new_database()
    make_unusual(source)
    before = contents(source)
    spelled = {
        source.replace("+psycopg", ""): "source and target are the same storage",
        source.replace("127.0.0.1", "localhost"): "source and target are the same storage",
        f"{source}?application_name=other": "the target already holds a study `tiny`",
    }
    for other, reason in spelled.items():
        refused = cli("copy", "tiny", "--storage", source, "--to", other)
        assert (refused.code, refused.err.splitlines()[0]) == (2, f"error: {reason}")
        assert postgres.secret not in refused.out + refused.err
    assert contents(source) == before
    assert name in refused.err


def test_no_password_is_shown(postgres: Postgres, new_place: NewPlace, cli: Cli) -> None:
    """No output and no error shows a password."""
    source, last, (name, target) = new_place("sqlite"), new_place("journal"), postgres.new_database()
    make_unusual(source)
    wrong = postgres.url(name, password=f"wrong/{postgres.secret}")
    nowhere = target.replace(f":{postgres.port}/", ":1/")
    calls = [
        ("tiny", target, source, 2),  # nothing there yet
        ("tiny", source, target, 0),
        ("tiny", source, target, 2),
        ("tiny", target, last, 0),
        ("none", target, source, 2),
        ("tiny", source, wrong, 3),
        ("tiny", wrong, source, 3),
        ("tiny", source, nowhere, 3),
        ("tiny", source, target.replace("postgresql", "oracle"), 2),
        ("tiny", source, f"{target}/{name}?x={{y}}", 3),
    ]
    for study, here, there, code in calls:
        answer = cli("copy", study, "--storage", here, "--to", there)
        assert answer.code == code, answer.err
        assert postgres.secret not in answer.out + answer.err
        assert answer.out + answer.err
    for url in (target, last):
        with storage_at(url) as storage:
            (study,) = storage.get_all_studies()
            assert study.user_attrs["copied"]["from"]
            assert postgres.secret not in str(study.user_attrs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["tiny", "tiny/confirm"])
def test_a_run_works_on_it(kind: str, name: str, new_place: NewPlace, cli: Cli) -> None:
    """While a run works on the study nothing is copied; when it has ended, it is."""
    source, target = new_place(kind), new_place("sqlite")
    make_unusual(source)
    with storage_at(source) as storage:
        make_companion(storage)
    with lease_of(source, name):
        refused = cli("copy", "tiny", "--storage", source, "--to", target)
    assert refused.code == 3
    assert f"a run is working on the study `{name}`" in refused.err
    assert not Path(target.removeprefix("sqlite:///")).exists()
    assert cli("copy", "tiny", "--storage", source, "--to", target).code == 0


def make_companion(storage: optuna.storages.BaseStorage) -> None:
    """What a confirmation of `tiny` starts with."""
    storage.set_study_user_attr(storage.create_new_study([StudyDirection.MINIMIZE], "tiny/confirm"), "confirms", "tiny")


@pytest.mark.parametrize("change", ["report", "attribute", "confirmation"])
def test_the_source_changes_meanwhile(change: str, new_place: NewPlace, tmp_path: Path) -> None:
    """A change of the source while it is copied leaves an incomplete copy; the next copy is complete."""
    source, target = new_place("sqlite"), new_place("postgres")
    make_unusual(source)
    with storage_at(target, create=True) as storage:
        half_copied(storage)

    def meanwhile(text: str) -> None:
        if "it is replaced" not in text:
            return
        with storage_at(source) as storage:
            study = optuna.load_study(study_name="tiny", storage=storage)
            if change == "report":
                trial_of(study, study.trials[4]).report(0.5, 2)
            elif change == "attribute":
                study.set_user_attr("target", 9)
            else:
                make_companion(storage)

    with pytest.raises(ResourceError, match="changed while it was copied"):
        copy_study("tiny", source, target, tmp_path / "runs", meanwhile)
    assert run_cli("status", "tiny", "--storage", target, cwd=Path.cwd()).code == 2
    copy_study("tiny", source, target, tmp_path / "runs", lambda text: None)
    assert contents(target) == contents(source)


def half_copied(storage: optuna.storages.BaseStorage, *, marked: bool = True, trials: int = 0, name: str = "tiny") -> None:
    """What an interrupted copy leaves."""
    study = storage.create_new_study([StudyDirection.MINIMIZE], name)
    if marked:
        storage.set_study_user_attr(study, "copied", {"from": "sqlite:///old.db", "time": "2026-01-01", "whole": False})
    for trial in unusual_trials()[:trials]:
        storage.create_new_trial(study, trial)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "left",
    [
        [{"marked": False}],
        [{}],
        [{"trials": 3}, {"name": "tiny/confirm", "trials": 2}],
        [{"name": "tiny/confirm", "trials": 1}],
    ],
    ids=["nothing", "the mark", "some trials", "some of the confirmation"],
)
def test_an_incomplete_copy_is_replaced(kind: str, left: list[dict[str, Any]], new_place: NewPlace, cli: Cli) -> None:
    """Wherever a copy is interrupted, the next one is complete."""
    source, target = new_place("sqlite"), new_place(kind)
    make_unusual(source)
    with storage_at(target, create=True) as storage:
        optuna.create_study(storage=storage, study_name="other").enqueue_trial({})
        for one in left:
            half_copied(storage, **one)
    other = contents(target, "other")
    done = cli("copy", "tiny", "--storage", source, "--to", target)
    assert done.code == 0, done.err
    assert "the target holds an incomplete copy of `tiny`: it is replaced" in done.err
    assert contents(target) == contents(source)
    assert contents(target, "other") == other
    with storage_at(target) as storage:
        assert sorted(optuna.get_all_study_names(storage)) == ["other", "tiny"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trials", [0, 3])
def test_an_incomplete_copy_is_refused(kind: str, trials: int, new_place: NewPlace, place: Path, tiny: Path, cli: Cli) -> None:
    """Every command refuses it with the reason, and none changes it."""
    target, other = new_place(kind), new_place("sqlite")
    with storage_at(target, create=True) as storage:
        half_copied(storage, trials=trials)
    before = contents(target)
    words = [
        ("run", "tiny.yaml", "--data", tiny),
        ("run", "tiny.yaml", "--data", tiny, "--allow-wider"),
        ("run", "tiny.yaml", "--data", tiny, "--as", "new", "--from", "tiny"),
        ("confirm", "tiny"),
        ("copy", "tiny", "--to", other),
        *((command, "tiny") for command in ("status", "trials", "export", "analyze", "report", "test", "dashboard")),
        ("show", "tiny", "0"),
    ]
    for one in words:
        refused = cli(*one, "--storage", target)
        assert refused.code == 2, one
        assert "the study `tiny` is an incomplete copy: the copying is still running, or was interrupted" in refused.err, one
        assert "from sqlite:///old.db since 2026-01-01" in refused.err
    assert contents(target) == before
    listed = cli("list", "--storage", target)
    assert "tiny" in listed.out
    assert "incomplete copy" in listed.out


@pytest.mark.slow
@pytest.mark.parametrize("there", ["postgres", "journal"])
def test_killed_while_it_copies(there: str, new_place: NewPlace, tmp_path: Path) -> None:
    """After `kill -9` the incomplete copy is refused, and the same command completes it."""
    source, target = new_place("sqlite"), new_place(there)
    make_big(source, 150)
    slow_down(target)
    words = ("copy", "tiny", "--storage", source, "--to", target)
    process = start_cli(*words, cwd=tmp_path)
    wait_until(lambda: is_begun(target), process)
    process.kill()
    process.communicate()
    refused = run_cli("status", "tiny", "--storage", target, cwd=tmp_path)
    assert refused.code == 2
    assert "is an incomplete copy" in refused.err
    speed_up(target)
    done = run_cli(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "it is replaced" in done.err
    assert contents(target) == contents(source)


SLOW_ON_POSTGRES = (
    "CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END' LANGUAGE plpgsql",
    "CREATE TRIGGER slow BEFORE INSERT ON trials FOR EACH ROW EXECUTE FUNCTION slow()",
)
SLOW_ON_SQLITE = (
    "CREATE TRIGGER slow AFTER INSERT ON trials BEGIN SELECT count(*) FROM (WITH RECURSIVE n(x) AS "
    "(SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 100000) SELECT x FROM n); END",
)


def slow_down(url: str) -> None:
    """Makes a database slow for each trial. A journal is slow by itself."""
    with storage_at(url, create=True) as storage:
        if isinstance(storage, optuna.storages._CachedStorage):
            engine = storage._backend.engine
            with engine.begin() as connection:
                for statement in SLOW_ON_POSTGRES if engine.dialect.name == "postgresql" else SLOW_ON_SQLITE:
                    connection.exec_driver_sql(statement)


def speed_up(url: str) -> None:
    """Undoes `slow_down`."""
    with storage_at(url) as storage:
        if isinstance(storage, optuna.storages._CachedStorage):
            engine = storage._backend.engine
            with engine.begin() as connection:
                connection.exec_driver_sql(f"DROP TRIGGER slow{' ON trials' if engine.dialect.name == 'postgresql' else ''}")


def make_big(url: str, count: int) -> None:
    """A study that takes a while to copy."""
    with storage_at(url, create=True) as storage:
        study = storage.create_new_study([StudyDirection.MINIMIZE], "tiny")
        for key, value in ATTRIBUTES.items():
            storage.set_study_user_attr(study, key, value)
        first = unusual_trials()[0]
        for _ in add_trials(storage, study, [numbered(first, number) for number in range(count)]):
            pass


def numbered(trial: FrozenTrial, number: int) -> FrozenTrial:
    """The same trial with another number."""
    fields = {"datetime_start": trial.datetime_start, "datetime_complete": trial.datetime_complete, "params": trial.params}
    more = {"distributions": trial.distributions, "user_attrs": {}, "system_attrs": {}, "state": trial.state, "value": None}
    reports = {step: float(number * step) for step in range(20)}
    return FrozenTrial(number=number, trial_id=number, values=trial.values, intermediate_values=reports, **fields, **more)


def is_begun(url: str) -> bool:
    """Whether some of the study's trials are copied."""
    try:
        with storage_at(url) as storage:
            return storage.get_n_trials(storage.get_study_id_from_name("tiny")) > 0
    except Exception:  # there is no database yet, or half of one
        return False


@pytest.mark.slow
@pytest.mark.parametrize("there", KINDS)
def test_two_copies_at_once(there: str, new_place: NewPlace, tmp_path: Path) -> None:
    """Of concurrent copies one succeeds, the others refuse, and the study is complete."""
    source, target = new_place("sqlite"), new_place(there)
    make_big(source, 200)
    slow_down(target)
    command = [sys.executable, "-m", "search", "copy", "tiny", "--storage", source, "--to", target]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [(process.communicate(timeout=120), process.returncode) for process in processes]
    codes = sorted(code for _, code in answers)
    assert codes[0] == 0, answers
    assert set(codes[1:]) <= {2, 3}, answers
    assert contents(target) == contents(source)


def test_a_target_that_changes_values(postgres: Postgres, new_place: NewPlace, cli: Cli) -> None:
    """A number that differs even in its last bit makes the copy incomplete."""
    source, (name, target) = new_place("sqlite"), postgres.new_database()
    make_unusual(source)
    with storage_at(target, create=True):
        pass
    postgres.execute(
        "CREATE FUNCTION other() RETURNS trigger AS 'BEGIN NEW.intermediate_value := 0.3000000000000001; RETURN NEW; END' "
        "LANGUAGE plpgsql",
        name,
    )
    when = "BEFORE INSERT ON trial_intermediate_values FOR EACH ROW WHEN (NEW.intermediate_value = 0.30000000000000004)"
    postgres.execute(f"CREATE TRIGGER other {when} EXECUTE FUNCTION other()", name)
    failed = cli("copy", "tiny", "--storage", source, "--to", target)
    assert failed.code == 1
    assert failed.err.startswith("error: the copy of `tiny` differs from the original, and stays marked as incomplete\n")
    assert "trial 0: reported value `1`: 0.30000000000000004 -> 0.3000000000000001" in failed.err
    assert failed.out == ""
    assert cli("status", "tiny", "--storage", target).code == 2
    postgres.execute("DROP TRIGGER other ON trial_intermediate_values", name)
    assert cli("copy", "tiny", "--storage", source, "--to", target).code == 0


def test_every_difference_is_reported(new_place: NewPlace) -> None:
    """Every kind of difference is reported."""
    trials = unusual_trials()
    was = Snapshot("tiny", [StudyDirection.MINIMIZE], {"a": 1}, {"dashboard:0:note_ver": 1, "b": math.nan}, trials)
    assert list(differences(was, was)) == []

    def with_trial(**fields: Any) -> Snapshot:
        first = unusual_trials()[0]
        for name, value in fields.items():
            setattr(first, name, value)
        return Snapshot(was.name, was.directions, was.user, was.system, [first, *trials[1:]])

    first = trials[0]
    end = first.datetime_complete
    assert end is not None
    others = [
        Snapshot("tiny", [StudyDirection.MAXIMIZE], was.user, was.system, trials),
        Snapshot("tiny", was.directions, {"a": 1.0}, was.system, trials),
        Snapshot("tiny", was.directions, {}, was.system, trials),
        Snapshot("tiny", was.directions, was.user, {**was.system, "c": 0}, trials),
        Snapshot("tiny", was.directions, was.user, {"dashboard:1:note_ver": 1, "b": math.nan}, trials),
        Snapshot("tiny", was.directions, was.user, was.system, trials[:-1]),
        Snapshot("tiny", was.directions, was.user, was.system, [trials[1], trials[0], *trials[2:]]),
        with_trial(number=9),
        with_trial(state=TrialState.PRUNED),
        with_trial(values=[0.3]),
        with_trial(params={**first.params, "lr": 2e-5}),
        with_trial(params=dict(reversed(first.params.items()))),
        with_trial(distributions={**first.distributions, "lr": FloatDistribution(1e-5, 1e-1)}),
        with_trial(intermediate_values={**first.intermediate_values, 2: 0.0}),
        with_trial(intermediate_values={**first.intermediate_values, 7: 0.0}),
        with_trial(user_attrs={**first.user_attrs, "empty": []}),
        with_trial(system_attrs={"x": 1}),
        with_trial(datetime_start=None),
        with_trial(datetime_complete=end + datetime.timedelta(microseconds=1)),
    ]
    for number, other in enumerate(others):
        assert list(differences(was, other)), number
    assert list(differences(was, others[-1], slack_s=1)) == []


def test_equal_values() -> None:
    """Types matter, NaN equals NaN, and 0.0 equals -0.0."""
    assert are_equal([math.nan, {"a": (1, None)}], [math.nan, {"a": (1, None)}])
    assert are_equal(0.0, -0.0)
    for one, other in [(1, 1.0), (1, True), (None, 0), ([1], [1, 2]), ({"a": 1}, {"b": 1}), ("a", "b"), (math.nan, 0.0)]:
        assert not are_equal(one, other)
        assert not are_equal([{"x": one}], [{"x": other}])


def test_signers_that_were_opened_for_others(searched_copy: Path, new_place: NewPlace, cli: Cli) -> None:
    """An opening for another study that is not copied is known in the target too."""
    target = new_place("sqlite")
    with storage_at("sqlite:///runs/studies.db") as storage:
        optuna.copy_study(from_study_name="tiny", from_storage=storage, to_storage=storage, to_study_name="other")
        other = optuna.load_study(study_name="other", storage=storage)
        signers = study_data(other).split.test
        store_opening(other, Opening(time="2026-01-01", commit="c", count=1, trial=0, signers=signers, clips=1))
    assert cli("copy", "tiny", "--to", target).code == 0
    with storage_at(target) as storage:
        (known,) = openings_of_signers(optuna.load_study(study_name="tiny", storage=storage), storage, None)
    assert (known.study, known.opening.signers) == ("other", signers)


@pytest.mark.slow
def test_interrupted_by_hand(new_place: NewPlace, tmp_path: Path) -> None:
    """Ctrl-C leaves an incomplete copy and reports no success."""
    source, target = new_place("sqlite"), new_place("sqlite")
    make_big(source, 1500)
    slow_down(target)
    process = start_cli("copy", "tiny", "--storage", source, "--to", target, cwd=tmp_path)
    assert process.stderr is not None
    assert "of 1,500 trials copied" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert run_cli("status", "tiny", "--storage", target, cwd=tmp_path).code == 2
