"""The text of reports of all kinds of studies. How a browser shows them is tested in test_report_page.py."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
from conftest import Cli
from launch import CONFIRM, TINY_STUDY, stored_trials
from many import many_trials

from search.reporting.dashboard.page import MAX_PLOT_CHARACTERS, titled
from search.reporting.facts import Facts
from search.reporting.figures.answers import mean_ece, shown_words, word_counts
from search.reporting.figures.every import figures
from search.reporting.figures.figure import Figure
from search.reporting.figures.marks import chance, chance_line
from search.storage.opening import open_storage
from search.study.study import load_study
from search.study.trials import trial_result

DATABASE = "sqlite:///runs/studies.db"
NAMES = [
    "confirmation",
    "importance",
    "isolation",
    "learning-curves",
    "history",
    "slices",
    "contour",
    "parallel",
    "confusion",
    "signers",
    "reliability",
    "timeline",
]
"""Every figure of a study with one objective, in order."""


class Page(HTMLParser):
    """A parsed report: its text, its figures, its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.drawn: list[str] = []
        self.empty: list[str] = []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects tags and figures."""
        self.tags.add(tag)
        self._hidden = tag in ("script", "style")
        found = dict(attrs)
        if tag == "figure":
            (self.drawn if found["class"] == "plot" else self.empty).append(str(found["id"]).removeprefix("figure-"))

    def handle_endtag(self, tag: str) -> None:
        """Text after a script is visible again."""
        self._hidden = False

    def handle_data(self, data: str) -> None:
        """Collects visible text."""
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        """The visible text on one line."""
        return re.sub(r"\s+", " ", "".join(self.words))


def reported(cli: Cli, study: str = "tiny") -> Page:
    """The page that `report` writes."""
    done = cli("report", study)
    assert done.code == 0, done.err
    assert f"wrote runs/{study}/report.html" in done.err
    text = Path(f"runs/{study}/report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 5e6
    return Page(text)


def drawn(study: str = "tiny") -> list[Figure]:
    """The study's figures."""
    storage = open_storage(DATABASE, create=False)
    return list(figures(Facts(load_study(storage, study, print), storage, url=DATABASE, runs=Path("runs"))))


def search(cli: Cli, tiny: Path, text: str = TINY_STUDY, trials: int = 4, *more: str) -> int:
    """Searches with a study file of this text."""
    Path("tiny.yaml").write_text(text, encoding="utf-8")
    return cli("run", "tiny.yaml", "--data", tiny, "--trials", trials, *more).code


def fail(numbers: Iterator[int] | range, reason: str = "a reason") -> None:
    """Turns finished trials in the database into failed ones."""
    import sqlite3

    with sqlite3.connect("runs/studies.db") as database:
        for number in numbers:
            (trial,) = database.execute("SELECT trial_id FROM trials WHERE number = ?", (number,)).fetchone()
            database.execute("UPDATE trials SET state = 'FAIL' WHERE trial_id = ?", (trial,))
            database.execute("DELETE FROM trial_values WHERE trial_id = ?", (trial,))
            database.execute(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, 'reason', ?)",
                (trial, json.dumps(reason)),
            )


def test_a_searched_study(searched_copy: Path, cli: Cli) -> None:
    """Without a confirmation the best trial is named with a warning, and empty figures say why they are empty."""
    page = reported(cli)
    best = json.loads(cli("status", "tiny", "--json").out)["best"]
    assert f"Trial {best['trial']} is the best so far, but not confirmed." in page.text
    assert "its value is partly luck" in page.text
    assert "islr-search confirm tiny" in page.text
    assert "No setting has been trained with fresh seeds yet" in page.text
    assert [name for name in NAMES if name in page.drawn or name in page.empty] == NAMES
    assert page.drawn + page.empty != page.drawn, "nothing was confirmed: that figure is empty"
    assert set(page.empty) == {"confirmation", "importance"}


def test_a_confirmed_study(confirmed: Path, cli: Cli) -> None:
    """The recommended trial, its verdict and the noise are shown."""
    page = reported(cli)
    told = json.loads(cli("status", "tiny", "--json").out)["confirmed"]["found"]
    assert told["verdict"] in page.text
    assert told["why"].rstrip(".")[1:] in page.text
    assert f"{told['noise']:.4f}" in page.text or "seed to seed" in page.text
    assert "confirmation" in page.drawn
    told = re.search(r"with fresh seeds gave \d+ correct answers of \d+ \(\d+%\) to 12 clips", page.text)
    assert told, "the confusion matrix is of the fresh trainings"


