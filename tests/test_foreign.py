"""Other programs delete, rename and change studies and trials, while a run works on them and before commands look at them.

Whatever they do: exit code 2 or 3 with a sentence that names it, or a notice and the rest is shown. Never an internal error.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from conftest import Cli
from launch import Answer, stored_trials
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna_dashboard import wsgi

from search.definition.trial_attributes import HIDDEN, PREFIX
from search.engines.engine import StepDone
from search.errors import ResourceError
from search.running.coordinator import Coordinator
from search.running.ledger import Ledger
from search.storage.leases.choice import lease_of
from search.storage.one_by_one import without_dropped
from search.storage.opening import open_storage

DATABASE = "sqlite:///runs/studies.db"
LOOKS = [
    *("list", "list --json", "status tiny", "status tiny --json", "trials tiny", "trials tiny --format jsonl"),
    *("show tiny 0", "show tiny 1 --json", "show tiny 2", "analyze tiny", "analyze tiny --json", "export tiny"),
    *("export tiny --trial 1", "report tiny", "dashboard tiny --print-command"),
]
"""Commands that only read."""


@contextlib.contextmanager
def plain(url: str = DATABASE, name: str = "tiny") -> Iterator[optuna.Study]:
    """The study as another program opens it."""
    storage = open_storage(url, create=False)
    try:
        yield optuna.load_study(study_name=name, storage=storage)
    finally:
        storage.remove_session()


def rows(sql: str, *values: Any, url: str = DATABASE) -> None:
    """Changes rows of a database by hand."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        assert connection.exec_driver_sql(sql, values).rowcount > 0, "nothing was changed"


def delete_in_dashboard(url: str, name: str = "tiny") -> None:
    """Deletes a study as a person does in the dashboard."""
    _request("DELETE", url, name, "", {})


def rename_in_dashboard(url: str, name: str = "tiny") -> None:
    """Renames a study as a person does in the dashboard."""
    _request("POST", url, name, "/rename", {"study_name": "renamed"})


def _request(method: str, url: str, name: str, action: str, content: dict[str, str]) -> None:
    storage = open_storage(url, create=False)
    number, body, codes = storage.get_study_id_from_name(name), json.dumps(content).encode(), list[str]()
    request = {
        "REQUEST_METHOD": method,
        "PATH_INFO": f"/api/studies/{number}{action}",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "SERVER_NAME": "x",
        "SERVER_PORT": "1",
        "wsgi.url_scheme": "http",
        "QUERY_STRING": "",
    }
    list(wsgi(storage)(request, lambda code, headers, error=None: codes.append(code)))  # type: ignore[arg-type,func-returns-value]
    assert codes[0][:1] == "2", codes
    storage.remove_session()


def meddle(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object], *, steps: int = 1) -> None:
    """Calls `what` once, after some steps of training of the next run."""
    real, seen = Coordinator._handle, [0]

    def handle(self: Coordinator, event: Any) -> None:
        if isinstance(event, StepDone):
            seen[0] += 1
            if seen[0] == steps:
                what()
        real(self, event)

    monkeypatch.setattr(Coordinator, "_handle", handle)


def require_told(done: Answer, *words: str) -> None:
    """The command ended with a sentence that names what another program did."""
    assert done.code in (2, 3), (done.code, done.err, _crash())
    assert all(word in done.err for word in words), done.err


def _crash() -> str:
    return "".join(path.read_text(encoding="utf-8")[-1500:] for path in Path().rglob("crash-*.log"))


STORAGES = ["sqlite", "journal", "postgresql"]


@pytest.fixture
def url(request: pytest.FixtureRequest, place: Path) -> str:
    """The URL of a new database of the kind that the test names."""
    kind = request.param
    return str(request.getfixturevalue("postgres_url")) if kind == "postgresql" else f"{kind}:///{place}/studies"


