"""How a GPU multiplies float32 matrices: as they are, or rounded to TF32 where a training asks for it."""

from __future__ import annotations

import warnings

import torch


def use_precision(precision: str, device: torch.device) -> None:
    """Sets how this process multiplies on CUDA from now on; `precision` as in `TrainConfig`. Without effect on the CPU.

    Neither PyTorch's defaults nor the environment variable TORCH_ALLOW_TF32_CUBLAS_OVERRIDE matter afterwards. The setting is
    the process's: trainings of different precision call this before each epoch.
    """
    if device.type == "cuda":
        with warnings.catch_warnings():  # some versions of PyTorch prefer other names, which must not be mixed with these
            warnings.simplefilter("ignore")
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def tf32_is_on() -> bool:
    """Whether this process rounds the factors of matrix products on CUDA to TF32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(torch.backends.cuda.matmul.allow_tf32)


def lacks_tf32(device: torch.device) -> str:
    """Why TF32 cannot be used on a device; empty if it can."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} does not have it"
    return ""
