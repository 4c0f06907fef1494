"""Arguments, options and exit codes that commands share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from data_utils.wording import counted

DONE, FOUND_PROBLEMS, WRONG_INPUT, RESOURCE = range(4)
INTERRUPTED = 130

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a data set.")]
NewFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set to create.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line on stdout, and nothing else there.")]
Workers = Annotated[int, typer.Option(metavar="N", help="Number of processes.", show_default="as many as cores")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Skip missing and broken clips, and list them.")]
Signer = Annotated[str | None, typer.Option(metavar="NAME", help="Who signs in all clips: the folders in SRC are words.")]
SwapHands = Annotated[
    str | None,
    typer.Option(metavar="SIGNERS", help="Signers whose left and right hand are swapped: all, or names with commas."),
]
Mirrored = Annotated[
    str | None,
    typer.Option(metavar="SIGNERS", help="Signers whose x is mirrored, corrected to 1 - x: all, or names with commas."),
]
PartOrder = Annotated[
    str | None,
    typer.Option(
        metavar="PARTS",
        help="Order of the parts in a frame, such as pose,face,left_hand,right_hand. [default: the one that fits the body]",
    ),
]
CORES = os.cpu_count() or 1


def print_json(**fields: object) -> None:
    """Prints one object on a line of stdout."""
    print(json.dumps({"schema": 1, **fields}))


def extent(clips: int, words: int, signers: int) -> str:
    """The size of a data set: `36 clips of 3 words by 5 signers`."""
    return f"{counted(clips, 'clip')} of {counted(words, 'word')} by {counted(signers, 'signer')}"
