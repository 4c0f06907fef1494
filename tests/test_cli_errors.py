"""Whatever is typed wrong: the exit code, the form on stderr, nothing on stdout, never a traceback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Cli
from launch import TINY_STUDY, run_cli

from search.errors import DefinitionError, ExitCode, NegativeAnswer, ResourceError, SearchError, exit_code_of
from search.wording import parse_duration

DATA = "DATA"  # stands for the tiny data set
WRONG = [  # command, exit code, first line on stderr after "error: "
    ("bogus", 2, "no such command 'bogus'"),
    ("run --bogus", 2, "no such option: --bogus"),
    ("run --trials 0", 2, "invalid value for '--trials'"),
    ("run --trials x", 2, "invalid value for '--trials'"),
    ("run --trials", 2, "option '--trials' requires an argument"),
    ("run --seed -1", 2, "invalid value for '--seed'"),
    ("run --more 0", 2, "invalid value for '--more'"),
    ("run --max-failures -1", 2, "invalid value for '--max-failures'"),
    ("run a b", 2, "got unexpected extra argument"),
    ("run --trials 3 --more 3", 2, "--trials and --more cannot be given together"),
    ("run nope", 2, "there is no study `nope`"),
    ("run nope.yaml", 2, "the study file cannot be read"),
    ("run .", 2, "this is not a valid study name"),
    ("run ./", 2, "the study file cannot be read"),
    ("run binary.yaml", 2, "the study file cannot be read"),
    ("run --as ../x", 2, "this is not a valid study name"),
    ("run --as a.yaml/b", 2, "this is not a valid study name"),
    ("run --as prepared", 2, "this study name is reserved"),
    ("run --as x.yaml", 2, "a study name cannot end like a file"),
    ("run x.yaml.yaml", 2, "the study file cannot be read"),
    ("run --data DATA --as studies.db", 2, "the study's folder has the name of a file"),
    ("run --data DATA --as studies.db-wal", 2, "the study's folder has the name of a file"),
    ("run --data DATA --runs . --as garbage.db", 2, "the study's folder has the name of a file"),
    ("run --set x", 2, "`--set` needs KEY=VALUE"),
    ("run --set epoch=3", 2, "unknown key `epoch`"),
    ("run --timeout soon", 2, "this is not a duration"),
    ("run --trial-timeout soon", 2, "this is not a duration"),
    ("run --trial-timeout 0", 2, "this duration cannot be used"),
    ("run --trial-timeout 0h0.0s", 2, "this duration cannot be used"),
    ("run --timeout 100000000000000000000h", 2, "this duration cannot be used"),
    ("run --timeout 1e3", 2, "this is not a duration"),
    ("run --lease 100000000000000000000", 2, "this duration cannot be used"),
    ("run --storage-patience -0", 2, "this is not a duration"),
    ("run --trials 100000000000000000000", 2, "invalid value for '--trials'"),
    ("run --more 100000000000000000000", 2, "invalid value for '--more'"),
    ("run --trials 1.5", 2, "invalid value for '--trials'"),
    ("run --more nan", 2, "invalid value for '--more'"),
    ("confirm --seeds 100000000000000000000", 2, "invalid value for '--seeds'"),
    ("confirm --top 0", 2, "invalid value for '--top'"),
    ("run --workers 0", 2, "invalid value for '--workers'"),
    ("run --max-restarts -1", 2, "invalid value for '--max-restarts'"),
    ("run --engine threads", 2, "there is no such engine"),
    ("run --engine inline --workers 2", 2, "the engine `inline` does not support --workers"),
    ("run --engine inline --trial-timeout 5m", 2, "the engine `inline` does not support --trial-timeout"),
    ("run --device tpu", 2, "the device `tpu` cannot be used"),
    ("run --device cuda:99", 2, "the device `cuda:99` cannot be used"),
    ("run --storage mssql://user:secret@host/x", 2, "this storage is not supported"),
    ("run --storage sqlite:///x.db?timeout=1", 2, "the path of an SQLite file cannot hold a `?`"),
    ("run --storage sqlite://", 2, "this storage is not supported"),
    ("run --data nowhere", 2, "there is no such data folder"),
    ("run --data empty", 2, "the data folder"),
    ("run --data tiny.yaml", 2, "the data set is a file, not a folder"),
    ("run --data DATA --set data.validation=[9009]", 2, "there is no signer `9009` for the validation part"),
    ("run --data DATA --set data={train: rest, validation: [9001], test: [9001]}", 2, "signer `9001` is"),
    ("run --data DATA --storage sqlite:///garbage.db", 3, "the study database cannot be used"),
    ("run --data DATA --storage sqlite:///tiny.yaml/x.db", 3, "the folder of the study database cannot be written"),
    ("run --data DATA --storage sqlite:///empty", 3, "the study database cannot be used"),
    ("run --data DATA --runs tiny.yaml", 3, "the folder for all output cannot be created"),
    ("status", 2, "there is no study database yet"),
    ("status ''", 2, "this is not a valid study name"),
    ("status --storage sqlite:///garbage.db", 3, "the study database cannot be used"),
    ("list --storage sqlite:///garbage.db", 3, "the study database cannot be used"),
    ("trials", 2, "there is no study database yet"),
    ("trials tiny --format xml", 2, "unknown format"),
    ("show", 2, "the number of a trial is missing"),
    ("show tiny", 2, "the number of a trial is missing"),
    ("show tiny x", 2, "invalid value"),
    ("show tiny -- -1", 2, "invalid value"),
    ("export tiny", 2, "there is no study database yet"),
    ("retrain", 2, "missing argument"),
    ("retrain nowhere.yaml", 2, "the exported configuration cannot be read"),
    ("retrain binary.yaml", 2, "the exported configuration cannot be read"),
    ("retrain tiny.yaml", 2, "unknown key `trials`"),
    ("retrain empty", 2, "the exported configuration cannot be read"),
    ("dashboard", 2, "there is no study database yet"),
    ("dashboard --port 99999", 2, "invalid value for '--port'"),
]


@pytest.fixture
def messy(place: Path) -> Path:
    """A working directory with unusable files."""
    (place / "garbage.db").write_bytes(b"garbage" * 100)
    (place / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    (place / "empty").mkdir()
    return place


def split_words(command: str, data: Path) -> list[str]:
    """Words of a command; braces of a `--set` may contain spaces."""
    words = re.findall(r"''|\S+=\{.*?\}|\S+", command)
    return ["" if word == "''" else str(data) if word == DATA else word for word in words]


@pytest.mark.parametrize(("command", "code", "first"), WRONG, ids=[command or "nothing" for command, _, _ in WRONG])
def test_wrong_commands(command: str, code: int, first: str, messy: Path, tiny: Path, cli: Cli) -> None:
    """The error has its standard form, ends with what to do, and nothing is started."""
    before = sorted(messy.iterdir())
    done = cli(*split_words(command, tiny))
    assert done.out == ""
    lines = done.err.splitlines()
    assert (done.code, lines[0][: len(first) + 7]) == (code, f"error: {first}")
    assert re.fullmatch(r"(expected|hint): \S.*", lines[-1])
    assert all(re.match(r"(error: |  --> |got: |expected: |hint: )", line) for line in lines)
    assert "secret" not in done.err
    if code == 2:
        assert sorted(path for path in messy.iterdir() if path.name != "runs") == before
        left = [path for path in messy.glob("runs/*") if path.name != "prepared"]  # the index of the data may be kept
        assert not left, "nothing was started"


def test_missing_studies_and_trials(searched: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands refuse a study or trial that the database does not hold."""
    monkeypatch.chdir(searched)
    done = cli("status", "nope")
    assert done.code == 2
    assert done.err.splitlines()[:2] == ["error: the database holds no study `nope`", "expected: one of tiny"]
    done = cli("show", "tiny", 6)
    assert done.code == 2
    assert done.err.splitlines()[:2] == ["error: the study `tiny` has no trial 6", "expected: 0 to 5"]
    done = cli("export", "tiny", "--output", "tiny.yaml/x")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: the output file cannot be written")


