"""`islr-data synth`: make a data set to try things with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from data_utils.commands.options import DONE, extent
from data_utils.commands.progress import progress_shown
from data_utils.wording import counted


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

    with progress_shown() as show:
        synthesize(folder, clips=clips, signs=signs, signers=signers, seed=seed, progress=report)
    print(f"{extent(clips, signs, signers)} in {folder}", file=sys.stderr)
    return DONE
