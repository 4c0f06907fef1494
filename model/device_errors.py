"""Which errors mean that memory ran out, or that a device is broken. The texts are those of PyTorch's sources.

`c10/cuda` and `aten/src/ATen/cuda/Exceptions.h` raise them; on AMD's cards, `CUDA` reads `HIP`. Only some have a type of their
own: errors of cuBLAS, cuDNN, the driver and Metal are plain RuntimeErrors, and a missing driver an AssertionError.
"""

from __future__ import annotations

import errno
import re

import torch

_BY_TEXT = (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError, torch.cuda.CudaError)
"""Types that are told apart by their text. Subclasses are not: an error of NCCL, or of a matrix that has no inverse."""

_LIBRARY = r"(?:CU|HIP|ROC)(?:BLAS|DNN|SPARSE|SOLVER|FFT|RAND)(?:LT)?_STATUS_|miopenStatus|rocblas_status_"
_FAILURES = re.compile(
    rf"{_LIBRARY}"
    r"|\b(?:CUDA|HIP) (?:driver |NVRTC |unknown )?error\b|\bcuDNN (?:Frontend )?error\b|\bMIOpen Error\b"
    r"|\bNo (?:CUDA|HIP) GPUs are available\b|\bNVIDIA driver on your system\b|\b(?:CUDA|HIP) driver initialization failed\b"
    r"|\bUnexpected error from (?:cuda|hip)GetDeviceCount\b|\b(?:CUDA|HIP) call failed lazily\b"
    r"|\bTorch not compiled with CUDA enabled\b|\bunspecified launch failure\b|\bMPS backend\b"
)
_DEVICE_MEMORY = re.compile(
    rf"\b(?:CUDA|HIP|MPS|XPU)\b[^\n]*\bout of memory\b|(?:{_LIBRARY})\w*ALLOC\w*|miopenStatusAllocFailed"
    r"|\bcudaErrorMemoryAllocation\b|\bhipErrorOutOfMemory\b",
    re.IGNORECASE,
)
_HOST_MEMORY = re.compile(
    r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|\b[Cc]annot allocate memory|\bstd::bad_alloc\b"
)
_MAX_TEXT = 300
"""Characters. PyTorch explains in one long line how much memory there is, then how to configure its allocator."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of the device or of the machine ran out. What is freed can be used again, in this process too."""
    return isinstance(error, MemoryError) or _is_out_of_device_memory(error) or _is_out_of_host_memory(error)


def is_device_failure(error: BaseException) -> bool:
    """Whether the machine caused an error: memory ran out, or a GPU, its driver or its libraries failed.

    Unless `is_out_of_memory`, this process cannot use the device any more. Memory may also run out because of the settings.
    """
    if isinstance(error, torch.AcceleratorError) or is_out_of_memory(error):
        return True
    return type(error) in _BY_TEXT and _FAILURES.search(str(error)) is not None


def failure_text(error: BaseException) -> str:
    """A failure of the device in one line: what failed, and the first line of the error."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    first = first.partition(" Of the allocated memory")[0]
    first = first.rstrip(".") if len(first) <= _MAX_TEXT else f"{first[:_MAX_TEXT]}..."
    if _is_out_of_device_memory(error):
        return f"out of memory on the GPU: {first}"
    return f"out of memory: {first}" if is_out_of_memory(error) else f"the GPU failed: {first}"


def _is_out_of_device_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    has_text = isinstance(error, torch.AcceleratorError) or type(error) in _BY_TEXT
    return has_text and _DEVICE_MEMORY.search(str(error)) is not None


def _is_out_of_host_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return type(error) is RuntimeError and _HOST_MEMORY.search(str(error)) is not None
