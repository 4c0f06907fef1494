"""Help, version and shell completion of both programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Cli

from data_utils.cli import execute as execute_data
from search import __version__
from search.cli import app, execute

Execute = Callable[[list[str]], int]

PROGRAMS = [pytest.param(execute, "islr-search", id="search"), pytest.param(execute_data, "islr-data", id="data")]


@pytest.mark.parametrize(("run", "name"), PROGRAMS)
def test_a_program_alone_prints_its_help(run: Execute, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments, with -h and with --help the same page, on stdout; the version has an option."""
    pages = []
    for words in ([], ["-h"], ["--help"]):
        assert run(words) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        pages.append(shown.out)
    assert pages[0] == pages[1] == pages[2]
    assert pages[0].startswith(f"Usage: {name} COMMAND")
    assert "\nExamples:\n" in pages[0]
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"{name} {__version__}\n"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_of_every_command(columns: int, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page fits the terminal and uses its width, and shows nothing of how the command line is programmed."""
    monkeypatch.setenv("COLUMNS", str(columns))
    longest = 0
    for name in ("", *(str(command.name) for command in app.registered_commands)):
        page = cli(*filter(None, [name, "-h"])).out
        assert page, name
        widths = [len(line) for line in page.splitlines()]
        assert max(widths) <= columns, page
        longest = max(longest, *widths)
        assert not re.search(r"\[OPTIONS\] COMMAND|\[ARGS\]|<\w+|\[\[|\{|env var|\d<=x|x>=\d", page), page
        assert not re.search(r"[\w,]\.\.\.$", page, re.MULTILINE), page
    assert longest > columns - 12


def test_options_of_run_are_in_groups(cli: Cli) -> None:
    """The common options come first; a command with few options has no groups."""
    titles = [line for line in cli("run", "-h").out.splitlines() if re.fullmatch(r"\w[\w ]+:", line)]
    assert titles == ["Arguments:", "Options:", "Storage:", "Machines:", "Build on earlier trials:", "Output:", "Examples:"]
    titles = [line for line in cli("status", "-h").out.splitlines() if re.fullmatch(r"\w[\w ]+:", line)]
    assert titles == ["Arguments:", "Options:"]


@pytest.mark.parametrize(
    ("option", "assignment"),
    [
        ("--epochs 20", "epochs=20"),
        ("--batch-size=8", "batch_size=8"),
        ("--label-smoothing 0.1", "label_smoothing=0.1"),
        ("--train.lr 1e-3", "train.lr=1e-3"),
        ("--sampler gp", "sampler.name=gp"),
        ("--lr", "lr=VALUE"),
        ("--learning-rate 1e-3", "train.lr=1e-3"),
        ("--epoch --more 3", "train.epochs=VALUE"),
    ],
)
def test_a_setting_as_an_option(option: str, assignment: str, cli: Cli) -> None:
    """An option that is a key of the study file is answered by the `--set` that does it."""
    done = cli("run", "quick", *option.split())
    name = re.split("[ =]", option)[0]
    assert (done.code, done.err) == (2, f"error: no such option: {name}\nhint: `--set {assignment}`\n")


def test_shell_completion(searched: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell completes commands, options, studies in the storage and study files."""
    assert "_ISLR_SEARCH_COMPLETE=complete_bash" in cli("--show-completion", "bash").out
    monkeypatch.chdir(searched)
    monkeypatch.setenv("_ISLR_SEARCH_COMPLETE", "complete_bash")
    for line, expected in (
        ("islr-search sta", ["status"]),
        ("islr-search trials --out", ["--output"]),
        ("islr-search status ", ["tiny"]),
        ("islr-search status --storage sqlite:///nowhere.db ", []),
        ("islr-search run ti", ["tiny.yaml"]),
        ("islr-search run qui", ["quick"]),
    ):
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        done = cli()
        assert (done.code, done.out.split(), done.err) == (0, expected, ""), line