def test_one_interval_for_one_number(confirmed: Path, cli: Cli) -> None:
    """The mean of a setting that was chosen from several has its widened interval everywhere, and the correction is named."""
    study = optuna.load_study(study_name="tiny", storage=DATABASE)
    told = json.loads(study.user_attrs["confirmed"])
    found = told["found"]
    (n,) = [n for n, row in enumerate(found["rows"]) if row["trial"] == found["recommended"]]
    found |= {"picked_from": 2, "low": found["low"] - 0.01, "high": found["high"] + 0.01}
    study.set_user_attr("confirmed", json.dumps(told))
    page = reported(cli)
    html = Path("runs/tiny/report.html").read_text(encoding="utf-8")
    assert f'data-of="confirm.found.rows.{n}.low"' not in html
    assert len(re.findall(r'data-of="confirm\.found\.low"', html)) == 2, "in the answer and in the table"
    assert "is widened because it was chosen from 2 candidates (Bonferroni)" in page.text


def test_captions(confirmed: Path) -> None:
    """Each figure has a caption of its own with numbers of the study."""
    captions = {figure.name: figure.caption for figure in drawn()}
    assert list(captions) == NAMES
    assert len(set(captions.values())) == len(captions)
    for name, caption in captions.items():
        assert not caption[0].islower(), name
        assert caption.endswith("."), name
        assert re.search(r"\d", caption), name


def test_one_trial(place: Path, tiny: Path, cli: Cli) -> None:
    """A study with only the baseline has a report."""
    assert search(cli, tiny, trials=1) == 0
    page = reported(cli)
    assert "Nothing has beaten the baseline so far." in page.text
    assert "history" in page.drawn
    assert "contour" in page.empty


def test_all_failed(searched_copy: Path, cli: Cli) -> None:
    """If all trials failed there is no answer, the reasons are listed, and no figure fails."""
    fail(range(6), "it broke & <b>burned</b>")
    page = reported(cli)
    assert "There is no answer yet." in page.text
    assert "6 of 6 trials failed" in page.text
    assert "it broke & <b>burned</b>" in page.text
    assert set(page.drawn) <= {"timeline"}


def test_all_pruned(place: Path, tiny: Path, cli: Cli) -> None:
    """Pruned trials have values, but none of them is the answer."""
    import sqlite3

    assert search(cli, tiny) == 0
    with sqlite3.connect("runs/studies.db") as database:
        database.execute("UPDATE trials SET state = 'PRUNED'")
        database.execute("DELETE FROM trial_values")
    page = reported(cli)
    assert "none has trained to its end: 4 pruned" in page.text
    assert "history" in page.drawn


def test_no_trials(place: Path, tiny: Path, cli: Cli) -> None:
    """A study without trials has a report."""
    import sqlite3

    assert search(cli, tiny, trials=1) == 0
    with sqlite3.connect("runs/studies.db") as database:
        for table in ("trial_values", "trial_params", "trial_user_attributes", "trial_intermediate_values", "trials"):
            database.execute(f"DELETE FROM {table}")
    page = reported(cli)
    assert "No trial has started." in page.text
    assert page.drawn == []


def test_several_objectives(place: Path, tiny: Path, cli: Cli) -> None:
    """The trade-off of several objectives has a figure."""
    two = TINY_STUDY + "objective:\n  - {metric: parameters}\n  - {metric: val_loss}\n"
    two = two.replace(", ffn_width: 16", "").replace("space:", "space:\n  ffn_width: {choices: [16, 32, 64]}")
    two = two.replace("baseline: {", "baseline: {ffn_width: 16, ")
    assert search(cli, tiny, two) == 0
    page = reported(cli)
    assert "front" in page.drawn
    assert "no other trial is at least as good in all of parameters and val_loss" in page.text
    trial = stored_trials(place)[0]
    assert page.text.count(f"{trial.values[0]:,.0f}") >= 2, "in the answer and among the best trials"


