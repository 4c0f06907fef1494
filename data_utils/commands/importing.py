"""`islr-data import-...`: data sets of other layouts become ours."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_utils.commands.inspecting import inspect_import, print_warnings
from data_utils.commands.options import (
    CORES,
    DONE,
    FOUND_PROBLEMS,
    Json,
    Mirrored,
    NewFolder,
    PartOrder,
    Signer,
    SkipBroken,
    SwapHands,
    Workers,
    extent,
    print_json,
)
from data_utils.commands.progress import Stopped, progress_shown
from data_utils.errors import ExplainedError, escape_line
from data_utils.wording import counted

if TYPE_CHECKING:
    from data_utils.importing.corrections import Corrections
    from data_utils.importing.importing import ImportResult
    from data_utils.importing.record import BrokenClip, ImportPlan

_MAX_EXAMPLES = 10  # broken clips that are listed
_MAX_EXPECTED = 3


def import_kaggle(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder that contains train.csv.")],
    folder: NewFolder,
    top: Annotated[int | None, typer.Option(metavar="N", help="Only the N most frequent signs, renumbered.")] = None,
    signs: Annotated[str | None, typer.Option(metavar="A,B,C", help="Only these signs, renumbered.")] = None,
    signer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who signs all clips, if the list has no column participant_id.")
    ] = None,
    swap_hands: SwapHands = None,
    mirrored: Mirrored = None,
    workers: Workers = CORES,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
) -> int:
    """Import the data of Kaggle's competition asl-signs, or your own in its layout (needs pyarrow).

    The list train.csv needs the columns path and sign; participant_id and sequence_id should be there.
    An import that was stopped or killed continues with the same command. Exits with 1 if it found broken files.
    """
    from data_utils.importing import kaggle

    if top is not None and signs is not None:
        raise ExplainedError("--top and --signs exclude each other", hint="give one of them, or neither to import all signs")
    names = None if signs is None else [sign.strip() for sign in signs.split(",")]
    plan = kaggle.plan_import(source, top=top, signs=names, signer=signer, notify=_note)
    return _run_import(_corrected(plan, _corrections(swap_hands, mirrored)), folder, workers, skip_broken, as_json)


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
    signer: Signer = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Other paths within SRC, such as '{word}/{signer}_{clip}.pose'. "
            "Fields: {signer} {word} {clip} {session} {any}.",
        ),
    ] = None,
    words: Annotated[str | None, typer.Option(metavar="A,B,C", help="Only these words.")] = None,
    min_signers: Annotated[int, typer.Option(min=1, metavar="N", help="Only words that at least N signers have.")] = 1,
    swap_hands: SwapHands = None,
    mirrored: Mirrored = None,
    workers: Workers = CORES,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
) -> int:
    """Import .pose files with MediaPipe Holistic landmarks: SRC/<signer>/<word>/<clip>.pose, or <signer>/<word>.pose.

    Needs pose-format. An import that was stopped or killed continues with the same command. Exits with 1 if it found broken
    files.
    """
    from data_utils.importing import pose

    names = None if words is None else [word.strip() for word in words.split(",")]
    plan = pose.plan_import(
        source, index=index, signer=signer, layout=layout, words=names, min_signers=min_signers, notify=_note
    )
    return _run_import(_corrected(plan, _corrections(swap_hands, mirrored)), folder, workers, skip_broken, as_json)


def import_npy(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder that contains one folder per signer.")],
    folder: NewFolder,
    signer: Signer = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Other paths within SRC, such as '{word}/{signer}_{clip}.npy'. "
            "Fields: {signer} {word} {clip} {session} {frame} {any}.",
        ),
    ] = None,
    order: PartOrder = None,
    swap_hands: SwapHands = None,
    mirrored: Mirrored = None,
    workers: Workers = CORES,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
) -> int:
    """Import NumPy arrays of MediaPipe landmarks: SRC/<signer>/<word>/<clip>.npy, or <clip>/<frame>.npy with a file per frame.

    Reads .npy and .npz with pose, face and hands, or some of these, in most of the ways in which people save them. An import
    that was stopped or killed continues with the same command. Exits with 1 if it found broken files.
    """
    from data_utils.importing import npy
    from data_utils.importing.readings import parse_order

    parts = None if order is None else parse_order(order)
    corrections = _corrections(swap_hands, mirrored)
    plan = npy.plan_import(source, signer=signer, layout=layout, order=parts, corrections=corrections, notify=_note)
    return _run_import(_corrected(plan, corrections), folder, workers, skip_broken, as_json)


def import_hdf5(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of a data set to copy; it stays as it is.")],
    folder: NewFolder,
    order: PartOrder = None,
    swap_hands: SwapHands = None,
    mirrored: Mirrored = None,
    workers: Workers = CORES,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
) -> int:
    """Copy a data set of HDF5 files and correct it: other axes, another order of the parts, swapped hands, mirrored pictures.

    Reads `feature` as [3, T, 543], [T, 543, 3], with 553 points and in other shapes. An import that was stopped or killed
    continues with the same command. Exits with 1 if it found broken clips.
    """
    from data_utils.importing import hdf5_copy
    from data_utils.importing.readings import parse_order

    parts = None if order is None else parse_order(order)
    corrections = _corrections(swap_hands, mirrored)
    plan = hdf5_copy.plan_import(source, order=parts, corrections=corrections, notify=_note)
    return _run_import(_corrected(plan, corrections), folder, workers, skip_broken, as_json)


def import_video(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with videos.")],
    folder: NewFolder,
    signer: Signer = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Other paths within SRC, such as '{word}/{signer}_{clip}.mp4'. "
            "Fields: {signer} {word} {clip} {session} {any}.",
        ),
    ] = None,
    mirrored: Annotated[
        str | None,
        typer.Option(
            metavar="SIGNERS", help="Signers whose pictures are mirrored, as some webcams do: all, or names with commas."
        ),
    ] = None,
    workers: Workers = CORES,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
) -> int:
    """Import videos: SRC/<signer>/<word>/<clip>.mp4, <signer>/<word>.mp4, or <word>/<clip>.mp4 with --signer.

    MediaPipe finds the landmarks, once `islr-data setup-video` has installed it. An import that was stopped or killed continues
    with the same command. Exits with 1 if it found broken files.
    """
    from data_utils.importing import video
    from data_utils.importing.corrections import parse_signers

    names = parse_signers(mirrored)
    plan = video.plan_import(source, folder, signer=signer, layout=layout, mirrored=names, notify=_note)
    return _run_import(plan, folder, workers, skip_broken, as_json)


def _note(text: str) -> None:
    print(escape_line(text), file=sys.stderr)


def _corrections(swap_hands: str | None, mirrored: str | None) -> Corrections:
    from data_utils.importing.corrections import Corrections, parse_signers

    return Corrections(parse_signers(swap_hands), parse_signers(mirrored))


def _corrected(plan: ImportPlan, corrections: Corrections) -> ImportPlan:
    """The plan with the corrections that a user asked for."""
    corrections.check(plan.clips_of)
    return dataclasses.replace(plan, corrections=corrections)


def _run_import(plan: ImportPlan, folder: Path, workers: int, skip_broken: bool, as_json: bool) -> int:
    from data_utils.importing.importing import progress_line, run_import

    started = time.monotonic()

    def report(done: int, total: int, before: int) -> None:
        show(progress_line(done, total, before=before, seconds=time.monotonic() - started))

    try:
        with progress_shown() as show:
            result = run_import(plan, folder, workers=workers, skip_broken=skip_broken, progress=report)
    except Stopped as stopped:
        raise Stopped(stopped.exit_code - 128, "stopped; run the same command again to continue") from None
    warnings = inspect_import(folder, plan.corrections, workers) if result.complete and result.imported else []
    print_warnings(warnings, as_json=as_json)
    return _report_import(result, plan.source, folder, as_json=as_json)


def _report_import(result: ImportResult, source: Path, folder: Path, *, as_json: bool) -> int:
    if as_json:
        for kind, clips in (("broken", result.broken), ("skipped", result.skipped)):
            for clip in clips:
                more = {"expected": clip.expected or None, "hint": clip.hint or None}
                print_json(kind=kind, signer=clip.signer, clip=clip.clip, file=clip.file, why=clip.why, **more)
        counts = {"clips": result.clips, "words": result.words, "signers": result.signers, "imported": result.imported}
        faults = {"skipped": len(result.skipped), "broken": len(result.broken)}
        print_json(kind="summary", complete=result.complete, folder=str(folder), **counts, **faults)
    if result.skipped:
        listed = "" if as_json else f":\n{_examples(result.skipped)}"
        print(f"skipped {counted(len(result.skipped), 'broken clip')}{listed}", file=sys.stderr)
        if accepted := _accepted(result.skipped):
            print(f"expected: {accepted}", file=sys.stderr)
    if result.complete:
        done = "" if result.imported else "nothing to do: "
        print(f"{done}{extent(result.clips, result.words, result.signers)} in {folder}", file=sys.stderr)
        return DONE
    error = ExplainedError("no clip could be read", where=str(source), hint="is it complete, and of this kind?")
    if result.broken:
        signers = counted(len({clip.signer for clip in result.broken}), "signer")
        hints = {clip.hint for clip in result.broken}
        repair = hints.pop() if len(hints) == 1 else ""
        error = ExplainedError(
            f"{counted(len(result.broken), 'clip')} cannot be read: {signers} and the dictionary of words were not written",
            where=str(source),
            got=None if as_json else _examples(result.broken),
            expected=_accepted(result.broken),
            hint=f"{repair or 'repair them'}; run the same command again, or skip them with --skip-broken",
        )
    print(error.render(), file=sys.stderr)
    return FOUND_PROBLEMS


def _examples(clips: Sequence[BrokenClip]) -> str:
    """A few clips of each reason, one per line, and how many there are."""
    by_reason: dict[str, list[BrokenClip]] = {}
    for clip in clips:
        by_reason.setdefault(clip.why, []).append(clip)
    alternating = [clip for group in itertools.zip_longest(*by_reason.values()) for clip in group if clip is not None]
    lines = [f"  {escape_line(f'{clip.file}: {clip.why}')}" for clip in sorted(alternating[:_MAX_EXAMPLES])]
    return "\n".join([*lines, f"  ... {len(clips):,} in total"] if len(clips) > _MAX_EXAMPLES else lines)


def _accepted(clips: Sequence[BrokenClip]) -> str | None:
    """What would have been accepted instead of broken clips."""
    return "\n".join(list(dict.fromkeys(clip.expected for clip in clips if clip.expected))[:_MAX_EXPECTED]) or None
