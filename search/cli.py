"""The command line: registers the commands, runs one, and turns every error into a message and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import itertools
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from data_utils.errors import ExplainedError
from data_utils.help import CONTEXT, HelpCommand, HelpGroup, version_option
from data_utils.streams import install_safe_streams, lost_output, safe_streams
from search import HIDDEN, __version__
from search.commands import evaluation, exporting, managing, reporting, searching, waiting
from search.errors import DefinitionError, ExitCode, ResourceError, exit_code_of

_PROGRAM = "islr-search"

app = typer.Typer(
    cls=HelpGroup,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    subcommand_metavar="COMMAND [STUDY] [OPTIONS]",
    help="Searches hyperparameters for isolated sign-language recognition, and checks whether the best trial was only lucky. "
    "Without STUDY, a command is about the study in the storage that was active last. COMMAND --help has more.",
    epilog="""\
islr-search run quick                        a first search in two minutes, with made-up signs
islr-search run letters.yaml --data DIR      search your own study; the same command resumes it
islr-search confirm                          is the best trial really better?
islr-search report                           one HTML page with everything""",
)
app.callback()(version_option(_PROGRAM, __version__))

_COMMANDS: dict[str, dict[str, Callable[..., Any]]] = {  # in the order of --help
    "Search": {"run": searching.run, "status": searching.status, "stop": managing.stop, "list": searching.list_studies},
    "Check whether it is true": {"confirm": evaluation.confirm, "test": evaluation.open_test, "analyze": evaluation.analyze},
    "Look closer": {
        "trials": searching.trials,
        "show": searching.show,
        "report": reporting.report,
        "dashboard": reporting.dashboard,
    },
    "Use the result": {"export": exporting.export, "retrain": exporting.retrain, "predict": exporting.predict},
    "Keep in order": {
        "copy": exporting.copy,
        "rename": managing.rename,
        "delete": managing.delete,
        "doctor": reporting.doctor,
    },
}
_EXAMPLES = {
    "run": """\
islr-search run letters.yaml --data DIR                  start a study, or resume it
islr-search run letters.yaml --more 20 --workers 4       20 more trials, four at once
islr-search run letters.yaml --set epochs=20 --as short  another study with one setting changed
islr-search run letters.yaml --dry-run                   every setting and where it comes from""",
    "show": """\
islr-search show 12                trial 12 of the latest study
islr-search show letters 12        trial 12 of letters""",
    "trials": """\
islr-search trials                        a table
islr-search trials --top 5                the best five
islr-search trials --output trials.csv    for a spreadsheet""",
    "confirm": """\
islr-search confirm --workers 4
islr-search confirm letters --top 4 --seeds 12""",
    "export": """\
islr-search export --output best.yaml
islr-search export --model best-model
islr-search export --trial 12 --output twelve.yaml""",
    "retrain": """\
islr-search retrain best.yaml
islr-search retrain best.yaml --all-signers --output final""",
    "predict": "islr-search predict best-model clips.hdf5",
    "copy": "islr-search copy letters --to sqlite:///backup.db",
    "stop": """\
islr-search stop                   all runs of the latest study
islr-search stop letters --no-wait""",
    "rename": "islr-search rename letters alphabet --yes",
    "delete": """\
islr-search delete letters         what would be deleted
islr-search delete letters --yes""",
}
for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, cls=HelpCommand, rich_help_panel=_panel, epilog=_EXAMPLES.get(_name))(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads wait for each other where workers use all cores
    install_safe_streams()
    codes: list[int] = []
    if arguments is None:  # the whole process is this command
        atexit.register(_skip_teardown, codes)
    codes.append(execute(arguments))
    sys.exit(codes[0])


def _skip_teardown(codes: Sequence[int]) -> None:
    """Ends the process, as the last of its exit handlers: Python would take apart all that PyTorch has loaded, for a second."""
    if codes:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(codes[0])


def execute(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Errors are printed to stderr in their standard form, never as a traceback."""
    waiting.starting()
    before = sys.argv
    if arguments is not None:
        sys.argv = [*before[:1], *arguments]  # the resume command and crash logs name them
    try:
        with safe_streams():
            code = _execute(arguments)
            return _print_error(lost) if code == ExitCode.DONE and (lost := lost_output()) is not None else code
    finally:
        waiting.done()
        sys.argv = before


def _execute(arguments: Sequence[str] | None) -> int:
    try:
        result = app(args=None if arguments is None else list(arguments), prog_name=_PROGRAM, standalone_mode=False)
        return int(result or 0)
    except ExplainedError as error:
        return _print_error(error)
    except typer.exceptions.TyperException as error:  # every usage error
        return _print_error(_usage_error(error, sys.argv[1:]))
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except (Exception, SystemExit) as error:  # typer exits on a broken pipe of any kind
        if isinstance(error, SystemExit) and not error.code:  # shell completion was printed or installed
            return ExitCode.DONE
        if (lost := _lost_database(error) or _failed_device(error)) is not None:
            return _print_error(lost)
        path = _write_crash_log(traceback.format_exc())
        print(f"error: internal error, a bug in this program\n  --> {path}\nhint: report it with this file", file=sys.stderr)
        return ExitCode.BUG


def _usage_error(error: typer.exceptions.TyperException, arguments: Sequence[str]) -> ExplainedError:
    """A usage error as it is printed; for an option that is a key of the study file, with the `--set` that sets it."""
    message = error.format_message()
    context, option = getattr(error, "ctx", None), getattr(error, "option_name", "")
    command = context.command_path if context is not None else _PROGRAM
    hint = f"see `{command} --help`"
    if context is not None and message.startswith("No such option") and _takes_set(context.command):
        from search.definition.assignments import assignment_for

        given = [word.partition("=")[2] for word in arguments if word.startswith(f"{option}=")]
        given += [value for word, value in itertools.pairwise(arguments) if word == option and not value.startswith("-")]
        known = bool(getattr(error, "possibilities", None))
        if assignment := assignment_for(option, given[0] if given else "VALUE", exactly=known):
            message, hint = f"no such option: {option}", f"`--set {shlex.quote(assignment)}`"
    return DefinitionError(message[:1].lower() + message[1:].rstrip("."), hint=hint)


def _takes_set(command: Any) -> bool:
    return any("--set" in one.opts for one in command.params)


def _print_error(error: ExplainedError) -> int:
    waiting.done()
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


def _failed_device(error: BaseException) -> ExplainedError | None:
    """An explained error if memory ran out or the GPU failed, whatever was computed; None for any other error."""
    if "torch" not in sys.modules:  # nothing was computed
        return None
    from model.device_errors import failure_text, is_device_failure, is_out_of_memory

    if not is_device_failure(error):
        return None
    what, _, got = failure_text(error).partition(": ")
    if is_out_of_memory(error):
        return ResourceError(what, got=got, hint="does another program use it? `islr-search doctor` shows the machine")
    from search.trial.gpus import find_gpus

    broken = next((gpu for gpu in find_gpus("cuda") if gpu.problem), None)
    remedy = "it computes again now: perhaps the same command does too" if broken is None else broken.remedy
    return ResourceError(what, got=got, hint=f"{remedy}; `--device cpu` does without it")


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