def test_a_grid_with_repeats(place: Path, tiny: Path, cli: Cli) -> None:
    """All settings train with the same seeds; the page and `analyze` compare them with the baseline by every reading."""
    grid = TINY_STUDY[: TINY_STUDY.index("space:")].replace("{name: tpe, startup: 4}", "{name: grid}") + "repeats: 3\n"
    grid += "space:\n  label_smoothing: {choices: [0.0, 0.2, 0.5], role: scientific}\nbaseline: {label_smoothing: 0.0}\n"
    assert search(cli, tiny, grid, 3) == 0
    assert len({trial.user_attrs["seed"] for trial in stored_trials(place)}) == 1
    found = json.loads(cli("analyze", "tiny", "--json").out)["grid"]
    assert (found["repeats"], found["is_paired"], found["comparisons"]) == (3, True, 2)
    assert [reading["name"] for reading in found["readings"]] == ["val_loss", "val_loss_ts", "val_ece", "val_top1", "val_top5"]
    rows = found["readings"][0]["rows"]
    results = [trial_result(trial) for trial in stored_trials(place)]
    assert [row["mean"] for row in rows] == pytest.approx([result["val_loss"] for result in results])
    assert found["verdict"] in cli("analyze", "tiny").out
    page = reported(cli)
    assert "settings" in page.drawn
    assert found["verdict"][1:] in page.text
    assert f"{rows[1]['change']:+.4f}" in page.text
    assert f"{rows[1]['change_low']:+.4f} to {rows[1]['change_high']:+.4f}" in page.text
    assert "widened because 2 settings are compared with the baseline (Bonferroni)" in page.text
    assert "val_error_mean_last_5" in page.text
    assert "its value is partly luck" not in page.text


def test_choices_and_conditions(place: Path, tiny: Path, cli: Cli) -> None:
    """Categorical and conditional parameters are drawn."""
    rows = "  optimizer: {choices: [adam, adamw], role: scientific}\n"
    rows += "  weight_decay: {low: 1.0e-4, high: 1.0e-1, log: true, when: {optimizer: adamw}}\n"
    some = TINY_STUDY.replace("space:\n", f"space:\n{rows}").replace("baseline: {", "baseline: {optimizer: adam, ")
    assert search(cli, tiny, some, 6) == 0
    page = reported(cli)
    assert {"slices", "isolation", "parallel", "contour"} <= set(page.drawn) | {"contour"}
    assert "The best by optimizer" in page.text


def test_missing_files(confirmed: Path, cli: Cli) -> None:
    """Without the trials' files there is a report that says what is missing."""
    shutil.rmtree("runs/tiny")
    page = reported(cli)
    assert "the files of the trials are missing" in page.text
    assert "no answers of the models" in page.text
    assert set(page.empty) >= {"learning-curves", "confusion", "signers", "reliability"}
    assert "history" in page.drawn


def test_text_of_users_is_never_markup(place: Path, tiny: Path, cli: Cli) -> None:
    """Users' text is never markup: in the page, in figures, in labels."""
    evil = "<script>alert(1)</script>"
    data = place / "data"
    shutil.copytree(tiny, data)
    words = data / "sign_to_prediction_index_map.json"
    names = [evil, "手話 & co", "`x` [y](z) <b>"]
    words.write_text(json.dumps({name: n for n, name in enumerate(names)}), encoding="utf-8")
    assert search(cli, data, TINY_STUDY.replace("about: A small search", f"about: 'Is {evil} any good?'"), 2) == 0
    page = reported(cli)
    assert f"Is {evil} any good?" in page.text
    html = Path("runs/tiny/report.html").read_text(encoding="utf-8")
    assert evil not in html
    (confusion,) = [figure for figure in drawn() if figure.name == "confusion"]
    assert confusion.plot is not None
    assert evil[:8] not in confusion.plot.to_json().replace("\\u003c", "<")
    assert "手話" in html


def test_output(searched_copy: Path, cli: Cli, tmp_path: Path) -> None:
    """`--output` writes elsewhere; an unwritable place is an error."""
    assert cli("report", "tiny", "--output", tmp_path / "new" / "page.html").code == 0
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    Path("file").write_text("")
    done = cli("report", "tiny", "--output", "file/page.html")
    assert done.code == 2
    assert "the output file cannot be written" in done.err
    assert cli("report", "none").code == 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [500, 5000])