def test_internal_error(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """An internal error ends with code 4, without a traceback, and names a log that contains it."""

    def broken(*_arguments: object, **_more: object) -> object:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("search.definition.study_file.load_definition", broken)
    done = cli("run", "tiny.yaml")
    assert (done.code, done.out) == (4, "")
    assert "Traceback" not in done.err
    found = re.search(r"--> (runs/crash-\S+\.log)\n", done.err)
    assert found
    log = (place / found[1]).read_text(encoding="utf-8")
    assert "search run tiny.yaml" in log
    assert "ZeroDivisionError: a fault" in log


def test_internal_error_without_runs_folder(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log goes to the temporary folder if `runs` is not writable."""
    monkeypatch.setenv("SEARCH_RUNS", str(place / "tiny.yaml"))
    monkeypatch.setattr("search.definition.study_file.load_definition", lambda *_a, **_k: 1 / 0)
    done = cli("run", "tiny.yaml")
    assert done.code == 4
    found = re.search(r"--> (\S+)\n", done.err)
    assert found
    log = Path(found[1])
    assert "ZeroDivisionError" in log.read_text(encoding="utf-8")
    log.unlink()


def test_full_disk(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a trial's files cannot be written, the run ends with code 3, and the same command continues later."""

    def full(path: Path, _text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    run = ("run", "tiny.yaml", "--data", tiny, "--trials", 2)
    with monkeypatch.context() as patch:
        patch.setattr("search.trial.files.write_atomically", full)
        done = cli(*run)
    assert (done.code, done.out) == (3, "")
    assert "error: a trial's files cannot be written\n  --> runs/tiny/trials/0000\ngot: No space left on device\n" in done.err
    assert cli(*run).code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DefinitionError("x"), 2),
        (NegativeAnswer("x"), 1),
        (ResourceError("x"), 3),
        (SearchError("x"), 4),
    ],
)
def test_errors_carry_their_exit_code(error: SearchError, code: int) -> None:
    """The error's class determines the exit code."""
    assert exit_code_of(error) == code


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("1h30m", 5400), ("45s", 45), ("2h", 7200), ("7", 7), ("0.5s", 0.5), ("1h1m1s", 3661)]
)
def test_durations(text: str, seconds: float) -> None:
    """Durations may have hours, minutes and seconds, or plain seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "soon", "1d", "-5", "5m1h", "1.5h", "s", "inf", "nan"])
def test_invalid_durations(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(DefinitionError):
        parse_duration(text)


@pytest.mark.slow
def test_as_a_process(tmp_path: Path) -> None:
    """The same holds in a process of its own, with the environment's variables."""
    (tmp_path / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    done = run_cli("run", "tiny.yaml", cwd=tmp_path, env={"SEARCH_DATA": "nowhere"})
    assert (done.code, done.out) == (ExitCode.WRONG_INPUT, "")
    assert done.err.startswith("error: there is no such data folder\n  --> nowhere\n")
    done = run_cli("status", cwd=tmp_path, env={"SEARCH_STORAGE": "sqlite:///elsewhere.db"})
    assert "  --> elsewhere.db\n" in done.err
