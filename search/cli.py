"""The command line: gathers the commands, runs one, and gives every error its form and exit code."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from data_utils.errors import ExplainedError
from search.commands import evaluation, reporting, searching
from search.commands import exporting as models
from search.errors import DefinitionError, ExitCode, exit_code_of

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Searches hyperparameters for isolated sign-language recognition, and keeps you from fooling yourself.",
)

_COMMANDS: dict[str, Callable[..., Any]] = {  # in the order of --help
    "run": searching.run,
    "status": searching.status,
    "list": searching.list_studies,
    "trials": searching.trials,
    "show": searching.show,
    "confirm": evaluation.confirm,
    "test": evaluation.open_test,
    "analyze": evaluation.analyze,
    "report": reporting.report,
    "export": models.export,
    "retrain": models.retrain,
    "predict": models.predict,
    "copy": models.copy,
    "dashboard": reporting.dashboard,
    "doctor": reporting.doctor,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to stop
    sys.exit(answer(arguments))


def answer(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; every error in its form on stderr, never a traceback. The exit code."""
    try:
        result = app(args=None if arguments is None else list(arguments), prog_name="python -m search", standalone_mode=False)
        sys.stdout.flush()
        return int(result or 0)
    except ExplainedError as error:
        print(error.render(), file=sys.stderr)
        return exit_code_of(error)
    except typer.exceptions.TyperException as error:  # every usage error of the command line
        message = error.format_message()
        wrong = DefinitionError(message[:1].lower() + message[1:].rstrip("."), hint=_usage_hint(error))
        print(wrong.render(), file=sys.stderr)
        return ExitCode.WRONG_INPUT
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, SystemExit):  # the reader of our output has left (typer then exits); nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter's last flush finds a place
        return ExitCode.DONE
    except Exception as error:
        if (gone := _database_gone(error)) is not None:
            print(gone.render(), file=sys.stderr)
            return exit_code_of(gone)
        path = _write_crash(traceback.format_exc())
        print(f"error: a fault of this program, sorry\n  --> {path}\nhint: report it with that file", file=sys.stderr)
        return ExitCode.BUG


def _usage_hint(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "python -m search"
    return f"`{command} --help` lists what there is"


def _database_gone(error: Exception) -> ExplainedError | None:
    """The error for people where a database server went away; None if it was something else."""
    known = sys.modules.get("search.storage.errors")  # where it was not imported no server was asked
    return known.as_resource_error(None, error) if known is not None and known.is_unreachable(error) else None


def _without_passwords(text: str) -> str:
    """A text that may quote an URL of a storage."""
    try:
        from search.storage.url import parse_url, shown_url
    except ImportError:
        return "(left out: it may hold a password)"
    given = [os.environ.get("SEARCH_STORAGE", ""), *sys.argv, *(word.partition("=")[2] for word in sys.argv)]
    for url in given:
        if "://" in url:
            text = text.replace(url, shown_url(url))
            with contextlib.suppress(ExplainedError):
                text = parse_url(url).hide(text)
    return text


def _write_crash(text: str) -> Path:
    text = _without_passwords(f"{' '.join(sys.argv)}\n{text}")
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    for folder in (Path(os.environ.get("SEARCH_RUNS", "runs")), Path(tempfile.gettempdir())):
        path = folder / f"crash-{stamp}-{os.getpid()}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError:
            continue
        return path
    return Path("(the log could not be written)")
