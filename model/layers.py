"""The Transformer's parts: dropout, attention, feed-forward, positions.

Frames of a batch lie end to end in blocks of clips of like length (`data_utils.batches`). Frame-wise parts see all rows at
once; attention goes block by block, so that hardly any work is spent on padding.
"""

# M rows of a batch, D width, B clips of a batch; of one block: G clips, L frames, H heads, E = D / H

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from data_utils.batches import Block
from model.config import ModelConfig


@dataclass(frozen=True)
class Layout:
    """Where the clips of a batch lie among its rows, and which rows are real frames."""

    blocks: tuple[Block, ...]
    position_M: Int[Tensor, " M"]
    """Frame number of each row within its clip."""

    real_M: Bool[Tensor, " M"]
    """False for padding, and for frames that the clip set's mask leaves out."""

    key_bias: tuple[Float[Tensor, "G 1 1 L"] | None, ...]
    """For each block what is added to attention scores: 0 for real keys, the lowest float for others. None: all are real.
    The lowest float, not -inf: a clip without any real frame is attended evenly instead of giving NaN."""


def dropout(x: Tensor, share: float, rng: torch.Generator | None) -> Tensor:
    """Zeroes elements with probability `share` and scales the rest by 1 / (1 - share). No generator: nothing is dropped.

    Each element takes 16 of the generator's random bits, so the share is a multiple of 1/65536, and the scale is exact for
    the share that is used. Four times fewer random words than one a number.
    """
    if rng is None or share == 0.0:
        return x
    levels = 1 << 16
    threshold = min(round(share * levels), levels - 1)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
    words.random_(-(1 << 63), None, generator=rng)
    keep = words.view(torch.int16)[: x.numel()].view(x.shape) >= threshold - levels // 2
    return x * keep.to(x.dtype).mul_(levels / (levels - threshold))


class Attention(nn.Module):
    """Multi-head self-attention over the frames of each clip."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def forward(
        self,
        x_MD: Float[Tensor, "M D"],
        layout: Layout,
        rng: torch.Generator | None,
        weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "M D"]:
        """Fused where nothing is dropped. Appends `[G, H, L, L]` a block (after dropout) to `weights` if it is given."""
        qkv_M3HE = self.qkv(x_MD).unflatten(1, (3, self.heads, -1))
        mixed = []
        for block, bias in zip(layout.blocks, layout.key_bias, strict=True):
            qkv = qkv_M3HE[block.rows].unflatten(0, (block.clips, block.frames))  # [G, L, 3, H, E]
            q_GHLE, k_GHLE, v_GHLE = qkv.permute(2, 0, 3, 1, 4)
            if weights is None and (rng is None or self.dropout == 0.0):
                mixed_GHLE = F.scaled_dot_product_attention(q_GHLE, k_GHLE, v_GHLE, attn_mask=bias)
            else:
                scores_GHLL = (q_GHLE / math.sqrt(q_GHLE.shape[-1])) @ k_GHLE.transpose(2, 3)
                if bias is not None:
                    scores_GHLL = scores_GHLL + bias
                share_GHLL = dropout(scores_GHLL.softmax(dim=3), self.dropout, rng)
                if weights is not None:
                    weights.append(share_GHLL)
                mixed_GHLE = share_GHLL @ v_GHLE
            mixed.append(mixed_GHLE.transpose(1, 2).reshape(block.clips * block.frames, -1))
        return self.out(torch.cat(mixed))


class FeedForward(nn.Module):
    """Two linear layers on each frame by itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.activation = ACTIVATIONS[config.activation]
        self.expand = nn.Linear(config.width, config.ffn_width, bias=config.bias)
        self.contract = nn.Linear(config.ffn_width, config.width, bias=config.bias)

    def forward(self, x_MD: Float[Tensor, "M D"], rng: torch.Generator | None) -> Float[Tensor, "M D"]:
        return self.contract(dropout(self.activation(self.expand(x_MD)), self.dropout, rng))


