"""Which GPUs there are and whether they compute: what the probe answers, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from launch import CONFIRM
from pretended_gpu import Failure, pretended_gpu

from search.errors import DefinitionError, ResourceError
from search.reporting import doctor
from search.trial import gpus
from search.trial.gpus import Gpu, find_gpus, require_working, visible_gpus
from search.trial.machine import checked_device, deciding, machine_differences, made_with

CARD: Mapping[str, Any] = {
    **{"name": "NVIDIA H200", "memory": 140 << 30, "free": 139 << 30},
    **{"architecture": "sm_90", "problem": ""},
}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine whose driver is known, and nothing else."""
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 03:19:43 UTC 2025\n"
    )
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "version")
    gpus.driver_version.cache_clear()
    yield
    gpus.driver_version.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, *cards: Mapping[str, Any] | str, problem: str = "") -> None:
    """Replaces the probe by a script that prints these answers; text stands for code that it runs in place of an answer."""
    build = {"torch": "2.13.0", "cuda": "13.0", "architectures": ["sm_75", "sm_90"], "count": len(cards), "problem": problem}
    steps = [card if isinstance(card, str) else f"print({json.dumps(card)!r}, flush=True)" for card in cards]
    code = [f"print({json.dumps(build)!r}, flush=True)", f"import os, sys, time; steps = {steps!r}"]
    code += [
        "last = int(sys.argv[2]) + 1 if len(sys.argv) > 2 else None",
        "for step in steps[int(sys.argv[1]):last]: exec(step)",
    ]
    (folder / "probe.py").write_text("\n".join(code))
    monkeypatch.setattr(gpus, "_PROBE", folder / "probe.py")


@pytest.mark.parametrize(
    ("device", "count", "variable", "expected"),
    [
        ("cpu", 2, None, ()),
        ("cuda", 2, None, ("0", "1")),
        ("cuda:1", 2, None, ("1",)),
        ("cuda", 2, "4,GPU-ab12", ("4", "GPU-ab12")),
        ("cuda:1", 2, "4,GPU-ab12", ("GPU-ab12",)),
        ("cuda", 1, "4,-1", ("4",)),
        ("cuda", 3, "", ("0", "1", "2")),
    ],
)
def test_gpus(
    device: str, count: int, variable: str | None, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers' GPUs are named as in the user's CUDA_VISIBLE_DEVICES."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus(device, count) == expected


def test_two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All facts of each; `cuda:1` asks only the second. Their names are those of CUDA_VISIBLE_DEVICES."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,MIG-ab12")
    pretend(monkeypatch, tmp_path, CARD, {**CARD, "free": 0})
    first, second = find_gpus("cuda")
    assert first == Gpu(visible="3", **{**CARD, "driver": "570.86.15"})
    assert (second.visible, second.free) == ("MIG-ab12", 0)
    assert find_gpus("cuda:1") == (second,)
    assert find_gpus("cpu") == ()
    require_working(())
    require_working((first, second))
    (gone,) = find_gpus("cuda:7")
    assert (gone.visible, gone.problem) == ("", "CUDA finds none (CUDA_VISIBLE_DEVICES is `3,MIG-ab12`)")


def test_a_gpu_that_ends_or_hangs_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It alone has a problem, and the refusal says how to search without it."""
    monkeypatch.setattr(gpus, "_LIMIT_S", 0.5)
    pretend(monkeypatch, tmp_path, CARD, "time.sleep(60)", "sys.stderr.write('a bus error\\n'); os._exit(7)", CARD)
    found = find_gpus("cuda")
    assert [gpu.problem for gpu in found] == [
        *("", "it did not answer for 0 s", "asking for it ended the process with code 7: a bus error", ""),
    ]
    with pytest.raises(ResourceError) as refused:
        require_working(found)
    assert refused.value.what == "2 of 4 GPUs do not work"
    assert "restarting the machine" in str(refused.value.hint)
    assert "`CUDA_VISIBLE_DEVICES=0,3` searches without it" in str(refused.value.hint)


def test_a_probe_that_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its end is the answer."""
    (tmp_path / "probe.py").write_text("import nothing_of_this_name")
    monkeypatch.setattr(gpus, "_PROBE", tmp_path / "probe.py")
    (gpu,) = find_gpus("cuda")
    assert (gpu.visible, "nothing_of_this_name" in gpu.problem) == ("", True)


