"""Export of a model to ONNX, including preprocessing and temperature, for use in other programs.

    input    landmarks      float32 [3, frames, 543], one clip as in the files: x, y, z; NaN = not detected
    outputs  probabilities  float32 [words], softmax of logits / temperature
             logits         float32 [words]
    metadata words (JSON, by class number), temperature

The graph uses `model.layers` and reimplements the preprocessing of `data_utils.normalize` in PyTorch. Opset 18 and IR version 9
are supported by ONNX Runtime 1.16 and later.
"""

# C channel (x, y), T frames, P points of a body region, F features of a frame (260), D width, K words

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from data_utils.batches import Block
from data_utils.errors import DataError
from data_utils.files import write_atomically
from data_utils.landmarks import NUM_COORDINATES, NUM_FEATURES, NUM_LANDMARKS, PARTS, POINTS
from data_utils.normalize import UNIT_RANGE, PartRule, PreprocessConfig, rule_of
from model.layers import Dropout, Layout, sinusoids
from model.transformer import TransformerEnISLR

_PROJECT = "islr-search"
_OPSET = 18
_IR_VERSION = 9
_PACKAGES = ("onnx", "onnxscript")
_EXAMPLE_FRAMES = 37  # any number except 0 and 1, which PyTorch would treat as constants


def require_onnx() -> None:
    """Checks before long work that a model can be exported to ONNX.

    Raises:
        DataError: the extra `onnx` is not installed.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            hint = "pip install 'islr-search[onnx]'"
            raise DataError("a package that the ONNX export needs is not installed", expected=package, hint=hint)


def write_onnx(
    model: TransformerEnISLR, preprocess: PreprocessConfig, temperature: float, words: Sequence[str], path: Path
) -> None:
    """Writes the file completely or not at all. Equal models give equal bytes with the same versions of PyTorch and ONNX.

    Does not change, move or call the model. Callers of the graph must reject unusable clips themselves; `Bundle.predict`
    refuses them:

    - A clip in which nothing was detected. With the mask `lengths` its empty frames count, so the graph treats it as any other.
    - A clip without a frame that counts, or with average pooling without two such consecutive frames. The graph's output then
      depends on the head's bias alone.

    A clip without any frames is an error of ONNX Runtime.

    Raises:
        ValueError: the number of words differs from the model's number of outputs.
        DataError: the extra `onnx` is not installed.
        OSError: the file cannot be written.
    """
    if len(words) != model.head.out_features:
        raise ValueError(f"there are {len(words)} words, expected {model.head.out_features}, one per output of the model")
    require_onnx()
    # A new network with the same weights: on the CPU, in float32, and without hooks that the tracing would call.
    network = TransformerEnISLR(model.config, len(words), torch.Generator())
    network.load_state_dict(model.state_dict())
    graph = _Graph(network, preprocess, temperature).eval()
    example = torch.zeros(NUM_COORDINATES, _EXAMPLE_FRAMES, NUM_LANDMARKS)
    with _silenced(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (example,),
            input_names=["landmarks"],
            output_names=["probabilities", "logits"],
            dynamic_shapes={"landmarks": {1: torch.export.Dim("frames", min=2)}},
            opset_version=_OPSET,
            dynamo=True,
        )
    assert program is not None
    proto = program.model_proto
    assert proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param, "any number of frames"
    proto.ir_version = _IR_VERSION
    proto.producer_name, proto.producer_version, proto.doc_string = _PROJECT, _version(), __doc__ or ""
    proto.graph.name = "isolated_sign"
    del proto.graph.value_info[:], proto.metadata_props[:], proto.graph.metadata_props[:]
    for node in proto.graph.node:
        del node.metadata_props[:]  # contains paths of source files on this machine
        node.doc_string = ""
    for name, value in {"words": json.dumps(list(words), ensure_ascii=False), "temperature": repr(temperature)}.items():
        proto.metadata_props.add(key=name, value=value)
    write_atomically(path, proto.SerializeToString(deterministic=True))


def _version() -> str:
    """The project's version; empty if it is not installed."""
    try:
        return importlib.metadata.version(_PROJECT)
    except importlib.metadata.PackageNotFoundError:
        return ""


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Suppresses the exporter's output: it lists optional packages and warns about its own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Graph(nn.Module):
    """Computes the probabilities of one clip from its landmarks, without data-dependent branches."""

    def __init__(self, model: TransformerEnISLR, preprocess: PreprocessConfig, temperature: float) -> None:
        super().__init__()
        self.network = model
        self.preprocess = preprocess
        self.temperature = temperature

    def forward(self, landmarks: Float[Tensor, "3 T 543"]) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
        points_CTP = landmarks[:2][:, :, torch.from_numpy(POINTS)]
        parts = [
            _normalized(points_CTP[:, :, where], rule_of(name, self.preprocess), self.preprocess)
            for name, where in PARTS.items()
        ]
        frames_TF = torch.cat(parts, dim=2).transpose(0, 1).reshape(-1, NUM_FEATURES)
        logits_K = self._logits(frames_TF)
        return (logits_K / self.temperature).softmax(dim=0), logits_K

    def _logits(self, frames_TF: Float[Tensor, "T F"]) -> Float[Tensor, " K"]:
        """Same as `TransformerEnISLR.forward` for a single clip of any length."""
        network, pooling = self.network, self.network.config.pooling
        real_T = (frames_TF != 0).any(dim=1) if self.preprocess.mask == "detected" else torch.ones_like(frames_TF[:, 0]) > 0
        if pooling != "none":  # pairs an unpaired last frame with an empty one
            frames_TF = torch.cat([frames_TF, torch.zeros_like(frames_TF[:1])])
            real_T = torch.cat([real_T, real_T[:1] & False])
        # For all rows at once: ONNX Runtime warns if it cannot fold the activation of a constant (Mish).
        x_TD = network.activation(network.embed(frames_TF))
        if pooling != "none":
            (first, second), (one_T, two_T) = _pairs(x_TD), _pairs(real_T)
            average = pooling == "average"
            x_TD, real_T = ((first + second) / 2, one_T & two_T) if average else (torch.maximum(first, second), one_T | two_T)
        frames = x_TD.shape[0]
        x_TD = x_TD + sinusoids(frames, network.config.width)
        bias = torch.zeros_like(x_TD[:, 0]).masked_fill(~real_T, torch.finfo(torch.float32).min).reshape(1, 1, 1, -1)
        weight_T1 = real_T.unsqueeze(1).to(x_TD.dtype)
        count = weight_T1.sum().clamp(min=1)
        layout = Layout((Block(0, 1, frames),), torch.arange(frames), real_T, (bias,), count.view(1, 1))
        for layer in network.layers:
            x_TD = layer(x_TD, layout, Dropout(0.0, None))
        mean_D = (network.norm_tail(x_TD) * weight_T1).sum(dim=0) / count
        return network.head(mean_D)


