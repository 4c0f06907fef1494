"""Says whether trainings run on a GPU as they should, and how fast: for the day on which there is one. Under four minutes.

    python benchmarks/device.py [--device cuda] [--only parity,speed] [--output device.json]
    python benchmarks/device.py --device cpu --quick        # tries the script itself

Verdicts: ok; FAIL, something that this project promises does not hold; note, a number to read; skip, no time or nothing to try.
A section that fails with an error counts as FAIL, and the others go on. The exit code is 1 after a FAIL.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

import lockstep
from device_parts import Check, batches_of_the_gpu, gappy, make, run, same, weights_of
from sides import realistic_clips

from data_utils.augment import AugmentConfig
from data_utils.prepared import clip_set
from model.checkpoint import load_checkpoint, save_checkpoint
from model.config import ModelConfig
from model.device_clips import DeviceClips
from model.device_errors import is_out_of_memory
from model.latency import latency_ms
from model.lockstep import run_epochs
from model.training import SharedOrder, Training

CASES: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
    ({"dropout": 0.0}, {}, "lengths"),
    ({"dropout": 0.3}, {}, "detected"),
    ({"dropout": 0.3, "width": 66, "heads": 3, "activation": "mish"}, {}, "lengths"),  # heads of 22: no multiple of 4
    ({"dropout": 0.0}, {"label_smoothing": 0.3, "label_smoothing_over": "wrong", "weight_decay": 0.01}, "detected"),
    ({"pooling": "average", "activation": "gelu"}, {"clip_norm": 0.5, "ema": 0.9}, "lengths"),
    ({"pooling": "max", "norm_first": False, "activation": "tanhexp", "bias": False}, {"optimizer": "adamw"}, "detected"),
)
FAULTS = {
    "index out of range": "x[torch.tensor([9], device='cuda')].cpu()",
    "too large a tensor": "torch.empty(1 << 50, dtype=torch.uint8, device='cuda')",
    "no such GPU": "torch.zeros(1, device='cuda:77')",
    "no memory for cuBLAS": (
        "held, size = [], 1 << 36\n"
        "while size >= 1 << 21:\n"
        "    try: held.append(torch.empty(size, dtype=torch.uint8, device='cuda'))\n"
        "    except torch.OutOfMemoryError: size //= 2\n"
        "(x.view(2, 2) @ x.view(2, 2)).cpu()"
    ),
}
"""What goes wrong on a GPU, as code; `x` holds four numbers there."""


def first_gradient(training: Training) -> torch.Tensor:
    next(iter(training.path.epoch(training.loss)))
    return torch.cat([weight.grad.flatten().cpu().double() for weight in training.path.weights if weight.grad is not None])


def environment(check: Check) -> None:
    python, cores = sys.version.split()[0], os.cpu_count()
    check.say("note", f"python {python}, torch {torch.__version__}, numpy {np.__version__}, {cores} cores")
    if check.has_gpu():
        from search.trial.gpus import find_gpus

        for gpu in find_gpus("cuda"):
            check.require(not gpu.problem, f"{gpu}")


def parity(check: Check) -> None:
    """Gradients of a batch and losses of two epochs on the device and on the CPU."""
    worst_gradient = worst_loss = 0.0
    for model, config, mask in CASES:
        with batches_of_the_gpu():
            sets = gappy(48, 1, mask), gappy(20, 2, mask)
            both = [make(device, *sets, model, **config) for device in ("cpu", check.device) * 2]
            for training in both:
                object.__setattr__(training.generators, "dropout", torch.Generator().manual_seed(3))
            cpu, there = map(first_gradient, both[:2])
            gradient = ((there - cpu).norm() / cpu.norm()).item()
            pairs = zip(*(run(training, 2).history for training in both[2:]), strict=True)
        loss = max(max(abs(a.val_loss - b.val_loss), abs(a.train_loss - b.train_loss)) for a, b in pairs)
        worst_gradient, worst_loss = max(worst_gradient, gradient), max(worst_loss, loss)
        if not (gradient < 1e-4 and loss < 1e-3):
            check.say("FAIL", f"{model} {config} {mask}: gradients differ by {gradient:.1e}, losses by {loss:.1e}")
    what = f"{len(CASES)} configurations: gradients within {worst_gradient:.1e} (relative), losses within {worst_loss:.1e}"
    check.require(worst_gradient < 1e-4 and worst_loss < 1e-3, what, gradient=worst_gradient, loss=worst_loss)


def resume(check: Check) -> None:
    """Three epochs in one go; or one, a checkpoint, and two in a fresh training."""
    more = {"augment": AugmentConfig(flip=0.5, noise=0.5), "ema": 0.9, "weight_decay": 0.1, "clip_norm": 1.0}
    whole, first, second = (make(check.device, gappy(48, 1), gappy(20, 2), {"dropout": 0.2}, **more) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        save_checkpoint([run(first, 1)], Path(folder) / "checkpoint", "one")
        seconds = time.perf_counter() - began
        load_checkpoint([second], Path(folder) / "checkpoint", "one")
    holds = same(run(whole, 3), run(second, 2))
    check.require(holds, f"a resumed training has the same numbers bit for bit: {holds}; epoch and checkpoint {seconds:.2f} s")


def determinism(check: Check) -> None:
    sets = gappy(160, 3, longest=300), gappy(20, 4)
    for dropout in (0.1, 0.0):
        one, two = (
            run(make(check.device, *sets, {"dropout": dropout}, batch_size=32), 2 if check.quick else 4) for _ in range(2)
        )
        gap = (weights_of(one) - weights_of(two)).abs().max().item()
        check.require(same(one, two), f"the same training twice, dropout {dropout}: weights differ by {gap:.1e}", gap=gap)


def empty_clips(check: Check) -> None:
    """A clip of which no frame counts."""
    clips = [np.random.default_rng(0).standard_normal((n, 260)).astype(np.float32) for n in (20, 20, 21, 22)]
    clips[1][:] = 0
    held = clip_set(clips, [0, 1, 2, 3], mask="detected")
    for dropout in (0.0, 0.2):
        record = make(check.device, held, held, {"dropout": dropout}, batch_size=4).run_epoch()
        good = math.isfinite(record.train_loss) and math.isfinite(record.val_loss)
        check.require(good, f"dropout {dropout}: losses {record.train_loss:.4f} and {record.val_loss:.4f}")


def memory(check: Check) -> None:
    if not check.has_gpu():
        return
    gc.collect()
    torch.cuda.empty_cache()
    before, total = torch.cuda.memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (64 << 20)) / total)
    try:
        raised: BaseException | None = None
        try:
            large = {"width": 512, "ffn_width": 4096, "layers": 4}
            make(check.device, realistic_clips(600, 5), None, large, batch_size=600).run_epoch()
        except RuntimeError as error:
            raised = error.with_traceback(None)
        gc.collect()
        torch.cuda.empty_cache()
        left = (torch.cuda.memory_allocated() - before) / 2**20
        known = raised is not None and is_out_of_memory(raised)
        text = f"a model that does not fit raises {type(raised).__name__}; {left:.0f} MiB stay behind"
        check.require(known and left < 16, text)
        where = DeviceClips(realistic_clips(3000, 6), torch.device(check.device)).frames_NF.device.type
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    there, here = (make(check.device, gappy(48, 1), gappy(20, 2)) for _ in range(2))
    for clips in (here.train, here.validation):
        assert clips is not None
        clips._held.frames_NF, clips._held.stays_on_host = clips._held.frames_NF.cpu(), True
    holds = same(run(there, 2), run(here, 2))
    check.require(where == "cpu" and holds, f"frames that do not fit stay on the {where}; the same numbers from there: {holds}")


def faults(check: Check) -> None:
    """Which exceptions a GPU in trouble raises, and whether `model/device_errors.py` knows them."""
    if not check.has_gpu():
        return
    for name, code in FAULTS.items():
        body = "\n".join(f"    {line}" for line in ["x = torch.ones(4, device='cuda')", *code.splitlines()])
        program = (
            "import torch\nfrom model.device_errors import failure_text, is_device_failure, is_out_of_memory\n"
            f"try:\n{body}\nexcept Exception as e:\n"
            "    print(int(is_device_failure(e)), int(is_out_of_memory(e)), type(e).__name__, failure_text(e)[:150])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        lines = done.stdout.splitlines() or [f"nothing; {done.stderr[-150:]}"]
        check.require(lines[-1].startswith("1") or (name == "no memory for cuBLAS" and not done.stdout), f"{name}: {lines[-1]}")


def speed(check: Check) -> None:
    """An epoch of the article's size; kernels, copies and waits of a step."""
    sets = realistic_clips(300 if check.quick else 3881, 0), realistic_clips(40 if check.quick else 200, 1)
    (training,) = lockstep.make(1, *sets, check.device, "torch", ModelConfig())
    epoch = lockstep.epoch_of([training], check.device)
    seconds = []
    for _ in range(2 if check.quick else 4):
        began = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - began)
    text = ", ".join(f"{value:.2f}" for value in seconds)
    check.say("note", f"epochs of {len(sets[0])} + {len(sets[1])} clips: {text} s", epochs_s=seconds)
    assert training.validation is not None
    check.say("note", f"latency of a clip of median length: {latency_ms(training.kept_model(), training.validation):.2f} ms")
    if not check.has_gpu():
        return
    check.say(
        "note", f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB at most, frames {sets[0].frames_NF.nbytes / 2**20:.0f}"
    )
    from torch.profiler import ProfilerActivity, profile

    (training,) = lockstep.make(1, realistic_clips(320, 0), None, check.device, "torch", ModelConfig())
    run(training, 1)
    torch.cuda.synchronize()
    began = time.perf_counter()
    run(training, 1)
    torch.cuda.synchronize()
    step_ms = 100 * (time.perf_counter() - began)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        run(training, 1)
    events = profiled.events()
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    copies = sum(event.name.startswith("Memcpy") for event in kernels) / 10
    waits = sum(event.name in ("cudaStreamSynchronize", "cudaDeviceSynchronize") for event in events)
    busy_ms = sum(event.time_range.elapsed_us() for event in kernels) / 1e4
    text = f"{len(kernels) / 10:.0f} kernels and copies ({copies:.1f} copies), GPU busy {busy_ms:.2f} of {step_ms:.2f} ms"
    check.say("note", f"a step: {text}; {waits} waits in 10 steps", kernels=len(kernels) / 10, waits=waits, step_ms=step_ms)


