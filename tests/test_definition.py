"""Study files and `--set`: what is accepted, what is refused, and with which error."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from launch import ROOT, TINY_STUDY

from search.definition.assignments import SECTIONS
from search.definition.definition import StudyDefinition
from search.definition.describe import definition_rows
from search.definition.ranges import Range
from search.definition.settings import settings
from search.definition.study_file import known_studies, load_definition, study_name, validate_name
from search.definition.yaml_text import dump_yaml, parse_yaml
from search.errors import DefinitionError
from search.study.identity import identity

SPACE = "space: {lr: {low: 1e-5, high: 1e-2, log: true}}\n"
LAST_LINE = re.compile(r"(expected|hint): \S.*")


def load(text: str, *sets: str, folder: Path) -> StudyDefinition:
    """The definition of a study file with this text."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_definition(str(path), sets)


def error_of(text: str, *sets: str, folder: Path) -> str:
    """The error for a text. Its lines must come in order, and the last one must be `expected` or `hint`."""
    with pytest.raises(DefinitionError) as caught:
        load(text, *sets, folder=folder)
    lines = caught.value.render().splitlines()
    assert lines[0].startswith("error: ")
    assert LAST_LINE.fullmatch(lines[-1]), lines
    order = [line.split(":")[0] for line in lines[1:] if not line.startswith("  --> ")]
    assert [part for part in ("got", "expected", "hint") if part in order] == order
    return "\n".join(lines).replace(str(folder / "mine.yaml"), "FILE")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("fixed: {lr: 1e-4}\nspace: {dropout: {low: 0, high: 0.5}}", "train.lr", 1e-4),
        ("fixed: {lr: 1E-4}\nspace: {dropout: {low: 0, high: 0.5}}", "train.lr", 1e-4),
        ("fixed: {lr: 3e-4}\nspace: {dropout: {low: 0, high: 0.5}}", "train.lr", 3e-4),
        ("fixed: {lr: .5e-3}\nspace: {dropout: {low: 0, high: 0.5}}", "train.lr", 5e-4),
        ("fixed: {train.lr: 1}\nspace: {dropout: {low: 0, high: 0.5}}", "train.lr", 1.0),
        ("fixed: {model.width: 32}\n" + SPACE, "model.width", 32),
        ("fixed: {activation: gelu}\n" + SPACE, "model.activation", "gelu"),
        ("fixed: {norm_first: false}\n" + SPACE, "model.norm_first", False),
    ],
)
def test_values_are_read(text: str, key: str, value: object, tmp_path: Path) -> None:
    """Numbers are read in any notation, and keys may be bare or dotted."""
    found = load(text, folder=tmp_path).fixed
    assert found == {key: value}
    assert type(found[key]) is type(value)


