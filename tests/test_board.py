"""The dashboard shows notes, plots and files of a study. Filling its page again writes only what is new."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
from conftest import Cli
from launch import TINY_STUDY, stored_trials
from many import many_trials

import search.reporting.dashboard.page
from search.definition.trial_attributes import attribute
from search.reporting.dashboard.attributes import Draft, drafting
from search.reporting.dashboard.background import PageFiller
from search.reporting.dashboard.confusion_svg import confusion_svg
from search.reporting.dashboard.contents import DRAWN_BY_OPTUNA
from search.reporting.dashboard.notes import MARKER, code_block, markdown, prose, theirs_of, with_ours
from search.reporting.dashboard.page import FillResult, fill_page
from search.reporting.facts import Facts
from search.reporting.figures.every import figures
from search.storage.opening import open_storage
from search.study.study import load_study
from search.study.trials import COMPARED, trial_result
from search.trial.outcome import AnswerCount

URL = "sqlite:///runs/studies.db"
RUNS = Path("runs")
FILES = ["config.yaml", "confusion.svg", "curve.csv"]
EVIL = "<script>alert(1)</script>"
LINK = "[x](javascript:alert(1))"
TWO_GOALS = (
    (TINY_STUDY + "objective:\n  - {metric: parameters}\n  - {metric: val_loss}\n")
    .replace(", ffn_width: 16", "")
    .replace("space:", "space:\n  ffn_width: {choices: [16, 32, 64]}")
    .replace("baseline: {", "baseline: {ffn_width: 16, ")
)


@contextlib.contextmanager
def opened(name: str = "tiny") -> Iterator[tuple[optuna.Study, optuna.storages.BaseStorage]]:
    """A study of the working directory."""
    storage = open_storage(URL, create=False)
    try:
        yield load_study(storage, name, print), storage
    finally:
        storage._backend.engine.dispose()  # type: ignore[attr-defined]


def filled() -> FillResult:
    """Fills the page of the study without an error."""
    with opened() as (study, storage):
        done = fill_page(study, storage, url=URL, runs=RUNS)
    assert done.errors == []
    return done


def rows(sql: str) -> list[tuple[Any, ...]]:
    """Rows of the database."""
    with contextlib.closing(sqlite3.connect("runs/studies.db")) as database:
        return database.execute(sql).fetchall()


def dump() -> list[str]:
    """The whole database, and the names of the files that the page shows."""
    with contextlib.closing(sqlite3.connect("runs/studies.db")) as database:
        lines = list(database.iterdump())
    return lines + sorted(path.name for path in (RUNS / "artifacts").glob("*"))


def note(trial: int | None = None, name: str = "tiny") -> str:
    """A note as the dashboard shows it; None: the study's."""
    with opened(name) as (study, storage):
        draft = Draft(study._study_id, storage.get_study_system_attrs(study._study_id))
        number = None if trial is None else study.get_trials(deepcopy=False)[trial]._trial_id
        return str(optuna_dashboard.get_note(draft.of_trial(number)))


def write_note(text: str, trial: int | None = None) -> None:
    """Writes a note as a person does in the browser."""
    with opened() as (study, storage):
        number = None if trial is None else study.get_trials(deepcopy=False)[trial]._trial_id
        with drafting(storage, study._study_id) as draft:
            optuna_dashboard.save_note(draft.of_trial(number), text)


def plots(name: str = "tiny") -> dict[str, str]:
    """The named plots as the dashboard shows them."""
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    with opened(name) as (study, storage):
        return dict(get_plotly_graph_objects(storage.get_study_system_attrs(study._study_id)))


def artifacts(name: str = "tiny") -> dict[int, list[str]]:
    """File names by trial, as Optuna has them."""
    with opened(name) as (study, storage):
        return {
            trial.number: sorted(meta.filename for meta in optuna.artifacts.get_all_artifact_meta(trial, storage=storage))
            for trial in study.get_trials(deepcopy=False)
        }


def execute(*statements: str) -> None:
    """Executes statements in the database."""
    with contextlib.closing(sqlite3.connect("runs/studies.db")) as database, database:
        for sql in statements:
            database.execute(sql)


