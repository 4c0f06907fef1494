"""Measures `islr-data import-kaggle`: clips per second with one and two workers, peak memory, time by task.

    python benchmarks/import_kaggle.py --rounds 2

The input is synthetic: lengths as in Kaggle's release (log-normal, median 23, sigma 1.0, 2 to 404 frames), numbers with as many
digits as real ones. It is read from the page cache; from a cold disk reading takes longer.
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
from data_utils.synthetic.synthetic import synthesize  # noqa: E402

RELEASE_CLIPS = 94_477  # clips of the whole release
SIGNERS = 21
WORDS = 250


def make_tree(folder: Path, clips: int) -> int:
    """Writes a synthetic release. Returns the number of its frames."""
    rng = np.random.default_rng(0)
    synthesize(folder / "base", clips=60, signs=10, signers=3)
    base_CTJ = np.concatenate(
        [clip.feature_CTJ for file in signer_files(folder / "base") for clip in read_clips(file, 10)], axis=1
    )
    lengths = np.clip(np.round(rng.lognormal(np.log(23), 1.0, clips)), 2, 404).astype(int)
    words = [f"word{number:03}" for number in range(WORDS)]

    def clip(number: int) -> Clip:
        first = int(rng.integers(base_CTJ.shape[1] - lengths[number]))
        feature_CTJ = base_CTJ[:, first : first + lengths[number]]
        noise = rng.normal(0, 1e-4, feature_CTJ.shape).astype(np.float32)  # all digits vary, as in a detector's output
        return Clip(str(1_000_000_000 + number), feature_CTJ + noise, number % WORDS)

    for signer in range(SIGNERS):  # one by one: the whole set would take a gigabyte of memory
        own = {str(2000 + signer): [clip(number) for number in range(signer, clips, SIGNERS)]}
        write_kaggle_tree(folder / f"part{signer}", own, words)
    tree = folder / "release"
    tree.mkdir()
    lines = [(folder / f"part{signer}" / "train.csv").read_text().splitlines() for signer in range(SIGNERS)]
    (tree / "train.csv").write_text("\n".join([lines[0][0], *(line for own in lines for line in own[1:])]) + "\n")
    shutil.copy(folder / "part0" / "sign_to_prediction_index_map.json", tree)
    (tree / "train_landmark_files").mkdir()
    for signer in range(SIGNERS):
        own_folder = folder / f"part{signer}" / "train_landmark_files" / str(2000 + signer)
        own_folder.rename(tree / "train_landmark_files" / own_folder.name)
    return int(lengths.sum())


def run_import(tree: Path, target: Path, workers: int) -> tuple[float, float, float]:
    """Wall seconds and CPU seconds of an import, and the peak resident memory of all its processes together, MB."""
    command = [sys.executable, "-m", "data_utils", "import-kaggle", str(tree), str(target), "--workers", str(workers)]
    start, before = time.perf_counter(), os.times()
    process = psutil.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        total = 0
        try:
            for one in [process, *process.children(recursive=True)]:
                total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        peak = max(peak, total)
        time.sleep(0.05)
    assert process.returncode == 0
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, used, peak / 1e6


def seconds_by_task(tree: Path, folder: Path, clips: int) -> dict[str, float]:
    """Seconds per clip of each task, on one core in this process."""
    paths = sorted(tree.glob("train_landmark_files/*/*.parquet"))[:: max(1, len(list(tree.glob("**/*.parquet"))) // clips)]
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
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="working folder; needs about 2 GB [default: a temporary folder]")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        frames = make_tree(place, options.clips)
        size = sum(path.stat().st_size for path in place.glob("release/**/*.parquet")) / 1e6
        print(f"{options.clips:,} clips, {frames:,} frames, {size:,.0f} MB of Parquet\n")
        print("| workers | clips/s of each round | median | frames/s | CPU ms per clip | peak MB | 94,477 clips, minutes |")
        print("|---|---|---|---|---|---|---|")
        results: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
        for number in range(options.rounds):
            for workers in results:
                target = place / f"target{workers}.{number}"
                results[workers].append(run_import(place / "release", target, workers))
                written = sum(path.stat().st_size for path in target.iterdir()) / 1e6
                shutil.rmtree(target)
        for workers, runs in results.items():
            rates = [options.clips / seconds for seconds, _, _ in runs]
            rate = statistics.median(rates)
            each = " ".join(f"{one:.0f}" for one in rates)
            print(
                f"| {workers} | {each} | {rate:.0f} | {rate * frames / options.clips:,.0f} "
                f"| {statistics.median(used for _, used, _ in runs) / options.clips * 1e3:.1f} "
                f"| {max(peak for _, _, peak in runs):.0f} | {RELEASE_CLIPS / rate / 60:.1f} |"
            )
        print(f"\n{written:,.0f} MB written, {written / options.clips * RELEASE_CLIPS / 1e3:.0f} GB for the whole release\n")
        tasks = seconds_by_task(place / "release", place, 200)
        total = sum(tasks.values())
        print("| task, one core | ms per clip | fraction |\n|---|---|---|")
        for name, value in tasks.items():
            print(f"| {name} | {value * 1e3:.2f} | {value / total:.0%} |")
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