@pytest.mark.parametrize(
    ("text", "first", "contains"),
    [
        ("fixed: {lrr: 1}\n" + SPACE, "unknown key `lrr`", "hint: did you mean `train.lr`?"),
        ("fixed: {train.learning_rte: 1}\n" + SPACE, "unknown key `train.learning_rte`", "hint: did you mean `train.lr`?"),
        ("fixed: {learning_rate: 1}\n" + SPACE, "unknown key `learning_rate`", "hint: did you mean `train.lr`?"),
        ("fixed: {zzzzzzz: 1}\n" + SPACE, "unknown key `zzzzzzz`", "--dry-run"),
        ("space: {drpout: {low: 0, high: 0.5}}", "unknown key `drpout`", "hint: did you mean `model.dropout`?"),
        (SPACE + "baseline: {lrr: 1}", "unknown key `lrr`", "did you mean"),
        (SPACE + "spce: {}", "unknown key `spce`", "hint: did you mean `space`?"),
        (SPACE + "pruner: {name: mdian}", "unknown pruner", "hint: did you mean `median`?"),
        (SPACE + "sampler: {name: tpe, startpu: 3}", "unknown key `startpu`", "hint: did you mean `startup`?"),
        (SPACE + "sampler: {name: [tpe]}", "unknown sampler", "got: ['tpe']"),
        (SPACE + "sampler: tpe", "`sampler` is not a mapping", "got: 'tpe'"),
        (SPACE + "data: {trian: rest}", "unknown key `trian`", "hint: did you mean `train`?"),
        (SPACE + "data: {train: all}", "`data.train` has a wrong value", "got: 'all'"),
        (SPACE + "data: {train: []}", "`data.train` has a wrong value", "got: []"),
        (SPACE + "objective: {metric: accuracy}", "`objective.metric` has a wrong value", "expected: 'val_loss'"),
        (SPACE + "objective: {direction: maximize}", "`objective.direction` has a wrong value", "expected: 'minimize'"),
        ("fixed: {epochs: 3, epochs: 4}\n" + SPACE, "this is not valid YAML", "`epochs` is given twice"),
        (SPACE + SPACE, "this is not valid YAML", "`space` is given twice"),
        ("fixed: {width: 32, model.width: 32}\n" + SPACE, "`model.width` is written twice, in two spellings", "FILE: fixed"),
        ("space: {lr: {low: 1, high: 2}, train.lr: {low: 1, high: 2}}", "`train.lr` is written twice", "keep one"),
        ("fixed: {lr: 1}\n" + SPACE, "`train.lr` is both fixed and searched", "remove it from one"),
        ("space: {dropout: {low: 0.0, high: 1.5}}", "`space.dropout.high` has a wrong value", "got: 1.5"),
        ("space: {dropout: {low: -0.1, high: 0.5}}", "`space.dropout.low` has a wrong value", "got: -0.1"),
        ("space: {lr: {low: 0, high: 1, log: true}}", "`space.lr` has wrong values", "cannot start at 0"),
        ("space: {label_smoothing: {low: 0.0, high: 0.6, log: true}}", "`space.label_smoothing` has wrong", "start at 0"),
        ("space: {lr: {low: 0.1, high: 0.1}}", "`space.lr` has wrong values", "not below"),
        ("space: {lr: {low: 0.2, high: 0.1}}", "`space.lr` has wrong values", "not below"),
        ("space: {lr: {low: 0.2}}", "`space.lr` lacks `high`", "expected: low, high, log, step"),
        ("space: {lr: {low: 0.2, hgh: 1}}", "unknown key `hgh`", "hint: did you mean `high`?"),
        ("space: {lr: [0.1, 0.2]}", "`space.lr` is not a mapping", "got: [0.1, 0.2]"),
        ("space: {lr: {low: .nan, high: 1}}", "`space.lr.low` has a wrong value", "got: nan"),
        ("space: {lr: {low: 0.1, high: .inf}}", "`space.lr.high` has a wrong value", "got: inf"),
        ("space: {lr: {low: 0.1, high: 1e999}}", "`space.lr.high` has a wrong value", "got: inf"),
        ("space: {lr: {low: a, high: 1}}", "`space.lr.low` has a wrong value", "got: 'a'\nexpected: integer or number"),
        ("space: {dropout: {low: 0.0, high: 0.5, step: 0.2}}", "`space.dropout` has wrong values", "the last is at 0.4"),
        ("space: {layers: {low: 1, high: 4, step: 2}}", "`space.layers` has wrong values", "the last is at 3"),
        ("space: {dropout: {low: 0.0, high: 0.5, step: -1}}", "`space.dropout` has wrong values", "step must be positive"),
        ("space: {dropout: {low: 0.0, high: 0.5, step: 1e-300}}", "`space.dropout` has wrong values", "too many steps"),
        ("space: {lr: {low: 1, high: 1e308, step: 1}}", "`space.lr` has wrong values", "too many steps"),
        ("space: {layers: {low: 1, high: 3, step: 0.5}}", "`space.layers.step` has a wrong value", "got: 0.5"),
        ("space: {layers: {low: 1.5, high: 3}}", "`space.layers.low` has a wrong value", "got: 1.5"),
        ("space: {activation: {low: 1, high: 3}}", "`space.activation` is not a number", "expected: choices: [...]"),
        ("space: {norm_first: {low: 0, high: 1}}", "`space.norm_first` is not a number", "expected: choices: [...]"),
        ("space: {activation: {choices: [relu, rleu]}}", "`space.activation.choices` has a wrong value", "got: 'rleu'"),
        ("space: {activation: {choices: []}}", "`space.activation` has no choices", "expected"),
        ("space: {lr: {choices: [1, 1.0]}}", "`space.lr` lists a choice twice", "each once"),
        ("space: {}", "the study searches nothing", "FILE: space"),
        ("about: nothing", "the study searches nothing", "FILE: space"),
        (
            "space: {dropout: {low: 0.2, high: 0.5}}\nbaseline: {dropout: 0.1}",
            "the baseline's `dropout` is outside",
            "0.2 .. 0.5",
        ),
        ("space: {dropout: {low: 0.2, high: 0.5}}", "the baseline's `dropout` is outside", "write `dropout` under `baseline`"),
        ("space: {epochs: {choices: [5, 10]}}", "the baseline's `epochs` is outside the space", "expected: 5 | 10"),
        (SPACE + "baseline: {dropout: 0.1}", "`dropout` is not searched", "under `fixed`"),
        ("trials: 0\n" + SPACE, "`trials` has a wrong value", "got: 0"),
        ("trials: 2.5\n" + SPACE, "`trials` has a wrong value", "got: 2.5"),
        ("trials: '5'\n" + SPACE, "`trials` has a wrong value", "got: '5'"),
        ("trials: true\n" + SPACE, "`trials` has a wrong value", "got: True"),
        ("about: [1]\n" + SPACE, "`about` has a wrong value", "got: [1]"),
        ("fixed: {epochs: 0}\n" + SPACE, "`epochs` has a wrong value", "FILE: fixed"),
        ("fixed: {epochs: '3'}\n" + SPACE, "`epochs` has a wrong value", "got: '3'"),
        ("fixed: {norm_first: 1}\n" + SPACE, "`norm_first` has a wrong value", "got: 1"),
        ("fixed: {dropout: .nan}\n" + SPACE, "`dropout` has a wrong value", "expected: a finite number"),
        ("fixed: {width: 30, heads: 4}\n" + SPACE, "no combination in this space is valid", "width 30"),
        ("fixed: 5\n" + SPACE, "`fixed` is not a mapping", "got: 5"),
        ("fixed: []\n" + SPACE, "`fixed` is not a mapping", "got: []"),
        ("fixed: {1: 2}\n" + SPACE, "a key under `fixed` is not text", "got: 1"),
        ("- a\n- b", "`the study` is not a mapping", "got: ['a', 'b']"),
        ("", "`the study` is not a mapping", "got: None"),
        ("just text", "`the study` is not a mapping", "got: 'just text'"),
        ("a: [", "this is not valid YAML", "FILE: line"),
        ("a: b: c", "this is not valid YAML", "FILE: line 1, column 5"),
        ("fixed: &a {x: *a}\n" + SPACE, "this is not valid YAML", "references are not supported"),
        ("about: !!bool maybe\n" + SPACE, "this is not valid YAML", "maybe"),
        ("about: !!int ''\n" + SPACE, "this is not valid YAML", "got:"),
        ("trials: 9223372036854775808\n" + SPACE, "this is not valid YAML", "more than 64 bits"),
        (f"space: {{lr: {{low: 1, high: {'9' * 320}}}}}", "this is not valid YAML", "more than 64 bits"),
        (f"fixed: {{epochs: {'9' * 5000}}}\n{SPACE}", "this is not valid YAML", "Exceeds the limit"),
        ("trials: !!int 010\n" + SPACE, "this is not valid YAML", "not in decimal digits"),
        ('about: "\\ud800"\n' + SPACE, "this is not valid YAML", "half of a surrogate pair"),
        ('"a\\nb": 1\n' + SPACE, "unknown key `a\\u000ab`", "expected: about"),
        ('"\\e[31m\\u2028": 1\n' + SPACE, "unknown key `\\u001b[31m\\u2028`", "expected: about"),
        ("about: !!timestamp x\n" + SPACE, "this is not valid YAML", "got:"),
        ("about: !!python/object/apply:os.getcwd []\n" + SPACE, "this is not valid YAML", "could not determine a constructor"),
    ],
)
def test_bad_studies(text: str, first: str, contains: str, tmp_path: Path) -> None:
    """Each error names the mistake and its place, and suggests what to do."""
    shown = error_of(text, folder=tmp_path)
    assert shown.startswith(f"error: {first}")
    assert contains in shown