def in_lockstep(check: Check) -> None:
    """Trials in a stack and alone; the same stack twice; trials an hour by K."""

    def trials() -> list[Training]:
        sets = gappy(160, 1), gappy(20, 2)
        own = [
            ({"dropout": 0.1 * n}, {"lr": 1e-3 * (1 + n), "label_smoothing": 0.1 * n, "ema": 0.3 * (n % 2)}) for n in range(4)
        ]
        return [make(check.device, *sets, model, **more, seed=n, order=SharedOrder(7)) for n, (model, more) in enumerate(own)]

    alone, stacked, again = [run(training, 1) for training in trials()], trials(), trials()
    run_epochs(stacked, 4)
    run_epochs(again, 4)
    gap = max(abs(a.history[0].train_loss - b.history[0].train_loss) for a, b in zip(alone, stacked, strict=True))
    check.require(gap < 1e-5, f"4 trials in a stack: mean losses of 10 steps as alone within {gap:.1e}", gap=gap)
    holds = all(map(same, stacked, again))
    check.require(holds, f"the same stack twice has the same numbers bit for bit: {holds}")
    if check.quick:
        result = lockstep.measure(check.device, 100, 1, [2], [])
    else:
        slots, workers = ([4, 8, 32, 64], [8]) if check.device != "cpu" else ([4], [2])
        result = lockstep.measure(check.device, 3881, 1, slots, workers)
    one = next(iter(result["trials_an_hour"].values()))
    for name, rate in result["trials_an_hour"].items():
        check.say(
            "note",
            f"{name}: {rate:,.0f} trials of {lockstep.EPOCHS} epochs an hour, {rate / one:.1f} of one worker's",
            rate=rate,
        )