def test_many(searched: Path, tmp_path: Path, cli: Cli, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of a long study has less than 5 MB, and each figure fits into the dashboard."""
    folder = tmp_path / "many"
    many_trials(folder, count, searched)
    monkeypatch.chdir(folder)
    reported(cli)
    sizes = {figure.name: len(titled(figure).to_json()) for figure in drawn() if figure.plot is not None}
    assert max(sizes.values()) < MAX_PLOT_CHARACTERS, sizes


def test_calibration_error_is_the_mean_of_the_models(place: Path, tiny: Path, cli: Cli) -> None:
    """The calibration error shown is the mean of the models' recorded errors; pooled bins would let errors cancel."""
    folded = ("--set", "data.folds=4", "--set", "data.test=none", "--set", "repeats=2")
    assert search(cli, tiny, TINY_STUDY, 1, *folded) == 0
    storage = open_storage(DATABASE, create=False)
    facts = Facts(load_study(storage, "tiny", print), storage, url=DATABASE, runs=Path("runs"))
    clips = facts.model_answers(facts.chosen)
    assert clips is not None
    assert clips.models == 8
    trained = [row for row in clips.confidences if row.temperature == 1.0]
    assert mean_ece(trained) == pytest.approx(trial_result(facts.trials[0])["val_ece"])


def test_confused_words_are_drawn() -> None:
    """The most frequent confusions are among the words drawn, and rows are shares of all answers to a word."""
    words = [f"w{n}" for n in range(60)]
    counts = Counter({(word, word): 5 for word in words} | {("w0", "w59"): 9} | {(f"w{n}", "w1"): 3 for n in range(2, 50)})
    chosen = shown_words(words, counts)
    assert len(chosen) == 40
    assert {"w0", "w59", "w1"} <= set(chosen)
    assert word_counts(counts)["w0"] == 14


def test_search_continued_after_an_opening(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """Test results are shown beside the answer, with a warning if the search continued afterwards."""
    assert "sealed, never opened" in reported(cli).text
    assert cli("test", "tiny").code == 0
    page = reported(cli)
    assert "opened for `tiny` once" not in page.text, "names stand as code, without their marks"
    assert "opened for tiny once" in page.text
    assert "they are no independent test now" not in page.text
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 7).code == 0
    assert "they are no independent test now" in reported(cli).text


def test_two_studies(confirmed: Path, tiny: Path, cli: Cli) -> None:
    """Two studies side by side: what differs, what each found, and which found the better setting once both are confirmed."""
    more = ("--set", "epochs=3", "--set", "space.dropout={low: 0.0, high: 0.3}")
    assert cli("run", "tiny.yaml", "--as", "other", "--data", tiny, "--trials", 3, *more).code == 0
    done = cli("report", "tiny", "other")
    assert done.code == 0, done.err
    assert "wrote runs/tiny-vs-other.html" in done.err
    html = Path("runs/tiny-vs-other.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "It is not decided which study found the better setting. That needs a confirmation of both." in page.text
    assert "other is not confirmed" in page.text
    assert "train.epochs23" in page.text
    assert "model.dropoutsearched: 0.0 .. 0.5searched: 0.0 .. 0.3" in page.text
    assert "train.lrsearched" not in page.text, "it is the same in both"
    assert {"confirmation", "history"} <= set(page.drawn)
    assert cli("confirm", "other", "--top", 1, "--seeds", 3).code == 0
    assert cli("report", "tiny", "other").code == 0
    page = Page(Path("runs/tiny-vs-other.html").read_text(encoding="utf-8"))
    told = [json.loads(cli("status", name, "--json").out)["confirmed"]["found"] for name in ("tiny", "other")]
    means = [next(row["mean"] for row in found["rows"] if row["trial"] == found["recommended"]) for found in told]
    assert re.search(r"(Neither study is shown to have found|found) the better setting", page.text)
    assert "on the same validation signers" in page.text
    assert all(f"{mean:.4f}" in page.text for mean in means)


def test_studies_that_cannot_be_compared(searched_copy: Path, tiny: Path, cli: Cli) -> None:
    """Other data, other validation signers and another objective are named; a study and itself are refused."""
    assert cli("run", "tiny.yaml", "--as", "other", "--data", tiny, "--trials", 1, "--set", "data.folds=2").code == 0
    metric = "objective={metric: val_error}"
    assert cli("run", "tiny.yaml", "--as", "errors", "--data", tiny, "--trials", 1, "--set", metric).code == 0
    reasons = {"other": "they validate on other signers", "errors": "tiny minimizes val_loss, errors val_error"}
    for name, reason in reasons.items():
        assert cli("report", "tiny", name).code == 0
        page = Page(Path(f"runs/tiny-vs-{name}.html").read_text(encoding="utf-8"))
        assert "These studies cannot be compared." in page.text
        assert reason in page.text
        assert page.drawn == [], "values that do not mean the same are not drawn together"
    done = cli("report", "tiny", "tiny")
    assert (done.code, Path("runs/tiny-vs-tiny.html").exists()) == (2, False)
    assert "a study cannot be compared with itself" in done.err


def test_baseline_and_chance_are_drawn(searched_copy: Path) -> None:
    """Each figure of values has the baseline, by name; chance is drawn where it is near, and else named in the caption."""
    found = {figure.name: figure for figure in drawn()}
    for name in ("isolation", "history", "slices", "contour", "parallel", "learning-curves", "signers"):
        plot = found[name].plot
        assert plot is not None
        assert any("baseline" in str(trace.name) for trace in plot.data), name
    for name in ("isolation", "history", "slices", "learning-curves"):
        plot = found[name].plot
        assert plot is not None
        assert "chance, ln 3 = 1.099" in found[name].caption, name
        lines = [shape.y0 for shape in plot.layout.shapes if shape.yref == "y"]
        assert lines == ([] if "Not shown: chance" in found[name].caption else [pytest.approx(math.log(3))]), name


def test_chance_far_above_is_only_named() -> None:
    """A line far above all values would press them together: it is named instead."""
    plot = go.Figure()
    assert chance_line(plot, "val_loss", 9, [0.1, 0.3]) == " Not shown: chance, ln 9 = 2.197, lies above the axis."
    assert chance_line(plot, "val_loss", 9, [0.1, 1.6]) == " The dotted line is chance, ln 9 = 2.197."
    assert chance_line(plot, "parameters", 9, [1.0, 2.0]) == ""
    assert [shape.y0 for shape in plot.layout.shapes] == [pytest.approx(2.1972, abs=1e-4)]
    assert chance("val_error", 4) == (0.75, "1 - 1/4")


def test_contour_only_near_trials(searched_copy: Path) -> None:
    """The contour is blank further than 15% of the ranges from every trial."""
    (contour,) = [figure.plot for figure in drawn() if figure.name == "contour"]
    assert contour is not None
    surface, dots = contour.data[0], contour.data[1]
    places = [_unit(surface.x, dots.x, log=False), _unit(surface.y, dots.y, log=True)]
    side = np.linspace(0, 1, len(surface.x))
    known = [(i, j) for j, row in enumerate(surface.z) for i, z in enumerate(row) if z is not None and not math.isnan(z)]
    assert 0 < len(known) < len(side) ** 2
    for i, j in known:
        assert np.hypot(places[0] - side[i], places[1] - side[j]).min() <= 0.15 + 1e-3


def _unit(axis: Sequence[float], values: Sequence[float], *, log: bool) -> np.ndarray:
    """Positions of values between the ends of an axis, 0..1."""
    scale = np.log if log else np.asarray
    low, high, at = scale(axis[0]), scale(axis[-1]), scale(np.array(values))
    return np.asarray((at - low) / (high - low))


def test_offline(searched_copy: Path, cli: Cli) -> None:
    """The page refers to nothing outside itself."""
    reported(cli)
    html = Path("runs/tiny/report.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', html)
    assert "@import" not in html
    assert "url(" not in html


def test_a_report_while_it_searches(searched_copy: Path, cli: Cli) -> None:
    """A trial in training is counted as running."""
    study = optuna.load_study(study_name="tiny", storage=DATABASE)
    study.ask()
    page = reported(cli)
    assert "1 running" in page.text


def test_confirming_again_changes_the_page(searched_copy: Path, cli: Cli) -> None:
    """A report shows the current state of the study."""
    before = reported(cli).text
    assert cli(*CONFIRM).code in (0, 1)
    after: Any = reported(cli).text
    assert before != after
    assert "not confirmed" not in after