def test_exact_form(tmp_path: Path) -> None:
    """The full text of one error."""
    assert error_of("space: {train.learning_rte: {low: 1, high: 2}}", folder=tmp_path) == (
        "error: unknown key `train.learning_rte`\n  --> FILE: space\nhint: did you mean `train.lr`?"
    )


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("epochs=3", "train.epochs", 3),
        ("train.epochs=3", "train.epochs", 3),
        ("fixed.epochs=3", "train.epochs", 3),
        ("fixed.train.epochs=3", "train.epochs", 3),
        ("model.activation=gelu", "model.activation", "gelu"),
        ("lr=1e-4", "train.lr", 1e-4),
        ("bias=false", "model.bias", False),
    ],
)
def test_set_fixes_a_setting(assignment: str, key: str, value: object, tmp_path: Path) -> None:
    """`--set` with a setting fixes it, whether the file fixes it, searches it or does not mention it."""
    definition = load(TINY_STUDY, assignment, folder=tmp_path)
    assert definition.fixed[key] == value
    assert key not in {dim.setting.key for dim in definition.space}


@pytest.mark.parametrize(
    ("assignment", "low"),
    [("space.lr.low=1e-3", 1e-3), ("space.train.lr.low=1e-3", 1e-3), ("space.lr={low: 1e-4, high: 1}", 1e-4)],
)
def test_set_reaches_a_range(assignment: str, low: float, tmp_path: Path) -> None:
    """`--set` changes a dimension in either spelling, whole or in part."""
    domain = next(dim.domain for dim in load(TINY_STUDY, assignment, folder=tmp_path).space if dim.name == "lr")
    assert isinstance(domain, Range)
    assert domain.low == low