def search_for(cli: Cli, data: Path, text: str, trials: int) -> None:
    """Searches with a study file of this text."""
    Path("tiny.yaml").write_text(text, encoding="utf-8")
    assert cli("run", "tiny.yaml", "--data", data, "--trials", trials).code == 0


def test_a_confirmed_study(confirmed: Path) -> None:
    """A confirmed study has a note, plots and files."""
    done = filled()
    whole = note()
    assert whole.startswith(f"{MARKER}\n\n---\n\n## A small search\n\n**Use ")
    for part in (
        "| val\\_loss in the search |",
        "95% interval",
        "### Settings",
        "# write the configuration\nislr-search export",
    ):
        assert part in whole
    assert {"search-confirmation", "search-learning-curves", "search-confusion"} <= plots().keys()
    trainings = artifacts("tiny/confirm")
    assert len(plots()) + len(plots("tiny/confirm")) == done.plots
    assert artifacts() == dict.fromkeys(range(6), FILES)
    assert list(trainings.values()) == [FILES] * len(trainings)
    assert done.artifacts == 3 * (6 + len(trainings)) == len(list((RUNS / "artifacts").iterdir()))


def test_the_page_of_a_confirmation(confirmed: Path) -> None:
    """It has the answer too, says of which trial and seed each training is, and both pages link to each other."""
    filled()
    (number,) = (row[0] for row in rows("SELECT study_id FROM studies WHERE study_name = 'tiny/confirm'"))
    assert f"[tiny/confirm](/dashboard/studies/{number})" in note()
    whole = note(name="tiny/confirm")
    assert "confirmation of [tiny](/dashboard/studies/1)" in whole
    assert whole.split("\n\n")[-4:] == note().split("\n\n")[-4:], "settings, warnings and commands"
    with opened("tiny/confirm") as (study, _):
        of = [(trial.params["candidate"], trial.params["seed"]) for trial in study.get_trials(deepcopy=False)]
    for n, (candidate, seed) in enumerate(of):
        who = f"Trial {candidate}" if candidate else "Baseline"
        assert f"**{who}** of [tiny](/dashboard/studies/1), trained with fresh seed {seed}." in note(n, "tiny/confirm")
    assert plots("tiny/confirm").keys() == {
        f"search-{name}" for name in ("confirmation", "confusion", "signers", "reliability")
    }


def test_what_a_trial_shows(searched: Path) -> None:
    """The user attributes of a trial are numbers, those of its result, so that they can be plotted. Nothing else is shown."""
    for trial in stored_trials(searched):
        result = trial_result(trial)
        shown = dict(trial.user_attrs)
        assert shown.pop("seed") == attribute(trial, "seed")
        assert {"val_loss", "val_loss_ts", "val_top1", "val_ece", "best_epoch", "epochs", "seconds"} <= shown.keys()
        assert shown == {name: pytest.approx(result[COMPARED[name]], abs=1e-6) for name in shown}
        assert all(isinstance(value, int | float) for value in shown.values())


def test_notes_of_trials(confirmed: Path) -> None:
    """The baseline, new bests, confirmed and failed trials have a note, and no other trial."""
    execute(
        "UPDATE trials SET state = 'FAIL' WHERE number = 5 AND study_id = 1",
        "INSERT INTO trial_user_attributes (trial_id, key, value_json) SELECT trial_id, 'reason', "
        f"'\"it burned {EVIL}\"' FROM trials WHERE number = 5 AND study_id = 1",
        "INSERT INTO trial_user_attributes (trial_id, key, value_json) SELECT trial_id, 'deaths', "
        "'[\"signal 9\"]' FROM trials WHERE number = 5 AND study_id = 1",
    )
    with opened() as (study, storage):
        facts = Facts(study, storage, url=URL, runs=RUNS)
        found = facts.confirmed
    assert found is not None
    filled()
    assert "**The baseline**" in note(0)
    assert "- seed: " in note(0)
    assert "**Failed**: it burned &lt;script&gt;" in note(5)
    assert "signal 9" in note(5)
    for row in found.found.rows:
        if row.trial != 5 and row.mean is not None:
            seeds = "3 fresh seeds" if row.measured else "fresh seed"
            assert f"**Trained again** with {seeds}: mean val\\_loss {row.mean:.4f}" in note(row.trial)
    lowest, bests = float("inf"), []
    for trial in sorted(facts.complete, key=lambda trial: trial.datetime_complete):
        if trial.value < lowest and trial.number:
            bests.append(trial.number)
        lowest = min(lowest, trial.value)
    assert bests
    told = {row.trial for row in found.found.rows} | {0, 5}
    for number in range(6):
        assert ("**A new best**" in note(number)) == (number in bests)
        assert bool(note(number)) == (number in {*bests, *told})


