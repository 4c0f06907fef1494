"""Two studies of one name, however they come about, share nothing: no command shows of one what belongs to the other."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import json
import math
import re
import shutil
import sqlite3
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Cli
from launch import TINY_STUDY
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna_dashboard import wsgi

from search.definition.trial_attributes import attribute
from search.storage.leases.choice import lease_of
from search.study import managing
from search.study.folder import MARKER, find_folder
from search.study.study_id import study_id

QUESTION = """\
about: quite another question
trials: 3
sampler: {name: random}
pruner: {name: none}
fixed: {epochs: 3, batch_size: 8, width: 16, ffn_width: 16, layers: 1, patience: 0, lr: 3e-3}
space:
  dropout: {low: 0.0, high: 0.6, role: scientific}
baseline: {dropout: 0.2}
"""

SEALED = "[9002]"
"""The test signers that the first study seals."""

A, B = "sqlite:///a.db", "sqlite:///b.db"
_DIGITS = re.compile(r"\d+\.\d{9,}")


@pytest.fixture(scope="module")
def first(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a study `tiny` in `a.db`, confirmed, its test signers opened. Read-only."""
    from conftest import run_in

    folder = tmp_path_factory.mktemp("first")
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    (folder / "other.yaml").write_text(QUESTION, encoding="utf-8")
    where = ("--storage", A)
    run_in(folder, "run", "tiny.yaml", "--data", str(tiny), "--set", "data.test=auto", *where)
    run_in(folder, "confirm", "tiny", "--top", "1", "--seeds", "2", *where)
    run_in(folder, "test", "tiny", *where)
    return folder


@pytest.fixture
def place(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `first`, as the current directory."""
    folder = tmp_path / "place"
    shutil.copytree(first, folder)
    monkeypatch.chdir(folder)
    return folder


def load(url: str | JournalStorage, name: str = "tiny") -> optuna.Study:
    """A study by its name."""
    return optuna.load_study(study_name=name, storage=url)


def numbers(text: str) -> set[str]:
    """The numbers in a text that no two studies have by chance, such as losses. Accuracies are fractions of few clips, and the
    loss of guessing among three words is ln 3.
    """
    found = set(_DIGITS.findall(text)) - {repr(math.log(3))}
    return {n for n in found if abs(Fraction(n).limit_denominator(2000) - Fraction(n)) > 1e-9}


def outputs(cli: Cli, url: str, name: str = "tiny", runs: str = "runs") -> str:
    """Everything that the commands that look say of a study."""
    where = ("--storage", url)
    places = (*where, "--runs", runs)
    words = [
        ("status", name, "--json", *where),
        ("trials", name, "--format", "csv", *where),
        ("analyze", name, "--json", *where),
    ]
    words += [("export", name, "--searched", *where), ("report", name, "--output", "page.html", *places)]
    words += [("show", name, str(trial.number), "--json", *places) for trial in load(url, name).trials]
    texts = []
    for one in words:
        done = cli(*one)
        assert done.code == 0, (one, done.err)
        texts.append(done.out)
    return "\n".join([*texts, Path("page.html").read_text(encoding="utf-8")])


def assert_own_files(url: str | JournalStorage, name: str = "tiny", runs: str = "runs") -> None:
    """Every trial's files are in a folder with the study's id, and say what the database says."""
    study = load(url, name)
    folder = find_folder(Path(runs), study)
    assert json.loads((folder.path / MARKER).read_text(encoding="utf-8"))["id"] == study_id(study)
    for trial in study.trials:
        curve = (folder.of_trial(trial) / "curve.csv").read_text(encoding="utf-8")
        assert repr(json.loads(attribute(trial, "result"))["val_loss"]) in curve


def another(cli: Cli, tiny: Path, url: str, runs: str = "runs") -> str:
    """Asks another question under the name `tiny` and confirms it; returns what was said."""
    where = ("--storage", url, "--runs", runs)
    done = cli("run", "other.yaml", "--as", "tiny", "--data", tiny, "--seed", 7, "--set", f"data.test={SEALED}", *where)
    assert done.code == 0, done.err
    confirmed = cli("confirm", "tiny", "--top", 1, "--seeds", 2, *where)
    assert confirmed.code == 0, confirmed.err
    assert "6 trainings" not in confirmed.out + confirmed.err
    return done.err + confirmed.err


def through_dashboard(url: str, method: str, path: str, body: dict[str, Any]) -> None:
    """A request to optuna-dashboard's API."""
    content = json.dumps(body).encode()
    request = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(content)),
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(content),
        "wsgi.errors": io.StringIO(),
    }
    status: list[str] = []
    list(wsgi(optuna.storages.get_storage(url))(request, lambda line, *_: status.append(line)))
    assert status[0].startswith("20"), status