def test_set_reaches_everything_else(tmp_path: Path) -> None:
    """`--set` changes trials, text, sampler, pruner, signers and baseline; the last assignment of a key wins."""
    sets = ["trials=7", "trials=9", "about=Why?", "sampler={name: random}", "pruner.name=median", "data.validation=[9001, x]"]
    definition = load(TINY_STUDY, *sets, "baseline.dropout=0.2", folder=tmp_path)
    assert (definition.trials, definition.about) == (9, "Why?")
    assert type(definition.sampler).__name__ == "Random"
    assert type(definition.pruner).__name__ == "Median"
    assert definition.signers.validation == ("9001", "x")
    assert definition.baseline["dropout"] == 0.2


def test_set_works_where_a_section_is_empty_or_missing(tmp_path: Path) -> None:
    """`fixed:` with nothing below it counts as an empty section."""
    assert load("fixed:\n" + SPACE, "epochs=3", folder=tmp_path).fixed == {"train.epochs": 3}
    assert load(SPACE, "epochs=3", folder=tmp_path).fixed == {"train.epochs": 3}


@pytest.mark.parametrize(
    ("text", "assignment", "first", "contains"),
    [
        (TINY_STUDY, "epochs", "`--set` needs KEY=VALUE", "for example"),
        (TINY_STUDY, "=3", "`--set` needs KEY=VALUE", "got: =3"),
        (TINY_STUDY, "epoch=3", "unknown key `epoch`", "did you mean `train.epochs`?"),
        (TINY_STUDY, "epochs=", "`train.epochs` has a wrong value", "got: None"),
        (TINY_STUDY, "epochs=[", "this is not valid YAML", "--set epochs=["),
        (TINY_STUDY, "epochs=many", "`train.epochs` has a wrong value", "got: 'many'"),
        (TINY_STUDY, "trials.x=3", "`trials` is not a mapping", "--set trials.x=3"),
        (TINY_STUDY, "space.lr.hgh=1", "unknown key `hgh`", "did you mean `high`?"),
        (TINY_STUDY, "space={}", "the study searches nothing", "space"),
        ("fixed: 5\n" + SPACE, "epochs=3", "`fixed` is not a mapping", "got: 5"),
        ("fixed: {epchs: 5}\n" + SPACE, "epochs=3", "unknown key `epchs`", "FILE: fixed"),
    ],
)
def test_bad_assignments(text: str, assignment: str, first: str, contains: str, tmp_path: Path) -> None:
    """A wrong `--set` gives the same kind of error as a wrong file."""
    shown = error_of(text, assignment, folder=tmp_path)
    assert shown.startswith(f"error: {first}")
    assert contains in shown


