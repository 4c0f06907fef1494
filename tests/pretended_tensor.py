"""Tensors of a pretended GPU, and operators on them; see `pretended_gpu.py`.

A tensor is a wrapper that PyTorch takes for one of the device `meta`, where it computes nothing. Each operator is computed on
the CPU, and counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

CPU, META = torch.device("cpu"), torch.device("meta")
# Operators that start no kernel: they allocate, or look at memory in another way.
_FREE = {
    *("view", "_unsafe_view", "_reshape_alias", "permute", "transpose", "t", "slice", "select", "split", "split_with_sizes"),
    *("unsafe_split", "unbind", "expand", "unsqueeze", "squeeze", "detach", "alias", "as_strided", "unfold", "diagonal"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "_local_scalar_dense"),
}
# Operators whose result the host must know.
_WAITING = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "equal", "histc"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
_PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}
"""Matrix products, and the position of their first factor."""


class Gpu(Protocol):
    """What tensors ask of their machine."""

    def checked(self, device: Any) -> int | None: ...
    def happens(self, of: str, index: int, amount: int | None = None) -> None: ...
    def launched(self, name: str, moved: int, flop: int) -> None: ...
    def copied(self, size: int, *, to_device: bool) -> None: ...
    def waits(self, why: str) -> None: ...
    def hold(self, tensor: torch.Tensor, index: int) -> None: ...


machine: list[Gpu] = []
"""The machines that are pretended; the last one is asked."""


def is_ours(value: Any) -> bool:
    """Whether this is a tensor of a pretended GPU."""
    return type(value) is PretendedTensor


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors among arguments or results."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [tensor for part in value for tensor in tensors_in(part)]


def replaced(value: Any, kind: type, make: Callable[[Any], torch.Tensor]) -> Any:
    """Arguments or results with other tensors in place of those of this type."""
    if isinstance(value, kind):
        return make(value)
    if isinstance(value, tuple | list):
        return type(value)([replaced(part, kind, make) for part in value])
    return {name: replaced(part, kind, make) for name, part in value.items()} if isinstance(value, dict) else value


class PretendedTensor(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    inner: torch.Tensor
    index: int
    __torch_function__ = torch._C._disabled_torch_function_impl  # results are not made tensors of this class

    @staticmethod
    def __new__(cls, inner: torch.Tensor, index: int = 0) -> PretendedTensor:
        size, strides, offset = inner.size(), inner.stride(), inner.storage_offset()
        made = torch.Tensor._make_wrapper_subclass(
            cls, size, strides=strides, storage_offset=offset, dtype=inner.dtype, layout=inner.layout, device=META
        )
        made.inner, made.index = inner.detach(), index
        return made

    device = property(lambda self: torch.device("cuda", self.index))
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)

    @property
    def data(self) -> PretendedTensor:
        return PretendedTensor(self.inner, self.index)

    @data.setter
    def data(self, value: PretendedTensor) -> None:
        assert is_ours(value)
        assert (value.shape, value.dtype) == (self.shape, self.dtype)
        self.inner, self.index = value.inner, value.index

    def get_device(self) -> int:
        return self.index

    def numpy(self, *_: Any, **__: Any) -> Any:
        how = "Use Tensor.cpu() to copy the tensor to host memory first."
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. {how}")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"pretended({self.inner!r}, device='{self.device}')"

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError("a pretended tensor was to be pickled")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            with torch.no_grad():
                copy = self.detach().clone()
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copy) if is_parameter else copy
            memo[id(self)].requires_grad_(self.requires_grad)
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {}, 0)


@functools.cache
def _written(func: Any) -> tuple[str, list[tuple[int, str] | None]]:
    """The name of an operator, and for each result the argument that it is: its position and name; None for a new tensor."""
    schema = func._schema
    arguments = {}
    for number, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            arguments[frozenset(argument.alias_info.before_set)] = number, argument.name
    infos = [result.alias_info for result in schema.returns]
    found = [arguments.get(frozenset(info.before_set)) if info is not None and info.is_write else None for info in infos]
    return schema.name.split("::")[1], found


@functools.cache
def is_composite(func: Any) -> bool:
    """Whether an operator consists of others. Only in inference mode do such operators come here."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], new: int) -> Any:
    """Computes one operator. `new`: the GPU on which it makes tensors, if none of its arguments is on one."""
    gpu, kwargs = machine[-1], dict(kwargs)
    name, written = _written(func)
    ours = [value for value in tensors_in((args, kwargs)) if is_ours(value)]
    index = ours[0].index if ours else new
    asked = kwargs.get("device")
    to_gpu = bool(ours) if asked is None else asked.type == "meta"
    if asked is not None:
        kwargs["device"] = CPU
    if name == "_to_copy":
        kwargs.pop("pin_memory", None)
        same = kwargs.get("dtype") in (None, args[0].dtype)
        _copy(args[0], is_ours(args[0]), to_gpu, bool(kwargs.get("non_blocking")) and same)
    elif name == "copy_":
        there, source = args[:2]
        quick = (len(args) > 2 and args[2]) or kwargs.get("non_blocking", False)
        _copy(source, is_ours(source), is_ours(there), quick and source.dtype == there.dtype)
    elif ours:
        _refuse_two_devices(name, args, kwargs)
        _wait(name, args, kwargs)
    launched = (to_gpu or bool(ours)) and name not in _FREE
    if launched:
        gpu.happens("launch", index)
    if launched and name in _PRODUCTS:
        gpu.happens("product", index)
    inner_args, inner_kwargs = replaced((tuple(args), kwargs), PretendedTensor, lambda value: value.inner)
    result = func(*inner_args, **inner_kwargs)
    results = tensors_in(result)
    if launched:
        moved = sum(value.numel() * value.element_size() for value in [*tensors_in(args), *results])
        flop = 2 * results[0].numel() * args[_PRODUCTS[name]].shape[-1] if name in _PRODUCTS else 0
        gpu.launched(name, moved, flop)
    if written and None not in written:
        back = [args[place[0]] if place[0] < len(args) else kwargs[place[1]] for place in written if place is not None]
        assert all(not is_ours(value) or value.shape == value.inner.shape for value in back), f"{name} changed a shape"
        return back[0] if len(back) == 1 else tuple(back)
    if not to_gpu:
        return result
    for value in results:
        gpu.hold(value, index)
    infers = torch.is_inference_mode_enabled() and not (name in _FREE and ours and not ours[0].is_inference())
    with torch.inference_mode(infers):  # a view of a tensor from outside inference mode is none of inference mode
        return replaced(result, torch.Tensor, lambda value: PretendedTensor(value, index))