def delete_with_optuna(study: optuna.Study) -> None:
    """As a script does."""
    optuna.delete_study(study_name="tiny", storage=A)


def delete_with_dashboard(study: optuna.Study) -> None:
    """As a click does."""
    through_dashboard(A, "DELETE", f"/api/studies/{study._study_id}", {})


def rename_with_dashboard(study: optuna.Study) -> None:
    """As an edit of the title does."""
    through_dashboard(A, "POST", f"/api/studies/{study._study_id}/rename", {"study_name": "renamed"})


@pytest.mark.parametrize("leave", [delete_with_optuna, delete_with_dashboard, rename_with_dashboard])
def test_the_name_is_used_again(leave: Callable[[optuna.Study], None], place: Path, tiny: Path, cli: Cli) -> None:
    """A study that is deleted or renamed leaves its files and trainings, which are named and never shown of its successor."""
    study = load(A)
    before = numbers(outputs(cli, A)) | numbers(json.dumps([[t.user_attrs, t.system_attrs] for t in stored(A, "tiny/confirm")]))
    kept = {path: path.read_bytes() for path in (place / "runs" / "tiny").rglob("*") if path.is_file()}
    leave(study)
    assert cli("run", "other.yaml", "--as", "tiny", "--data", tiny, "--storage", A, "--dry-run").code == 0
    said = another(cli, tiny, A)
    assert "runs/tiny holds files of another study" in said.replace(str(place) + "/", "")
    assert "the database also holds `tiny/confirm`" in said
    assert "opened once (also for an earlier study of this name" in said
    assert before
    assert not before & numbers(outputs(cli, A))
    assert_own_files(A)
    assert len(stored(A, f"tiny/confirm-{str(study_id(load(A)))[:8]}")) == 4
    assert {path: path.read_bytes() for path in kept} == kept
    left = [line for line in cli("doctor", "--storage", A).out.splitlines() if "left over" in line]
    assert len(left) == (0 if leave is rename_with_dashboard else 2)
    opened = cli("test", "tiny", "--storage", A, "--json")
    assert opened.code == 0, opened.err
    assert json.loads(opened.out)["count"] == 2
    if leave is rename_with_dashboard:
        assert before == numbers(outputs(cli, A, "renamed")) | (before - numbers(outputs(cli, A, "renamed")))
        assert cli("confirm", "renamed", "--top", 1, "--seeds", 2, "--storage", A).code == 0
        assert_own_files(A, "renamed")


def stored(url: str, name: str) -> list[optuna.trial.FrozenTrial]:
    """The trials of a study."""
    return load(url, name).get_trials(deepcopy=False)


@pytest.mark.parametrize("runs", ["runs", "elsewhere"])
def test_two_databases(runs: str, place: Path, tiny: Path, cli: Cli) -> None:
    """The first comer keeps the folder of its name; nothing of it changes, and nothing of it is shown of the second."""
    before = outputs(cli, A)
    said = another(cli, tiny, B, runs)
    assert ("holds files of another study, `tiny` in " in said) == (runs == "runs")
    assert numbers(outputs(cli, A)) == numbers(before)
    assert not numbers(before) & numbers(outputs(cli, B, runs=runs))
    assert_own_files(A)
    assert_own_files(B, runs=runs)
    assert "sealed signers" in said if runs == "runs" else "opened" not in said