@pytest.mark.parametrize(
    "text", ["010", "1:30", "12_3", "0x1F", "0b1", "0o17", "+5", "2026-01-01", "1e3x", "no", "ON", "=", "<<"]
)
def test_notations_that_yaml_readers_disagree_about(text: str, tmp_path: Path) -> None:
    """Where text is wanted they are as written; a number or a duration written so is refused, with a hint."""
    definition = load(f"about: {text}\ndata: {{validation: [{text}, 8]}}\n" + SPACE, folder=tmp_path)
    assert (definition.about, definition.signers.validation) == (text, (text, "8"))
    assert load(SPACE, f"data.test=[{text}]", folder=tmp_path).signers.test == (text,)
    for key in ("train.epochs", "train.lr", "trials", "repeats", "stagnation", "data.folds", "resources.cpus", "space.lr.low"):
        shown = error_of(SPACE, f"{key}={text}", folder=tmp_path)
        assert "has a wrong value" in shown
        if text[0].isdigit() and text != "1e3x":
            assert "hint: write a number in decimal digits and without quotes" in shown
    assert text == "010" or error_of(SPACE, f"time={text}", folder=tmp_path).startswith("error: this is not a duration")


@pytest.mark.parametrize("text", ["1e3", ".5", "1.0", "1.50", "true", "~", "null", "-3", "!x"])
def test_a_signer_is_what_is_written(text: str, tmp_path: Path) -> None:
    """A name that looks like a number, a truth value or nothing is the name, in a file and in every spelling of `--set`."""
    written = "'!x'" if text == "!x" else text
    assert load(f"data: {{validation: [{written}, a]}}\n" + SPACE, folder=tmp_path).signers.validation == (text, "a")
    assert load(SPACE, f"data.test=[{written}]", folder=tmp_path).signers.test == (text,)
    assert load(SPACE, f"data={{test: [{written}]}}", folder=tmp_path).signers.test == (text,)


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("On", True), ("true", True), ("no", False), ("OFF", False)])
def test_words_for_true_and_false(text: str, value: bool, tmp_path: Path) -> None:
    """A setting that is true or false takes the words of YAML 1.1, as in earlier versions."""
    assert load(SPACE, f"norm_first={text}", folder=tmp_path).fixed == {"model.norm_first": value}
    choices = f"space.norm_first={{choices: [{text}]}}"
    assert load(SPACE, choices, f"baseline.norm_first={text}", folder=tmp_path).baseline["norm_first"] is value
    shown = error_of(SPACE, "norm_first=1", folder=tmp_path)
    assert "expected: boolean" in shown


def test_a_whole_number_is_written_as_one(tmp_path: Path) -> None:
    """1e3 is a number with a fraction; the hint says how to write it."""
    assert error_of(SPACE, "trials=1e3", folder=tmp_path).endswith("hint: write it as 1000")


@pytest.mark.parametrize("name", ["x.yaml", "a.b.yml", ".yaml"])
def test_names_like_files(name: str) -> None:
    """`--as x.yaml` would make a study that no command finds: each would look for the study `x`."""
    with pytest.raises(DefinitionError, match="study name"):
        validate_name(name)


