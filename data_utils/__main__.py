"""The command line of the data: `python -m data_utils check DIR`, `info DIR`, `synth DIR`, `import-kaggle SRC DIR`,
`import-holistic SRC DIR`.

Exit codes: 0 done, 1 `check` found problems or an import broken files, 2 wrong usage or data (nothing was started), 3 a disk
or a permission failed, 130 / 143 stopped by Ctrl-C / SIGTERM. stdout holds what was asked for, stderr everything else.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from data_utils.commands import _CTRL_C, _DONE, _RESOURCE, _USAGE, _check, _import, _info, _synth
from data_utils.errors import ExplainedError, ResourceError

_PROGRAM = "python -m data_utils"
_COMMANDS = ("check", "info", "synth", "import-kaggle", "import-holistic")


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in the form that all commands share."""

    def error(self, message: str) -> NoReturn:
        raise ExplainedError(message, hint=f"`{self.prog} --help` shows what it takes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        options = _parse(list(sys.argv[1:] if arguments is None else arguments))
        commands = {"check": _check, "info": _info, "synth": _synth, "import-kaggle": _import, "import-holistic": _import}
        code = commands[options.command](options)
        sys.stdout.flush()
        return code
    except ExplainedError as error:
        print(error.render(), file=sys.stderr)
        return _RESOURCE if isinstance(error, ResourceError) else _USAGE
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _DONE
    except OSError as error:
        what = ExplainedError(
            "a file or folder cannot be read or written",
            where=None if error.filename is None else str(error.filename),
            got=error.strerror or str(error),
            hint="look at the disk's free space and at the folder's permissions, then try again",
        )
        print(what.render(), file=sys.stderr)
        return _RESOURCE
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return _CTRL_C


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog=_PROGRAM,
        description="Data sets of landmark clips: one HDF5 file a signer and a dictionary of words.",
        epilog=f"example: {_PROGRAM} synth data && {_PROGRAM} info data",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    check = commands.add_parser(
        "check",
        help="list every problem of a data set",
        description="Reads the whole data set and lists every problem. Exits with 0 if it is sound, with 1 if it is not.",
        allow_abbrev=False,
    )
    info = commands.add_parser(
        "info",
        help="describe a data set: words, signers, lengths, missing parts",
        description="Describes a data set: its words, signers, lengths, missing parts and fingerprint.",
        allow_abbrev=False,
    )
    for command in (check, info):
        command.add_argument("folder", metavar="DIR", type=Path, help="folder of a data set")
        command.add_argument("--json", action="store_true", help="one JSON object a line on stdout, and nothing else there")
    info.add_argument(
        "--overview", metavar="FILE", type=Path, help="also write a page with counts, warnings and example skeletons (HTML)"
    )
    synth = commands.add_parser(
        "synth",
        help="make a synthetic data set to try things with",
        description="Makes a synthetic data set. The same options give the same data.",
        allow_abbrev=False,
    )
    synth.add_argument("folder", metavar="DIR", type=Path, help="folder to make; must not exist, or be empty")
    for name, default, help_text in (
        ("--clips", 480, "clips in all"),
        ("--signs", 10, "words, 2 to 250"),
        ("--signers", 10, "people who sign"),
        ("--seed", 0, "another seed gives another set"),
    ):
        synth.add_argument(name, metavar="N", type=int, default=default, help=f"{help_text} (default {default})")
    _add_imports(commands)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        from data_utils.wording import suggest

        raise ExplainedError(
            f"there is no command `{arguments[0]}`",
            expected=", ".join(_COMMANDS),
            hint=suggest(arguments[0], _COMMANDS) or f"`{_PROGRAM} --help` lists the commands",
        )
    return parser.parse_args(arguments)


def _add_imports(commands: argparse._SubParsersAction[_Parser]) -> None:
    goes_on = "An import that was stopped or killed goes on with the same command. Exits with 1 if it met broken files."
    kaggle = commands.add_parser(
        "import-kaggle",
        help="import Kaggle's asl-signs (needs pyarrow)",
        description=f"Imports the release of Kaggle's competition asl-signs. {goes_on}",
        allow_abbrev=False,
    )
    holistic = commands.add_parser(
        "import-holistic",
        help="import MediaPipe Holistic's results saved frame by frame",
        description=f"Imports folders of frames, SRC/<signer>/<word>/<clip>/<frame>.npy of 1662 numbers. {goes_on}",
        allow_abbrev=False,
    )
    for command, what in ((kaggle, "folder that holds train.csv"), (holistic, "folder that holds one folder a signer")):
        command.add_argument("source", metavar="SRC", type=Path, help=what)
        command.add_argument("folder", metavar="DIR", type=Path, help="folder of the data set to make")
    some = kaggle.add_mutually_exclusive_group()
    some.add_argument("--top", metavar="N", type=int, help="only the N most frequent signs, numbered anew")
    some.add_argument("--signs", metavar="A,B,C", help="only these signs, numbered anew")
    for command in (kaggle, holistic):
        command.add_argument(
            "--workers", metavar="N", type=int, default=os.cpu_count() or 1, help="processes (default: as many as cores)"
        )
        command.add_argument("--skip-broken", action="store_true", help="leave out missing and broken clips, and list them")
        command.add_argument("--json", action="store_true", help="one JSON object a line on stdout, and nothing else there")


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to stop
    raise SystemExit(main())
