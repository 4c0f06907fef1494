"""The pretended GPU is as strict as CUDA, and counts what a GPU would do and wait for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
from pretended_gpu import Failure, pretended_environment, pretended_gpu


def test_it_is_as_strict_as_cuda() -> None:
    """Devices do not mix, generators draw for their own device, and results must be fetched."""
    with pretended_gpu() as gpu:
        here, there = torch.ones(2, 3), torch.ones(2, 3, device="cuda")
        assert (str(there.device), there.is_cuda, str((there @ there.t()).device)) == ("cuda:0", True, "cuda:0")
        for mixed in (
            lambda: here + there,
            lambda: here @ there.t(),
            lambda: torch.cat([here, there]),
            lambda: there[:, 0] @ here,
        ):
            with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
                mixed()
        with pytest.raises(RuntimeError, match="indices should be"):
            here[torch.zeros(1, dtype=torch.int64, device="cuda")]
        assert (there * torch.tensor(2.0)).sum() == 12, "a single number of the host may take part"
        ours, theirs = torch.Generator().manual_seed(1), torch.Generator("cuda").manual_seed(1)
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
            there.uniform_(generator=ours)
        with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator but found 'cuda'"):
            torch.rand(3, generator=theirs)
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            there.numpy()
        state = theirs.get_state()
        drawn = torch.rand(8, device="cuda", generator=theirs)
        assert (len(state), state.is_cuda, torch.equal(theirs.get_state(), state)) == (16, False, False)
        assert torch.equal(drawn, torch.rand(8, device="cuda", generator=theirs.set_state(state)))
        with pytest.raises(RuntimeError, match="wrong size"):
            theirs.set_state(ours.get_state())
        with pytest.raises(torch.AcceleratorError, match="invalid device ordinal"):
            torch.zeros(1, device="cuda:1")
        assert isinstance(ours, torch.Generator)
        assert isinstance(theirs, torch.Generator)
        assert gpu.checked("cpu") is None
    assert not torch.cuda.is_available() or torch.cuda.get_device_name() != gpu.name


def test_it_counts_launches_copies_and_waits() -> None:
    """Views start no kernel. A copy does not wait if it comes from pinned memory and may go on."""
    with pretended_gpu() as gpu, gpu.counting() as counts:
        pinned = torch.arange(6, dtype=torch.float32).view(2, 3).pin_memory()
        held = torch.empty(6, pin_memory=True)
        assert [value.is_pinned() for value in (pinned[1:], held, torch.ones(2))] == [True, True, False]
        there = pinned.to("cuda", non_blocking=True)
        there.view(3, 2).t()[0].copy_(held[:3], non_blocking=True)
        assert (counts.to_device, counts.bytes_copied, counts.waits) == (2, 36, {})
        torch.ones(2, 3).to("cuda", non_blocking=True)  # pageable memory
        pinned.to("cuda")
        torch.tensor([1], device="cuda")
        assert [why.partition(": ")[0] for why in counts.waits] == [
            "copy of pageable memory to the GPU",
            *["blocking copy to the GPU"] * 2,
        ]
    kinds = {
        "a number is read": lambda: there.sum().item(),
        "blocking copy to the host": lambda: there.cpu(),
        "nonzero": lambda: torch.nonzero(there),
        "boolean index": lambda: there[there > 0],
        "index on the host": lambda: there[torch.tensor([0])],
        "synchronize": lambda: torch.cuda.synchronize(),
        "": lambda: there[there.long()[:, 0] * 0].masked_fill_(there > 0, 1.0).add_(1).softmax(dim=1).cpu,
    }
    for kind, what in kinds.items():
        with gpu.counting() as counts, pretended_gpu(gpu):
            what()
        assert [why.partition(":")[0] for why in counts.waits] == [kind] * bool(kind)
        assert all("tests/test_pretended_gpu.py:" in why for why in counts.waits)
    with pretended_gpu(gpu), gpu.counting() as counts, torch.inference_mode():
        torch.nn.functional.linear(there, there, there[:, 0][:2]).relu_().view(-1)
    assert counts.launches == {"addmm": 1, "relu_": 1}
    assert counts.flop == 2 * 2 * 2 * 3


def test_memory_ends_and_comes_back() -> None:
    """More than the memory raises PyTorch's error. Memory is free again when nothing refers to it."""
    with pretended_gpu(memory=1 << 20, free=1 << 19) as gpu:
        assert torch.cuda.mem_get_info() == (1 << 19, 1 << 20)
        held = torch.empty(1 << 16, device="cuda")
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
            held + torch.zeros(1 << 17, device="cuda")
        view = held[:2]
        del held
        assert torch.cuda.memory_allocated() == 1 << 18
        del view
        assert torch.cuda.memory_allocated() == 0
        assert torch.cuda.max_memory_allocated() == 1 << 18
        torch.cuda.set_per_process_memory_fraction(0.25)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(1 << 17, device="cuda")
    assert gpu.allocated == 0


