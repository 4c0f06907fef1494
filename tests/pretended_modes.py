"""Gives a thread a pretended GPU; see `pretended_gpu.py`.

`_Functions` turns CUDA devices in arguments into `meta` before PyTorch reads them. `_Operators` computes the operators that
then reach that device.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from pretended_tensor import CPU, META, PretendedTensor, compute, is_composite, is_ours, is_pinned, machine, pinned, replaced
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_Generator = torch._C.Generator


class _AnyGenerator(type(_Generator)):  # type: ignore[misc]
    """Makes `isinstance(..., torch.Generator)` true for every generator."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return type.__instancecheck__(_Generator, instance)


class PretendedGenerator(_Generator, metaclass=_AnyGenerator):
    """For CUDA a generator of the GPU, whose state is like CUDA's: seed and amount drawn, 16 bytes. Else PyTorch's own."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return super().__new__(cls, CPU) if torch.device(device).type == "cuda" else _Generator(device)

    def __init__(self, device: Any = "cpu") -> None:
        self._index = machine[-1].checked(device)
        self._seed, self._offset = 67280421310721, 0  # CUDA's default

    device = property(lambda self: torch.device("cuda", self._index))

    def manual_seed(self, seed: int) -> PretendedGenerator:
        self._seed, self._offset = seed % (1 << 64), 0
        return self

    def initial_seed(self) -> int:
        return self._seed

    def get_state(self) -> torch.Tensor:
        return torch.frombuffer(bytearray(struct.pack("<QQ", self._seed, self._offset)), dtype=torch.uint8)

    def set_state(self, state: torch.Tensor) -> PretendedGenerator:
        if is_ours(state) or state.dtype != torch.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        if len(state) != 16:
            raise RuntimeError("RNG state is wrong size")
        self._seed, self._offset = struct.unpack("<QQ", state.numpy().tobytes())
        return self

    @contextlib.contextmanager
    def drawing(self) -> Iterator[list[Any]]:
        """Makes this generator ready to draw once. What was drawn is to be put into the list."""
        drawn: list[Any] = []
        word = hashlib.blake2b(struct.pack("<QQ", self._seed, self._offset), digest_size=8).digest()
        super().manual_seed(int.from_bytes(word, "little") >> 1)
        yield drawn
        self._offset += 4 * -(-sum(value.numel() for value in drawn if isinstance(value, torch.Tensor)) // 4)


class _Operators(TorchDispatchMode):
    """Computes what PyTorch asks of the device `meta`."""

    new = 0
    """The GPU that the function at work has named."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise PyTorch imports its compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = kwargs.get("device")
        if (asked is not None and asked.type == "meta") or any(issubclass(kind, PretendedTensor) for kind in types):
            if is_composite(func):
                with self:
                    return func.decompose(*args, **kwargs)
            return compute(func, args, kwargs, self.new)
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    """Turns CUDA devices in arguments into `meta`, and looks after generators and pinned memory."""

    def __init__(self, operators: _Operators) -> None:
        super().__init__()
        self._operators = operators

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.cuda:
            func, args = torch.Tensor.to, (args[0], torch.device("cuda", *args[1:2]), *args[2:])
        if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], str | int | torch.device):
            args, kwargs = (args[0], *args[2:]), {**kwargs, "device": args[1]}
            args, kwargs = _named(args, kwargs)
        elif func is torch.Tensor.pin_memory:
            return pinned(args[0].clone())
        elif func is torch.Tensor.is_pinned:
            return not is_ours(args[0]) and is_pinned(args[0])
        elif func is F.scaled_dot_product_attention and is_ours(args[0]) and not torch.is_grad_enabled():
            return _attention(args, kwargs)
        if kwargs.pop("pin_memory", False):
            return pinned(func(*args, **kwargs))
        index = machine[-1].checked(kwargs["device"]) if kwargs.get("device") is not None else None
        generator = kwargs.get("generator")
        if isinstance(generator, _Generator):
            on_gpu = index is not None or (bool(args) and is_ours(args[0]))
            if on_gpu != (type(generator) is PretendedGenerator):
                wanted = "cuda" if on_gpu else "cpu"
                raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{generator.device.type}'")
        if index is None:
            return self._call(func, args, kwargs, generator)
        self._operators.new = index
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            kwargs = {name: value for name, value in kwargs.items() if name != "device"}
            return func(*args, **kwargs).to(META)
        if func is torch.Tensor.to and is_ours(args[0]) and args[0].index != index:
            return PretendedTensor(args[0].inner.clone(), index)
        return self._call(func, args, {**kwargs, "device": META}, generator)

    def _call(self, func: Any, args: Any, kwargs: Any, generator: Any) -> Any:
        if type(generator) is not PretendedGenerator:
            return func(*args, **kwargs)
        with generator.drawing() as drawn:
            drawn.append(func(*args, **kwargs))
        return drawn[0]


def _named(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of `Tensor.to` after the device, by name."""
    names = ("dtype", "non_blocking", "copy")
    return args[:1], {**kwargs, **dict(zip(names, args[1:], strict=False))}


def _attention(args: Any, kwargs: Any) -> Any:
    """Attention in one kernel, as on the CPU."""
    inner = replaced((args, kwargs), PretendedTensor, lambda value: value.inner)
    result = F.scaled_dot_product_attention(*inner[0], **inner[1])
    q = args[0]
    machine[-1].happens("launch", q.index)
    flop = 4 * result.numel() * args[1].shape[-2]
    machine[-1].launched("scaled_dot_product_attention", 4 * result.numel() * result.element_size(), flop)
    machine[-1].hold(result, q.index)
    return PretendedTensor(result, q.index)


@contextlib.contextmanager
def modes() -> Iterator[None]:
    """This thread has the pretended GPU."""
    operators = _Operators()
    with operators, _Functions(operators):
        yield
