"""Which errors are the machine's: the texts that PyTorch really raises."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from model.device_errors import failure_text, is_device_failure, is_out_of_memory
from model.training import Diverged

LONG = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.64 GiB of which 4.00 MiB is free. "
    "Including non-PyTorch memory, this process has 23.63 GiB memory in use. Of the allocated memory 22.96 GiB is "
    "allocated by PyTorch, and 12.59 MiB is reserved by PyTorch but unallocated. If reserved ... try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
GPU_MEMORY = [
    torch.OutOfMemoryError(LONG),
    torch.OutOfMemoryError("HIP out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 7.79 GiB total capacity)"),
    torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com"),
    torch.AcceleratorError("HIP error: out of memory\nSearch for `hipErrorOutOfMemory' in https://rocm.docs.amd.com"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("miopenStatusAllocFailed"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.92 GB, max allowed: 9.07 GB)."),
    RuntimeError("XPU out of memory. Tried to allocate 20.00 MiB."),
]  # fmt: skip
CPU_MEMORY = [
    MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000000000000,) and data type float64"),
    MemoryError(),
    RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried"),
    RuntimeError("unable to mmap 4096 bytes from file <clips>: Cannot allocate memory (12)"),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
]  # fmt: skip
BROKEN = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress'"),
    torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph."),
    RuntimeError("CUDA driver error: unknown error"),
    RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable"),
    RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu."),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("No HIP GPUs are available"),
    RuntimeError("Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices()"),
    RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver"),
    RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
    RuntimeError("HIP error: unspecified launch failure"),
    RuntimeError("miopenStatusUnknownError"),
    RuntimeError("MPS backend is supported on MacOS 14.0+"),
    AssertionError("Torch not compiled with CUDA enabled"),
    torch.cuda.DeferredCudaCallError("CUDA call failed lazily at initialization with error: device >= 0 && device < num_gpus"),
]
OTHERS = [
    Diverged("the training loss became nan in epoch 2"),
    ValueError("label smoothing 0.9 is too high: CUDA error: no"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    RuntimeError("Storage size calculation overflowed with sizes=[4611686018427387904, 8]"),
    RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:1, unhandled cuda error"),
    torch.distributed.DistBackendError("NCCL error: CUDA error: unspecified launch failure"),
    torch.linalg.LinAlgError("cusolver error: CUSOLVER_STATUS_INVALID_VALUE. This error may appear if ..."),
    NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device; MPS backend"),
    AssertionError("there are no validation clips"),
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
]  # fmt: skip


@pytest.mark.parametrize("error", [*GPU_MEMORY, *CPU_MEMORY, *BROKEN, *OTHERS], ids=lambda error: str(error)[:60])
def test_kinds_of_errors(error: Exception) -> None:
    """Memory that ran out, a device that failed, and everything else, by type or by text."""
    assert is_out_of_memory(error) == (error in GPU_MEMORY or error in CPU_MEMORY)
    assert is_device_failure(error) == (error not in OTHERS)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            torch.OutOfMemoryError(LONG),
            f"out of memory on the GPU: {LONG.partition('. Of the allocated')[0]}",
        ),
        (MemoryError(), "out of memory: MemoryError"),
        (RuntimeError("std::bad_alloc"), "out of memory: std::bad_alloc"),
        (BROKEN[0], "the GPU failed: CUDA error: an illegal memory access was encountered"),
        (RuntimeError(f"CUDA error: {'x' * 1000}"), f"the GPU failed: CUDA error: {'x' * 288}..."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_text(error: Exception, text: str) -> None:
    """One line: what failed, and what PyTorch says of it, without its advice on allocators."""
    assert failure_text(error) == text


def test_memory_that_really_runs_out() -> None:
    """PyTorch's own error for too large a tensor."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)
    assert failure_text(caught.value).startswith("out of memory: ")
