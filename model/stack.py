"""The network of `transformer.py` for several trainings at once: each weight has a first axis of slots.

All slots see the same batch. Each has its own weights, dropout probability and dropout masks, and computes what it would
compute alone, up to rounding.
"""

# S slots, W floats of a slot's weights, M rows of a batch, F features of a frame (260), D width, B clips, K words; of one
# block: G clips, L frames, H heads, E = D / H

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from model.flat import Places
from model.layers import ACTIVATIONS, Dropout, Layout, drawn_at_once, mean_over_clips, pool_time
from model.transformer import TransformerEnISLR


class StackedDropout:
    """Dropout of all slots for one forward pass: each slot's masks are those that `Dropout` draws from its generator."""

    def __init__(self, shares: Sequence[float], rngs: Sequence[torch.Generator | None], device: torch.device) -> None:
        """`shares`: each slot's dropout probability; `rngs`: its generator, on the device; None: nothing is dropped."""
        drawn = [0 if rng is None else Dropout.level(share) for share, rng in zip(shares, rngs, strict=True)]
        self.active = any(drawn)
        self._rngs = [rng if level else None for rng, level in zip(rngs, drawn, strict=True)]
        levels = torch.tensor(drawn)[:, None]
        self._threshold_S1 = (levels - Dropout.LEVELS // 2).to(torch.int16).to(device)
        self._scale_S1 = (Dropout.LEVELS / (Dropout.LEVELS - levels)).float().to(device)
        self._chunk_SN = torch.empty(len(shares), 0, device=device)
        self._size = self._used = 0

    def begin(self, chunk: int) -> None:
        """Starts a forward pass that draws its masks in chunks of this many elements."""
        self._chunk_SN, self._size, self._used = self._chunk_SN[:, :0], chunk, 0

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.mask(x) if self.active else x

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """x plus a residual branch with some of its elements dropped."""
        return torch.addcmul(x, branch, self.mask(branch)) if self.active else x + branch

    def mask(self, x: Tensor) -> Tensor:
        """0 or 1 / (1 - p) for each element of x."""
        count = x[0].numel()
        if count > self._chunk_SN.shape[1] - self._used:
            self._chunk_SN, self._used = self._draw(max(count, self._size)), 0
        mask = self._chunk_SN[:, self._used : self._used + count]
        self._used += count
        return mask.view(x.shape)

    def _draw(self, count: int) -> Float[Tensor, "S _"]:
        device = self._threshold_S1.device
        words = torch.empty(len(self._rngs), (count + 3) // 4, dtype=torch.int64, device=device)
        for row, rng in zip(words, self._rngs, strict=True):
            if rng is not None:
                row.random_(-(1 << 63), None, generator=rng)
        mask = torch.empty(len(words), 4 * words.shape[1], device=device)
        torch.ge(words.view(torch.int16), self._threshold_S1, out=mask)
        return mask.mul_(self._scale_S1)


class _StackedAttention(torch.autograd.Function):
    """`layers._BlockAttention` with slots before the rows."""

    # N = S x G x H; the last axis of qkv is (3, H, E)

    @staticmethod
    def forward(ctx: Any, qkv_SM3D: Tensor, layout: Layout, heads: int, drop: StackedDropout) -> Tensor:
        slots, rows, width = qkv_SM3D.shape
        scale = 1 / math.sqrt(width // (3 * heads))
        mixed_SMD = qkv_SM3D.new_empty(slots, rows, width // 3)
        saved = []
        for block, bias in zip(layout.blocks, layout.key_bias, strict=True):
            shape = (slots, block.clips, block.frames, 3, heads, -1)
            qkv_3NLE = qkv_SM3D[:, block.rows].view(shape).permute(3, 0, 1, 4, 2, 5).contiguous().flatten(1, 3)
            q_NLE, k_NLE, v_NLE = qkv_3NLE
            scores_NLL = _scaled(q_NLE, k_NLE.mT, scale)
            if bias is not None:
                scores_NLL.view(slots, block.clips, heads, block.frames, block.frames).add_(bias)
            prob_NLL = scores_NLL.softmax(dim=2)
            mask = used_NLL = None
            if drop.active:
                prob_S = prob_NLL.view(slots, -1, block.frames, block.frames)
                mask = drop.mask(prob_S)
                used_NLL = (prob_S * mask).flatten(0, 1)
            mixed_NLE = (prob_NLL if used_NLL is None else used_NLL) @ v_NLE
            _by_clip(mixed_SMD, block, heads).copy_(mixed_NLE.view(slots, block.clips, heads, block.frames, -1))
            saved.append((qkv_3NLE, prob_NLL, mask, used_NLL))
        ctx.saved, ctx.blocks, ctx.heads, ctx.scale = saved, layout.blocks, heads, scale
        return mixed_SMD

    @staticmethod
    def backward(ctx: Any, grad_SMD: Tensor) -> tuple[Tensor, None, None, None]:
        slots, rows, width = grad_SMD.shape
        grad_qkv_SM3D = grad_SMD.new_empty(slots, rows, 3 * width)
        saved, ctx.saved = ctx.saved[::-1], None
        for block in ctx.blocks:
            qkv_3NLE, prob_NLL, mask, used_NLL = saved.pop()
            q_NLE, k_NLE, v_NLE = qkv_3NLE
            grad_NLE = _by_clip(grad_SMD, block, ctx.heads).flatten(0, 2)
            grad_prob_NLL = grad_NLE @ v_NLE.mT
            if mask is not None:
                grad_prob_NLL.view(mask.shape).mul_(mask)
            grad_scores_NLL = torch._softmax_backward_data(grad_prob_NLL, prob_NLL, 2, prob_NLL.dtype)
            grad_3NLE = torch.empty_like(qkv_3NLE)
            _scaled(grad_scores_NLL, k_NLE, ctx.scale, out=grad_3NLE[0])
            _scaled(grad_scores_NLL.mT, q_NLE, ctx.scale, out=grad_3NLE[1])
            torch.bmm((prob_NLL if used_NLL is None else used_NLL).mT, grad_NLE, out=grad_3NLE[2])
            by_head = grad_3NLE.view(3, slots, block.clips, ctx.heads, block.frames, -1)
            shape = (slots, block.clips, block.frames, 3, ctx.heads, -1)
            grad_qkv_SM3D[:, block.rows].view(shape).copy_(by_head.permute(1, 2, 4, 0, 3, 5))
        return grad_qkv_SM3D, None, None, None


def _scaled(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """A batched product times a number, in one operation."""
    result: Tensor = torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale, out=out)
    return result


def _by_clip(x_SMD: Tensor, block: Any, heads: int) -> Tensor:
    """A view of a block's rows as `[S, G, H, L, E]`."""
    return x_SMD[:, block.rows].view(len(x_SMD), block.clips, block.frames, heads, -1).transpose(2, 3)


class StackedModel:
    """The networks of all slots, whose weights are the rows of one matrix. They may differ in dropout only."""

    def __init__(self, like: TransformerEnISLR, places: Places, weights_SW: Float[Tensor, "S W"]) -> None:
        """`like`: a network of the same shape; `places`: where its weights lie in a row."""
        self._like, self._config, self._places = like, like.config, places
        self._weights_SW = weights_SW
        self._activation = ACTIVATIONS[like.config.activation]

    def logits(self, frames_MF: Float[Tensor, "M F"], layout: Layout, drop: StackedDropout) -> Float[Tensor, "S B K"]:
        """Logits of the clips in the order of the batch."""
        slots, config = len(self._weights_SW), self._config
        self._weight: Mapping[str, Tensor] = self._places.split(self._weights_SW)
        x_SMD = self._activation(self._linear(frames_MF.expand(slots, -1, -1), "embed"))
        if config.pooling != "none":
            assert layout.pooled is not None, "DeviceClips.take arranges a batch for a model that pools"
            x_SMD, layout = pool_time(x_SMD, config.pooling), layout.pooled
        drop.begin(drawn_at_once(config, layout, x_SMD.device))
        x_SMD = drop(x_SMD + self._like.positions(layout))
        for number in range(config.layers):
            x_SMD = self._layer(x_SMD, f"layers.{number}", layout, drop)
        if "norm_tail.weight" in self._weight:
            x_SMD = self._norm(x_SMD, "norm_tail")
        return self._linear(mean_over_clips(x_SMD, layout), "head")

    def _layer(self, x_SMD: Tensor, name: str, layout: Layout, drop: StackedDropout) -> Tensor:
        if self._config.norm_first:
            x_SMD = drop.add(x_SMD, self._attention(self._norm(x_SMD, f"{name}.norm_attention"), name, layout, drop))
            return drop.add(x_SMD, self._feed_forward(self._norm(x_SMD, f"{name}.norm_feed_forward"), name, drop))
        x_SMD = self._norm(drop.add(x_SMD, self._attention(x_SMD, name, layout, drop)), f"{name}.norm_attention")
        return self._norm(drop.add(x_SMD, self._feed_forward(x_SMD, name, drop)), f"{name}.norm_feed_forward")

    def _attention(self, x_SMD: Tensor, name: str, layout: Layout, drop: StackedDropout) -> Tensor:
        qkv_SM3D = self._linear(x_SMD, f"{name}.attention.qkv")
        mixed_SMD: Tensor = _StackedAttention.apply(qkv_SM3D, layout, self._config.heads, drop)  # type: ignore[no-untyped-call]
        return self._linear(mixed_SMD, f"{name}.attention.out")

    def _feed_forward(self, x_SMD: Tensor, name: str, drop: StackedDropout) -> Tensor:
        inner = self._activation(self._linear(x_SMD, f"{name}.feed_forward.expand"))
        return self._linear(drop(inner), f"{name}.feed_forward.contract")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weight[f"{name}.weight"], self._weight.get(f"{name}.bias")
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)

    def _norm(self, x_SMD: Tensor, name: str) -> Tensor:
        weight, bias = self._weight[f"{name}.weight"][:, None], self._weight.get(f"{name}.bias")
        normed_SMD = F.layer_norm(x_SMD, x_SMD.shape[-1:])
        return normed_SMD * weight if bias is None else torch.addcmul(bias[:, None], normed_SMD, weight)
