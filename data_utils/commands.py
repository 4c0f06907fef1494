"""The commands of `islr-data`. Each function returns an exit code; its docstring is the help of the command."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_utils.errors import ExplainedError, escape_line
from data_utils.wording import counted

if TYPE_CHECKING:
    from data_utils.importing.importing import ImportResult
    from data_utils.importing.record import ImportPlan

DONE, FOUND_PROBLEMS, WRONG_INPUT, RESOURCE = range(4)
INTERRUPTED = 130

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a data set.")]
NewFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set to create.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line on stdout, and nothing else there.")]
Workers = Annotated[int, typer.Option(metavar="N", help="Number of processes.", show_default="as many as cores")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Skip missing and broken clips, and list them.")]
_CORES = os.cpu_count() or 1

_SHOW_EVERY_S = 0.1  # progress on a terminal
_LOG_AFTER_S, _LOG_EVERY_S = 2.0, 60.0  # progress in a log file: the first line, and the pause that others come to


class Stopped(Exception):
    """Ctrl-C or SIGTERM arrived while a command was running."""

    def __init__(self, number: int, text: str = "stopped") -> None:
        super().__init__(text)
        self.exit_code = 128 + number


def check(folder: Folder, as_json: Json = False) -> int:
    """Read a whole data set and list every problem. Exits with 0 if there is none, with 1 otherwise."""
    from data_utils.checking.problems import find_problems
    from data_utils.checking.warnings import ClipFacts, find_warnings, inspect_clip
    from data_utils.folder import SignerFile, signer_files
    from data_utils.hdf5 import Clip
    from data_utils.words import read_words

    if not folder.is_dir():
        signer_files(folder)  # raises the error for it
    clips: list[ClipFacts] = []
    with _progress(keep=False) as show:

        def add(file: SignerFile, clip: Clip) -> None:
            clips.append(inspect_clip(file, clip))
            show(f"{len(clips):,} clips read")

        faults = find_problems(folder, add)
    warnings = [] if faults else find_warnings(clips, read_words(folder))  # half a data set would give false warnings
    if as_json:
        for fault in faults:
            place = {"where": fault.where, "file": None if fault.file is None else str(fault.file), "path": fault.path}
            _print_json(kind="problem", what=fault.what, **place, got=fault.got, expected=fault.expected, hint=fault.hint)
        for warning in warnings:
            _print_json(kind="warning", **warning.record())
        _print_json(kind="summary", sound=not faults, problems=len(faults), warnings=len(warnings))
        return FOUND_PROBLEMS if faults else DONE
    for found in [*faults, *warnings]:
        print(found.render(), end="\n\n")
    if faults:
        print(f"{counted(len(faults), 'problem')} in {counted(len({str(fault.file) for fault in faults}), 'place')}")
        return FOUND_PROBLEMS
    own = [clip for clip in clips if not clip.mirrored]
    also = f", {counted(len(warnings), 'warning')}" if warnings else ""
    print(f"no problems{also}: {_extent(len(own), len(read_words(folder)), len({clip.signer for clip in own}))}")
    return DONE


def info(
    folder: Folder,
    as_json: Json = False,
    overview: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write an HTML page with counts, warnings and example skeletons."),
    ] = None,
) -> int:
    """Describe a data set: its words, signers, lengths, missing parts, warnings and fingerprint."""
    from data_utils.checking.describe import describe
    from data_utils.checking.examples import Examples
    from data_utils.checking.overview import overview_html
    from data_utils.checking.summary import summarize
    from data_utils.checking.warnings import DataWarning
    from data_utils.files import write_atomically

    if overview is not None and (overview.suffix.lower() not in (".html", ".htm") or overview.is_dir()):
        raise ExplainedError("the page needs a file of its own", where=str(overview), expected="a name that ends in .html")
    examples = Examples()
    with _progress(keep=False) as show:
        summary = summarize(
            folder,
            lambda done, total: show(f"{done:,} of {total:,} clips read"),
            None if overview is None else examples.add,
        )
    if overview is not None:
        words = tuple(word["word"] for word in summary["words"])
        write_atomically(overview, overview_html(summary, examples.by_word(words)))
        print(f"wrote {overview}", file=sys.stderr)
    if as_json:
        _print_json(**summary)
        return DONE
    for line in describe(summary):
        print(escape_line(line))
    for warning in summary["warnings"]:
        print(f"\n{DataWarning(**warning).render()}")
    print(f"\n{counted(len(summary['warnings']), 'warning')}" if summary["warnings"] else "no warnings")
    return DONE


def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to create; must not exist, or be empty.")],
    clips: Annotated[int, typer.Option(metavar="N", help="Clips in total.")] = 480,
    signs: Annotated[int, typer.Option(metavar="N", help="Words, 2 to 250.")] = 10,
    signers: Annotated[int, typer.Option(metavar="N", help="People who sign.")] = 10,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed gives another data set.")] = 0,
) -> int:
    """Create a synthetic data set to try things with. The same options give the same data."""
    from data_utils.synthetic.synthetic import synthesize

    def report(done: int, total: int) -> None:
        show(f"{done:,} of {counted(total, 'clip')}")

    with _progress() as show:
        synthesize(folder, clips=clips, signs=signs, signers=signers, seed=seed, progress=report)
    print(f"{_extent(clips, signs, signers)} in {folder}", file=sys.stderr)
    return DONE


def import_kaggle(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder that contains train.csv.")],
    folder: NewFolder,
    top: Annotated[int | None, typer.Option(metavar="N", help="Only the N most frequent signs, renumbered.")] = None,
    signs: Annotated[str | None, typer.Option(metavar="A,B,C", help="Only these signs, renumbered.")] = None,
    workers: Workers = _CORES,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
) -> int:
    """Import the data of Kaggle's competition asl-signs (needs pyarrow).

    An import that was stopped or killed continues with the same command. Exits with 1 if it found broken files.
    """
    from data_utils.importing import kaggle

    if top is not None and signs is not None:
        raise ExplainedError("--top and --signs exclude each other", hint="give one of them, or neither to import all signs")
    names = None if signs is None else [sign.strip() for sign in signs.split(",")]
    return _run_import(kaggle.plan_import(source, top=top, signs=names), folder, workers, skip_broken, as_json)


def import_pose(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder or ZIP archive (a wheel is one) with .pose files.")],
    folder: NewFolder,
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV file with the columns path, signer and word; paths within SRC. [default: index.csv in SRC, if there]",
        ),
    ] = None,
    words: Annotated[str | None, typer.Option(metavar="A,B,C", help="Only these words.")] = None,
    min_signers: Annotated[int, typer.Option(min=1, metavar="N", help="Only words that at least N signers have.")] = 1,
    workers: Workers = _CORES,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
) -> int:
    """Import .pose files with MediaPipe Holistic landmarks: SRC/<signer>/<word>.pose or <signer>/<word>/<clip>.pose.

    Needs pose-format. An import that was stopped or killed continues with the same command. Exits with 1 if it found broken
    files.
    """
    from data_utils.importing import pose

    def note(text: str) -> None:
        print(escape_line(text), file=sys.stderr)

    names = None if words is None else [word.strip() for word in words.split(",")]
    plan = pose.plan_import(source, index=index, words=names, min_signers=min_signers, notify=note)
    return _run_import(plan, folder, workers, skip_broken, as_json)


def import_holistic(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder that contains one folder per signer.")],
    folder: NewFolder,
    workers: Workers = _CORES,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
) -> int:
    """Import MediaPipe Holistic results saved per frame: SRC/<signer>/<word>/<clip>/<frame>.npy of 1662 numbers.

    An import that was stopped or killed continues with the same command. Exits with 1 if it found broken files.
    """
    from data_utils.importing import holistic

    return _run_import(holistic.plan_import(source), folder, workers, skip_broken, as_json)


def _run_import(plan: ImportPlan, folder: Path, workers: int, skip_broken: bool, as_json: bool) -> int:
    from data_utils.importing.importing import progress_line, run_import

    started = time.monotonic()

    def report(done: int, total: int, before: int) -> None:
        show(progress_line(done, total, before=before, seconds=time.monotonic() - started))

    try:
        with _progress() as show:
            result = run_import(plan, folder, workers=workers, skip_broken=skip_broken, progress=report)
    except Stopped as stopped:
        raise Stopped(stopped.exit_code - 128, "stopped; run the same command again to continue") from None
    return _report_import(result, plan.source, folder, as_json=as_json)


def _report_import(result: ImportResult, source: Path, folder: Path, *, as_json: bool) -> int:
    if as_json:
        for kind, clips in (("broken", result.broken), ("skipped", result.skipped)):
            for clip in clips:
                _print_json(kind=kind, signer=clip.signer, clip=clip.clip, file=clip.file, why=clip.why)
        counts = {"clips": result.clips, "words": result.words, "signers": result.signers, "imported": result.imported}
        faults = {"skipped": len(result.skipped), "broken": len(result.broken)}
        _print_json(kind="summary", complete=result.complete, folder=str(folder), **counts, **faults)
    if result.skipped:
        listed = "" if as_json else ":\n" + "\n".join(f"  {clip.file}: {clip.why}" for clip in result.skipped)
        print(f"skipped {counted(len(result.skipped), 'broken clip')}{listed}", file=sys.stderr)
    if result.complete:
        done = "" if result.imported else "nothing to do: "
        print(f"{done}{_extent(result.clips, result.words, result.signers)} in {folder}", file=sys.stderr)
        return DONE
    error = ExplainedError("no clip could be read", where=str(source), hint="is it complete, and of this kind?")
    if result.broken:
        signers = counted(len({clip.signer for clip in result.broken}), "signer")
        error = ExplainedError(
            f"{counted(len(result.broken), 'clip')} cannot be read: {signers} and the dictionary of words were not written",
            where=str(source),
            got=None if as_json else "\n".join(f"{clip.file}: {clip.why}" for clip in result.broken),
            hint="repair them and run the same command again, or skip them with --skip-broken",
        )
    print(error.render(), file=sys.stderr)
    return FOUND_PROBLEMS


def _print_json(**fields: object) -> None:
    print(json.dumps({"schema": 1, **fields}))


def _extent(clips: int, words: int, signers: int) -> str:
    return f"{counted(clips, 'clip')} of {counted(words, 'word')} by {counted(signers, 'signer')}"


@contextlib.contextmanager
def _progress(*, keep: bool = True) -> Iterator[Callable[[str], None]]:
    """Gives a function that shows a line of progress on stderr, and raises `Stopped` once Ctrl-C or SIGTERM has arrived.

    A terminal shows the latest line, at the end too if `keep`: then the block leaves a result, and a signal that arrives after
    its last line comes too late. Elsewhere lines follow each other, more rarely each time, at last one per minute.

    A second signal ends the process at once. The first is only noted: an exception raised wherever a signal arrives could be
    inside a destructor, where Python swallows it.
    """
    received: list[int] = []
    terminal = sys.stderr.isatty()
    room = shutil.get_terminal_size().columns - 1
    latest, shown_at = "", -math.inf if terminal else time.monotonic()
    pause_s = _SHOW_EVERY_S if terminal else _LOG_AFTER_S

    def note(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    def write(line: str) -> None:
        print(f"\r{line[:room]:<{room}}", end="", file=sys.stderr, flush=True)

    def show(line: str) -> None:
        nonlocal latest, shown_at, pause_s
        if received:
            raise Stopped(received[0])
        latest, now = line, time.monotonic()
        if now - shown_at < pause_s:
            return
        shown_at = now
        if terminal:
            write(line)
        else:
            pause_s = min(2 * pause_s, _LOG_EVERY_S)
            print(line, file=sys.stderr, flush=True)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield show
        if received and not keep:
            raise Stopped(received[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if terminal and latest:
            write(latest if keep else "")
            print(end="\n" if keep else "\r", file=sys.stderr, flush=True)
