"""The command line: registers the commands, runs one, and turns every error into a message and an exit code."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from data_utils.errors import ExplainedError
from data_utils.streams import install_safe_streams, lost_output, safe_streams
from search import HIDDEN
from search.commands import evaluation, exporting, reporting, searching
from search.errors import DefinitionError, ExitCode, exit_code_of

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Searches hyperparameters for isolated sign-language recognition, and checks whether the best trial was only lucky.",
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
    "export": exporting.export,
    "retrain": exporting.retrain,
    "predict": exporting.predict,
    "copy": exporting.copy,
    "dashboard": reporting.dashboard,
    "doctor": reporting.doctor,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads wait for each other where workers use all cores
    install_safe_streams()
    sys.exit(execute(arguments))


def execute(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Errors are printed to stderr in their standard form, never as a traceback."""
    before = sys.argv
    if arguments is not None:
        sys.argv = [*before[:1], *arguments]  # the resume command and crash logs name them
    try:
        with safe_streams():
            code = _execute(arguments)
            return _print_error(lost) if code == ExitCode.DONE and (lost := lost_output()) is not None else code
    finally:
        sys.argv = before


def _execute(arguments: Sequence[str] | None) -> int:
    try:
        result = app(args=None if arguments is None else list(arguments), prog_name="islr-search", standalone_mode=False)
        return int(result or 0)
    except ExplainedError as error:
        return _print_error(error)
    except typer.exceptions.TyperException as error:  # every usage error
        message = error.format_message()
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "islr-search"
        return _print_error(DefinitionError(message[:1].lower() + message[1:].rstrip("."), hint=f"see `{command} --help`"))
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except (Exception, SystemExit) as error:  # typer exits on a broken pipe of any kind
        if (lost := _lost_database(error)) is not None:
            return _print_error(lost)
        path = _write_crash_log(traceback.format_exc())
        print(f"error: internal error, a bug in this program\n  --> {path}\nhint: report it with this file", file=sys.stderr)
        return ExitCode.BUG


def _print_error(error: ExplainedError) -> int:
    print(error.render(), file=sys.stderr)
    return exit_code_of(error)


def _lost_database(error: BaseException) -> ExplainedError | None:
    """An explained error if the connection to a database server was lost; None for any other error."""
    storage_errors = sys.modules.get("search.storage.errors")  # if it was not imported, no database was used
    return (
        storage_errors.as_resource_error(None, error)
        if storage_errors is not None and storage_errors.is_unreachable(error)
        else None
    )


def _write_crash_log(text: str) -> Path:
    """Writes a log to the runs folder, or else to the temporary folder."""
    text = _hide_passwords(f"{' '.join(sys.argv)}\n{text}")
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    for folder in (_runs_folder(), Path(tempfile.gettempdir())):
        path = folder / f"crash-{stamp}-{os.getpid()}.log"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return path
    return Path("(the log could not be written)")


def _runs_folder() -> Path:
    """The folder that `--runs` names, else the variable, else the default."""
    words = sys.argv[1:]
    given = [word.removeprefix("--runs=") for word in words if word.startswith("--runs=")]
    given += [value for word, value in itertools.pairwise(words) if word == "--runs"]
    return Path(given[-1] if given else os.environ.get("SEARCH_RUNS", "runs"))


def _hide_passwords(text: str) -> str:
    """The text without the passwords of storage URLs that were given."""
    try:
        from search.storage.url import redact_url, secrets_of
    except ImportError:
        return "(omitted: it may contain a password)"
    given = [os.environ.get("SEARCH_STORAGE", ""), *sys.argv, *(word.partition("=")[2] for word in sys.argv)]
    for url in given:
        if redact_url(url) != url:
            text = text.replace(url, redact_url(url))
            for secret in secrets_of(url):
                text = text.replace(secret, HIDDEN)
    return text
