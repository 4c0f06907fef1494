"""Read-only commands do not load a study of many trials whole, and show what Optuna would have read."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from conftest import Cli
from launch import environment, stored_trials
from many import DATABASE, many_trials
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

import search.storage.read_only
import search.storage.trial_rows
from search.definition.trial_attributes import PREFIX
from search.errors import DefinitionError, ExplainedError, ResourceError
from search.reporting.status import all_studies, status_json, status_lines
from search.reporting.table import trial_rows
from search.storage.opening import open_storage
from search.storage.read_only import SCHEMA_VERSION, ReadOnlyStorage, open_read_only
from search.storage.tables import uncached
from search.study.study import load_study
from search.study.trials import COMPARED

URL = f"sqlite:///{DATABASE}"
SHAPES = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "layers": IntDistribution(1, 4),
    "optimizer": CategoricalDistribution(("adam", "sgd", None, True)),
}


@pytest.fixture(scope="session")
def once_many(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a study `tiny` of 500 trials. Only to be read."""
    return many_trials(tmp_path_factory.mktemp("many") / "place", 500, searched)


@pytest.fixture
def many(once_many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own with that study."""
    shutil.copytree(once_many, tmp_path / "many")
    monkeypatch.chdir(tmp_path / "many")
    return tmp_path / "many"


def execute(sql: str) -> None:
    """Changes the database of the working directory."""
    with contextlib.closing(sqlite3.connect(DATABASE)) as database, database:
        assert database.execute(sql).rowcount > 0, "nothing was changed"


def loaded(name: str = "tiny") -> optuna.Study:
    """A study as Optuna reads it."""
    return load_study(open_storage(URL, create=False), name, print)


def read_only_study(name: str = "tiny") -> optuna.Study:
    """A study in the read-only storage."""
    storage = open_read_only(URL)
    assert isinstance(storage, ReadOnlyStorage)
    return load_study(storage, name, print)


def told(number: int, state: TrialState, **more: object) -> FrozenTrial:
    """A trial of a made-up study, with plausible fields for its state."""
    given: dict[str, object] = {
        "params": {"lr": 1e-3 * (number + 1), "layers": 1 + number % 4, "optimizer": (None, "sgd", True)[number % 3]},
        "distributions": SHAPES,
        "intermediate_values": {step: 1.0 / step for step in range(1, 4)},
        "user_attrs": {"seed": number, "settings": json.dumps({"train": {"lr": number}}), "words": ["手話", '"', {}]},
    }
    if state == TrialState.FAIL:
        given["user_attrs"] = {"reason": f"reason {number}", "deaths": ["a", "b"]}
    if state == TrialState.COMPLETE:
        result = {"val_loss": 0.5, "val_top1": 0.25, "epoch": number, "values": {"val_loss": 0.5}}
        given |= {"user_attrs": {"result": json.dumps(result)}, "values": [0.5 - number % 3 / 10]}
    return create_trial(state=state, **(given | more))  # type: ignore[arg-type]


def of_two(number: int, values: list[float]) -> FrozenTrial:
    """A complete trial of a study with two objectives."""
    result = {"val_loss": 0.5, "val_top1": 0.25, "epoch": number, "values": dict(zip("ab", values, strict=True))}
    return told(number, TrialState.COMPLETE, values=values, user_attrs={"result": json.dumps(result)})


def waiting(number: int) -> FrozenTrial:
    """A trial that has not started."""
    return told(number, TrialState.WAITING, params={}, distributions={}, intermediate_values={}, user_attrs={})


ODD = {1: math.inf, 2: -math.inf, 3: math.nan, 7: 0.25}
MADE_UP: dict[str, list[FrozenTrial]] = {
    "nothing": [],
    "fresh": [waiting(0)],
    "running": [told(0, TrialState.COMPLETE), told(1, TrialState.RUNNING), told(2, TrialState.RUNNING, intermediate_values={})],
    "odd reports": [told(0, TrialState.RUNNING, intermediate_values={1: math.inf, 2: -math.inf, 7: 0.25})],
    "all failed": [told(n, TrialState.FAIL) for n in range(12)],
    "no reasons": [told(n, TrialState.FAIL, user_attrs={}) for n in range(3)],
    "all pruned": [told(n, TrialState.PRUNED, values=[0.1] if n else None) for n in range(3)],
    "completed by another program": [
        told(n, TrialState.COMPLETE, values=[value], user_attrs={}) for n, value in enumerate([0.1, math.inf, -math.inf])
    ],
    "two objectives": [of_two(0, [0.5, 0.5]), of_two(1, [0.4, math.inf]), of_two(2, [0.6, -0.1]), of_two(3, [0.7, 0.7])],
}


def made_up(name: str, source: Path) -> None:
    """Creates a study in the working directory with the attributes of the real one."""
    real = optuna.load_study(study_name="tiny", storage=f"sqlite:///{source / DATABASE}")
    several = name == "two objectives"
    directions = [StudyDirection.MINIMIZE] * (2 if several else 1)
    study = optuna.create_study(storage=open_storage(URL, create=True), study_name=name, directions=directions)
    for key, value in real.user_attrs.items():
        study.set_user_attr(key, value)
    if several:
        study.set_user_attr("goals", [{"metric": "val_loss"}, {"metric": "parameters", "reduce": "last"}])
    study.add_trials(MADE_UP[name])


def require_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything shown, and everything read except curves, is the same from both storages."""
    full, view = loaded(name), read_only_study(name)
    expected = copy.deepcopy(full.get_trials(deepcopy=False))
    for trial in expected:
        if trial.state != TrialState.RUNNING:
            trial.intermediate_values = {}
    found = view.get_trials()
    assert found == expected
    assert [list(trial.params) for trial in found] == [list(trial.params) for trial in expected], "the order is shown"
    assert (view.directions, view.user_attrs, view.metric_names) == (full.directions, full.user_attrs, full.metric_names)
    assert status_json(view, URL) == status_json(full, URL)
    assert status_lines(view, URL) == status_lines(full, URL)
    assert trial_rows(view) == trial_rows(full)
    rows = all_studies(URL)
    monkeypatch.setattr("search.reporting.status.open_read_only", lambda url: open_storage(url, create=False))
    assert rows == all_studies(URL)


@pytest.mark.parametrize("name", MADE_UP)
def test_same_as_optuna_reads(name: str, searched: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies in every state read the same, beside another study whose trials must not be mixed in."""
    for study in dict.fromkeys(["running", name]):
        made_up(study, searched)
    require_same(name, monkeypatch)


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local time that is not UTC."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_same_of_many(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of trials with real attributes and local times read the same."""
    require_same("tiny", monkeypatch)


@pytest.mark.parametrize("name", ["tiny", "tiny/confirm"])
def test_same_of_confirmed(name: str, confirmed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study with a confirmation, and the confirmation itself, read the same."""
    require_same(name, monkeypatch)


def test_one_trial_in_full(searched: Path, place: Path) -> None:
    """A single trial is read with its whole curve, including values that are not finite."""
    study = optuna.create_study(storage=open_storage(URL, create=True), study_name="s")
    study.add_trials([told(0, TrialState.PRUNED), told(1, TrialState.PRUNED, intermediate_values=ODD)])
    storage = open_read_only(URL)
    shown = storage.get_trial(storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("s"), 1))
    assert repr(shown) == repr(study.get_trials()[1]), "by text: NaN equals nothing"
    with pytest.raises(KeyError):
        storage.get_trial(99)


@pytest.mark.parametrize(
    "arguments",
    [["status", "tiny"], ["status", "tiny", "--json"], ["list"], ["trials", "tiny"], ["trials", "tiny", "--format", "jsonl"]],
    ids=" ".join,
)
def test_reports_of_finished_trials_are_not_read(arguments: list[str], many: Path, cli: Cli) -> None:
    """Commands work although the reports of finished trials are corrupted here; those of the running trial are not."""
    before = cli(*arguments)
    spoilt = "SELECT trial_id FROM trials WHERE state != 'RUNNING'"
    execute(f"UPDATE trial_intermediate_values SET intermediate_value_type = 'SPOILT' WHERE trial_id IN ({spoilt})")
    with pytest.raises(DefinitionError, match="SPOILT"):
        loaded().get_trials()
    assert cli(*arguments) == before
    assert before.code == 0


def test_trials_are_counted_without_reading_them(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run counts the trials every second, however many there are: in the database, by state, as Optuna counts them."""
    storage = uncached(open_storage(URL, create=False))
    study = storage.get_study_id_from_name("tiny")
    states = [None, *TrialState, (TrialState.COMPLETE, TrialState.PRUNED)]
    expected = [optuna.storages.BaseStorage.get_n_trials(storage, study, state) for state in states]
    monkeypatch.setattr("search.storage.database.read_trials", None)
    assert [storage.get_n_trials(study, state) for state in states] == expected
    assert expected[0] == 500
    with pytest.raises(KeyError):
        storage.get_n_trials(study + 1)


def test_trials_are_read_once_per_change(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that needs the trials several times reads them once; what another program changes is seen."""
    study = read_only_study()
    reads: list[str] = []
    real = search.storage.read_only.read_trials
    monkeypatch.setattr("search.storage.read_only.read_trials", lambda *a, **k: (reads.append(""), real(*a, **k))[1])
    before = [study.get_trials(deepcopy=False) for _ in range(3)][-1]
    assert len(reads) == 1
    execute("UPDATE trials SET state = 'PRUNED' WHERE number = 0")
    assert [trial.number for trial in study.get_trials(deepcopy=False) if trial.state != before[trial.number].state] == [0]
    assert len(reads) == 2


def test_a_running_trial_is_shown_with_its_epoch(many: Path, cli: Cli) -> None:
    """The reports of a running trial are read."""
    last = loaded().get_trials()[-1]
    running = json.loads(cli("status", "tiny", "--json").out)["running"]
    assert [(one["trial"], one["epoch"]) for one in running] == [(499, max(last.intermediate_values))]
    assert f"orphaned trial 499: epoch {max(last.intermediate_values)}, val_loss " in cli("status", "tiny").out


@pytest.mark.parametrize("arguments", [["status", "tiny"], ["list"], ["trials", "tiny"]], ids=" ".join)
def test_no_heavy_imports(arguments: list[str], once_many: Path, searched: Path) -> None:
    """Read-only commands import neither PyTorch nor libraries for writing, drawing or computing.

    `status` is tried with a few trials: the model of more needs SciPy.
    """
    code = (
        "import sys\nfrom search.cli import execute\n"
        f"code = execute({arguments!r})\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'plotly', 'pandas', 'matplotlib', 'sqlalchemy', 'alembic', 'optuna_dashboard'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)\nsys.exit(code)"
    )
    command, folder = [sys.executable, "-c", code], searched if "status" in arguments else once_many
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def failed_lines(cli: Cli) -> list[str]:
    """The lines of `status` on failed trials."""
    return [line for line in cli("status", "tiny").out.splitlines() if line.startswith("failed")]


def test_only_the_last_failures_are_shown(many: Path, cli: Cli) -> None:
    """`status` shows ten failed trials and counts the others; `--json` has all of them."""
    failed = [trial for trial in loaded().get_trials() if trial.state == TrialState.FAIL]
    assert len(failed) > 11
    more = f"failed   {len(failed) - 10} more before these; `islr-search trials tiny` lists them"
    assert failed_lines(cli) == [more, *(f"failed   trial {t.number}: {t.user_attrs['reason']}" for t in failed[-10:])]
    listed = json.loads(cli("status", "tiny", "--json").out)["failed"]
    assert listed == [{"trial": t.number, "reason": t.user_attrs["reason"]} for t in failed]


@pytest.mark.parametrize(("count", "lines"), [(0, 0), (1, 1), (10, 10), (11, 11)])
def test_few_failures_are_all_shown(count: int, lines: int, many: Path, cli: Cli) -> None:
    """Ten failed trials are all shown; of eleven, one is only counted."""
    execute("UPDATE trials SET state = 'PRUNED' WHERE state = 'FAIL'")
    if count:
        execute(f"UPDATE trials SET state = 'FAIL' WHERE number BETWEEN 1 AND {count}")
    found = failed_lines(cli)
    assert len(found) == lines
    assert ("1 more before these" in "".join(found)) == (count == 11)


def test_writing_is_refused(many: Path) -> None:
    """Writing to the read-only storage is refused."""
    study = read_only_study()
    for write in (lambda: study.set_user_attr("a", 1), study.ask, lambda: study.tell(499, 1.0)):
        with pytest.raises(NotImplementedError):
            write()


def test_a_writer_does_not_block_reading(many: Path, cli: Cli) -> None:
    """During another process's transaction the state before it is shown, without waiting."""
    before = cli("status", "tiny").out
    with contextlib.closing(sqlite3.connect(DATABASE, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE trials SET state = 'FAIL'")
        assert cli("status", "tiny").out == before
        writer.execute("COMMIT")
    assert "500 failed" in cli("status", "tiny").out


def test_reads_are_consistent(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes between two statements of a read are not seen until the next read."""
    expected = loaded().get_trials()
    real = search.storage.trial_rows._params

    def meanwhile(rows: list[tuple[object, ...]]) -> object:
        execute("DELETE FROM trial_user_attributes")
        return real(rows)

    monkeypatch.setattr("search.storage.trial_rows._params", meanwhile)
    assert [trial.user_attrs for trial in read_only_study().get_trials()] == [trial.user_attrs for trial in expected]
    monkeypatch.setattr("search.storage.trial_rows._params", real)
    assert not any(trial.user_attrs for trial in read_only_study().get_trials())


def test_a_damaged_database(many: Path, cli: Cli) -> None:
    """A damaged database is an error without a traceback."""
    with contextlib.closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("DROP TABLE trial_params")
    done = cli("status", "tiny")
    assert (done.code, done.err.splitlines()[0]) == (3, "error: the study database cannot be used")
    assert "no such table: trial_params" in done.err


def test_tables_of_another_version(many: Path, cli: Cli) -> None:
    """Optuna opens or refuses tables of another version."""
    execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
    done = cli("status", "tiny")
    assert done.code != 0
    assert done.err.startswith("error: the study database was made by another version of Optuna")


def test_form_is_current(place: Path) -> None:
    """If this fails, Optuna has changed its tables: compare `storage/read_only.py` with its models, then update `FORM`."""
    open_storage(URL, create=True)
    with contextlib.closing(sqlite3.connect(DATABASE)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA_VERSION,)]


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be taken for one" * 50])
@pytest.mark.parametrize("arguments", [["status", "tiny"], ["list"], ["trials", "tiny"]], ids=" ".join)
def test_not_a_study_database(content: bytes, arguments: list[str], place: Path, cli: Cli) -> None:
    """The error is that of every other command, without a traceback."""
    DATABASE.parent.mkdir()
    DATABASE.write_bytes(content)
    with pytest.raises(ExplainedError) as caught:
        open_storage(URL, create=False)
    done = cli(*arguments)
    if arguments == ["list"] and not content:
        assert (done.code, done.err) == (0, "")
    else:
        assert (done.code, done.err) == (3 if content else 2, caught.value.render() + "\n")


def test_reading_creates_no_database(place: Path, many: Path) -> None:
    """Reading never creates a database, neither a missing nor a removed one."""
    storage = open_read_only(URL)
    DATABASE.unlink()
    with pytest.raises(ResourceError, match="was removed or replaced"):
        storage.get_all_studies()
    with pytest.raises(DefinitionError, match="there is no study database yet"):
        open_read_only(URL)
    assert not DATABASE.exists()


def test_odd_paths(many: Path, cli: Cli) -> None:
    """Characters with a meaning in URLs are part of the path."""
    for name in ("a b", "100%25", "a#b", "手話"):
        shutil.copytree("runs", name)
        assert "of 500 finished" in cli("status", "tiny", "--storage", f"sqlite:///{name}/studies.db").out


def _stored_keys(trial: FrozenTrial) -> set[str]:
    return {key.removeprefix(PREFIX) for key in (*trial.user_attrs, *trial.system_attrs)}


@pytest.mark.parametrize("keys", [("COMPLETE", {"result"}), ("PRUNED", {"result", "pruned_at"}), ("FAIL", {"reason"})])
def test_many_trials_are_like_real_ones(keys: tuple[str, set[str]], once_many: Path, searched: Path) -> None:
    """`many_trials` writes attributes, states and curves as this tool does."""
    state, own = keys
    always = _stored_keys(stored_trials(searched)[1]) - {"result", *COMPARED}
    trials = stored_trials(once_many)
    assert (trials[0].state, trials[-1].state) == (TrialState.COMPLETE, TrialState.RUNNING)
    assert trials[0].params == {"label_smoothing": 0.0, "lr": 1e-3, "dropout": 0.1}
    mine = [trial for trial in trials if trial.state.name == state]
    assert len(mine) > 15
    for trial in mine:
        assert always | own <= _stored_keys(trial) <= always | own | {"result", "deaths", *COMPARED}
        assert (len(trial.intermediate_values) == 20) == (state == "COMPLETE")
        create_trial(state=trial.state, values=trial.values, params=trial.params, distributions=trial.distributions)


def test_many_trials_serve_every_command(many: Path, cli: Cli) -> None:
    """The made-up study can be analyzed, shown, exported and continued."""
    for arguments in (["analyze", "tiny"], ["show", "tiny", "7"], ["export", "tiny"], ["run", "tiny.yaml", "--dry-run"]):
        done = cli(*arguments)
        assert done.code == 0, done.err


def test_show_reads_one_trial(many: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` reads the trial that it shows, once, and none of the 499 others."""
    read: list[int] = []
    real = search.storage.trial_rows.read_trials

    def counting(*arguments: str, **more: str) -> list[FrozenTrial]:
        read.append(len(found := real(*arguments, **more)))  # type: ignore[arg-type]
        return found

    monkeypatch.setattr("search.storage.read_only.read_trials", counting)
    assert cli("show", "tiny", "7").code == 0
    assert read == [1]