def commands(check: Check) -> None:
    """A search in lockstep, and the best of it trained again."""
    needed = ("optuna", "typer", "pydantic", "sqlalchemy", "rich", "filelock", "psutil", "yaml", "scipy")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        check.say("skip", f"not installed here: {', '.join(missing)}")
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    search = "search run label_smoothing --data demo --trials 8 --workers 4 --engine lockstep"
    with tempfile.TemporaryDirectory() as folder:
        for words in (
            ["data_utils", "synth", "demo", "--clips", "200", "--signs", "4"],
            [*search.split(), "--device", check.device, "--set", "fixed={epochs: 4, kernel: torch}"],
            ["search", "export", "label_smoothing", "--searched", "--output", "best.yaml"],
            ["search", "retrain", "best.yaml"],
        ):
            began, command = time.perf_counter(), [sys.executable, "-m", *words]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            last = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()][-1:]
            seconds = time.perf_counter() - began
            check.require(done.returncode == 0, f"{words[1]}: exit code {done.returncode} after {seconds:.0f} s; {last}")
            if done.returncode:
                print(done.stderr[-2000:])
                return


SECTIONS: dict[str, tuple[Callable[[Check], None], float]] = {
    "environment": (environment, 1.0),
    "parity": (parity, 1.0),
    "resume": (resume, 1.0),
    "determinism": (determinism, 0.9),
    "empty clips": (empty_clips, 0.9),
    "memory": (memory, 0.9),
    "faults": (faults, 0.8),
    "speed": (speed, 0.8),
    "lockstep": (in_lockstep, 0.7),
    "commands": (commands, 0.7),
}
"""Each with the share of the time by which it must have begun."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--seconds", type=float, default=220.0, help="for everything; later sections are skipped")
    parser.add_argument("--only", default="", help="sections, separated by commas")
    parser.add_argument("--output", type=Path, default=Path("device.json"), help="file for the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    check = Check(options.device, options.quick, options.seconds)
    for name in [name.strip() for name in options.only.split(",") if name.strip()] or SECTIONS:
        what, share = SECTIONS[name]
        check.section = name
        if check.passed > share * check.seconds:
            check.say("skip", "no time left")
            continue
        try:
            what(check)
        except Exception as error:
            traceback.print_exc()
            check.say("FAIL", f"{type(error).__name__}: {str(error)[:200]}")
    failed = sum(row["verdict"] == "FAIL" for row in check.rows)
    options.output.write_text(json.dumps({"schema": 1, "device": check.device, "rows": check.rows}, indent=1), encoding="utf-8")
    print(f"{len(check.rows)} lines, {failed} FAIL, {check.passed:.0f} s; {options.output}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