def _copy(source: torch.Tensor, from_gpu: bool, to_gpu: bool, quick: bool) -> None:
    """Counts a copy between host and GPU. None waits that needs no memory between them and may go on."""
    if from_gpu == to_gpu:
        return
    where = "to the GPU" if to_gpu else "to the host"
    machine[-1].happens("copy", 0)
    machine[-1].copied(source.numel() * source.element_size(), to_device=to_gpu)
    if not quick:
        machine[-1].waits(f"blocking copy {where}")
    elif to_gpu and not is_pinned(source):
        machine[-1].waits("copy of pageable memory to the GPU")
    elif not source.is_contiguous():
        machine[-1].waits(f"copy {where} that is not contiguous")


def is_pinned(tensor: torch.Tensor) -> bool:
    """Whether a tensor of the host is in pinned memory."""
    return getattr(tensor.untyped_storage(), "pretended_pin", False)


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, whose memory counts as pinned from now on."""
    tensor.untyped_storage().pretended_pin = True
    return tensor


def _wait(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Counts what makes the host wait for the GPU, except for copies."""
    if name == "_local_scalar_dense":
        machine[-1].waits("a number is read")
    elif name in _WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        machine[-1].waits(name)
    elif name in _INDEXING:
        indices = [value for value in args[1] if value is not None]
        is_fill = len(args) > 2 and args[2].numel() == 1 and not is_ours(args[2])  # PyTorch calls masked_fill_ for it
        if any(not is_ours(value) and value.dim() > 0 for value in indices):
            machine[-1].waits("index on the host")
        elif any(value.dtype in (torch.bool, torch.uint8) for value in indices) and not is_fill:
            machine[-1].waits("boolean index")


def _refuse_two_devices(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises as CUDA does where tensors of two devices meet. Single numbers of the host may take part, but not in lists."""
    if name in _INDEXING:
        if not is_ours(args[0]):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        args = (args[0], *args[2:])  # indices may be on the host
    tensors = tensors_in((args, kwargs))
    in_list = name.startswith(("_foreach", "_fused", "cat", "stack"))
    devices = {value.index if is_ours(value) else -1 for value in tensors if is_ours(value) or value.dim() > 0 or in_list}
    if len(devices) > 1:
        both = " and ".join("cpu" if number < 0 else f"cuda:{number}" for number in sorted(devices, reverse=True)[:2])
        text = f"Expected all tensors to be on the same device, but found at least two devices, {both}!"
        raise RuntimeError(f"{text} (when checking arguments in {name})")
