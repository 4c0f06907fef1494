"""`islr-data setup-video`: what is needed to find landmarks in videos."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from data_utils.commands.options import DONE
from data_utils.commands.progress import progress_shown
from data_utils.errors import ExplainedError
from data_utils.wording import format_duration


def setup_video(
    python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Python 3.9 to 3.12 for its environment. [default: this one, else one in the path]"),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove it.")] = False,
) -> int:
    """Install MediaPipe for videos, in an environment of its own: 100 MB to download, 310 MB on disk.

    It lies in your cache folder and works offline afterwards. `import-video` and `islr-search predict` use it.
    """
    from data_utils.importing import video_setup
    from data_utils.importing.video_process import starts

    folder = video_setup.environment()
    if remove:
        if python is not None:
            raise ExplainedError("--python and --remove exclude each other", hint="give one of them")
        removed = video_setup.remove()
        print(f"removed {folder}" if removed else f"nothing to do: there is no {folder}", file=sys.stderr)
        return DONE
    if python is None and starts(video_setup.interpreter()):
        print(f"nothing to do: MediaPipe {video_setup.VERSION} is in {folder}", file=sys.stderr)
        return DONE
    python = video_setup.suitable_python(python)
    print(video_setup.plan_text(), file=sys.stderr)
    started = time.monotonic()

    def elapsed() -> str:
        return format_duration(time.monotonic() - started)

    with progress_shown(keep=False) as show:
        video_setup.set_up(python, lambda: show(f"installing, {elapsed()}"))
    print(f"installed MediaPipe {video_setup.VERSION} in {elapsed()}", file=sys.stderr)
    print("next: islr-data import-video SRC DIR", file=sys.stderr)
    return DONE
