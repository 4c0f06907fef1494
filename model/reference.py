"""Loads models that were trained with the article's own code from their state dicts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from data_utils.landmarks import NUM_FEATURES
from model.config import ModelConfig
from model.transformer import TransformerEnISLR

_RENAMED = [  # the article's names (v0.1, and v0.2 to v0.4 where they differ) -> ours; for biases and weights
    (r"^linear\.", "embed."),
    (r"^head\.head\.", "head."),
    (r"^tr_encoder\.norm(?:_tail)?\.", "norm_tail."),
    (r"^tr_encoder\.layers\.", "layers."),
    (r"\.norm(?:1|_sattn)\.", ".norm_attention."),
    (r"\.norm(?:2|_ffw)\.", ".norm_feed_forward."),
    (r"\.ffw\.w_1\.", ".feed_forward.expand."),
    (r"\.ffw\.w_2\.", ".feed_forward.contract."),
    (r"\.self_attn\.w_out\.", ".attention.out."),
]
_PROJECTION = re.compile(r"^tr_encoder\.(layers\.\d+)\.self_attn\.w_(query|key|value)\.(weight|bias)$")


def load_reference(state: Mapping[str, Tensor], *, heads: int = 2, **settings: Any) -> TransformerEnISLR:
    """A model with the weights of the article's `TransformerEnISLR` that computes the same function.

    Widths, layers, words and biases follow from the shapes. Other settings are passed by name as in `ModelConfig`: `heads`,
    `activation`, `norm_first`, `pooling`. Read a pickled file with `torch.load(path, weights_only=True)`. The article validated
    with the mask `detected` (see `PreprocessConfig.mask`).

    Raises:
        ValueError: a name or a shape does not belong to that model.
    """
    ours = _rename(state)
    embed, head = ours.get("embed.weight"), ours.get("head.weight")
    expand = ours.get("layers.0.feed_forward.expand.weight")
    if embed is None or head is None or expand is None:
        missing = "`linear.weight`, `head.head.weight` or layers are missing"
        raise ValueError(f"not a state dict of the article's TransformerEnISLR: {missing}")
    if embed.shape[1] != NUM_FEATURES:
        raise ValueError(f"the model has {embed.shape[1]} inputs per frame, expected {NUM_FEATURES} (130 landmarks, x and y)")
    config = ModelConfig(
        width=embed.shape[0],
        layers=len({name.split(".")[1] for name in ours if name.startswith("layers.")}),
        heads=heads,
        ffn_width=expand.shape[0],
        bias="layers.0.feed_forward.expand.bias" in ours,
        tail_norm="norm_tail.weight" in ours,
        **settings,
    )
    model = TransformerEnISLR(config, head.shape[0], torch.Generator().manual_seed(0))
    if not config.norm_first:  # the article's post-LN models contain an unused tail norm
        ours = {name: value for name, value in ours.items() if not name.startswith("norm_tail.")}
    try:
        model.load_state_dict(ours)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit: {error}") from error
    return model


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    projections: dict[str, dict[str, Tensor]] = {}
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if name == "tr_encoder.pos_encoder.pose":
            continue  # constant positions
        if match := _PROJECTION.match(name):
            layer, which, kind = match.groups()
            projections.setdefault(f"{layer}.attention.qkv.{kind}", {})[which] = value
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        ours[name] = value
    for name, three in projections.items():
        if len(three) != 3:
            raise ValueError(f"`{name}` has only {', '.join(sorted(three))}, expected query, key and value")
        ours[name] = torch.cat([three["query"], three["key"], three["value"]])
    return ours
