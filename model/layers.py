"""Building blocks of the Transformer: dropout, attention, feed-forward, positions.

The frames of a batch are concatenated in blocks of clips of similar length (`data_utils.batches`). Frame-wise layers process
all rows at once; attention runs block by block, so that hardly any work is spent on padding.
"""

# M rows of a batch, D width, B clips of a batch; of one block: G clips, L frames, H heads, E = D / H

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from data_utils.batches import Block
from model.config import ModelConfig


@dataclass(frozen=True)
class Layout:
    """Where each clip of a batch lies among its rows, and which rows are real frames."""

    blocks: tuple[Block, ...]
    position_M: Int[Tensor, " M"]
    """Frame number within its clip of each row."""

    real_M: Bool[Tensor, " M"]
    """False for padding and for frames that the clip set's mask excludes."""

    key_bias: tuple[Float[Tensor, "_ 1 1 _"] | None, ...]
    """For each block, what is added to its attention scores: 0 for real keys, the lowest float for others; None if all are
    real. The lowest float instead of -inf: a clip without real frames gets uniform attention instead of NaN."""

    count_B1: Float[Tensor, "B 1"]
    """The number of real frames of each clip; 1 for a clip without any."""

    pooled: Layout | None = None
    """The layout after pooling over time, for models that pool."""

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The rows of each block, of `[..., M, D]`. One split: separate slices would cost a pass each in the backward pass."""
        return torch.split(x, [block.clips * block.frames for block in self.blocks], dim=-2)


class Dropout:
    """Dropout for one forward pass: zeroes elements with probability `p` and scales the rest by 1 / (1 - p).

    Each element uses 16 random bits, so p is rounded to a multiple of 1/65536, and the scale is exact for the rounded p. Masks
    are drawn in large chunks, which takes few calls. Without a generator nothing is dropped.
    """

    LEVELS = 1 << 16
    CHUNK = 1 << 18  # elements drawn at once, see `drawn_at_once`; a chunk stays in a core's cache

    def __init__(self, p: float, rng: torch.Generator | None, chunk: int = CHUNK) -> None:
        """`chunk`: the number of elements drawn at once, at least; the masks depend on it."""
        self.active = rng is not None and p > 0
        self._rng = rng
        self._least = chunk
        self._threshold = self.level(p)
        self._chunk = torch.empty(0)
        self._used = 0

    @classmethod
    def level(cls, p: float) -> int:
        """How many of the `LEVELS` values of a random number drop an element."""
        return min(round(p * cls.LEVELS), cls.LEVELS - 1)

    def __call__(self, x: Tensor) -> Tensor:
        """x with some of its elements dropped."""
        return x * self.mask(x) if self.active else x

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """x plus a residual branch with some of its elements dropped."""
        return torch.addcmul(x, branch, self.mask(branch)) if self.active else x + branch

    def mask(self, x: Tensor) -> Tensor:
        """0 or 1 / (1 - p) for each element of x. Requires that dropout is active."""
        count = x.numel()
        if count > len(self._chunk) - self._used:
            self._chunk, self._used = self._draw(max(count, self._least), x), 0
        mask = self._chunk[self._used : self._used + count]
        self._used += count
        return mask.view(x.shape)

    def _draw(self, count: int, like: Tensor) -> Tensor:
        words = torch.empty((count + 3) // 4, dtype=torch.int64, device=like.device)
        words.random_(-(1 << 63), None, generator=self._rng)
        mask = torch.empty(4 * len(words), dtype=like.dtype, device=like.device)
        torch.ge(words.view(torch.int16), self._threshold - self.LEVELS // 2, out=mask)  # 4 times faster than via bool
        return mask.mul_(self.LEVELS / (self.LEVELS - self._threshold))


class Attention(nn.Module):
    """Multi-head self-attention over the frames of each clip."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def forward(
        self, x_MD: Float[Tensor, "M D"], layout: Layout, drop: Dropout, weights: list[Tensor] | None = None
    ) -> Float[Tensor, "M D"]:
        """Appends the attention weights (after dropout) to `weights` if given: `[G, H, L, L]` per block."""
        qkv_M3D = self.qkv(x_MD)
        if weights is None and not drop.active and not qkv_M3D.requires_grad:
            return self.out(self._fused(qkv_M3D, layout))
        mixed_MD: Tensor = _BlockAttention.apply(qkv_M3D, layout, self.heads, drop, weights)  # type: ignore[no-untyped-call]
        return self.out(mixed_MD)

    def _fused(self, qkv_M3D: Tensor, layout: Layout) -> Tensor:
        """By PyTorch's own kernel. Only without gradients: on CUDA its backward pass adds in an order that varies."""
        mixed = []
        for block, bias, qkv in zip(layout.blocks, layout.key_bias, layout.split(qkv_M3D), strict=True):
            q, k, v = qkv.view(block.clips, block.frames, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed_GHLE = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            mixed.append(mixed_GHLE.transpose(1, 2).reshape(block.clips * block.frames, -1))
        return torch.cat(mixed)


class _BlockAttention(torch.autograd.Function):
    """Attention with dropout on its weights, block by block, with its own backward pass.

    Computes softmax(q k / sqrt(E)) -> dropout -> times v, up to rounding. Written by hand because blocks are many and small:
    what autograd stores and copies for each of them would cost as much as the matrix products. The same numbers on every run,
    on CUDA too. What is saved for the backward pass is freed as soon as the layer's is done.
    """

    # N = G x H; the last axis of qkv is (3, H, E)

    @staticmethod
    def forward(ctx: Any, qkv_M3D: Tensor, layout: Layout, heads: int, drop: Dropout, weights: list[Tensor] | None) -> Tensor:
        scale = 1 / math.sqrt(qkv_M3D.shape[1] // (3 * heads))
        mixed_MD = qkv_M3D.new_empty(len(qkv_M3D), qkv_M3D.shape[1] // 3)
        saved: list[Tensor | None] = []
        for block, bias in zip(layout.blocks, layout.key_bias, strict=True):
            shape = (block.clips, block.frames, 3, heads, -1)
            qkv_3NLE = qkv_M3D[block.rows].view(shape).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)
            q_NLE, k_NLE, v_NLE = qkv_3NLE
            scores_NLL = (q_NLE @ k_NLE.transpose(1, 2)).mul_(scale)
            if bias is not None:
                scores_NLL.view(block.clips, heads, block.frames, block.frames).add_(bias)
            prob_NLL = scores_NLL.softmax(dim=2)
            mask_NLL = drop.mask(prob_NLL) if drop.active else None
            used_NLL = prob_NLL if mask_NLL is None else prob_NLL * mask_NLL
            _clips_first(mixed_MD, block, heads).copy_((used_NLL @ v_NLE).view(block.clips, heads, block.frames, -1))
            saved += (qkv_3NLE, prob_NLL, mask_NLL, used_NLL)
            if weights is not None:
                weights.append(used_NLL.detach().view(block.clips, heads, block.frames, block.frames))
        ctx.save_for_backward(*saved)
        ctx.blocks, ctx.heads, ctx.scale = layout.blocks, heads, scale
        return mixed_MD

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor, None, None, None, None]:
        grad_qkv_M3D = grad_MD.new_empty(len(grad_MD), 3 * grad_MD.shape[1])
        saved = ctx.saved_tensors
        for number, block in enumerate(ctx.blocks):
            qkv_3NLE, prob_NLL, mask_NLL, used_NLL = saved[4 * number : 4 * number + 4]
            q_NLE, k_NLE, v_NLE = qkv_3NLE
            grad_NLE = _clips_first(grad_MD, block, ctx.heads).flatten(0, 1)
            grad_prob_NLL = grad_NLE @ v_NLE.transpose(1, 2)
            if mask_NLL is not None:
                grad_prob_NLL.mul_(mask_NLL)
            # softmax: each row's gradient minus its mean, weighted by the row's probabilities
            inner_NL1 = (grad_prob_NLL * prob_NLL).sum(dim=2, keepdim=True)
            grad_scores_NLL = grad_prob_NLL.sub_(inner_NL1).mul_(prob_NLL).mul_(ctx.scale)
            grad_3NLE = torch.empty_like(qkv_3NLE)
            torch.bmm(grad_scores_NLL, k_NLE, out=grad_3NLE[0])
            torch.bmm(grad_scores_NLL.transpose(1, 2), q_NLE, out=grad_3NLE[1])
            torch.bmm(used_NLL.transpose(1, 2), grad_NLE, out=grad_3NLE[2])
            shape = (block.clips, block.frames, 3, ctx.heads, -1)
            by_head = grad_3NLE.view(3, block.clips, ctx.heads, block.frames, -1)
            grad_qkv_M3D[block.rows].view(shape).copy_(by_head.permute(1, 3, 0, 2, 4))
        return grad_qkv_M3D, None, None, None, None


def _clips_first(x_MD: Tensor, block: Block, heads: int) -> Tensor:
    """A view of a block's rows as `[G, H, L, E]`."""
    return x_MD[block.rows].view(block.clips, block.frames, heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers, applied to each frame separately."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.expand = nn.Linear(config.width, config.ffn_width, bias=config.bias)
        self.contract = nn.Linear(config.ffn_width, config.width, bias=config.bias)

    def forward(self, x_MD: Float[Tensor, "M D"], drop: Dropout) -> Float[Tensor, "M D"]:
        return self.contract(drop(self.activation(self.expand(x_MD))))


class EncoderLayer(nn.Module):
    """Attention, then feed-forward, each with a residual branch; layer norm before (pre-LN) or after (post-LN)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.norm_attention = nn.LayerNorm(config.width, bias=config.bias)
        self.norm_feed_forward = nn.LayerNorm(config.width, bias=config.bias)

    def forward(
        self, x_MD: Float[Tensor, "M D"], layout: Layout, drop: Dropout, weights: list[Tensor] | None = None
    ) -> Float[Tensor, "M D"]:
        if self.norm_first:
            x_MD = drop.add(x_MD, self.attention(self.norm_attention(x_MD), layout, drop, weights))
            return drop.add(x_MD, self.feed_forward(self.norm_feed_forward(x_MD), drop))
        x_MD = self.norm_attention(drop.add(x_MD, self.attention(x_MD, layout, drop, weights)))
        return self.norm_feed_forward(drop.add(x_MD, self.feed_forward(x_MD, drop)))


def sinusoids(frames: int, width: int) -> Float[Tensor, "frames width"]:
    """Sinusoidal positions: `[t, 2i] = sin(t / 10000^(2i/width))`, `[t, 2i+1] = cos(the same)`.

    Source: Vaswani et al. 2017, section 3.5.
    """
    angle = torch.arange(frames)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=2).reshape(frames, width)


def pool_time(x_MD: Float[Tensor, "*slots M D"], how: str) -> Float[Tensor, "*slots half D"]:
    """Combines each pair of frames into one: their `average` or their `max`. Blocks must have an even number of frames."""
    x = x_MD.view(*x_MD.shape[:-2], -1, 2, x_MD.shape[-1])
    return x.mean(dim=-2) if how == "average" else x.amax(dim=-2)


def mean_over_clips(x_MD: Float[Tensor, "*slots M D"], layout: Layout) -> Float[Tensor, "*slots B D"]:
    """The mean over the real frames of each clip; 0 for a clip without any."""
    real_MD = x_MD * layout.real_M.unsqueeze(1)
    parts = zip(layout.blocks, layout.split(real_MD), strict=True)
    sums = [x.view(*x.shape[:-2], block.clips, block.frames, x.shape[-1]).sum(dim=-2) for block, x in parts]
    return torch.cat(sums, dim=-2) / layout.count_B1


def drawn_at_once(config: ModelConfig, layout: Layout, device: torch.device) -> int:
    """The number of elements that a forward pass draws masks for at once; `layout`: after pooling.

    On CUDA as many as it drops elements from: of each layer the attention weights, two residual branches and the inner rows of
    the feed-forward block. On the CPU one chunk.
    """
    if device.type != "cuda":
        return Dropout.CHUNK
    rows = sum(block.clips * block.frames for block in layout.blocks)
    scores = config.heads * sum(block.clips * block.frames**2 for block in layout.blocks)
    return rows * config.width + config.layers * (scores + rows * (2 * config.width + config.ffn_width))


def _tanhexp(x: Tensor) -> Tensor:
    """x * tanh(exp x); x is clamped at 88 because exp overflows float32 above. Source: Liu and Di 2020, TanhExp."""
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
