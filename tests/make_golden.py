"""Makes `golden.npz`: small clips of our own, and what our code gave for them once it had been compared with the reference.

    python tests/make_golden.py

Run it only when numbers are meant to change, and say why in the commit.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from data_utils.landmarks import FILE_PARTS, NUM_LANDMARKS, POINTS
from data_utils.normalize import PreprocessConfig, preprocess

FILE = Path(__file__).with_name("golden.npz")

CONFIGS = {
    "article": PreprocessConfig(),
    "framewise": PreprocessConfig(align="framewise", scale="framewise"),
    "unique": PreprocessConfig(align="unique", scale="unique"),
    "unscaled": PreprocessConfig(scale="none"),
    "aware": PreprocessConfig(missing="aware", right_hand_origin="mirror"),
}
"""Settings whose results are kept, by name."""


def clips() -> dict[str, np.ndarray]:
    """Seeded random clips `[3, T, 543]` by name. Only the points that are read vary, on a coarse grid; the others are 0."""
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


def arrays() -> dict[str, np.ndarray]:
    """Everything that `golden.npz` holds."""
    made = {}
    for name, feature in clips().items():
        made[f"clip_{name}"] = feature[:2][:, :, POINTS]
        for setting, config in CONFIGS.items():
            made[f"{setting}_{name}"] = preprocess(feature, config)
    return made


if __name__ == "__main__":
    np.savez_compressed(FILE, **arrays())
    print(f"{FILE.name}: {FILE.stat().st_size:,} bytes")