@pytest.mark.parametrize("change", [delete_in_dashboard, rename_in_dashboard])
@pytest.mark.parametrize("url", STORAGES, indirect=True)
def test_the_study_goes_while_a_run_works(
    change: Callable[[str], None], url: str, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study that is deleted or renamed ends its run with an error of a resource that names it."""
    meddle(monkeypatch, lambda: change(url), steps=3)
    done = cli("run", "tiny.yaml", "--data", tiny, "--storage", url, "--runs", "r")
    require_told(done, "the study `tiny` was deleted or renamed by another program")
    assert done.code == 3
    assert not Path("runs").exists(), "everything is written to the folder that was named"


@pytest.mark.slow
def test_the_study_goes_while_workers_train(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with two worker processes, which end."""
    meddle(monkeypatch, lambda: delete_in_dashboard(DATABASE))
    done = cli("run", "tiny.yaml", "--data", tiny, "--workers", 2)
    require_told(done, "the study `tiny` was deleted or renamed by another program")


@pytest.mark.parametrize("name", ["tiny", "tiny/confirm"])
@pytest.mark.parametrize("change", [delete_in_dashboard, rename_in_dashboard])
def test_the_study_goes_while_it_is_confirmed(
    change: Callable[[str, str], None], name: str, searched_copy: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both the search and the study of the trainings are missed at once, not after the last training."""
    meddle(monkeypatch, lambda: change(DATABASE, name), steps=3)
    done = cli("confirm", "tiny", "--top", 1, "--seeds", 2)
    require_told(done, f"the study `{name}` was deleted or renamed by another program")


def test_another_study_gets_the_id(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite gives the ids of a deleted study and its trials to the next one. Nothing is written there."""

    def replace() -> None:
        delete_in_dashboard(DATABASE)
        study = optuna.create_study(study_name="theirs", storage=open_storage(DATABASE, create=False))
        study.ask()

    meddle(monkeypatch, replace)
    require_told(cli("run", "tiny.yaml", "--data", tiny), "the study `tiny` was renamed to `theirs`")
    with plain(name="theirs") as study:
        (trial,) = study.trials
    assert trial.state == TrialState.RUNNING
    assert trial.user_attrs == {}


def test_another_study_gets_the_id_and_the_name(tmp_path: Path) -> None:
    """The study's own id tells them apart."""
    url = f"sqlite:///{tmp_path / 's.db'}"
    storage = open_storage(url, create=True)
    study = optuna.create_study(study_name="s", storage=storage)
    study.set_user_attr("id", {"id": "a"})
    with lease_of(url, "s") as lease:
        ledger = Ledger(storage, "s", lease)
        trial = ledger.open(print).ask()
        trial.set_user_attr("x", 1)
        other = open_storage(url, create=False)
        other.delete_study(study._study_id)
        again = optuna.create_study(study_name="s", storage=other)
        again.set_user_attr("id", {"id": "b"})
        assert (again._study_id, again.ask()._trial_id) == (study._study_id, trial._trial_id)
        with pytest.raises(ResourceError, match="the study `s` was deleted or renamed"):
            ledger.flush()
    assert again.trials[0].user_attrs == {}


@pytest.mark.parametrize("url", ["sqlite", "journal"], indirect=True)
@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_the_file_goes_while_a_run_works(
    replaced: bool, url: str, place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database file that is removed or replaced ends the run with an error that says so."""

    def change() -> None:
        (place / "studies").replace(place / "old")
        if replaced:
            (place / "studies").write_bytes((place / "old").read_bytes() * 2)

    meddle(monkeypatch, change)
    done = cli("run", "tiny.yaml", "--data", tiny, "--storage", url)
    require_told(done, "the study database was removed or replaced while it was in use")


def test_a_journal_is_cut(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that becomes shorter is not the one that the run has read."""
    meddle(monkeypatch, lambda: (place / "j").write_bytes(b""))
    done = cli("run", "tiny.yaml", "--data", tiny, "--storage", "journal:///j")
    require_told(done, "the study database was removed or replaced while it was in use")


def test_a_trial_is_deleted_while_a_run_works(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna would give a new trial the number of another one."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2).code == 0
    meddle(monkeypatch, lambda: rows("DELETE FROM trials WHERE number = 1"))
    require_told(
        cli("run", "tiny.yaml", "--data", tiny, "--trials", 4), "another program has deleted trial 1 of the study `tiny`"
    )


@pytest.fixture
def gap(confirmed: Path) -> Path:
    """A confirmed study without its trial 1, whose row was deleted."""
    number = next(trial.number for trial in stored_trials(confirmed) if trial.number == 1)
    rows("DELETE FROM trials WHERE number = ? AND study_id = 1", number)
    return confirmed


def test_a_deleted_trial(gap: Path, tiny: Path, cli: Cli) -> None:
    """Commands name the trial that is missing and show no other one in its place. A run does not go on."""
    for look in LOOKS:
        done = cli(*look.split())
        assert done.code in (0, 2), (look, done.err, _crash())
        if not look.startswith(("list", "dashboard")):
            assert "trial 1 is missing" in done.err + done.out or "no trial 1" in done.err, (look, done.err)
    assert "trial    2 of tiny" in cli("show", "tiny", 2).out
    assert json.loads(cli("show", "tiny", 2, "--json").out)["trial"] == 2
    require_told(cli("show", "tiny", 1), "the study `tiny` has no trial 1")
    require_told(
        cli("run", "tiny.yaml", "--data", tiny, "--trials", 9), "another program has deleted trial 1 of the study `tiny`"
    )
    require_told(cli("run", "tiny.yaml", "--data", tiny, "--trials", 9), "--from tiny")
    numbers = [trial.number for trial in stored_trials(gap)]
    assert numbers == [0, 2, 3, 4, 5], "no trial was added"


def test_the_baseline_is_deleted(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """A study without its baseline is shown, and not confirmed."""
    rows("DELETE FROM trials WHERE number = 0 AND study_id = 1")
    for look in LOOKS:
        assert cli(*look.split()).code in (0, 2), (look, _crash())
    require_told(cli("confirm", "tiny"), "the baseline")


@pytest.mark.parametrize(
    ("enqueued", "reason"),
    [
        ({"learning_rate": 0.005}, "unknown parameter `learning_rate`: did you mean `train.lr`?"),
        ({"lr": 0.005, "lrr": 0.1}, "unknown parameter `lrr`: did you mean `train.lr`?"),
        ({"epochs": 7}, "epochs is not searched: it is 2 in every trial"),
        ({"train.lr": 5.0}, "lr 5.0 is outside the space"),
        ({"lr": 0.005, "train.lr": 0.006}, "lr and train.lr are the same parameter"),
        ({"lr": None}, "lr None is outside the space"),
        ({"lr": [1]}, "lr [1] is outside the space"),
        (5, "it was enqueued with 5 instead of parameters"),
    ],
    ids=str,
)
def test_enqueued_with_wrong_names(enqueued: Any, reason: str, searched_copy: Path, tiny: Path, cli: Cli) -> None:
    """A trial that was enqueued with what this study cannot use fails, with the reason."""
    with plain() as study:
        study.add_trial(create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": enqueued}))
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 7)
    assert done.code == 0, _crash()
    trial = stored_trials(searched_copy)[6]
    assert (trial.state, trial.user_attrs["reason"][: len(reason)]) == (TrialState.FAIL, reason)
    assert reason.split(":")[0] in done.err


def test_enqueued_by_the_name_of_the_setting(searched_copy: Path, tiny: Path, cli: Cli) -> None:
    """A dotted key is the parameter of that setting."""
    with plain() as study:
        study.enqueue_trial({"train.lr": 0.005, "model.dropout": 0.2})
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 7).code == 0
    trial = stored_trials(searched_copy)[6]
    assert (trial.state, trial.params["lr"], trial.params["dropout"]) == (TrialState.COMPLETE, 0.005, 0.2)


def theirs(**more: Any) -> FrozenTrial:
    """A complete trial of another program."""
    shapes = {"lr": FloatDistribution(1e-6, 10.0, log=True)}
    return create_trial(
        **{"state": TrialState.COMPLETE, "value": 1e-4, "params": {"lr": 2e-3}, "distributions": shapes, **more}
    )


def test_trials_of_other_programs(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """They are shown, are no result of this tool, and can neither be exported nor widen the space."""
    before = cli("analyze", "tiny").out
    kinds = {"z": CategoricalDistribution(["a", "b"])}
    with plain() as study:
        study.add_trial(theirs())
        study.add_trial(theirs(value=float("inf")))
        study.add_trial(theirs(params={"z": "a"}, distributions=kinds))
        study.add_trial(theirs(state=TrialState.PRUNED, value=None, user_attrs={"settings": {"a": 1}, "result": "{"}))
    rows("UPDATE trial_params SET param_name = 'lr' WHERE param_name = 'z'")
    for look in LOOKS:
        assert cli(*look.split()).code == 0, (look, _crash())
    assert cli("analyze", "tiny").out.splitlines()[1:3] == before.splitlines()[1:3]
    done = cli("export", "tiny", "--trial", 6)
    require_told(done, "trial 6 was not trained by this tool", "no result, no settings, no seed")
    err = cli("status", "tiny").err
    assert "study `tiny`, trial 9: its attribute `settings` is left out" in err
    assert "trial 8: its parameter lr 'a' is left out" in err
    assert "trial 7: it counts as failed: another program recorded it as complete with [inf]" in err
    assert cli("run", "tiny.yaml", "--data", tiny, "--more", 1).code == 0, _crash()


def test_trainings_of_other_programs(confirmed: Path, cli: Cli) -> None:
    """A trial that this tool has not trained is no evidence in a confirmation."""
    before = cli("confirm", "tiny", "--top", 2, "--seeds", 3)
    with plain(name="tiny/confirm") as study:
        first = study.trials[0]
        again = {"params": first.params, "distributions": first.distributions}
        study.add_trial(theirs(**again))
        study.add_trial(theirs())
        study.add_trial(theirs(**again, state=TrialState.RUNNING, value=None))
    after = cli("confirm", "tiny", "--top", 2, "--seeds", 3)
    assert (after.code, after.out.splitlines()[1:6]) == (before.code, before.out.splitlines()[1:6]), _crash()
    assert "it is no training of a confirmation, another program added it: it is left out" in after.err
    for look in LOOKS:
        assert cli(*look.split()).code == 0, (look, _crash())


WRONG: list[Any] = [None, 5, -1, "x", "{", "{}", "[]", "5", "null", '{"a": 1}', [], {}, [5], {"a": 5}, True, 1e400, "1" * 5000]
"""Values of wrong types and shapes."""

MISSING = object()

OF_STUDY = [
    *("about", "seed", "goals", "plan", "space", "data", "identity", "target", "exhausted", "resources", "order_seed"),
    *("confirmed", "openings", "warm_start", "widened", "shares_seeds", "copied", "confirms", "id", "confirmed_study"),
]
OF_TRIAL = [
    *("owner", "seed", "settings", "result", "reason", "deaths", "stints", "made_with", "pruned_at", "from", "first_order"),
    "stack",
]


@pytest.mark.parametrize("key", OF_STUDY)
def test_attributes_of_a_study(key: str, confirmed: Path, cli: Cli) -> None:
    """Whatever an attribute of a study holds, or if it is missing, commands name it or do without it."""
    _try_everything(key, "study_user_attributes", "study_id = 1", cli)


@pytest.mark.parametrize("key", OF_TRIAL)
def test_attributes_of_a_trial(key: str, confirmed: Path, cli: Cli) -> None:
    """The same with an attribute of a trial."""
    one = "trial_id IN (SELECT trial_id FROM trials WHERE number = 1)"
    if key in HIDDEN:
        _try_everything(PREFIX + key, "trial_system_attributes", one, cli)
    else:
        _try_everything(key, "trial_user_attributes", one, cli)


def _try_everything(key: str, table: str, where: str, cli: Cli) -> None:
    """Some wrong values, each with one of the commands; another attribute tries others."""
    chance = random.Random(key)
    of = table.split("_")[0] + "_id"
    for wrong, look in zip([*chance.sample(WRONG, 6), MISSING], chance.sample(LOOKS, 7), strict=True):
        with contextlib.closing(sqlite3.connect("runs/studies.db")) as database, database:
            owners = [row[0] for row in database.execute(f"SELECT {of} FROM {table} WHERE {where} GROUP BY 1")]
            database.execute(f"DELETE FROM {table} WHERE {where} AND key = ?", (key,))
            for owner in owners if wrong is not MISSING else ():
                values = (owner, key, json.dumps(wrong))
                database.execute(f"INSERT INTO {table} ({of}, key, value_json) VALUES (?, ?, ?)", values)
        done = cli(*look.split())
        assert done.code in (0, 1, 2), (key, wrong, look, done.err, _crash())


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE trial_system_attributes SET value_json = '{' WHERE key = 'islr:result'",
        "UPDATE study_user_attributes SET value_json = '{' WHERE key = 'seed'",
        "UPDATE trials SET state = 'SPOILT' WHERE number = 1",
        "UPDATE trial_params SET distribution_json = '{}'",
        "UPDATE trial_values SET value_type = 'SPOILT'",
        "UPDATE trial_values SET value = NULL",
        "UPDATE trial_values SET value = 'SPOILT'",
        "UPDATE trial_intermediate_values SET intermediate_value = 'SPOILT'",
        "UPDATE trials SET number = 'SPOILT' WHERE number = 1",
        "DELETE FROM trial_values",
        "DELETE FROM trial_params",
        "DELETE FROM study_directions",
        "DELETE FROM trials",
        "DELETE FROM trial_user_attributes",
        "DELETE FROM trial_system_attributes",
    ],
)
def test_rows_that_nobody_can_read(sql: str, confirmed: Path, tiny: Path, cli: Cli) -> None:
    """Rows that not even Optuna can read are an error that names the study; missing ones are told."""
    rows(sql)
    for look in [*LOOKS[::3], "confirm tiny", f"run tiny.yaml --data {tiny} --trials 7", "copy tiny --to journal:///copied"]:
        assert cli(*look.split()).code in (0, 1, 2, 3), (look, _crash())


@pytest.mark.parametrize("wrong", [5, "1", None, {"1": 2}, ["1", None, [2]], True])
def test_the_record_of_dropped_reports(wrong: object) -> None:
    """Another program's value in place of the list of deleted reports deletes none."""
    trial = create_trial(value=0.5, intermediate_values={1: math.nan, 2: 0.5}, system_attrs={"dropped_reports": wrong})
    assert without_dropped(trial) is trial