def test_filled_again_nothing_is_written(confirmed: Path) -> None:
    """Filling an unchanged page again writes neither a row nor a file, in the same process or another."""
    with opened() as (study, storage), contextlib.closing(sqlite3.connect("runs/studies.db")) as watcher:
        fill_page(study, storage, url=URL, runs=RUNS)
        before, version = dump(), watcher.execute("PRAGMA data_version").fetchone()
        again = fill_page(study, storage, url=URL, runs=RUNS)
        assert again == filled()
        assert watcher.execute("PRAGMA data_version").fetchone() == version
    assert dump() == before
    assert again.artifacts == 3 * (6 + len(artifacts("tiny/confirm")))


def test_more_trials_replace(searched_copy: Path, tiny: Path, cli: Cli) -> None:
    """With more trials, plots keep their names, attributes do not pile up, and only the new trial gets files."""
    filled()
    names, old, count = plots(), artifacts(), len(rows("SELECT * FROM study_system_attributes"))
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 7).code == 0
    filled()
    assert plots().keys() >= names.keys()
    assert plots()["search-parallel"] != names["search-parallel"]
    now = artifacts()
    assert {number: now[number] for number in old} == old
    assert now[6] == FILES
    grown = len(rows("SELECT * FROM study_system_attributes")) - count
    assert grown < 10 + sum(len(text) for text in plots().values()) / 2045 - sum(len(text) for text in names.values()) / 2045


def test_text_of_a_person_stays(searched_copy: Path) -> None:
    """Text above the marker stays, character by character; changes below it are undone."""
    theirs = "# My thoughts\n\nuse $x$ and | bars \\ \n\n"
    write_note(theirs + "\nlast line")
    write_note("mine", trial=0)
    filled()
    assert note().startswith(f"{theirs}\nlast line\n\n{MARKER}\n")
    assert note(0).startswith(f"mine\n\n{MARKER}\n")
    whole = note()
    write_note(theirs + whole[whole.index(MARKER) :] + "\nfrom below")
    filled()
    assert note().startswith(theirs + MARKER)
    assert "from below" not in note()
    before = dump()
    filled()
    assert dump() == before


def test_parts_of_a_note() -> None:
    """Our part is replaced, theirs is kept, and a note without a marker is kept whole."""
    assert with_ours("", "a") == f"{MARKER}\n\n---\n\na"
    assert with_ours(with_ours("", "a"), "b") == with_ours("", "b")
    assert with_ours("x", "a").startswith(f"x\n\n{MARKER}")
    assert with_ours(with_ours("x \n", "a"), "b") == with_ours("x \n", "b")
    assert theirs_of(with_ours("x", "a")) == "x\n\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (EVIL, "&lt;script&gt;alert(1)&lt;/script&gt;"),
        (LINK, "\\[x\\](javascript:alert(1))"),
        ("a | b\nc", "a \\| b c"),
        ("`x` *y* _z_ ~w~ $v$ \\u", "\\`x\\` \\*y\\* \\_z\\_ \\~w\\~ \\$v\\$ \\\\u"),
        ("# head", "\\# head"),
        ("1. first", "1\\. first"),
        ("- item", "\\- item"),
        ("---", "\\---"),
        ("-0.5 and 0.25", "-0.5 and 0.25"),
        ("&amp; 手話", "&amp;amp; 手話"),
    ],
)
def test_markdown_escapes(text: str, shown: str) -> None:
    """Users' text is escaped for Markdown and for HTML."""
    assert markdown(text) == shown