def test_a_name_has_one_unicode_form() -> None:
    """A name is the same study typed on a keyboard and completed from a file name on macOS."""
    assert study_name("studies/cafe\u0301.yaml") == study_name("caf\u00e9") == validate_name("cafe\u0301") == "caf\u00e9"
    assert study_name("\u212bngstr\u00f6m") == "\u00c5ngstr\u00f6m"


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "-x", "a b", "x" * 101, "手" * 34, "a\n", "a\0b", "x.yaml/"])
def test_bad_names(name: str) -> None:
    """A study name must also work as the name of a folder: no path separators, and not too long."""
    with pytest.raises(DefinitionError, match="not a valid study name"):
        validate_name(name)


@pytest.mark.parametrize("name", ["prepared", "data", "Prepared", "DATA"])
def test_reserved_names(name: str) -> None:
    """A study cannot share a folder with prepared data, which may be deleted at any time."""
    with pytest.raises(DefinitionError, match="study name is reserved"):
        validate_name(name)


@pytest.mark.parametrize(
    ("study", "name"), [("a", "a"), ("手話.v2-b", "手話.v2-b"), ("x/y.yaml", "y"), ("mine.yml", "mine"), ("x" * 100, "x" * 100)]
)
def test_names(study: str, name: str) -> None:
    """The name of a study is the argument itself, or the stem of a path."""
    assert study_name(study) == name


def test_working_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study in `./studies` takes precedence over an installed one of the same name."""
    monkeypatch.chdir(tmp_path)
    assert "(installed)" in load_definition("label_smoothing").source
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "label_smoothing.yaml").write_text("about: my own\n" + SPACE, encoding="utf-8")
    mine = load_definition("label_smoothing")
    assert (mine.about, mine.source) == ("my own", "studies/label_smoothing.yaml")
    assert known_studies()["label_smoothing"] == "my own"


def test_unreadable_studies_are_listed_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken file does not hide the other studies."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies" / "folder.yaml").mkdir(parents=True)
    (tmp_path / "studies" / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "studies" / "text.yaml").write_text("text", encoding="utf-8")
    found = known_studies()
    assert (found["folder"], found["binary"], found["text"]) == ("(cannot be read)", "(cannot be read)", "(not a study)")
    assert "label_smoothing" in found


@pytest.mark.parametrize(
    ("study", "first"),
    [
        ("nope", "there is no study `nope`"),
        ("nope.yaml", "the study file cannot be read"),
        ("a/b", "the study file cannot be read"),
        ("a\0.yaml", "the study file cannot be read"),
    ],
)
def test_missing_studies(study: str, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a missing study says how to list the known ones."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DefinitionError) as caught:
        load_definition(study)
    assert caught.value.render().startswith(f"error: {first}")
    assert "`islr-search list`" in str(caught.value.hint)


def test_an_endless_file() -> None:
    """Reading stops at the size limit, even for a device without an end."""
    with pytest.raises(DefinitionError, match="the study file is too large"):
        load_definition("/dev/zero")


def test_long_numbers_are_read_in_linear_time(tmp_path: Path) -> None:
    """Parsing a long number takes linear, not quadratic time."""
    began = time.process_time()
    assert load(f"about: {'9' * 200_000}x\n{SPACE}", folder=tmp_path).about.endswith("9x")
    assert time.process_time() - began < 15


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_included_study_loads(path: Path) -> None:
    """Every study in the package is valid."""
    definition = load_definition(str(path))
    assert definition.about
    assert definition.name == path.stem


def test_the_default_study() -> None:
    """The default study's space holds what winners used: at ten words a label smoothing of 0.72 leaves the true word as much as
    0.65 at 250 words. Its baseline are the article's settings."""
    definition = load_definition("label_smoothing")
    assert {dim.name: dim.domain.text() for dim in definition.space} == {
        "label_smoothing": "0.0 .. 0.8",
        "lr": "1e-05 .. 0.01 log",
        "dropout": "0.0 .. 0.5",
    }
    assert definition.baseline == {"label_smoothing": 0.0, "lr": 3e-4, "dropout": 0.1}
    assert definition.trials == 50


