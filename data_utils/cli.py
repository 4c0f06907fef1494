"""The command line for data sets: `islr-data check DIR`, `info`, `synth`, `import-pose`, `import-kaggle`
and `import-npy` (also named `import-holistic`), `import-hdf5`.

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

from data_utils import __version__
from data_utils.commands import importing, looking, making, video
from data_utils.commands.options import DONE, INTERRUPTED, RESOURCE, WRONG_INPUT
from data_utils.commands.progress import Stopped
from data_utils.errors import ExplainedError, ResourceError
from data_utils.help import CONTEXT, HelpCommand, HelpGroup, version_option
from data_utils.streams import install_safe_streams, lost_output, safe_streams

_PROGRAM = "islr-data"

app = typer.Typer(
    cls=HelpGroup,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    subcommand_metavar="COMMAND DIR [OPTIONS]",
    help="Data sets of landmark clips: one HDF5 file per signer and a dictionary of words. COMMAND --help has more.",
    epilog="""\
islr-data synth data                  make a data set to try things with
islr-data check data                  is everything in it as it should be?
islr-data info data --overview data.html
islr-data import-pose recordings data""",
)
app.callback()(version_option(_PROGRAM, __version__))

_PANELS = {
    "Look at a data set": (looking.check, looking.info),
    "Make one": (
        *(making.synth, importing.import_pose, importing.import_kaggle, importing.import_npy, importing.import_hdf5),
        *(importing.import_video, video.setup_video),
    ),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(cls=HelpCommand, rich_help_panel=_panel)(_command)
app.command("import-holistic", cls=HelpCommand, rich_help_panel="Make one", help="The name of import-npy in earlier versions.")(
    importing.import_npy
)


def main() -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    install_safe_streams()
    sys.exit(execute())


def execute(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Errors are printed to stderr, never as a traceback."""
    with safe_streams():
        code = _execute(arguments)
        return _fail(lost) if code == DONE and (lost := lost_output()) is not None else code


def _execute(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name=_PROGRAM, standalone_mode=False)
        if code == INTERRUPTED:  # typer has caught a KeyboardInterrupt
            raise Stopped(signal.SIGINT)
        return int(code or 0)
    except ExplainedError as error:
        return _fail(error)
    except typer.exceptions.TyperException as error:  # any error in how the command was typed
        message = error.format_message()
        command = getattr(getattr(error, "ctx", None), "command_path", _PROGRAM)
        return _fail(ExplainedError(message[:1].lower() + message[1:].rstrip("."), hint=f"see `{command} --help`"))
    except Stopped as stopped:
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
    return RESOURCE if isinstance(error, ResourceError) else WRONG_INPUT
