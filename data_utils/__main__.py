"""The command line of the data: `python -m data_utils check DIR`, `info DIR`, `synth DIR`, `import-kaggle SRC DIR`,
`import-holistic SRC DIR`.

Exit codes: 0 done, 1 `check` found problems or an import broken files, 2 wrong usage or data (nothing was started), 3 a disk
or a permission failed, 130 / 143 stopped by Ctrl-C / SIGTERM. stdout holds what was asked for, stderr everything else.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from data_utils.errors import ExplainedError, ResourceError, shown_line
from data_utils.wording import counted

if TYPE_CHECKING:
    from data_utils.importing import Result

_PROGRAM = "python -m data_utils"
_COMMANDS = ("check", "info", "synth", "import-kaggle", "import-holistic")
_DONE, _ANSWER_IS_NO, _USAGE, _RESOURCE, _CTRL_C, _TERMINATED = 0, 1, 2, 3, 130, 143
_TELL_EVERY_S = 60.0  # how often an import tells a log file how far it is


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
        from data_utils.hdf5 import suggest

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


def _check(options: argparse.Namespace) -> int:
    from data_utils.hdf5 import Clip, SignerFile, problems, read_words, signer_files
    from data_utils.oddities import Seen, look_at, oddities

    if not options.folder.is_dir():
        signer_files(options.folder)  # says what is wrong with it
    clips: list[Seen] = []
    with _signals_noted() as stopped_by:
        show = _counter(stopped_by)

        def look(file: SignerFile, clip: Clip) -> None:
            clips.append(look_at(file, clip))
            show(len(clips), None)

        faults = problems(options.folder, look)
    warnings = [] if faults else oddities(clips, read_words(options.folder))  # of half a data set all would be odd
    if options.json:
        for fault in faults:
            place = {"where": fault.where, "file": None if fault.file is None else str(fault.file), "path": fault.path}
            texts = {"got": fault.got, "expected": fault.expected, "hint": fault.hint}
            _print_json({"kind": "problem", "what": fault.what, **place, **texts})
        for one in warnings:
            _print_json({"kind": "warning", "what": one.what, "where": one.where, "got": one.got, "hint": one.hint})
        _print_json({"kind": "summary", "sound": not faults, "problems": len(faults), "warnings": len(warnings)})
        return _ANSWER_IS_NO if faults else _DONE
    for found in [*faults, *warnings]:
        print(found.render(), end="\n\n")
    if faults:
        print(f"{counted(len(faults), 'problem')} in {counted(len({str(fault.file) for fault in faults}), 'place')}")
        return _ANSWER_IS_NO
    own = [clip for clip in clips if not clip.mirrored]
    extent = _extent(len(own), len(read_words(options.folder)), len({clip.signer for clip in own}))
    also = f", {counted(len(warnings), 'warning')}" if warnings else ""
    print(f"no problems{also}: {extent}")
    return _DONE


def _info(options: argparse.Namespace) -> int:
    from data_utils.describe import described
    from data_utils.examples import Examples
    from data_utils.files import write_whole
    from data_utils.oddities import Oddity
    from data_utils.overview import overview_html
    from data_utils.summary import summarize

    if options.overview is not None:
        _check_page(options.overview)
    examples = Examples()
    with _signals_noted() as stopped_by:
        each = examples.add if options.overview is not None else lambda seen, clip: None
        summary = summarize(options.folder, _counter(stopped_by), each)
    if options.overview is not None:
        words = tuple(word["word"] for word in summary["words"])
        write_whole(options.overview, overview_html(summary, examples.by_word(words)))
        print(f"wrote {options.overview}", file=sys.stderr)
    if options.json:
        _print_json({**summary})
        return _DONE
    for line in described(summary):
        print(shown_line(line))
    for one in summary["warnings"]:
        print(f"\n{Oddity(one['what'], where=one['where'], got=one['got'], hint=one['hint']).render()}")
    print(f"\n{counted(len(summary['warnings']), 'warning')}" if summary["warnings"] else "nothing odd was found")
    return _DONE


def _check_page(path: Path) -> None:
    """Refuses a place for the page where it would end something else, before the data set is read."""
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise ExplainedError("the page needs a file of its own", where=str(path), expected="a name that ends in .html")


def _counter(stopped_by: list[int]) -> Callable[[int, int | None], None]:
    """Shows on a terminal how many clips have been read, and leaves where a signal asks for it."""

    def show(done: int, total: int | None) -> None:
        if stopped_by:
            raise SystemExit(_TERMINATED) if stopped_by[0] == signal.SIGTERM else KeyboardInterrupt
        if sys.stderr.isatty() and done % 100 == 0:
            text = f"{done:,} clips read" if total is None else f"{done:,} of {total:,} clips read"
            # The next line, whatever it is, begins by writing over this one.
            print(f"{text}\033[K\r", end="" if done != total else "\033[K", file=sys.stderr, flush=True)

    return show


def _synth(options: argparse.Namespace) -> int:
    from data_utils.synthetic import synthesize

    def show(done: int, total: int) -> None:
        if stopped_by:
            raise SystemExit(_TERMINATED) if stopped_by[0] == signal.SIGTERM else KeyboardInterrupt
        if sys.stderr.isatty() and (done % 20 == 0 or done == total):
            print(f"\r{done:,} of {counted(total, 'clip')}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    sizes = {"clips": options.clips, "signs": options.signs, "signers": options.signers}
    with _signals_noted() as stopped_by:
        synthesize(options.folder, **sizes, seed=options.seed, progress=show)
    print(f"{_extent(options.clips, options.signs, options.signers)} in {options.folder}", file=sys.stderr)
    return _DONE


class _Stopped(Exception):
    """A signal asked for it."""


def _import(options: argparse.Namespace) -> int:
    from data_utils import holistic
    from data_utils.importing import progress_line, run_import

    if options.command == "import-kaggle":
        from data_utils import kaggle

        signs = None if options.signs is None else [sign.strip() for sign in options.signs.split(",")]
        request = kaggle.plan(options.source, top=options.top, signs=signs)
    else:
        request = holistic.plan(options.source)
    started = told = time.monotonic()
    live, line_is_open = sys.stderr.isatty(), False

    def show(done: int, total: int, before: int) -> None:
        nonlocal told, line_is_open
        if stopped_by:
            raise _Stopped
        now = time.monotonic()
        line = progress_line(done, total, before=before, seconds=now - started)
        if live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:<{width}}", end="", file=sys.stderr, flush=True)
            line_is_open = True
        elif now - told >= _TELL_EVERY_S:
            told = now
            print(line, file=sys.stderr, flush=True)

    result = None
    sizes = {"workers": options.workers, "skip_broken": options.skip_broken}
    try:
        with contextlib.suppress(_Stopped), _signals_noted() as stopped_by:
            result = run_import(request, options.folder, **sizes, progress=show)
    finally:
        if line_is_open:
            print(file=sys.stderr)
    if result is None:
        print("stopped; the same command goes on", file=sys.stderr)
        return _TERMINATED if stopped_by[0] == signal.SIGTERM else _CTRL_C
    return _tell_import(result, options)


def _tell_import(result: Result, options: argparse.Namespace) -> int:
    """Tells what an import came to; returns the exit code."""
    if options.json:
        for kind, clips in (("broken", result.broken), ("skipped", result.skipped)):
            for clip in clips:
                _print_json({"kind": kind, "signer": clip.signer, "clip": clip.clip, "file": clip.file, "why": clip.why})
        counts = {"clips": result.clips, "words": result.words, "signers": result.signers, "imported": result.imported}
        faults = {"skipped": len(result.skipped), "broken": len(result.broken)}
        _print_json({"kind": "summary", "complete": result.complete, "folder": str(options.folder), **counts, **faults})
    if result.skipped:
        listed = "" if options.json else ":\n" + "\n".join(f"  {clip.file}: {clip.why}" for clip in result.skipped)
        print(f"left out {counted(len(result.skipped), 'broken clip')}{listed}", file=sys.stderr)
    if not result.complete:
        return _incomplete(result, options)
    done = "" if result.imported else "nothing to do: "
    print(f"{done}{_extent(result.clips, result.words, result.signers)} in {options.folder}", file=sys.stderr)
    return _DONE


def _incomplete(result: Result, options: argparse.Namespace) -> int:
    """Tells why an import made no data set."""
    signers = counted(len({clip.signer for clip in result.broken}), "signer")
    error = ExplainedError("no clip could be read", where=str(options.source), hint="is it complete, and of this kind?")
    if result.broken:
        error = ExplainedError(
            f"{counted(len(result.broken), 'clip')} cannot be read: {signers} and the dictionary of words are not written",
            where=str(options.source),
            got=None if options.json else "\n".join(f"{clip.file}: {clip.why}" for clip in result.broken),
            hint="mend them and give the same command again, or add --skip-broken to leave them out",
        )
    print(error.render(), file=sys.stderr)
    return _ANSWER_IS_NO


def _print_json(fields: dict[str, object]) -> None:
    print(json.dumps({"schema": 1, **fields}))


def _extent(clips: int, words: int, signers: int) -> str:
    return f"{counted(clips, 'clip')} of {counted(words, 'word')} by {counted(signers, 'signer')}"


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
