"""The command line for data sets: `islr-data check DIR`, `info`, `synth`, `import-kaggle` and `import-holistic`.

Exit codes: 0 done; 1 `check` found problems or an import found broken files; 2 wrong usage or wrong data, nothing was started;
3 a disk, a permission or another import is in the way, or the output cannot be written; 130 or 143 stopped by Ctrl-C or
SIGTERM. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from data_utils import commands
from data_utils.errors import ExplainedError, ResourceError
from data_utils.streams import install_safe_streams, lost_output, safe_streams

_PROGRAM = "islr-data"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Data sets of landmark clips: one HDF5 file per signer and a dictionary of words.",
    epilog=f"Example: {_PROGRAM} synth data && {_PROGRAM} info data",
)

app.command()(commands.check)
app.command()(commands.info)
app.command()(commands.synth)
_RESUMES = "An import that was stopped or killed continues with the same command. Exits with 1 if it found broken files."
app.command(epilog=_RESUMES)(commands.import_kaggle)
app.command(epilog=_RESUMES)(commands.import_holistic)


def main() -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    install_safe_streams()
    sys.exit(execute())


def execute(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Errors are printed to stderr, never as a traceback."""
    with safe_streams():
        code = _execute(arguments)
        return _fail(lost) if code == commands.DONE and (lost := lost_output()) is not None else code


def _execute(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name=_PROGRAM, standalone_mode=False)
        if code == commands.INTERRUPTED:  # typer has caught a KeyboardInterrupt
            raise commands.Stopped(signal.SIGINT)
        return int(code or 0)
    except ExplainedError as error:
        return _fail(error)
    except typer.exceptions.TyperException as error:  # any error in how the command was typed
        message = error.format_message()
        command = getattr(getattr(error, "ctx", None), "command_path", _PROGRAM)
        return _fail(ExplainedError(message[:1].lower() + message[1:].rstrip("."), hint=f"see `{command} --help`"))
    except commands.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    except OSError as error:
        return _fail(
            ResourceError(
                "a file or folder cannot be read or written",
                where=None if error.filename is None else str(error.filename),
                got=error.strerror or str(error),
                hint="check free disk space and the folder's permissions, then try again",
            )
        )


def _fail(error: ExplainedError) -> int:
    print(error.render(), file=sys.stderr)
    return commands.RESOURCE if isinstance(error, ResourceError) else commands.WRONG_INPUT