def test_deleting_says_what_goes(place: Path, tiny: Path, cli: Cli) -> None:
    """Without `--yes` nothing goes. With it all of the study goes, but not the record of openings, nor anyone else's files."""
    where = ("--storage", A)
    before = {path: path.read_bytes() for path in (place / "runs").rglob("*") if path.is_file()}
    asked = cli("delete", "tiny", *where)
    assert asked.code == 2
    assert "to delete: its confirmation `tiny/confirm` with 4 trainings\nto delete: its files in runs/tiny\n" in asked.out
    assert "nothing was deleted\nhint: `--yes`" in asked.err
    assert {path: path.read_bytes() for path in before} == before
    with lease_of(A, "tiny"):
        working = cli("delete", "tiny", "--yes", *where)
        assert (working.code, working.err) == (
            3,
            "error: a run is working on the study `tiny`\nhint: `islr-search stop tiny` stops it\n",
        )
    assert cli("delete", "tiny/confirm", "--yes", *where).code == 2
    shared, others = show_on_dashboard(cli), files_of_others(place / "runs" / "tiny")
    assert "to delete: its 23 files for optuna-dashboard in runs/artifacts\n" in cli("delete", "tiny", *where).out
    done = cli("delete", "tiny", "--yes", *where)
    assert done.code == 0, done.err
    assert "deleted: study `tiny` with 4 trials" in done.out
    assert "kept: runs/tiny, which holds other files too" in done.out
    assert "kept: the record that its test signers were opened once" in done.out
    assert {one.study_name.split("/")[0] for one in optuna.get_all_study_summaries(A)} == {"test signers opened", "twin"}
    assert {path for path in (place / "runs" / "tiny").rglob("*") if path.is_file()} == others
    assert [path.name for path in (place / "runs" / "artifacts").iterdir()] == [shared]
    assert Path("victim.txt").exists()
    assert not Path(".a.db.locks", "tiny").exists()
    again = cli("run", "tiny.yaml", "--data", tiny, "--set", "data.test=auto", "--trials", 1, *where)
    assert "opened once (also for an earlier study of this name" in again.err
    assert "left over" not in cli("doctor", *where).out


def show_on_dashboard(cli: Cli) -> str:
    """Fills the page of `tiny`, one of whose files another study shows too; returns that file's name. A copy shows none."""
    Path("victim.txt").touch()
    with contextlib.closing(sqlite3.connect("a.db")) as connection, connection:
        key = "artifacts:../../victim.txt"
        connection.execute("INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (1, ?, '\"{}\"')", (key,))
    shown = cli("dashboard", "tiny", "--print-command", "--storage", A)
    assert (shown.code, "error" in shown.err) == (0, False), shown.err
    attributes = stored(A, "tiny")[1].system_attrs
    key = next(key for key in attributes if key.startswith("artifacts:"))
    twin = optuna.create_study(storage=A, study_name="twin")
    twin.add_trial(optuna.create_trial(value=0.0, system_attrs={key: attributes[key]}))
    assert cli("copy", "tiny", "--storage", A, "--to", B).code == 0
    assert not [key for one in stored(B, "tiny") for key in one.system_attrs if "artifacts:" in key and "victim" not in key]
    return key.removeprefix("artifacts:")