def test_failures_strike_when_they_are_asked_to(tmp_path: Path) -> None:
    """At one launch, at every later product, at large allocations; or once for all processes."""
    failures = [
        Failure("CUDA error: unspecified launch failure", "AcceleratorError", at=3),
        Failure("CUBLAS_STATUS_ALLOC_FAILED", of="product", at=2, always=True),
        Failure("no room", "OutOfMemoryError", of="allocation", at=4096),
        Failure("once", of="copy", once=str(tmp_path / "mark")),
    ]
    with pretended_gpu(failures=failures):
        there = torch.ones(2, 2, device="cuda")
        there @ there
        with pytest.raises(torch.AcceleratorError, match="unspecified launch failure"):
            there.add_(1)
        there.add_(1)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="ALLOC_FAILED"):
                there @ there
        with pytest.raises(torch.OutOfMemoryError, match="no room"):
            torch.empty(2000, device="cuda")
        with pytest.raises(RuntimeError, match="once"):
            there.cpu()
        there.cpu()


def test_threads_have_the_gpu_and_learn_on_it() -> None:
    """Gradients are computed in threads too, with the numbers of the CPU."""
    weight = torch.nn.Linear(3, 2)
    found = []

    def learn(device: str) -> None:
        copy = torch.nn.Linear(3, 2).to(device)
        copy.load_state_dict(weight.state_dict())
        copy(torch.ones(4, 3, device=device)).square().sum().backward()
        found.append((str(copy.weight.grad.device), copy.weight.grad.cpu()))

    with pretended_gpu():
        thread = threading.Thread(target=learn, args=("cuda",))
        thread.start()
        thread.join()
    learn("cpu")
    assert [device for device, _ in found] == ["cuda:0", "cpu"]
    assert torch.equal(found[0][1], found[1][1])


def test_a_process_sees_the_gpus_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the first that does not exist. A failure may be of one GPU alone. Child processes have the machine too."""
    with pretended_gpu(gpus=3, failures=[Failure("broken", always=True, gpu="2")]):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,1,7")
        assert torch.cuda.device_count() == 2
        with pytest.raises(RuntimeError, match="broken"):
            torch.ones(1, device="cuda")
        assert str(torch.ones(1, device="cuda:1").to("cpu").device) == "cpu"
        with pytest.raises(RuntimeError, match="cuda:1 and cuda:0"):
            torch.empty(1, device="cuda") + torch.ones(1, device="cuda:1")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert not torch.cuda.is_available()
        with pytest.raises(RuntimeError, match="No CUDA GPUs are available"):
            torch.ones(1, device="cuda")
        assert {name: os.environ[name] for name in pretended_environment()}.keys() == {"PRETENDED_GPU", "PYTHONPATH"}
    assert "PRETENDED_GPU" not in os.environ
