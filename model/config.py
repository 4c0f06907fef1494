"""The settings of a model and of its training, with their ranges and the reasons for the defaults.

The defaults are the article's settings, except for `init` and `patience`. Nothing here imports PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, Unit

Positive = Annotated[int, Gt(0)]
Count = Annotated[int, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1), Unit("fraction")]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of a `TransformerEnISLR`."""

    width: Annotated[Positive, Unit("numbers per frame")] = 64
    """Dimension of the encoder. Must be even and divisible by `heads`."""

    layers: Annotated[Positive, Unit("layers")] = 2
    """Number of encoder layers."""

    heads: Annotated[Positive, Unit("heads per layer")] = 2
    """Attention heads per layer, of dimension `width / heads` each."""

    ffn_width: Annotated[Positive, Unit("numbers per frame")] = 256
    """Hidden dimension of the feed-forward blocks."""

    dropout: Fraction = 0.1
    """Dropout probability: after the positions, on the attention weights, inside the feed-forward blocks and on both residual
    branches. From 0 to below 1."""

    activation: Literal["relu", "gelu", "silu", "swish", "mish", "geluacc", "tanhexp"] = "relu"
    """After the embedding and in the feed-forward blocks. `swish` is `silu`; `geluacc` is GELU with the tanh approximation."""

    norm_first: bool = True
    """Layer norm before each sub-layer (pre-LN) instead of after its residual sum (post-LN)."""

    tail_norm: bool = True
    """Another layer norm after the last layer. Only applies with `norm_first`."""

    bias: bool = True
    """Biases in attention, feed-forward blocks and norms. The embedding and the head always have biases."""

    pooling: Literal["none", "average", "max"] = "none"
    """Combines each pair of frames after the embedding into one. An unpaired last frame is dropped by `average` (both frames
    must be real) and kept by `max` (one is enough)."""

    init: Literal["sound", "reference"] = "sound"
    """Starting weights. `reference`, as in the article: all layers equal, the head scaled by the number of words, a first loss
    of 2.8 to 6 on ten words. `sound`: every layer drawn separately, Xavier for attention, a first loss near ln(words)."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one model is trained."""

    lr: Annotated[float, Gt(0)] = 3e-4
    """Learning rate; its peak if `warmup_epochs` or `schedule` vary it. Reasonable values are 1e-6 to 1e-1, searched on a log
    scale. 3e-4 as in the article."""

    label_smoothing: Annotated[float, Ge(0), Le(1), Unit("fraction")] = 0.0
    """Fraction eps of the target that is moved from the true word to the words of `label_smoothing_over`. Affects the training
    loss only; validation is never smoothed. 0 to 1; the default 0 is the plain loss, the reference for comparisons."""

    label_smoothing_over: Literal["all", "wrong"] = "all"
    """Which of the K words receive eps. `all`: every word, as in PyTorch and in the article; the true word gets 1 - eps +
    eps/K, each other word eps/K. `wrong`: the K - 1 other words; the true word gets 1 - eps, each other word eps/(K - 1), and
    eps is at most (K - 1)/K. `wrong` at eps equals `all` at eps * K/(K - 1): 0.1 equals 0.111 for ten words."""

    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam or AdamW. They differ only in how `weight_decay` works. Adam as in the article."""

    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay, on weight matrices only, never on biases and norms. `adam`: adds this times the weight to the gradient
    (L2); `adamw`: subtracts lr times this times the weight at each step (Loshchilov and Hutter 2019). 0 or more; reasonable up
    to 1e-2 and 1 respectively. 0 (none) as in the article."""

    epochs: Annotated[Positive, Unit("epochs")] = 50
    """Maximum number of passes over the training clips; see `patience`. 1 or more; 50 as in the article."""

    batch_size: Annotated[Positive, Unit("clips per step")] = 32
    """Clips per step; the last step of an epoch takes the rest. 1 or more; 32 as in the article."""

    warmup_epochs: Annotated[Count, Unit("epochs")] = 0
    """Epochs over which the learning rate rises linearly, step by step, to `lr` (Goyal et al. 2017). 0 or more, fewer than
    `epochs`; 0 (no warm-up) as in the article."""

    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant at `lr`, or half a cosine from `lr` to 0 at the last of `epochs` (Loshchilov
    and Hutter 2017). Constant as in the article."""

    clip_norm: Annotated[float, Ge(0)] = 0.0
    """Gradient clipping: the largest L2 norm of a step's gradient over all weights. 0 or more; reasonable from 0.1 to 10. 0 (no
    clipping) as in the article."""

    ema: Fraction = 0.0
    """Decay per step of an exponential moving average of the weights, which is then validated and kept instead of the weights.
    At step s, from 0, the decay is at most (1 + s)/(10 + s). From 0 to below 1; reasonable from 0.9 to 0.9999. 0 (no average)
    as in the article."""

    patience: Annotated[Count, Unit("epochs")] = 20
    """Early stopping: training ends when none of val_loss, val_loss_ts and val_error has reached a new lowest value for this
    many epochs. All three count whatever the objective is, so that the same settings give the same training. 0 or more; 0 never
    stops early. 20, because validation accuracy varies by several points between epochs, and a slow gain must not be missed."""

    kernel: Literal["auto", "torch"] = "auto"
    """What computes the gradients. `auto`: on the CPU the compiled kernel, which is about four times as fast, for every model
    that it covers, otherwise PyTorch. `torch`: always PyTorch. They differ in rounding and in the dropout masks."""

    precision: Literal["float32", "bf16", "tf32"] = "float32"
    """Number format of the factors in matrix products. `bf16` needs the kernel and a CPU with AMX, `tf32` an NVIDIA GPU (Ampere
    or later): faster, and rounded to 8 and 11 significant bits (sums stay float32). float32 as in the article."""

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be fewer than epochs {self.epochs}")
        if self.kernel == "torch" and self.precision == "bf16":
            raise ValueError(f"precision {self.precision} needs the kernel, and kernel is torch")


MAY_DIFFER_IN_A_STACK = frozenset(
    {
        *(f"model.{name}" for name in ("dropout", "init")),
        *(f"train.{name}" for name in ("lr", "label_smoothing", "label_smoothing_over", "weight_decay", "clip_norm", "ema")),
        *(f"train.{name}" for name in ("epochs", "warmup_epochs", "schedule", "patience", "kernel")),
    }
)
"""The settings in which trainings of one stack may differ; see `model.lockstep`."""
