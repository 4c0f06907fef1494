"""All weights of a model in one buffer: a step over them is then one operation instead of one for each weight.

flat = flatten_weights(model)
optimizer = Adam(model, config, flat)
clip_gradients(list(flat.parts), 1.0)
"""

# W floats of a buffer: the weights and the gaps between them; S slots

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

ALIGNMENT = 16
"""Floats at a multiple of which each weight begins: 64 bytes, a cache line and the widest vector register."""


@dataclass(frozen=True)
class Places:
    """Where the weights of a model lie in a buffer. Matrices come first, because only they have weight decay."""

    offsets: Mapping[str, int]
    """Where each weight begins, by its name in the model."""

    shapes: Mapping[str, torch.Size]
    matrices: int
    """Where the matrices end."""

    size: int

    @classmethod
    def of(cls, model: nn.Module) -> Places:
        """The places of a model's weights; each begins at a multiple of `ALIGNMENT`."""
        shapes = {name: weight.shape for name, weight in model.named_parameters()}
        offsets, end, matrices = {}, 0, 0
        for name in sorted(shapes, key=lambda name: len(shapes[name]) < 2):  # stable: within each part in the model's order
            offsets[name] = end
            end += -(-shapes[name].numel() // ALIGNMENT) * ALIGNMENT
            matrices = end if len(shapes[name]) >= 2 else matrices
        return cls(offsets, shapes, matrices, end)

    def split(self, weights_SW: Float[Tensor, "S W"]) -> dict[str, Tensor]:
        """Views of the weights of several slots, by name: `[S, ...]`. One split: one operation in the backward pass."""
        ends = [*list(self.offsets.values())[1:], self.size]
        sizes, names = [], []
        for (name, start), end in zip(self.offsets.items(), ends, strict=True):
            size = self.shapes[name].numel()
            gap = end - start - size
            sizes += [size, gap] if gap else [size]
            names += [name, ""] if gap else [name]
        pieces = zip(names, torch.split(weights_SW, sizes, dim=1), strict=True)
        return {name: piece.view(-1, *self.shapes[name]) for name, piece in pieces if name}

    def views(self, weights_W: Float[Tensor, " W"]) -> dict[str, Tensor]:
        """Views of one slot's weights, by name."""
        return {
            name: weights_W[start : start + self.shapes[name].numel()].view(self.shapes[name])
            for name, start in self.offsets.items()
        }


@dataclass(frozen=True)
class FlatWeights:
    """The buffers that the weights of a model and their gradients are views of. Gaps between weights hold 0."""

    values_W: Float[Tensor, " W"]
    gradients_W: Float[Tensor, " W"]
    offsets: Mapping[str, int]
    """Where each weight begins, by its name in the model. Matrices come first, because only they have weight decay."""

    parts: tuple[Float[Tensor, " _"], Float[Tensor, " _"]]
    """The values of all matrices and of all vectors; the `grad` of each holds their gradients."""


def flatten_weights(model: nn.Module) -> FlatWeights:
    """Moves the weights of a model, float32 and all on one device, into one buffer.

    The model keeps its parameters, and their gradients exist from now on: clear them with `Adam.zero_grad`. Moving the model to
    another device separates its parameters from the buffer. A deep copy of the model has weights of its own, not in a buffer.
    """
    places, weights = Places.of(model), dict(model.named_parameters())
    like = next(iter(weights.values()))
    values_W, gradients_W = (torch.zeros(places.size, dtype=torch.float32, device=like.device) for _ in range(2))
    for name, weight in weights.items():
        place = slice(places.offsets[name], places.offsets[name] + weight.numel())
        values_W[place] = weight.detach().flatten()
        weight.data = values_W[place].view(weight.shape)
        weight.grad = gradients_W[place].view(weight.shape)
    parts = cast(tuple[Tensor, Tensor], values_W.tensor_split([places.matrices]))
    for part, gradient in zip(parts, gradients_W.tensor_split([places.matrices]), strict=True):
        part.grad = gradient
    return FlatWeights(values_W, gradients_W, places.offsets, parts)
