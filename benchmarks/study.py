"""Measures the default study at the article's size: `islr-search run` with two workers, as users run it.

    python benchmarks/study.py [--json]               # the whole study: 50 trials
    python benchmarks/study.py --estimate [--json]    # from measured parts, in a few minutes

The data are synthetic signs of the article's size, 4,081 clips of ten words by 21 signers, with realistic lengths and about as
hard. The article trained on 20 of the signers, 3,881 clips; the study holds out eight signers, so that 62% of the clips train.
With `--clips 6269` as many clips train as in the article. The files are made first, which is not measured, and are then in the
page cache.

The estimate has three parts: the epochs that the pruner and patience leave of a complete study on an eighth of the clips, the
seconds of an epoch at the full size while both workers train, and the time that both of these runs took beyond their training
(start, preparation, sampler, files). Half a full trial is added for the end, when one worker has nothing left to do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_utils.splits import split_signers
from data_utils.synthetic.synthetic import synthesize
from search.trial.files import read_curves

STUDY = "label_smoothing"
WORDS = 10
SIGNERS = 21
SMALL = 8
"""The complete study of the estimate has this fraction of the clips."""

SHORT_TRIALS, SHORT_EPOCHS = 4, 3
"""Size of the run of the estimate that has all clips."""


@dataclass(frozen=True)
class Search:
    """A finished search."""

    wall_s: float
    cpu_s: float
    """Of all processes."""

    training_s: float
    """Wall time of all epochs, validation included, added up."""

    epochs: int
    trials: dict[str, int]
    """How many ended how."""

    def beyond_s(self, workers: int) -> float:
        """Wall time beyond training, if all workers had trained all the time."""
        return self.wall_s - self.training_s / workers


def make_data(folder: Path, clips: int) -> None:
    """Makes a data set of this many clips."""
    synthesize(folder, clips=clips, signs=WORDS, signers=SIGNERS)


def count_training(clips: int) -> int:
    """About how many clips the study trains on."""
    words_of = {str(number): frozenset(range(WORDS)) for number in range(SIGNERS)}
    return round(clips * len(split_signers(words_of).train) / SIGNERS)


def run_search(place: Path, data: Path, workers: int, trials: int, epochs: int | None) -> Search:
    """Runs a search in an empty folder. `epochs`: the maximum of a trial; None for the study's own.

    Its text goes to `output.txt` there.
    """
    place.mkdir()
    command = [sys.executable, "-m", "search", "run", STUDY, "--data", str(data), "--device", "cpu"]
    command += ["--workers", str(workers), "--trials", str(trials), *(["--set", f"epochs={epochs}"] if epochs else [])]
    with (place / "output.txt").open("w+", encoding="utf-8") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=place, env=_environment(), stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)  # with the workers, which have ended
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"the search failed:\n{output.read()}")
    curves = [read_curves(path)[0] for path in (place / "runs" / STUDY / "trials").glob("*/curve.csv")]
    answer = subprocess.run(
        [sys.executable, "-m", "search", "status", STUDY, "--json"],
        cwd=place,
        env=_environment(),
        capture_output=True,
        check=True,
    )
    return Search(
        wall_s,
        usage.ru_utime + usage.ru_stime,
        sum(record.seconds for curve in curves for record in curve),
        sum(map(len, curves)),
        json.loads(answer.stdout)["trials"],
    )


def measure_study(place: Path, clips: int, workers: int, trials: int, epochs: int | None) -> dict[str, Any]:
    """The whole study."""
    make_data(place / "data", clips)
    search = run_search(place / "study", place / "data", workers, trials, epochs)
    return {
        "estimate": False,
        "epochs": search.epochs,
        "ended": search.trials,
        "wall_s": search.wall_s,
        "cpu_s": search.cpu_s,
        "training_share": search.training_s / (workers * search.wall_s),
        "epoch_s": search.training_s / search.epochs,
    }


def estimate_study(place: Path, clips: int, workers: int, trials: int, epochs: int | None) -> dict[str, Any]:
    """The study from measured parts."""
    make_data(place / "data", clips)
    make_data(place / "small", clips // SMALL)
    short = run_search(place / "short_study", place / "data", workers, SHORT_TRIALS, SHORT_EPOCHS)
    small = run_search(place / "small_study", place / "small", workers, trials, epochs)
    epoch_s = short.training_s / short.epochs
    training_s = epoch_s * small.epochs
    longest = 50 if epochs is None else epochs
    beyond_s = short.beyond_s(workers) + small.beyond_s(workers) + epoch_s * longest / 2
    wall_s = training_s / workers + beyond_s
    return {
        "estimate": True,
        "epochs": small.epochs,
        "ended": small.trials,
        "wall_s": wall_s,
        "cpu_s": None,
        "training_share": training_s / (workers * wall_s),
        "epoch_s": epoch_s,
    }


def print_table(result: dict[str, Any]) -> None:
    """The table for people."""
    what = "estimate" if result["estimate"] else "measured"
    ended = ", ".join(f"{count} {state}" for state, count in result["ended"].items() if count)
    cpu = "" if result["cpu_s"] is None else f"{result['cpu_s'] / 60:.1f}"
    print(
        f"{STUDY}, {result['workers']} workers, {result['clips']:,} clips of which about {result['training_clips']:,} train, "
        f"load {result['load_before']:.1f} before the start:\n"
    )
    print("| | clips | trials | epochs | s per epoch | minutes | CPU minutes | of the workers' time in epochs |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {what} | {result['clips']:,} | {ended} | {result['epochs']:,} | {result['epoch_s']:.2f} "
        f"| {result['wall_s'] / 60:.1f} | {cpu} | {100 * result['training_share']:.0f}% |"
    )


def _environment() -> dict[str, str]:
    """The environment without settings of a search of the user's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEARCH_")}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--estimate", action="store_true", help="from measured parts instead of the whole study")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, help="maximum of a trial [default: the study's, 50]")
    parser.add_argument("--clips", type=int, default=4081, help="clips of the data set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="working folder, needs 1 GB [default: a temporary folder]")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=options.folder))
    load = os.getloadavg()[0]
    try:
        run = estimate_study if options.estimate else measure_study
        result = run(place, options.clips, options.workers, options.trials, options.epochs)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    result = {
        "schema": 1,
        "clips": options.clips,
        "training_clips": count_training(options.clips),
        "workers": options.workers,
        "load_before": load,
        **result,
    }
    if options.json:
        print(json.dumps(result))
    else:
        print_table(result)


if __name__ == "__main__":
    main()