def test_origins(tmp_path: Path) -> None:
    """Each row of the resolved study names its origin; the last assignment wins."""
    sets = ["lr=0.01", "space.dropout.low=0.1", "epochs=3", "train.epochs=4"]
    rows = {key: (value, source) for key, value, source in definition_rows(load(TINY_STUDY, *sets, folder=tmp_path))}
    file = str(tmp_path / "mine.yaml")
    assert rows["train.lr"] == ("0.01", "--set lr=0.01")
    assert rows["train.epochs"] == ("4", "--set train.epochs=4")
    assert rows["model.dropout"] == ("searched (nuisance): 0.1 .. 0.5", "--set space.dropout.low=0.1")
    assert rows["train.label_smoothing"] == ("searched (nuisance): 0.0 .. 0.6", file)
    assert rows["model.width"] == ("16", file)
    assert rows["model.heads"] == ("2", "default")
    assert rows.keys() >= settings().keys()


def test_identity_sees_the_smallest_change(tmp_path: Path) -> None:
    """The identity holds every digit of a range, and does not depend on writing 0 or 0.0."""
    from data_utils.splits import Split

    split = Split(train=("a",), validation=("b",), test=())

    def of(low: str) -> dict[str, str]:
        return identity(load(TINY_STUDY, f"space.dropout.low={low}", folder=tmp_path), split, "f")

    assert of("0") == of("0.0")
    assert of("0.01234567") != of("0.01234568")


def test_yaml_that_is_written_is_read_the_same() -> None:
    """Values survive a round trip through YAML; text that looks like a number stays text."""
    value = {"words": ["1e5", "3E10", "1.5e-3", "no", "0012", "12:30", "1_000", "手", "a: b", "~"], "lr": 1e-05, "n": [3, True]}
    assert parse_yaml(dump_yaml(value), "here") == value


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["relu", "rest", "auto", "tpe"])
)
KEYS = st.one_of(
    st.sampled_from(
        [
            *settings(),
            "lr",
            "dropout",
            "low",
            "high",
            "log",
            "step",
            "choices",
            "name",
            "startup",
            "train",
            "folds",
            "when",
            "role",
            "metric",
            "reduce",
        ]
    ),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
SECTION_NAMES = st.sampled_from(SECTIONS)
RANGES = st.fixed_dictionaries(
    {"low": st.floats(0, 1) | st.integers(-3, 3), "high": st.floats() | st.integers()},
    optional={
        "log": st.booleans(),
        "step": st.floats() | st.integers(-2, 5),
        "role": st.sampled_from(["scientific", "nuisance", "x"]),
        "when": st.dictionaries(st.sampled_from(["lr", "optimizer", "width"]), SCALARS, max_size=2),
    },
)
STUDIES = st.dictionaries(SECTION_NAMES, VALUES, max_size=5) | st.fixed_dictionaries(
    {"space": st.dictionaries(KEYS, RANGES, min_size=1, max_size=2)}, optional={"fixed": VALUES, "baseline": VALUES}
)
TEXTS = st.text(max_size=80) | STUDIES.map(dump_yaml) | st.text(alphabet="ab:{}[]&*!-? \n\t'\"|>#%,0.eE1", max_size=40)
ASSIGNMENTS = st.lists(st.text(max_size=10) | st.builds("{}={}".format, KEYS | SECTION_NAMES, SCALARS), max_size=2)


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, sets=ASSIGNMENTS)
def test_any_text_gives_a_study_or_an_error(text: str, sets: list[str], tmp_path: Path) -> None:
    """Any content of a file gives a definition or a complete error."""
    path = tmp_path / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        definition = load_definition(str(path), sets)
    except DefinitionError as error:
        last = error.render().splitlines()[-1]
        if not LAST_LINE.fullmatch(last):
            pytest.fail(last)
    else:
        assert definition.space
        assert all(dim.distribution() is not None for dim in definition.space)