def _pairs(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second row of each pair; an unpaired last row is dropped."""
    return rows[:-1][0::2], rows[1::2]


def _normalized(part_CTP: Tensor, rule: PartRule, config: PreprocessConfig) -> Float[Tensor, "2 T P"]:
    """`data_utils.normalize._normalize_part` in PyTorch, with zeros and a mask instead of NaN for unknown values."""
    detected_CTP = ~part_CTP.isnan()
    filled_CTP = part_CTP.masked_fill(~detected_CTP, 0.0)
    known_CTP = torch.ones_like(detected_CTP) if config.missing == "zero" else detected_CTP
    origin_CT, has_origin_CT = _mean(filled_CTP, known_CTP, rule.origin)
    from_CT, has_from_CT = _mean(filled_CTP, known_CTP, rule.unit_from)
    to_CT, has_to_CT = _mean(filled_CTP, known_CTP, rule.unit_to)
    length_T = (from_CT - to_CT).square().sum(dim=0).sqrt()
    usable_T = (has_from_CT & has_to_CT).all(dim=0) & (length_T > 0)

    if config.missing == "zero":
        shown_CTP = (filled_CTP != 0).any(dim=2, keepdim=True).any(dim=0, keepdim=True)
    else:
        shown_CTP = detected_CTP & has_origin_CT[:, :, None] if config.align == "framewise" else detected_CTP
    if config.align == "unique":
        counted_CT = has_origin_CT & (origin_CT != 0)
        origin_CT = (origin_CT * counted_CT).sum(dim=1, keepdim=True) / counted_CT.sum(dim=1, keepdim=True).clamp(min=1)
    result_CTP = (filled_CTP - origin_CT[:, :, None]) / _unit(length_T, usable_T, config)[None, :, None]
    return result_CTP.masked_fill(~shown_CTP, 0.0)


def _unit(length_T: Tensor, usable_T: Bool[Tensor, " T"], config: PreprocessConfig) -> Tensor:
    if config.scale == "none":
        return torch.ones(1)
    if config.scale == "framewise":
        return length_T.masked_fill(~usable_T, 1.0).clamp(*UNIT_RANGE)
    count = usable_T.sum(dim=0, keepdim=True)
    mean = (length_T * usable_T).sum(dim=0, keepdim=True) / count.clamp(min=1)
    return mean.masked_fill(count == 0, 1.0).clamp(*UNIT_RANGE)


def _mean(filled_CTP: Tensor, known_CTP: Bool[Tensor, "2 T P"], which: tuple[int, ...]) -> tuple[Tensor, Bool[Tensor, "2 T"]]:
    """Mean over those of some points that are known, 0 if none is; and whether any is."""
    count_CT = known_CTP[:, :, list(which)].sum(dim=2)
    total_CT = (filled_CTP * known_CTP)[:, :, list(which)].sum(dim=2)
    return total_CT / count_CT.clamp(min=1), count_CT > 0
