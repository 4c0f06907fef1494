"""Makes `golden.npz`: small synthetic clips and the results of our code for them, recorded after comparison with the reference.

    python tests/make_golden.py

Run it only when numbers are supposed to change, and give the reason in the commit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from data_utils.batches import batch_of
from data_utils.landmarks import FILE_PARTS, NUM_LANDMARKS, POINTS
from data_utils.normalize import PreprocessConfig, preprocess
from data_utils.prepared import clip_set
from model.config import ModelConfig
from model.device_clips import DeviceClips
from model.loss import smoothed_cross_entropy
from model.transformer import TransformerEnISLR, logits

FILE = Path(__file__).with_name("golden.npz")

CONFIGS = {
    "article": PreprocessConfig(),
    "framewise": PreprocessConfig(align="framewise", scale="framewise"),
    "unique": PreprocessConfig(align="unique", scale="unique"),
    "unscaled": PreprocessConfig(scale="none"),
    "aware": PreprocessConfig(missing="aware", right_hand_origin="mirror"),
}
"""Preprocessing settings with recorded results, by name."""


def clips() -> dict[str, np.ndarray]:
    """Seeded random clips `[3, T, 543]` by name. The points that the model reads lie on a coarse grid; the others are 0."""
    rng = np.random.default_rng(20260101)

    def clip(frames: int) -> np.ndarray:
        feature = np.zeros((3, frames, NUM_LANDMARKS), np.float32)
        feature[:2, :, POINTS] = np.round(rng.uniform(0.1, 0.9, (2, frames, len(POINTS))) * 1024) / 1024
        return feature

    made = {
        "dense": clip(5),
        "gaps": clip(6),
        "one_frame": clip(1),
        "points_missing": clip(3),
        "tiny_hand": clip(2),
        "huge": clip(2),
    }
    made["gaps"][:, 2, FILE_PARTS["right_hand"]] = np.nan
    made["gaps"][:, 4:, FILE_PARTS["left_hand"]] = np.nan
    made["gaps"][:, 3, FILE_PARTS["face"]] = np.nan
    made["gaps"][:, 5] = np.nan
    made["one_frame"][:, :, FILE_PARTS["left_hand"]] = np.nan
    made["points_missing"][0, 1, POINTS[[80, 99, 110]]] = np.nan
    made["tiny_hand"][:2, :, FILE_PARTS["left_hand"]] = 0.5
    made["huge"] *= 16
    return made


STRUCTURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "postln": {"norm_first": False},
    "notail": {"tail_norm": False},
    "average": {"pooling": "average"},
    "max": {"pooling": "max"},
    "mish": {"activation": "mish"},
    "tanhexp": {"activation": "tanhexp"},
    "nobias": {"bias": False},
}
"""Model settings with recorded logits, by name."""


def golden_model(**settings: Any) -> TransformerEnISLR:
    """A small model with weights from numpy's generator, drawn in the order of the parameters' names."""
    config = ModelConfig(width=16, ffn_width=24, dropout=0.0, **settings)
    model = TransformerEnISLR(config, 5, torch.Generator().manual_seed(0))
    rng = np.random.default_rng(7)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.2, tuple(parameter.shape))).float())
    return model


def golden_losses(steps: int = 5) -> list[float]:
    """The loss before each of a few Adam steps on the clips, with label smoothing 0.1."""
    model = golden_model()
    frames = [preprocess(feature) for feature in clips().values()]
    held = clip_set(frames, [0, 1, 2, 3, 4, 0])
    batch = batch_of(held, np.arange(len(held)))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        logits_BK = model(*DeviceClips(held, torch.device("cpu")).take(batch))
        loss = smoothed_cross_entropy(logits_BK, torch.from_numpy(held.labels_C[batch.clips_B]), 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def arrays() -> dict[str, np.ndarray]:
    """The content of `golden.npz`."""
    made = {}
    for name, feature in clips().items():
        made[f"clip_{name}"] = feature[:2][:, :, POINTS]
        for setting, config in CONFIGS.items():
            made[f"{setting}_{name}"] = preprocess(feature, config)
    frames = [preprocess(feature) for name, feature in clips().items() if name != "one_frame"]
    for name, settings in STRUCTURES.items():
        made[f"logits_{name}"] = logits(golden_model(**settings), frames, mask="detected")
    made["losses_adam"] = np.array(golden_losses())
    return made


if __name__ == "__main__":
    np.savez_compressed(FILE, **arrays())
    print(f"{FILE.name}: {FILE.stat().st_size:,} bytes")
