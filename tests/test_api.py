"""The search as a library: the same searches, numbers and files as the command line, in scripts and notebooks."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from conftest import Cli
from launch import TINY_STUDY, environment

from model import load_bundle
from search.api import Choices, ExplainedError, Range, define, load
from search.definition.samplers import Tpe
from search.definition.yaml_text import parse_yaml
from search.errors import DefinitionError
from search.events import Event, RunFinished, RunStarted, TrialFinished


def test_the_same_study_three_times(place: Path) -> None:
    """A study file, its content and its content with dataclasses are one study."""
    content = parse_yaml(TINY_STUDY, "tiny.yaml")
    parts = {
        **content,
        "sampler": Tpe(startup=4),
        "space": {
            "label_smoothing": Range(low=0.0, high=0.6),
            "lr": Range(low=1e-4, high=1e-1, log=True),
            "dropout": Range(low=0.0, high=0.5),
        },
    }
    studies = [define("tiny.yaml"), define(content, name="tiny"), define(parts, name="tiny")]
    one, two, three = (
        dataclasses.replace(study.definition, source="", origins={}) for study in studies if study.definition is not None
    )
    assert one == two == three
    assert define(one, name="other").name == "other"


def test_changes_are_those_of_set(place: Path) -> None:
    """Values and dataclasses by key; an unknown key is an error."""
    changes = {"epochs": np.int64(7), "space.dropout": Choices(choices=[0.1, 0.2])}
    changed, typed = define("tiny.yaml", changes=changes), define("tiny.yaml", changes=["epochs=7"])
    assert changed.definition is not None
    assert typed.definition is not None
    assert changed.definition.max_epochs == typed.definition.max_epochs == 7
    assert changed.definition.space[-1].domain == Choices(choices=[0.1, 0.2])
    with pytest.raises(DefinitionError, match="did you mean"):
        define("tiny.yaml", changes={"epoch": 7})


def test_as_the_command_line(place: Path, tiny: Path, cli: Cli) -> None:
    """A search by the library and one by commands give the same trials; each continues and reads the other's."""
    seen: list[Event] = []
    study = define("tiny.yaml", data=tiny, storage="sqlite:///a.db", runs="a")
    with pytest.raises(DefinitionError, match="there is no study database yet"):
        study.trials()
    ended = study.run(trials=3, callback=seen.append, progress=False)
    kinds = [type(event) for event in seen]
    assert [kinds.count(kind) for kind in (RunStarted, TrialFinished, RunFinished)] == [1, 3, 1]
    assert seen[-1] == ended
    assert ended.finished == 3
    where = ("--storage", "sqlite:///a.db", "--runs", "a")
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 4, *where).code == 0
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 4, "--storage", "sqlite:///b.db", "--runs", "b").code == 0

    printed = cli("trials", "tiny", "--format", "jsonl", "--storage", "sqlite:///b.db").out
    assert list(map(timeless, study.trials())) == [timeless(json.loads(line)) for line in printed.splitlines()]
    confirmed = study.confirm(top=1, seeds=2, progress=False)
    assert confirmed is not None
    assert json.loads(cli("status", "tiny", "--json", "--storage", "sqlite:///a.db").out)["confirmed"] is not None

    file = study.export("best.yaml")
    ours = re.sub("exported: .*", "", file.read_text(encoding="utf-8"))
    assert ours == re.sub("exported: .*", "", cli("export", "tiny", "--storage", "sqlite:///a.db").out)
    assert study.configuration(2)[0].trial == 2
    assert len(load_bundle(study.export_model("model")).words) == 3
    assert load(storage="sqlite:///a.db", runs="a").name == "tiny"
    assert study.choice().trial.number == confirmed.found.recommended
    plain = optuna.load_study(study_name="tiny", storage="sqlite:///a.db")
    assert plain.best_value == study.optuna.best_value
    assert study.report().save("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    """A trial's row without what differs from run to run."""
    return {name: value for name, value in row.items() if name not in ("schema", "seconds")}


def test_what_is_wrong_is_said(searched_copy: Path) -> None:
    """Each mistake has an error that says what to do."""
    with pytest.raises(DefinitionError, match="needs a name"):
        define({"space": {"lr": Range(low=1e-4, high=1e-1)}})
    with pytest.raises(ExplainedError, match="holds no study `nothing`"):
        load("nothing")
    with pytest.raises(DefinitionError, match="has no definition here"):
        load("tiny").run()
    with pytest.raises(DefinitionError, match="were both given"):
        define("tiny.yaml").run(3, more=1)
    with pytest.raises(DefinitionError, match="is out of its range"):
        define("tiny.yaml").run(0)
    with pytest.raises(DefinitionError, match="has no trial 99"):
        load("tiny").configuration(99)
    for wrong in ({"workers": 0}, {"max_failures": -1}, {"max_restarts": -1}, {"more": 0}):
        with pytest.raises(DefinitionError, match="is out of its range"):
            define("tiny.yaml").run(**wrong)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="is out of its range"):
        load("tiny").confirm(seeds=0)
    with pytest.raises(DefinitionError, match="has its settings and seed"):
        define(define("tiny.yaml").definition, changes={"epochs": 3})  # type: ignore[arg-type]
    Path("mine.yaml").touch()
    with pytest.raises(DefinitionError, match="the file exists already"):
        load("tiny").export("mine.yaml")
    assert load("tiny").export("mine.yaml", force=True).stat().st_size > 0
    with pytest.raises(TypeError):
        define("tiny.yaml").run(worker=2)  # type: ignore[call-arg]


def test_a_table(searched_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials as a DataFrame, where pandas is installed."""
    frame = load("tiny").frame()
    assert list(frame.index) == list(range(6))
    assert frame["param_lr"].gt(0).all()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DefinitionError, match="pandas"):
        load("tiny").frame()


def test_in_a_notebook(tiny: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real kernel: a search with two workers, its progress, and the report below a cell."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    cells = [
        "from search.api import define",
        f"study = define('tiny.yaml', data={str(tiny)!r})\nended = study.run(trials=2, workers=2)",
        "study.report()",
        "study.frame()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with warnings.catch_warnings(action="ignore"):  # the client's own
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(place))
    _, run, report, frame = (cell.outputs for cell in notebook.cells)
    assert "2/2" in "".join(output["text"] for output in run if output.output_type == "stream")
    assert "Warning" not in str(notebook)
    assert report[0]["data"]["text/html"].startswith("<iframe srcdoc=")
    assert "param_dropout" in frame[0]["data"]["text/html"]
