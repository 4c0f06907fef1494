"""What a model is and how it is trained: every setting, its range and why it stands where it does.

The defaults are the article's settings, but for `init`. Nothing here imports PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, Unit

Positive = Annotated[int, Gt(0)]
Count = Annotated[int, Ge(0)]
Share = Annotated[float, Ge(0), Lt(1), Unit("share")]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of one `TransformerEnISLR`."""

    width: Annotated[Positive, Unit("numbers a frame")] = 64
    """Numbers that stand for a frame inside the encoder. Even, and divided by `heads` without rest."""

    layers: Annotated[Positive, Unit("layers")] = 2
    """Encoder layers."""

    heads: Annotated[Positive, Unit("heads a layer")] = 2
    """Attention heads a layer; each sees `width / heads` numbers."""

    ffn_width: Annotated[Positive, Unit("numbers a frame")] = 256
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
    """The optimiser's step size: the peak, where `warmup_epochs` or `schedule` change it over the run, else constant. Sensible
    from 1e-6 to 1e-1; searched on a log scale. 3e-4 is the article's."""

    label_smoothing: Annotated[float, Ge(0), Le(1), Unit("share")] = 0.0
    """Share eps of the target that is taken off the true word, and spread as `label_smoothing_over` says. Acts on the training
    loss only; validation is never smoothed. 0 to 1; 0, the plain loss, is what others are compared with."""

    label_smoothing_over: Literal["all", "wrong"] = "all"
    """Which of the K words share eps. `all`: every word, as PyTorch does it; the true word gets 1 - eps + eps/K, each other
    eps/K. `wrong`: the K - 1 others only; the true word gets 1 - eps, each other eps/(K - 1), and eps is at most (K - 1)/K.
    The same in other numbers: `wrong` at eps is `all` at eps * K/(K - 1), so 0.1 is 0.111 for ten words. `all`, as in the
    article."""

    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam or AdamW. They differ in what `weight_decay` means and are the same without it. Adam is the article's."""

    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Pull of the weights towards 0, on weight matrices only, never on biases and norms. `adam`: this times the weight is added
    to the gradient (L2); `adamw`: each step takes off lr times this of the weight (Loshchilov and Hutter 2019). 0 or more;
    sensible up to 1e-2 and 1 respectively. 0, none, as in the article."""

    epochs: Annotated[Positive, Unit("epochs")] = 50
    """Passes over the training clips, at most: see `patience`. 1 or more; 50 is the article's."""

    batch_size: Annotated[Positive, Unit("clips a step")] = 32
    """Clips a step; an epoch's last step takes what is left. 1 or more; 32 is the article's."""

    warmup_epochs: Annotated[Count, Unit("epochs")] = 0
    """Over this many first epochs the step size rises step by step, on a straight line, to `lr` (Goyal et al. 2017). 0 or more,
    fewer than `epochs`; 0, none, as in the article."""

    schedule: Literal["constant", "cosine"] = "constant"
    """The step size after the warm-up: `lr` all along, or half a cosine from `lr` down to 0 at the last of `epochs` (Loshchilov
    and Hutter 2017). Constant, as in the article."""

    clip_norm: Annotated[float, Ge(0)] = 0.0
    """A step's gradient, all weights together, is scaled down to this length (L2 norm) where it is longer. 0 or more; sensible
    from 0.1 to 10. 0, never, as in the article."""

    ema: Share = 0.0
    """Share that a moving average of the weights keeps of itself at each step; the averaged weights are then what is validated
    and kept. Near the start it keeps less: at step s, from 0, at most (1 + s)/(10 + s). 0 to under 1; sensible from 0.9 to
    0.9999. 0, no average, as in the article."""

    patience: Annotated[Count, Unit("epochs")] = 20
    """Training ends when for this many epochs none of val_loss, val_loss_ts and val_error had a new lowest value. All three,
    whichever a study looks at, so that the same settings mean the same training. 0 or more; 0 never ends early. 20: validation
    accuracy moves by several points from epoch to epoch, and a slow gain must not be taken for none."""

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be fewer than epochs {self.epochs}")
