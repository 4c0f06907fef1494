"""Measures imports and `islr-data check`: clips per second, peak memory, time by task.

    python benchmarks/importing.py --rounds 2
    python benchmarks/importing.py --clips 94477 --frames 2      all clips of the release, but short: lists and memory

The input is synthetic: lengths as in Kaggle's release (log-normal, median 23, sigma 1.0, 2 to 404 frames), numbers with as many
digits as real ones. It is read from the page cache; from a cold disk reading takes longer. `kaggle` is a Parquet file per clip,
`clips` and `frames` are NumPy arrays of 1662 float64 per frame, a file per clip or per frame.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from kaggle_tree import write_kaggle_tree  # noqa: E402

from data_utils.folder import signer_files  # noqa: E402
from data_utils.hdf5 import Clip, read_clips, write_signer  # noqa: E402
from data_utils.importing import kaggle  # noqa: E402
from data_utils.landmarks import FILE_PARTS  # noqa: E402
from data_utils.synthetic.synthetic import synthesize  # noqa: E402

RELEASE_CLIPS = 94_477  # clips of the whole release
SIGNERS = 21
WORDS = 250
FORMATS = ("kaggle", "clips", "frames")
COMMANDS = {"kaggle": "import-kaggle", "clips": "import-npy", "frames": "import-npy"}


def make_trees(folder: Path, formats: list[str], clips: int, median: float) -> int:
    """Writes a synthetic source of each format, `folder/<format>`. Returns the number of frames of each."""
    rng = np.random.default_rng(0)
    synthesize(folder / "base", clips=60, signs=10, signers=3)
    base_CTJ = np.concatenate(
        [clip.feature_CTJ for file in signer_files(folder / "base") for clip in read_clips(file, 10)], axis=1
    )
    lengths = np.clip(np.round(rng.lognormal(np.log(median), 1.0 if median > 2 else 0.0, clips)), 2, 404).astype(int)
    words = [f"word{number:03}" for number in range(WORDS)]

    def clip(number: int) -> Clip:
        first = int(rng.integers(base_CTJ.shape[1] - lengths[number]))
        feature_CTJ = base_CTJ[:, first : first + lengths[number]]
        noise = rng.normal(0, 1e-4, feature_CTJ.shape).astype(np.float32)  # all digits vary, as in a detector's output
        return Clip(str(1_000_000_000 + number), feature_CTJ + noise, number % WORDS)

    lines: list[str] = []
    for signer in range(SIGNERS):  # one by one: the whole set would take gigabytes of memory
        name, own = str(2000 + signer), [clip(number) for number in range(signer, clips, SIGNERS)]
        if "kaggle" in formats:
            write_kaggle_tree(folder / "kaggle", {name: own}, words)
            lines += (folder / "kaggle" / "train.csv").read_text().splitlines()[bool(lines) :]
        for one in own:
            rows_TV = tutorial_rows(one.feature_CTJ)
            place = Path(name) / words[one.label] / one.name
            if "clips" in formats:
                (folder / "clips" / place).parent.mkdir(parents=True, exist_ok=True)
                np.save(folder / "clips" / f"{place}.npy", rows_TV)
            if "frames" in formats:
                (folder / "frames" / place).mkdir(parents=True)
                for number, row_V in enumerate(rows_TV):
                    np.save(folder / "frames" / place / f"{number}.npy", row_V)
    if lines:
        (folder / "kaggle" / "train.csv").write_text("\n".join(lines) + "\n")
    return int(lengths.sum())


def tutorial_rows(feature_CTJ: np.ndarray) -> np.ndarray:
    """float64 `[T, 1662]`: pose with visibility, face, left hand, right hand, 0 where not detected."""
    points_TJC = np.nan_to_num(feature_CTJ.transpose(1, 2, 0).astype(np.float64))
    face, left, pose, right = (points_TJC[:, where] for where in FILE_PARTS.values())
    seen = np.concatenate([pose, np.full((*pose.shape[:2], 1), 0.9)], axis=2)
    return np.concatenate([part.reshape(len(points_TJC), -1) for part in (seen, face, left, right)], axis=1)


def run(*arguments: object) -> tuple[float, float, float, float]:
    """Wall and CPU seconds of a command of `islr-data`, and the peak resident memory of it and of all its processes, MB."""
    command = [sys.executable, "-m", "data_utils", *map(str, arguments)]
    start, before = time.perf_counter(), os.times()
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    alone = together = 0
    while process.poll() is None:
        try:
            own = process.memory_info().rss
            total = own + sum(one.memory_info().rss for one in process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
        alone, together = max(alone, own), max(together, total)
        time.sleep(0.05)
    assert process.returncode == 0, command
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, used, alone / 1e6, together / 1e6


def seconds_by_task(tree: Path, folder: Path, clips: int) -> dict[str, float]:
    """Seconds per clip of each task, on one core in this process."""
    paths = sorted(tree.glob("train_landmark_files/*/*.parquet"))
    paths = paths[:: max(1, len(paths) // clips)]
    kaggle.read_clip(paths[0])  # imports
    seconds = dict.fromkeys(("read Parquet", "place and check", "shuffle and compress", "other HDF5 writing"), 0.0)

    def timed(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def compress(feature_CTJ: np.ndarray) -> None:
        for plane in feature_CTJ:  # as HDF5's filters treat a chunk
            zlib.compress(np.ascontiguousarray(plane.view(np.uint8).reshape(-1, 4).T).tobytes(), 1)

    clips_read: list[Clip] = []
    for number, path in enumerate(paths):
        reading = timed(lambda path=path: kaggle._read(path))
        whole = timed(lambda path=path, number=number: clips_read.append(Clip(str(number), kaggle.read_clip(path), 0)))
        seconds["read Parquet"] += reading
        seconds["place and check"] += whole - reading
        seconds["shuffle and compress"] += timed(lambda: compress(clips_read[-1].feature_CTJ))
    writing = timed(lambda: write_signer(folder / "all.hdf5", clips_read))
    seconds["other HDF5 writing"] = max(0.0, writing - seconds["shuffle and compress"])
    return {name: value / len(paths) for name, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--frames", type=float, default=23, help="median length; all clips have 2 frames if it is 2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="working folder; needs about 8 GB [default: a temporary folder]")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        frames = make_trees(place, options.formats, options.clips, options.frames)
        print(f"{options.clips:,} clips, {frames:,} frames, load {os.getloadavg()[0]:.1f}\n")
        print("| command | workers | clips/s of each round | CPU ms per clip | peak MB, parent | all | 94,477 clips, minutes |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for name in options.formats:
            for workers in options.workers:
                target = place / f"{name}.{workers}"
                results = []
                for _ in range(options.rounds):
                    shutil.rmtree(target, ignore_errors=True)
                    results.append(run(COMMANDS[name], place / name, target, "--workers", workers))
                print_row(f"{COMMANDS[name]}, {name}", workers, results, options.clips)
        for workers in options.workers:
            results = [run("check", target, "--workers", workers) for _ in range(options.rounds)]
            print_row("check", workers, results, options.clips)
        written = sum(path.stat().st_size for path in target.iterdir()) / 1e6
        print(f"\n{written:,.0f} MB written, {written / options.clips * RELEASE_CLIPS / 1e3:.0f} GB for the whole release\n")
        if "kaggle" in options.formats:
            tasks = seconds_by_task(place / "kaggle", place, 200)
            total = sum(tasks.values())
            print("| task, one core | ms per clip | fraction |\n|---|---|---|")
            for name, value in tasks.items():
                print(f"| {name} | {value * 1e3:.2f} | {value / total:.0%} |")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def print_row(command: str, workers: int, results: list[tuple[float, float, float, float]], clips: int) -> None:
    """One row of the table."""
    rates = [clips / seconds for seconds, *_ in results]
    used, alone, together = (statistics.median(column) for column in list(zip(*results, strict=True))[1:])
    print(
        f"| {command} | {workers} | {' '.join(f'{one:.0f}' for one in rates)} | {used / clips * 1e3:.1f} | {alone:.0f} "
        f"| {together:.0f} | {RELEASE_CLIPS / statistics.median(rates) / 60:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