class EncoderLayer(nn.Module):
    """Attention, then feed-forward, each with a residual branch; layer norm before (pre-LN) or after (post-LN)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.norm_first = config.norm_first
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.norm_attention = nn.LayerNorm(config.width, bias=config.bias)
        self.norm_feed_forward = nn.LayerNorm(config.width, bias=config.bias)

    def forward(
        self,
        x_MD: Float[Tensor, "M D"],
        layout: Layout,
        rng: torch.Generator | None,
        weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "M D"]:
        if self.norm_first:
            x_MD = x_MD + dropout(self.attention(self.norm_attention(x_MD), layout, rng, weights), self.dropout, rng)
            return x_MD + dropout(self.feed_forward(self.norm_feed_forward(x_MD), rng), self.dropout, rng)
        x_MD = self.norm_attention(x_MD + dropout(self.attention(x_MD, layout, rng, weights), self.dropout, rng))
        return self.norm_feed_forward(x_MD + dropout(self.feed_forward(x_MD, rng), self.dropout, rng))


def sinusoids(frames: int, width: int) -> Float[Tensor, "frames width"]:
    """Positions as waves: `[t, 2i] = sin(t / 10000^(2i/width))`, `[t, 2i+1] = cos(the same)`.

    Source: Vaswani et al. 2017, section 3.5.
    """
    angle = torch.arange(frames)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=2).reshape(frames, width)


def pool_time(x_MD: Float[Tensor, "M D"], layout: Layout, how: str) -> tuple[Float[Tensor, "half D"], Layout]:
    """Halves every clip's frames. Blocks must have an even number of frames.

    `average` keeps a pair if both frames are real, `max` if either is.

    Raises:
        ValueError: a clip has no frame left.
    """
    x = x_MD.view(-1, 2, x_MD.shape[1])
    pair = layout.real_M.view(-1, 2)
    pooled, real = (x.mean(dim=1), pair.all(dim=1)) if how == "average" else (x.amax(dim=1), pair.any(dim=1))
    blocks = tuple(Block(b.start // 2, b.clips, b.frames // 2) for b in layout.blocks)
    for block in blocks:
        if not real[block.rows].view(block.clips, block.frames).any(dim=1).all():
            raise ValueError(f"a clip has no frame left after pooling by {how}: it needs two real frames side by side")
    position = layout.position_M.view(-1, 2)[:, 0] // 2
    return pooled, Layout(blocks, position, real, key_biases(blocks, real))


def key_biases(blocks: tuple[Block, ...], real_M: Bool[Tensor, " M"]) -> tuple[Tensor | None, ...]:
    """`Layout.key_bias` for the given rows. Looks at `real_M`, so give it on the CPU where waiting for a GPU matters."""
    biases: list[Tensor | None] = []
    for block in blocks:
        real = real_M[block.rows]
        if bool(real.all()):
            biases.append(None)
        else:
            bias = torch.zeros(real.shape, device=real.device).masked_fill_(~real, torch.finfo(torch.float32).min)
            biases.append(bias.view(block.clips, 1, 1, block.frames))
    return tuple(biases)


def mean_over_clips(x_MD: Float[Tensor, "M D"], layout: Layout) -> Float[Tensor, "B D"]:
    """Each clip's mean over its real frames; 0 for a clip without any."""
    means = []
    for block in layout.blocks:
        weight_GL1 = layout.real_M[block.rows].view(block.clips, block.frames, 1).to(x_MD.dtype)
        x_GLD = x_MD[block.rows].view(block.clips, block.frames, -1)
        means.append((x_GLD * weight_GL1).sum(dim=1) / weight_GL1.sum(dim=1).clamp(min=1))
    return torch.cat(means)


def _tanhexp(x: Tensor) -> Tensor:
    """x * tanh(exp x); x is clamped at 88 inside, where float32's exp ends. Source: Liu and Di 2020, TanhExp."""
    return x * torch.tanh(torch.exp(x.clamp(max=88.0)))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "geluacc": lambda x: F.gelu(x, approximate="tanh"),
    "tanhexp": _tanhexp,
}