def files_of_others(folder: Path) -> set[Path]:
    """Files that a person, another program and another study have in a study's folder."""
    names = ("mine.txt", "trials/0000/mine.txt", "trials/0001/.ipynb_checkpoints/a", "trials/0001.other-ab12/config.yaml")
    for name in (*names, "logs/mine.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return {folder / name for name in (*names, "logs/mine.jsonl")}


def test_deleting_where_a_file_cannot_be_deleted(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and all else goes, while no other run can have the study's turn. `doctor` finds what is left."""

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name == "curve.csv":
            with lease_of(A, "tiny").turn() as is_mine:
                turns.append(is_mine)
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        really(path, missing_ok)

    really, turns = Path.unlink, list[bool]()
    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", unlink)
        done = cli("delete", "tiny", "--yes", "--storage", A)
    assert done.code == 3
    assert "got: runs/tiny/confirm/trials/0000/curve.csv: Permission denied" in done.err
    assert "deleted: study `tiny` with 4 trials" in done.out
    assert {path.name for path in (place / "runs" / "tiny").rglob("*") if path.is_file()} == {"curve.csv", MARKER}
    assert set(turns) == {False}
    assert "tiny" not in cli("list", "--storage", A).out
    assert "runs/tiny holds the files of `tiny`" in cli("doctor", "--storage", A).out


def test_deleting_leaves_a_folder_without_its_id(place: Path, cli: Cli) -> None:
    """Its files may be another study's. A confirmation that is just beginning keeps the study."""
    optuna.delete_study(study_name="tiny/confirm", storage=A)
    with lease_of(A, "tiny/confirm"):
        assert "a run is working on the study `tiny/confirm`" in cli("delete", "tiny", "--yes", "--storage", A).err
    (place / "runs" / "tiny" / MARKER).unlink()
    before = set((place / "runs" / "tiny").rglob("*"))
    done = cli("delete", "tiny", "--yes", "--storage", A)
    assert done.code == 0, done.err
    assert "kept: runs/tiny, which does not carry the id of this study\n" in done.out
    assert set((place / "runs" / "tiny").rglob("*")) == before


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_renaming_keeps_everything(kind: str, place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the new name: the same id, numbers, confirmation, openings and files. The old name is free."""
    url = A if kind == "sqlite" else "journal:///j.log"
    if kind == "journal":
        assert cli("copy", "tiny", "--storage", A, "--to", url).code == 0
    where = ("--storage", url)
    stored = A if kind == "sqlite" else JournalStorage(JournalFileBackend("j.log"))
    before = outputs(cli, url) if kind == "sqlite" else ""
    id = study_id(load(stored))
    assert cli("rename", "tiny", "renamed", *where).code == 2
    for new in ("tiny", "a/b", "tiny/confirm", "taken"):
        (place / "runs" / "taken").mkdir(exist_ok=True)
        assert cli("rename", "tiny", new, "--yes", *where).code == 2
    turns: list[str] = []
    monkeypatch.setattr(managing, "lease_of", lambda url, name: turns.append(name) or lease_of(url, name))
    done = cli("rename", "tiny", "renamed", "--yes", *where)
    assert done.code == 0, done.err
    assert turns == ["renamed", "tiny", "tiny/confirm"], "in this order too when the other name is given first"
    assert not [path for path in Path().glob(".*.locks/tiny*") if url == A or "j.log" in path.parent.name]
    assert "its files are in runs/renamed" in done.out
    names = {one.study_name for one in optuna.get_all_study_summaries(stored)}
    assert {name for name in names if "opened" not in name} == {"renamed", "renamed/confirm"}
    assert study_id(load(stored, "renamed")) == id
    assert_own_files(stored, "renamed")
    if kind == "sqlite":
        assert numbers(outputs(cli, url, "renamed")) == numbers(before)
        assert not (place / "runs" / "tiny").exists()
    confirmed = cli("confirm", "renamed", "--top", 1, "--seeds", 2, *where)
    assert confirmed.code == 0, confirmed.err
    assert len(load(stored, "renamed/confirm").trials) == 4
    assert json.loads(cli("test", "renamed", "--json", *where).out)["count"] == 1
    assert "left over" not in cli("doctor", *where).out


def test_a_database_is_whole_when_a_command_has_ended(
    tiny: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever copies the file alone copies everything, even where Python has not cleaned up yet."""
    where = ("--storage", A)
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    gc.disable()
    try:
        for words in (
            ("run", "tiny.yaml", "--trials", "2", "--data", tiny, "--set", "data.test=auto", *where),
            ("confirm", "tiny", "--top", "1", "--seeds", "2", *where),
            ("test", "tiny", *where),
        ):
            done = cli(*words)
            assert done.code == 0, done.err
            assert not Path("a.db-wal").exists(), words
    finally:
        gc.enable()


def copied_by_command(cli: Cli) -> None:
    """`search copy`."""
    done = cli("copy", "tiny", "--storage", A, "--to", B)
    assert done.code == 0, done.err


def copied_file(_: Cli) -> None:
    """`cp a.db b.db`."""
    shutil.copy("a.db", "b.db")


def copied_by_optuna(_: Cli) -> None:
    """`optuna.copy_study` to another database."""
    optuna.copy_study(from_study_name="tiny", from_storage=A, to_storage=B)


@pytest.mark.parametrize("copy", [copied_by_command, copied_file, copied_by_optuna])
def test_copies_go_different_ways(copy: Callable[[Cli], None], place: Path, tiny: Path, cli: Cli) -> None:
    """A copy that is continued writes to a folder of its own, and leaves its original's files as they are."""
    copy(cli)
    kept = {
        path: path.read_bytes() for path in (place / "runs" / "tiny").rglob("*") if path.suffix != ".jsonl" and path.is_file()
    }
    for url, more in ((B, 2), (A, 1)):
        args = ("--data", tiny, "--set", "data.test=auto", "--more", more)
        done = cli("run", "tiny.yaml", "--storage", url, *args)
        assert done.code == 0, done.err
    for url in (A, B):
        newest = stored(url, "tiny")[4:]
        folder = find_folder(Path("runs"), load(url))
        assert folder.is_marked
        for trial in newest:
            curve = (folder.of_trial(trial) / "curve.csv").read_text(encoding="utf-8")
            assert repr(json.loads(attribute(trial, "result"))["val_loss"]) in curve
    assert study_id(load(A)) != study_id(load(B))
    assert find_folder(Path("runs"), load(A)).path == Path("runs/tiny")
    assert {path: path.read_bytes() for path in kept} == kept
    if copy is not copied_by_optuna:
        assert_own_files(B)
        done = cli("confirm", "tiny", "--storage", B, "--top", 1, "--seeds", 2)
        assert done.code == 0, done.err


def test_a_report_on_a_copy(place: Path, cli: Cli) -> None:
    """A command that only looks takes over no folder and writes no report into that of another study."""
    shutil.copy("a.db", "b.db")
    assert cli("report", "tiny", "--storage", A).code == 0
    marker, page = Path("runs/tiny", MARKER).read_text("utf-8"), Path("runs/tiny/report.html").read_bytes()
    done = cli("report", "tiny", "--storage", B)
    assert done.code == 2
    assert "the folder runs/tiny belongs to another study" in done.err
    assert cli("report", "tiny", "--storage", B, "--output", "b.html").code == 0
    assert (Path("runs/tiny", MARKER).read_text("utf-8"), Path("runs/tiny/report.html").read_bytes()) == (marker, page)


def test_one_database_under_two_names(place: Path, tiny: Path, cli: Cli) -> None:
    """A link is no copy: the study keeps its id, whichever name its database has."""
    before = study_id(load(A))
    Path("alias").symlink_to(".")
    done = cli("run", "tiny.yaml", "--data", tiny, "--set", "data.test=auto", "--more", 1, "--storage", "sqlite:///alias/a.db")
    assert done.code == 0, done.err
    assert study_id(load(A)) == before
    assert [path.name for path in Path("runs").glob("tiny*")] == ["tiny"]


def test_an_interrupted_separation(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copied database whose files could not be copied at once gets them, and its confirmation, with the next command."""
    shutil.copy("a.db", "b.db")
    words = ("run", "tiny.yaml", "--data", tiny, "--set", "data.test=auto", "--storage", B)
    with monkeypatch.context() as broken:
        broken.setattr("search.study.claiming.copy_trials", unwritable)
        assert cli(*words).code == 3
    files = sorted(path.name for path in Path().glob("a.db*"))
    done = cli(*words)
    assert done.code == 0, done.err
    assert_own_files(B)
    assert "4 trainings" in cli("confirm", "tiny", "--top", 1, "--seeds", 2, "--storage", B).out
    assert len(stored(B, "tiny/confirm")) == 4
    assert sorted(path.name for path in Path().glob("a.db*")) == files, "nothing is left beside the original"


def unwritable(*_: object) -> None:
    """Stands for a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_moved_project(place: Path, tiny: Path, cli: Cli) -> None:
    """A project folder that is moved or copied as a whole keeps its ids and folders."""
    shutil.move("a.db", "runs/studies.db")
    before = study_id(load("sqlite:///runs/studies.db"))
    done = cli("run", "tiny.yaml", "--data", tiny, "--set", "data.test=auto", "--more", 1)
    assert done.code == 0, done.err
    for change in (shutil.copytree, shutil.move):
        change(place / "runs", place / change.__name__ / "runs")
        url = f"sqlite:///{change.__name__}/runs/studies.db"
        where = ("--storage", url, "--runs", f"{change.__name__}/runs")
        done = cli("run", "tiny.yaml", "--data", tiny, "--set", "data.test=auto", "--more", 1, *where)
        assert done.code == 0, done.err
        assert study_id(load(url)) == before
        assert [path.name for path in Path(change.__name__, "runs").glob("tiny*")] == ["tiny"]


def test_trainings_of_another_question(place: Path, cli: Cli) -> None:
    """Trainings that are not those of the study's settings are refused with the difference, wherever they are used."""
    training = stored(A, "tiny/confirm")[1]
    changed = json.loads(attribute(training, "settings"))
    changed["train"]["lr"] *= 2
    with contextlib.closing(sqlite3.connect("a.db")) as connection, connection:
        connection.execute(
            "UPDATE trial_system_attributes SET value_json = ? WHERE key = 'islr:settings' AND trial_id = ?",
            (json.dumps(json.dumps(changed)), training._trial_id),
        )
    for words in (("analyze", "tiny"), ("report", "tiny"), ("confirm", "tiny", "--top", 1, "--seeds", 2)):
        done = cli(*words, "--storage", A)
        assert done.code == 2, words
        assert "the trainings in `tiny/confirm` are of another question than `tiny`" in done.err
        assert "train.lr: " in done.err


def test_the_record_of_openings_outlives_everything(place: Path, tiny: Path, cli: Cli) -> None:
    """Openings are known after their study is deleted, after the database is deleted, and by another `--runs`."""
    optuna.delete_study(study_name="tiny", storage=A)
    words = ("run", "other.yaml", "--data", tiny, "--set", f"data.test={SEALED}")
    assert "were opened once (also for `tiny`)" in cli(*words, "--storage", A, "--runs", "new").err
    Path("a.db").unlink()
    assert "were opened once (also for `tiny`)" in cli(*words, "--storage", B).err
    assert "opened" not in cli(*words, "--storage", "sqlite:///c.db", "--runs", "new2").err


def test_a_damaged_record_is_an_error(place: Path, tiny: Path, cli: Cli) -> None:
    """A line that cannot be read is named: nobody can tell which signers it was about."""
    with Path("runs/openings.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"study": "tiny", "stu')
    done = cli("run", "other.yaml", "--data", tiny, "--set", f"data.test={SEALED}", "--storage", B)
    assert done.code == 2
    assert "the record of openings is damaged\n  --> runs/openings.jsonl:3" in done.err


def test_list_hides_the_record(place: Path, cli: Cli) -> None:
    """`list` and hints show searches only."""
    assert "test signers opened" not in cli("list", "--storage", A).out
    assert "test signers opened" not in cli("status", "nothing", "--storage", A).err