def test_commands_in_a_sentence_are_code() -> None:
    """Text between backticks is shown as it is; a single backtick is a user's."""
    assert prose("a_b (`--set 'x={low: 0}'`) *c*") == r"a\_b (`--set 'x={low: 0}'`) \*c\*"
    assert prose("one ` alone") == markdown("one ` alone")


def test_commands_keep_their_backticks() -> None:
    """A code block does not end at backticks within a command."""
    assert code_block(["a ``` b"]) == "````sh\na ``` b\n````"


def test_text_of_users_is_never_markup(place: Path, tiny: Path, cli: Cli) -> None:
    """Users' text is never markup, neither in the note nor in the plots."""
    data = place / "data"
    shutil.copytree(tiny, data)
    names = {EVIL: 0, "手話 & co": 1, LINK: 2}
    (data / "sign_to_prediction_index_map.json").write_text(json.dumps(names), encoding="utf-8")
    search_for(cli, data, TINY_STUDY.replace("about: A small search", f"about: 'Is {EVIL} a {LINK}?'"), 2)
    filled()
    assert f"## Is {markdown(EVIL)} a \\[x\\](javascript:alert(1))?" in note()
    for text in [note(), *plots().values()]:
        assert EVIL[:8] not in text.replace("\\u003c", "<")
    assert artifacts()[0] == FILES


def test_all_failed(searched_copy: Path) -> None:
    """If all trials failed there is no answer, and every trial's note has the reason."""
    execute("UPDATE trials SET state = 'FAIL'", "DELETE FROM trial_values")
    filled()
    assert "**There is no answer yet.**" in note()
    assert all("**Failed**: no reason was recorded" in note(number) for number in range(6))
    assert artifacts() == {number: ["config.yaml", "curve.csv"] for number in range(6)}


def test_all_pruned(searched_copy: Path) -> None:
    """Pruned trials have their files, but no image."""
    execute("UPDATE trials SET state = 'PRUNED'", "DELETE FROM trial_values")
    filled()
    assert "6 pruned" in note()
    assert artifacts()[3] == ["config.yaml", "curve.csv"]


def test_one_trial_and_several_objectives(place: Path, tiny: Path, cli: Cli) -> None:
    """A study with one trial has a note; the trade-off of several objectives is left to optuna-dashboard, which has its own."""
    search_for(cli, tiny, TWO_GOALS, 1)
    filled()
    assert "Nothing has beaten the baseline so far." in note()
    execute("DELETE FROM study_system_attributes WHERE key = 'study:metric_names'")
    search_for(cli, tiny, TWO_GOALS, 4)
    filled()
    assert not {"search-front", "search-history", "search-timeline"} & plots().keys()
    (names,) = rows("SELECT value_json FROM study_system_attributes WHERE key = 'study:metric_names'")
    assert json.loads(names[0]) == ["parameters", "val_loss"]


def test_without_files(confirmed: Path) -> None:
    """The page is filled without the trials' files; plots and notes that are no longer needed are removed."""
    filled()
    drawn = plots().keys()
    shutil.rmtree("runs/tiny")
    execute("DELETE FROM study_user_attributes WHERE key = 'confirmed'")
    before = {number: note(number) for number in range(6)}
    filled()
    assert plots().keys() < drawn
    assert "search-confusion" not in plots()
    gone = [number for number in before if before[number] and not note(number)]
    assert all("**A new best**" not in before[number] for number in gone)
    assert not any("**Trained again**" in note(number) for number in range(6))
    assert artifacts()[0] == FILES


def test_a_deleted_file_stays_deleted(searched_copy: Path) -> None:
    """A file that a person deleted is not added again."""
    filled()
    execute(
        "UPDATE trial_system_attributes SET value_json = '\"null\"' WHERE key LIKE 'artifacts:%' AND value_json LIKE '%curve%'"
    )
    before = dump()
    filled()
    assert dump() == before


def test_a_file_that_is_gone_is_written_again(searched_copy: Path) -> None:
    """As with a study whose files a copy of it names too; the attributes stay as they are."""
    filled()
    before = dump()
    for path in (RUNS / "artifacts").glob("*"):
        path.unlink()
    filled()
    assert dump() == before


