"""What the commands of `python -m data_utils` do."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_utils.errors import ExplainedError, escape_line
from data_utils.wording import counted

if TYPE_CHECKING:
    from data_utils.importing.importing import Result


_DONE, _ANSWER_IS_NO, _USAGE, _RESOURCE, _CTRL_C, _TERMINATED = 0, 1, 2, 3, 130, 143
_TELL_EVERY_S = 60.0  # how often an import tells a log file how far it is


def _check(options: argparse.Namespace) -> int:
    from data_utils.checking.oddities import Seen, look_at, oddities
    from data_utils.checking.problems import find_problems
    from data_utils.folder import SignerFile, signer_files
    from data_utils.hdf5 import Clip
    from data_utils.words import read_words

    if not options.folder.is_dir():
        signer_files(options.folder)  # says what is wrong with it
    clips: list[Seen] = []
    with _signals_noted() as stopped_by:
        show = _counter(stopped_by)

        def look(file: SignerFile, clip: Clip) -> None:
            clips.append(look_at(file, clip))
            show(len(clips), None)

        faults = find_problems(options.folder, look)
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
    from data_utils.checking.describe import described
    from data_utils.checking.examples import Examples
    from data_utils.checking.oddities import Oddity
    from data_utils.checking.overview import overview_html
    from data_utils.checking.summary import summarize
    from data_utils.files import write_atomically

    if options.overview is not None:
        _check_page(options.overview)
    examples = Examples()
    with _signals_noted() as stopped_by:
        each = examples.add if options.overview is not None else lambda seen, clip: None
        summary = summarize(options.folder, _counter(stopped_by), each)
    if options.overview is not None:
        words = tuple(word["word"] for word in summary["words"])
        write_atomically(options.overview, overview_html(summary, examples.by_word(words)))
        print(f"wrote {options.overview}", file=sys.stderr)
    if options.json:
        _print_json({**summary})
        return _DONE
    for line in described(summary):
        print(escape_line(line))
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
    from data_utils.synthetic.synthetic import synthesize

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
    from data_utils.importing import holistic
    from data_utils.importing.importing import progress_line, run_import

    if options.command == "import-kaggle":
        from data_utils.importing import kaggle

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
