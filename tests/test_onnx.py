"""A model as ONNX gives what ours gives, from landmarks to probabilities, whatever the settings and the length of a clip."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from launch import ROOT

from data_utils.errors import DataError
from data_utils.hdf5 import read_unlabelled
from data_utils.landmarks import FILE_PARTS
from data_utils.normalize import PreprocessConfig, preprocess
from model.config import ModelConfig
from model.onnx import write_onnx
from model.transformer import TransformerEnISLR, logits

WORDS = ("listen", "聞く", "shhh", "look")
LENGTHS = (1, 2, 3, 17, 105, 404, 600)  # 600: more frames than the table of positions holds at first
SMALL = ModelConfig(width=16, ffn_width=24, layers=1)
REAL = [ROOT.parent / "shared" / "data" / name for name in ("gislr_sample", "asl3", "fingerspell9")]

# Every choice of the pre-processing is among these, and every way through the network.
SETTINGS = {
    "the defaults": (ModelConfig(), PreprocessConfig()),
    "all otherwise": (
        ModelConfig(width=32, heads=4, norm_first=False, tail_norm=False, bias=False, pooling="max", activation="tanhexp"),
        PreprocessConfig(align="unique", scale="framewise", missing="aware", right_hand_origin="mirror", mask="detected"),
    ),
    "pooled by average": (
        ModelConfig(width=16, layers=1, pooling="average", activation="mish", tail_norm=False),
        PreprocessConfig(scale="none", mask="detected"),
    ),
    "aware of each frame": (
        ModelConfig(width=16, layers=1, activation="geluacc"),
        PreprocessConfig(missing="aware", right_hand_origin="mirror"),
    ),
}


@pytest.fixture(autouse=True)
def lengths_may_be_symbols() -> Iterator[None]:
    """While PyTorch traces a graph a number of frames is a symbol, which the checks of shapes in tests take for no number."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def made_up(frames: int, rng: np.random.Generator) -> np.ndarray:
    """A clip in which parts, points and whole frames are missing; the pose is seen in the last two frames."""
    clip = rng.normal(0.5, 0.2, (3, frames, 543)).astype(np.float32)
    for part in FILE_PARTS.values():
        clip[:, rng.random(frames) < 0.4, part] = np.nan
    clip[rng.random(clip.shape) < 0.02] = np.nan
    clip[:, frames // 3] = np.nan
    clip[:, -2:, FILE_PARTS["pose"]] = rng.normal(0.5, 0.2, (3, min(frames, 2), 33))
    return clip


def model_of(config: ModelConfig) -> TransformerEnISLR:
    """An untrained model whose biases are not 0."""
    model = TransformerEnISLR(config, len(WORDS), torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.empty_like(weight).normal_(0, 0.1, generator=rng))
    return model


def require_equal(
    session: onnxruntime.InferenceSession, model: TransformerEnISLR, pre: PreprocessConfig, temperature: float, clip: np.ndarray
) -> None:
    """The same logits and probabilities to 1e-4."""
    ours = logits(model, [preprocess(clip, pre)], mask=pre.mask)[0]
    probabilities, found = session.run(None, {"landmarks": clip})
    assert (probabilities.shape, found.shape) == ((len(WORDS),), (len(WORDS),))
    np.testing.assert_allclose(found, ours, atol=1e-4)
    shares = torch.from_numpy(ours).double().div(temperature).softmax(dim=0).numpy()
    np.testing.assert_allclose(probabilities, shares, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_equal_to_ours(name: str, tmp_path: Path, tiny: Path) -> None:
    """On made-up clips of all lengths with all kinds of gaps, and on signs."""
    config, pre = SETTINGS[name]
    model = model_of(config)
    write_onnx(model, pre, 1.6, WORDS, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    for frames in LENGTHS:
        clip = made_up(frames, rng)
        if config.pooling == "average" and frames % 2:
            clip = np.concatenate([clip, clip[:, -1:]], axis=1)  # else the frames that are seen may have no partner
        for scale in (1, 1e-3, 40):  # also where a unit is at an end of its range
            require_equal(session, model, pre, 1.6, clip * np.float32(scale))
    for frames in (1, 2, 5):  # a clip of which nothing is left: numbers all the same, not NaN
        probabilities, found = session.run(None, {"landmarks": np.full((3, frames, 543), np.nan, np.float32)})
        assert np.isfinite(found).all()
        assert probabilities.sum() == pytest.approx(1)
    for folder in [tiny, *(place for place in REAL if place.is_dir())]:
        for path in sorted(folder.glob("*.hdf5"))[:3]:
            for _, found in list(read_unlabelled(path))[:3]:
                assert isinstance(found, np.ndarray)
                require_equal(session, model, pre, 1.6, found)


@pytest.mark.slow
def test_the_file(tmp_path: Path) -> None:
    """One valid file that stands alone, says what it is, is written the same twice, and tells nothing of this machine."""
    model = model_of(SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name in ("a.onnx", "b.onnx"):
        write_onnx(model, PreprocessConfig(), 0.75, WORDS, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == (tmp_path / "b.onnx").read_bytes()
    for place in (str(ROOT), sys.prefix, "site-packages", ".py"):
        assert place.encode() not in content
    proto = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.ir_version, [entry.version for entry in proto.opset_import if not entry.domain]) == (9, [18])
    assert {entry.domain for entry in proto.opset_import} == {""}
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert (json.loads(metadata["words"]), metadata["temperature"]) == (list(WORDS), "0.75")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install, and writes nothing."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        write_onnx(model_of(SMALL), PreprocessConfig(), 1.0, WORDS, tmp_path / "model.onnx")
    assert caught.value.hint == "pip install 'islr-search[onnx]'"
    assert list(tmp_path.iterdir()) == []
