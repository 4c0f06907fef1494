"""`TransformerEnISLR`: the article's Transformer encoder, from a clip's landmarks to word logits."""

# M rows of a batch, F features of a frame (260), D width, B clips, K words

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_utils.batches import ordered_batches
from data_utils.landmarks import NUM_FEATURES
from data_utils.prepared import clip_set
from model.config import ModelConfig
from model.device_clips import DeviceClips
from model.layers import ACTIVATIONS, Dropout, EncoderLayer, Layout, drawn_at_once, mean_over_clips, pool_time, sinusoids


class TransformerEnISLR(nn.Module):
    """Embedding, positions, encoder layers, mean over the frames, head.

    Dropout is active exactly when `forward` gets a random generator; `train()` and `eval()` have no effect.
    """

    position_table: Tensor

    def __init__(self, config: ModelConfig, num_words: int, rng: torch.Generator) -> None:
        """Draws the starting weights from `rng` (a CPU generator) as `config.init` says."""
        super().__init__()
        self.config = config
        self.num_words = num_words
        self.activation = ACTIVATIONS[config.activation]
        has_tail = config.norm_first and config.tail_norm
        with torch.random.fork_rng(devices=[]):  # the layers draw PyTorch's own weights first; `_init_weights` replaces them
            self.embed = nn.Linear(NUM_FEATURES, config.width)
            self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
            self.norm_tail = nn.LayerNorm(config.width, bias=config.bias) if has_tail else nn.Identity()
            self.head = nn.Linear(config.width, num_words)
        self.register_buffer("position_table", sinusoids(512, config.width), persistent=False)
        self._init_weights(rng)

    def forward(
        self,
        frames_MF: Float[Tensor, "M F"],
        layout: Layout,
        rng: torch.Generator | None = None,
        weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "B K"]:
        """Logits of the clips in the order of the batch. Appends each layer's attention weights to `weights` if given.

        Waits for nothing on the device. On CUDA all dropout masks of a pass are drawn at once.
        """
        x_MD = self.activation(self.embed(frames_MF))
        if self.config.pooling != "none":
            assert layout.pooled is not None, "DeviceClips.take arranges a batch for a model that pools"
            x_MD, layout = pool_time(x_MD, self.config.pooling), layout.pooled
        drop = Dropout(self.config.dropout, rng, drawn_at_once(self.config, layout, x_MD.device))
        x_MD = drop(x_MD + self.positions(layout))
        for layer in self.layers:
            x_MD = layer(x_MD, layout, drop, weights)
        logits: Tensor = self.head(mean_over_clips(self.norm_tail(x_MD), layout))
        return logits

    @property
    def frames_multiple(self) -> int:
        """The number of frames of a block must be a multiple of this: 2 with pooling, otherwise 1."""
        return 1 if self.config.pooling == "none" else 2

    def positions(self, layout: Layout) -> Float[Tensor, "M D"]:
        """What is added to each row for its place in its clip."""
        longest = max(block.frames for block in layout.blocks)
        if longest > len(self.position_table):
            self.position_table = sinusoids(2 * longest, self.config.width).to(self.position_table.device)
        return self.position_table[layout.position_M]

    @torch.no_grad()
    def _init_weights(self, rng: torch.Generator) -> None:
        """Draws the starting weights.

        Linear layers start as in PyTorch: uniform within ±1/sqrt(fan-in). `sound` uses Xavier initialization for the attention
        projections (query, key and value with gain 1/sqrt 2, as in the article's code since v0.2.2) with zero biases.
        `reference` copies the first layer to the others and draws the head's weight from a normal with sd 1/sqrt(words).
        """
        for linear in (m for m in self.modules() if isinstance(m, nn.Linear)):
            bound = 1 / math.sqrt(linear.in_features)
            linear.weight.uniform_(-bound, bound, generator=rng)
            if linear.bias is not None:
                linear.bias.uniform_(-bound, bound, generator=rng)
        if self.config.init == "reference":
            for layer in self.layers[1:]:
                layer.load_state_dict(self.layers[0].state_dict())
            self.head.weight.normal_(0.0, 1 / math.sqrt(self.num_words), generator=rng)
            return
        xavier = math.sqrt(6 / (2 * self.config.width))
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            layer.attention.qkv.weight.uniform_(-xavier / math.sqrt(2), xavier / math.sqrt(2), generator=rng)
            layer.attention.out.weight.uniform_(-xavier, xavier, generator=rng)
            for linear in (layer.attention.qkv, layer.attention.out):
                if linear.bias is not None:
                    linear.bias.zero_()
        self.head.bias.zero_()


@torch.inference_mode()
def logits_of(model: TransformerEnISLR, clips: DeviceClips) -> Float[Tensor, "C K"]:
    """Logits of every clip of a set, in the order of the set, on the CPU. Only the copy of the result waits for the device."""
    batches = list(ordered_batches(clips.clips, frames_multiple=model.frames_multiple, rule=clips.rule))
    made_CK = torch.cat([model(*clips.take(batch, model.config.pooling)).float() for batch in batches]).cpu()
    result_CK = torch.empty_like(made_CK)
    result_CK[torch.from_numpy(np.concatenate([batch.clips_B for batch in batches]))] = made_CK
    return result_CK


def logits(model: TransformerEnISLR, clips: Sequence[np.ndarray], *, mask: str = "lengths") -> Float[np.ndarray, "N K"]:
    """Logits for clips of any length. The logits of a clip do not depend on the other clips.

    Shapes: a list of preprocessed clips, float32 `[T, 260]` each -> `[N, K]`.
    `mask` says which frames count: see `PreprocessConfig.mask`.

    Raises:
        ValueError: a clip has another shape.
    """
    if not clips:
        return np.zeros((0, model.num_words), np.float32)
    device = model.head.weight.device
    result: np.ndarray = logits_of(model, DeviceClips(clip_set(clips, mask=mask), device)).numpy()
    return result