def test_the_page_sees_new_files(searched_copy: Path) -> None:
    """New files of finished trials are shown at once, although Optuna caches finished trials."""
    with opened() as (study, storage):
        trials = storage.get_all_trials(study._study_id, deepcopy=False)
        fill_page(study, storage, url=URL, runs=RUNS)
        assert all(sum(key.startswith("artifacts:") for key in trial._system_attrs) == 3 for trial in trials)


def test_full_disk(searched_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be written is not in the database, and is added the next time."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("optuna.artifacts.FileSystemArtifactStore.write", full)
        with opened() as (study, storage):
            done = fill_page(study, storage, url=URL, runs=RUNS)
    assert [str(fault) for fault in done.errors] == ["[Errno 28] No space left on device"]
    assert "A small search" in note()
    assert artifacts() == {number: [] for number in range(6)}
    assert filled().artifacts == 18


def test_a_figure_that_breaks(searched_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a figure fails, the plots before it are saved, and existing plots, notes and files stay."""
    filled()
    there = plots().keys()

    def broken(facts: Facts) -> Iterator[Any]:
        yield next(iter(figures(facts)))
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(search.reporting.dashboard.page, "figures", broken)
    with opened() as (study, storage):
        done = fill_page(study, storage, url=URL, runs=RUNS)
    assert [type(fault) for fault in done.errors] == [ZeroDivisionError]
    assert plots().keys() == there
    assert done.artifacts == 18


def test_a_long_study(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a long study every figure is saved, there are few notes, and filling again writes nothing."""
    monkeypatch.chdir(many_trials(tmp_path / "many", 500, searched))
    with opened() as (study, storage):
        every = figures(Facts(study, storage, url=URL, runs=RUNS))
        drawn = sum(one.plot is not None and one.name not in DRAWN_BY_OPTUNA for one in every)
    done = filled()
    assert done.plots == drawn
    assert 0 < done.notes <= 71
    before = dump()
    filled()
    assert dump() == before


def test_two_dashboards(searched_copy: Path) -> None:
    """Two that fill the page at the same time add no file twice."""
    with opened() as (study, storage), opened() as (other, second):
        pairs = ((study, storage), (other, second))
        threads = [threading.Thread(target=fill_page, args=pair, kwargs={"url": URL, "runs": RUNS}) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert artifacts() == dict.fromkeys(range(6), FILES)
    assert note() != ""
    before = dump()
    filled()
    assert dump() == before


def test_a_page_filled_by_an_earlier_version(searched_copy: Path) -> None:
    """The images that it added stay, and no second one is added."""
    filled()
    execute("UPDATE trial_system_attributes SET value_json = replace(value_json, 'confusion.svg', 'confusion.png')")
    before = dump()
    filled()
    assert dump() == before
    assert artifacts()[0] == ["config.yaml", "confusion.png", "curve.csv"]


def wait_for_the_files_of(trial: int) -> None:
    """Waits until the page shows the files of a trial."""
    deadline = time.monotonic() + 60
    while artifacts()[trial] != FILES:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_it_fills_while_a_search_runs(searched_copy: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is filled in the background, and again when there are new trials; it notifies once and stops at once."""
    monkeypatch.setattr("search.reporting.dashboard.background._POLL_S", 0.05)
    monkeypatch.setattr("search.reporting.dashboard.background._MIN_PAUSE_S", 0.05)
    monkeypatch.setattr("search.reporting.dashboard.background._PAUSE_FACTOR", 0)
    told = threading.Event()
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        told.set()

    with opened() as (study, storage):
        filler = PageFiller(study, storage, url=URL, runs=RUNS, notify=tell)
        filler.start()
        assert told.wait(60)
        before = plots()["search-parallel"]
        assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 7).code == 0
        wait_for_the_files_of(6)
        filler.stop()
        assert not filler._thread.is_alive()
    assert plots()["search-parallel"] != before
    assert len(said) == 1
    assert said[0].startswith("filled: note, ")


def test_it_fills_once_more_when_a_search_ends(
    searched_copy: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the pause is that a large study needs, the page shows the last state as soon as the search has ended."""
    monkeypatch.setattr("search.reporting.dashboard.background._POLL_S", 0.01)
    monkeypatch.setattr("search.reporting.dashboard.background._MIN_PAUSE_S", 3600)
    told = threading.Event()
    with opened() as (study, storage):
        filler = PageFiller(study, storage, url=URL, runs=RUNS, notify=lambda line: told.set())
        filler.start()
        assert told.wait(60)
        assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 7).code == 0
        wait_for_the_files_of(6)
        filler.stop()


def test_errors_are_notified_once(searched_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are notified once, with a hint, and never raised."""

    def broken(*_: object, **__: object) -> FillResult:
        return FillResult(errors=[PermissionError(13, "Permission denied", "runs/artifacts"), ZeroDivisionError("a fault")])

    said: list[str] = []
    with opened() as (study, storage):
        filler = PageFiller(study, storage, url=URL, runs=RUNS, notify=said.append)
        with monkeypatch.context() as patched:
            patched.setattr(search.reporting.dashboard.page, "fill_page", broken)
            filler.fill_once()
            filler.fill_once()
            assert len(said) == 2
        filler.fill_once()
    assert said[2].startswith("filled: note, "), "what went wrong is tried again"
    assert said[0].startswith("error: the page of the study could not be filled\n  --> runs/artifacts")
    assert "ZeroDivisionError: a fault" in said[1]


def test_a_study_of_another_program(place: Path) -> None:
    """A study of another program is left as it is."""
    (place / "runs").mkdir()
    storage = optuna.storages.RDBStorage(URL)
    optuna.create_study(study_name="tiny", storage=storage)
    storage.engine.dispose()
    said: list[str] = []
    before = dump()
    with opened() as (study, other):
        filler = PageFiller(study, other, url=URL, runs=RUNS, notify=said.append)
        filler.fill_once()
        filler.start()
        filler.stop()
    assert (said, dump()) == ([], before)


def many_answers(words: list[str]) -> list[AnswerCount]:
    """Answers that are often correct; later words are confused more often."""
    right = [AnswerCount(0, word, word, 9) for word in words]
    return right + [AnswerCount(1, word, words[n - 1], n) for n, word in enumerate(words)]


@pytest.mark.parametrize(("count", "drawn"), [(3, 3), (20, 20), (40, 40), (250, 40)])
def test_the_image_is_small(count: int, drawn: int) -> None:
    """However many words there are; the columns and rows are labeled with the words that are drawn."""
    words = [f"word {n}" for n in range(count)]
    svg = confusion_svg(many_answers(words), words, "trial 1")
    assert len(svg) < 60_000
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "trial 1"
    assert sum(text is not None and text.startswith("word ") for text in texts) == 2 * drawn
    assert ("9" in texts) == (count <= 20), "the counts are shown if there is room"


def test_every_label_is_text() -> None:
    """Markup and Japanese are shown as they are; characters that XML forbids are replaced."""
    words = ["$\\x$", EVIL[:16], "手話", "\x00\x1b", "\U0010fffd", "a_b^c", '"&']
    svg = confusion_svg(many_answers(words), words, EVIL)
    found = {element.text for element in ElementTree.fromstring(svg).iter()}
    assert {"$\\x$", EVIL[:16], "手話", "\ufffd\ufffd", "\ufffd", "a_b^c", '"&', EVIL} <= found
    assert "<script" not in svg


@pytest.mark.parametrize("kind", ["postgresql", "journal"])
def test_other_storages(kind: str, place: Path, tiny: Path, request: pytest.FixtureRequest, cli: Cli) -> None:
    """The page is filled on a database server, and in a journal without files of trials."""
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else "journal:///studies.journal"
    assert cli("run", "tiny.yaml", "--data", tiny, "--storage", url).code == 0
    storage = open_storage(url, create=False)
    said: list[str] = []
    for _ in range(2):
        PageFiller(load_study(storage, "tiny", print), storage, url=url, runs=Path("runs"), notify=said.append).fill_once()
    assert len(said) == 2
    assert all(line.startswith("filled: note, ") and "plots" in line for line in said)
    assert all(("artifacts" in line) == (kind == "postgresql") for line in said)
    notes = [key for key in storage.get_study_system_attrs(storage.get_study_id_from_name("tiny")) if "note" in key]
    assert notes
