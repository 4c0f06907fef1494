"""What a model is and how it is trained: every setting, its range and why it stands where it does.

The defaults are the article's settings, but for `init`. Nothing here imports PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

Positive = Annotated[int, Gt(0)]
Share = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of one `TransformerEnISLR`."""

    width: Positive = 64
    """Numbers that stand for a frame inside the encoder. Even, and divided by `heads` without rest."""

    layers: Positive = 2
    """Encoder layers."""

    heads: Positive = 2
    """Attention heads a layer; each sees `width / heads` numbers."""

    ffn_width: Positive = 256
    """Width inside the feed-forward part of a layer."""

    dropout: Share = 0.1
    """Share of activations dropped in training: after the positions, on attention weights, in the feed-forward part and on
    both residual branches. 0 to under 1."""

    activation: Literal["relu", "gelu", "silu", "swish", "mish", "geluacc", "tanhexp"] = "relu"
    """After the embedding and in the feed-forward parts. `swish` is another name of `silu`; `geluacc` is GELU by tanh."""

    norm_first: bool = True
    """Layer norm before each sub-layer (pre-LN) instead of after its residual sum (post-LN)."""

    tail_norm: bool = True
    """One more layer norm after the last layer; acts with `norm_first` only."""

    bias: bool = True
    """Biases in attention, feed-forward parts and norms. The embedding and the head always have theirs."""

    pooling: Literal["none", "average", "max"] = "none"
    """Halves the frames after the embedding, two by two. A last frame without a partner is dropped (average: both must be
    real) or kept (max: one is enough)."""

    init: Literal["sound", "reference"] = "sound"
    """Starting weights. `reference` is the article's start: all layers alike, head by the number of words, a first loss of
    2.8 to 6 on ten words. `sound` draws each layer anew, attention by Xavier, and starts near ln(words)."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one model is trained."""

    lr: Annotated[float, Gt(0)] = 3e-4
    """Adam's step size, constant over the run. Sensible from 1e-6 to 1e-1; searched on a log scale."""

    label_smoothing: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share eps of the target spread evenly over all words: the true word gets 1 - eps + eps/K, each other eps/K. Acts on the
    training loss only; validation is never smoothed. 0 to 1."""

    epochs: Positive = 50
    """Passes over the training clips."""

    batch_size: Positive = 32
    """Clips a step."""
