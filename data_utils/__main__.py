"""The command line of the data: `python -m data_utils check DIR`, `info DIR`, `synth DIR`.

Exit codes: 0 done, 1 `check` found problems, 2 wrong usage or data (nothing was started), 3 a disk or a permission failed,
130 / 143 stopped by Ctrl-C / SIGTERM. stdout holds what was asked for, stderr everything else.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from data_utils.errors import ExplainedError

_PROGRAM = "python -m data_utils"
_COMMANDS = ("check", "info", "synth")
_DONE, _ANSWER_IS_NO, _USAGE, _RESOURCE, _CTRL_C, _TERMINATED = 0, 1, 2, 3, 130, 143


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in the form that all commands share."""

    def error(self, message: str) -> NoReturn:
        raise ExplainedError(message, hint=f"`{self.prog} --help` shows what it takes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        options = _parse(list(sys.argv[1:] if arguments is None else arguments))
        code = {"check": _check, "info": _info, "synth": _synth}[options.command](options)
        sys.stdout.flush()
        return code
    except ExplainedError as error:
        print(error.render(), file=sys.stderr)
        return _USAGE
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
    if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        from data_utils.hdf5 import suggest

        raise ExplainedError(
            f"there is no command `{arguments[0]}`",
            expected=", ".join(_COMMANDS),
            hint=suggest(arguments[0], _COMMANDS) or f"`{_PROGRAM} --help` lists the commands",
        )
    return parser.parse_args(arguments)


def _check(options: argparse.Namespace) -> int:
    from data_utils.hdf5 import problems, signer_files
    from data_utils.prepared import open_data

    if not options.folder.is_dir():
        signer_files(options.folder)  # says what is wrong with it
    faults = problems(options.folder)
    if options.json:
        for fault in faults:
            place = {"where": fault.where, "file": None if fault.file is None else str(fault.file), "path": fault.path}
            texts = {"got": fault.got, "expected": fault.expected, "hint": fault.hint}
            _print_json({"kind": "problem", "what": fault.what, **place, **texts})
        _print_json({"kind": "summary", "sound": not faults, "problems": len(faults)})
    elif faults:
        for fault in faults:
            print(fault.render(), end="\n\n")
        print(f"{_count(len(faults), 'problem')} in {_count(len({str(fault.file) for fault in faults}), 'place')}")
    else:
        data = open_data(options.folder)
        clips = sum(len(labels) for labels in data.labels_of.values())
        print(f"no problems: {_extent(clips, len(data.words), len(data.labels_of))}")
    return _ANSWER_IS_NO if faults else _DONE


def _info(options: argparse.Namespace) -> int:
    from data_utils.summary import summarize

    summary = summarize(options.folder)
    if options.json:
        _print_json({**summary})
        return _DONE
    clips = sum(word["clips"] for word in summary["words"])
    print(f"{_count(clips, 'clip')}, {_count(len(summary['words']), 'word')}, {_count(len(summary['signers']), 'signer')}\n")
    _print_table(("word", "clips"), [(word["word"], f"{word['clips']:,}") for word in summary["words"]])
    _print_table(
        ("signer", "clips", "mirrored"),
        [(one["signer"], f"{one['clips']:,}", f"{one['mirrored']:,}") for one in summary["signers"]],
    )
    _print_table(
        ("frames of a clip", ""),
        [(name.replace("_", " "), f"{n:,.1f}" if isinstance(n, float) else f"{n:,}") for name, n in summary["frames"].items()],
    )
    _print_table(
        ("part", "frames missing"), [(name.replace("_", " "), f"{share:.4f}") for name, share in summary["missing"].items()]
    )
    print(f"fingerprint  {summary['fingerprint']}")
    return _DONE


def _synth(options: argparse.Namespace) -> int:
    from data_utils.synthetic import synthesize

    def show(done: int, total: int) -> None:
        if stopped_by:
            raise SystemExit(_TERMINATED) if stopped_by[0] == signal.SIGTERM else KeyboardInterrupt
        if sys.stderr.isatty() and (done % 20 == 0 or done == total):
            print(f"\r{done:,} of {_count(total, 'clip')}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    sizes = {"clips": options.clips, "signs": options.signs, "signers": options.signers}
    with _signals_noted() as stopped_by:
        synthesize(options.folder, **sizes, seed=options.seed, progress=show)
    print(f"{_extent(options.clips, options.signs, options.signers)} in {options.folder}", file=sys.stderr)
    return _DONE


def _print_json(fields: dict[str, object]) -> None:
    print(json.dumps({"schema": 1, **fields}))


def _print_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns under their heads: the first to the left, the others to the right; then an empty line."""
    widths = [max(_width(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        first, *others = row
        cells = [first + " " * (widths[0] - _width(first))]
        cells += [" " * (width - _width(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
    print()


def _width(text: str) -> int:
    """Columns that a text takes on a terminal: two for wide characters such as Japanese, none for combining marks."""
    shown = [mark for mark in text if unicodedata.category(mark) not in ("Mn", "Me", "Cf")]
    return sum(2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in shown)


def _extent(clips: int, words: int, signers: int) -> str:
    return f"{_count(clips, 'clip')} of {_count(words, 'word')} by {_count(signers, 'signer')}"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Collects the first Ctrl-C or SIGTERM, so that the work can be left where it is safe; a second one acts at once.

    An exception raised wherever a signal happens to arrive would not do: inside a destructor Python swallows it.
    """
    received: list[int] = []

    def note(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to stop
    raise SystemExit(main())
