"""How long a model takes to recognize one sign."""

from __future__ import annotations

import time

import numpy as np
import torch

from data_utils.batches import batch_of
from model.device_clips import DeviceClips
from model.transformer import TransformerEnISLR

_WARM_UP, _TIMED = 5, 30  # forward passes before and during the measurement


@torch.inference_mode()
def latency_ms(model: TransformerEnISLR, clips: DeviceClips) -> float:
    """Milliseconds for the clip of median length, from prepared frames to logits: the median of 30 passes after 5 warm-ups."""
    order = np.argsort(clips.clips.lengths_C, kind="stable")
    median = batch_of(clips.clips, order[[len(order) // 2]], model.frames_multiple, rule=clips.rule)
    frames_MF, layout = clips.take(median, model.config.pooling)
    times = []
    for _ in range(_WARM_UP + _TIMED):
        start = time.perf_counter()
        model(frames_MF, layout).cpu()  # on a GPU this waits for the result
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[_WARM_UP:]))