@pytest.mark.parametrize(
    ("error", "problem", "remedy"),
    [
        (
            "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver",
            "the NVIDIA driver 570.86.15 is too old for this PyTorch, which was built for CUDA 13.0 and needs driver 580",
            "update the driver, or install a PyTorch for an older CUDA",
        ),
        (
            "CUDA error: no kernel image is available for execution on the device",
            "this PyTorch has no code for its architecture sm_90, only for sm_75, sm_90",
            "install a PyTorch with code for it",
        ),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "it is busy, or in exclusive mode", "nvidia-smi"),
        ("CUDA out of memory. Tried to allocate 2.00 MiB", "its memory is full: 139.0 of 140.0 GiB are free", "nvidia-smi"),
        (
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
            "its memory is full",
            "end what uses it",
        ),
        ("CUDA error: system not yet initialized", "the switch between the GPUs is not ready", "nvidia-fabricmanager"),
        ("wrong numbers", "a small product comes out wrong on it", "it may be damaged"),
        ("CUDA error: an error that nobody knows", "CUDA error: an error that nobody knows", "restarting the machine"),
    ],
)
def test_problems(error: str, problem: str, remedy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is wrong, in words, and what to do about it."""
    pretend(monkeypatch, tmp_path, {**CARD, "problem": error})
    (gpu,) = find_gpus("cuda")
    assert gpu.problem.startswith(problem)
    assert remedy in gpu.remedy
    with pytest.raises(ResourceError, match=r"GPU 0 \(NVIDIA H200\) does not work") as refused:
        require_working((gpu,))
    assert "`--device cpu` trains on the CPU" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        ("Torch not compiled with CUDA enabled", "this PyTorch (2.13.0) is a CPU build: it has no CUDA"),
        ("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU", "no NVIDIA driver was found"),
        ("No CUDA GPUs are available", "CUDA finds none"),
    ],
)
def test_no_gpu(error: str, problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A single answer says why."""
    pretend(monkeypatch, tmp_path, problem=error)
    (gpu,) = find_gpus("cuda")
    assert (gpu.visible, gpu.problem) == ("", problem)
    with pytest.raises(ResourceError, match="there is no GPU that can be used"):
        require_working((gpu,))


def test_the_probe_on_a_machine_with_a_broken_gpu() -> None:
    """The true probe: one GPU computes, the other fails in its first operator."""
    text = "CUDA error: no kernel image is available for execution on the device"
    broken = Failure(text, "AcceleratorError", gpu="1", always=True)
    with pretended_gpu(gpus=2, memory=16 << 30, free=4 << 30, failures=[broken]):
        works, fails = find_gpus("cuda")
    facts = {"name": "Pretended GPU", "memory": 16 << 30, "free": 4 << 30, "architecture": "sm_90", "driver": "570.86.15"}
    assert works == Gpu(visible="0", **facts)
    assert fails == Gpu(visible="1", **facts, problem=fails.problem, remedy=fails.remedy)
    assert fails.problem == "this PyTorch has no code for its architecture sm_90, only for sm_90"


def test_a_broken_gpu_is_refused(
    searched_copy: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By `run` and `confirm`, which say that they try the GPUs, before anything is made."""
    pretend(monkeypatch, tmp_path, CARD, {**CARD, "problem": "CUDA error: unspecified launch failure"})
    what = "error: GPU 1 (NVIDIA H200) does not work\ngot: CUDA error: unspecified launch failure\nhint: "
    before = set(searched_copy.rglob("*"))
    with pretended_gpu(gpus=2):
        for words in (("run", "tiny.yaml", "--data", tiny, "--runs", "new", "--storage", "sqlite:///new/studies.db"), CONFIRM):
            steps: list[str] = []
            monkeypatch.setattr("search.commands.screens.doing", steps.append)
            refused = cli(*words)
            assert (refused.code, steps) == (3, ["trying the GPU"])
            assert what in refused.err
            assert "`CUDA_VISIBLE_DEVICES=0` searches without it" in refused.err
    assert set(searched_copy.rglob("*")) == before


def test_doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It shows what PyTorch was built for and each GPU; one that does not work is wrong, and that there is none is a note."""
    monkeypatch.setattr("torch.cuda.get_arch_list", lambda: ["sm_75", "sm_90"])
    pretend(monkeypatch, tmp_path, CARD, {**CARD, "problem": "CUDA-capable device(s) is/are busy or unavailable"})
    facts = "(NVIDIA H200), 139.0 of 140.0 GiB free, sm_90, driver 570.86.15"
    busy = "it is busy, or in exclusive mode: another process has it for itself"
    assert [(check.name, check.verdict, check.text.partition("\nhint")[0]) for check in doctor._devices()] == [
        ("cuda", "ok", "PyTorch was built for CUDA 13.0, with code for sm_75, sm_90"),
        ("device", "ok", f"GPU 0 {facts}: works"),
        ("device", "wrong", f"GPU 1 {facts}\nit does not work: {busy}"),
    ]
    monkeypatch.setattr("torch.version.cuda", None)
    (none,) = doctor._devices()
    cpu_build = (
        f"no GPU: this PyTorch ({torch.__version__}) is a CPU build: it has no CUDA. Trials train on the CPU, which is fine"
    )
    assert (none.verdict, none.text.splitlines()[0]) == ("note", cpu_build)
    assert none.text.splitlines()[1].startswith("hint: there is an NVIDIA driver 570.86.15 here; install a PyTorch with CUDA")
    with pytest.raises(DefinitionError, match="the device `cuda` cannot be used") as refused:
        checked_device("cuda")
    assert "is a CPU build" in str(refused.value.got)


def test_a_gpu_that_is_not_used(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver but a PyTorch without CUDA, a search that takes what is available says why that is the CPU."""
    monkeypatch.setattr("torch.version.cuda", None)
    said = f"there is an NVIDIA driver here, but trials train on the CPU: this PyTorch ({torch.__version__}) is a CPU build"
    assert said in cli("run", "tiny.yaml", "--data", "nowhere").err
    assert said not in cli("run", "tiny.yaml", "--data", "nowhere", "--device", "cpu").err
    for hidden in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert said not in cli("run", "tiny.yaml", "--data", "nowhere").err


def test_a_gpu_of_a_wrong_number(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who names a GPU that is not there wanted one."""
    pretend(monkeypatch, tmp_path, problem="No CUDA GPUs are available")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    finds = "CUDA finds none (CUDA_VISIBLE_DEVICES is `7`)"
    said = " ".join(cli("run", "tiny.yaml", "--data", "nowhere").err.split())
    assert f"trials train on the CPU: {finds}. For a GPU, `nvidia-smi -L` lists the GPUs" in said
    *_, check = doctor._devices()
    assert (check.verdict, check.text.splitlines()[0]) == ("note", f"no GPU: {finds}. Trials train on the CPU")
    with monkeypatch.context() as patch:
        patch.setattr(gpus, "driver_version", lambda: "")
        *_, check = doctor._devices()
        assert "\nhint: `nvidia-smi -L` lists the GPUs; CUDA_VISIBLE_DEVICES hides all that it does not name" in check.text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    *_, check = doctor._devices()
    assert check.text.splitlines()[0].endswith(". Trials train on the CPU, which is fine")


def test_records_of_gpus() -> None:
    """The GPUs of a machine are one device; what may change numbers is told apart, and what earlier versions lack is not."""
    with pretended_gpu(gpus=2):
        made = made_with("cuda:1")
        assert made == made_with("cuda")
        assert {
            "device": "cuda",
            "architecture": "sm_90",
            "cuda": "13.0",
            "driver": "570.86.15",
            "tf32": False,
        }.items() <= made.items()
        earlier = {name: value for name, value in made.items() if name not in ("architecture", "cuda", "driver", "tf32")}
        assert not machine_differences({**earlier, "device": "cuda:0"}, made)
        assert machine_differences(earlier, made_with("cuda", precision="tf32")) == ["tf32: False -> True"]
        updated = {**made, "driver": "580.95.05"}
        assert (deciding(updated), machine_differences(updated, made)) == (deciding(made), [])
        assert machine_differences({**made, "cuda": "12.8"}, made) == ["cuda: 12.8 -> 13.0"]
        on_cpu = machine_differences(made, made_with("cpu", "kernel"))
        assert [line.partition(":")[0] for line in on_cpu] == ["device", "processor"]
        torch.cuda.get_arch_list = lambda: ["sm_75", "sm_80", "sm_120"]  # put back by `pretended_gpu`
        assert made_with("cuda")["architecture"] == "sm_90 (its code was compiled by driver 570.86.15)"
        torch.cuda.get_device_capability = lambda device=None: (8, 6)
        assert made_with("cuda")["architecture"] == "sm_86"
