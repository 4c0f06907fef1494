"""The ONNX export gives the same results as the model, from landmarks to probabilities, for all settings and lengths."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jaxtyping
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from launch import ROOT

import search
from data_utils.errors import DataError
from data_utils.hdf5 import read_unlabeled
from data_utils.landmarks import FILE_PARTS
from data_utils.normalize import PreprocessConfig, preprocess
from model.config import ModelConfig
from model.onnx import require_onnx, write_onnx
from model.transformer import TransformerEnISLR, logits

WORDS = ("listen", "聞く", "shhh", "look")
TEMPERATURE = 1.6
LENGTHS = (1, 2, 3, 17, 105, 404, 600)  # 600: longer than the initial position table
SMALL = ModelConfig(width=16, ffn_width=24, layers=1)
SHARED = ROOT.parent / "shared" / "data"
REAL = ("gislr_sample", "asl3", "fingerspell9")

# Together these cover every choice of the preprocessing and every path through the network.
SETTINGS = {
    "the defaults": (ModelConfig(), PreprocessConfig()),
    "all different": (
        ModelConfig(width=32, heads=4, norm_first=False, tail_norm=False, bias=False, pooling="max", activation="tanhexp"),
        PreprocessConfig(align="unique", scale="framewise", missing="aware", right_hand_origin="mirror", mask="detected"),
    ),
    "average pooling": (
        ModelConfig(width=16, layers=1, pooling="average", activation="mish", tail_norm=False),
        PreprocessConfig(scale="none", mask="detected"),
    ),
    "aware, framewise": (
        ModelConfig(width=16, layers=1, activation="geluacc"),
        PreprocessConfig(missing="aware", right_hand_origin="mirror"),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def disable_shape_checks() -> Iterator[None]:
    """While PyTorch traces a graph, the number of frames is a symbol, which the shape checks of the tests do not accept."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@dataclass(frozen=True)
class Exported:
    """A model and its ONNX export."""

    model: TransformerEnISLR
    preprocess: PreprocessConfig
    path: Path
    session: onnxruntime.InferenceSession

    def require_equal(self, clip: np.ndarray) -> None:
        """Checks that logits and probabilities are the same to 1e-4."""
        ours = logits(self.model, [preprocess(clip, self.preprocess)], mask=self.preprocess.mask)[0]
        probabilities, found = self.session.run(None, {"landmarks": clip})
        assert (probabilities.shape, found.shape) == ((len(WORDS),), (len(WORDS),))
        np.testing.assert_allclose(found, ours, atol=1e-4)
        expected = torch.from_numpy(ours).double().div(TEMPERATURE).softmax(dim=0).numpy()
        np.testing.assert_allclose(probabilities, expected, atol=1e-4)


@pytest.fixture(scope="module", params=SETTINGS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A model with each of the settings, exported once for all tests."""
    config, pre = SETTINGS[request.param]
    model = model_of(config)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(model, pre, TEMPERATURE, WORDS, path)
    return Exported(model, pre, path, onnxruntime.InferenceSession(path))


def random_clip(frames: int, rng: np.random.Generator) -> np.ndarray:
    """A clip with missing body regions, points and whole frames; the pose is present in the last two frames."""
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


@pytest.mark.slow
def test_results_are_the_same_on_synthetic_clips(exported: Exported, tiny: Path) -> None:
    """Results agree on random clips of all lengths with all kinds of gaps, and on synthetic signs."""
    rng = np.random.default_rng(0)
    for frames in LENGTHS:
        clip = random_clip(frames, rng)
        if exported.model.config.pooling == "average" and frames % 2:
            clip = np.concatenate([clip, clip[:, -1:]], axis=1)  # otherwise the detected frames may be unpaired
        for scale in (1, 1e-3, 40):  # also with units at the ends of their range
            exported.require_equal(clip * np.float32(scale))
    for clip in clips_of(tiny):
        exported.require_equal(clip)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_results_are_the_same_on_recordings(name: str, exported: Exported) -> None:
    """Results agree on recordings of people, with real gaps and lengths."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"the recordings of {name} are not available")
    for clip in clips_of(SHARED / name):
        exported.require_equal(clip)


def clips_of(folder: Path) -> Iterator[np.ndarray]:
    """Three clips of each of three signers."""
    for path in sorted(folder.glob("*.hdf5"))[:3]:
        for _, found in list(read_unlabeled(path))[:3]:
            assert isinstance(found, np.ndarray)
            yield found


@pytest.mark.slow
def test_clips_without_a_counted_frame(exported: Exported) -> None:
    """A clip without detections gives finite results; only the head's bias counts where empty frames do not."""
    for frames in (1, 2, 5):
        probabilities, found = exported.session.run(None, {"landmarks": np.full((3, frames, 543), np.nan, np.float32)})
        assert np.isfinite(found).all()
        assert probabilities.sum() == pytest.approx(1)
        from_bias = np.allclose(found, exported.model.head.bias.detach().numpy(), atol=1e-6)
        assert from_bias == (exported.preprocess.mask == "detected")


@pytest.mark.slow
def test_quiet(exported: Exported, capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever loads and asks it reads no warning."""
    session = onnxruntime.InferenceSession(exported.path)
    session.run(None, {"landmarks": random_clip(5, np.random.default_rng(0))})
    assert tuple(capfd.readouterr()) == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("exported", ["average pooling"], indirect=True)
def test_the_file(exported: Exported, tmp_path: Path) -> None:
    """The file is valid, self-contained and described, reproducible, and contains nothing about this machine."""
    config, pre = SETTINGS["average pooling"]
    model = model_of(config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    write_onnx(model, pre, TEMPERATURE, WORDS, tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    assert content == exported.path.read_bytes()
    for folder in (tmp_path, exported.path.parent):
        assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    for place in (str(ROOT), sys.prefix, "site-packages", ".py"):
        assert place.encode() not in content
    proto = onnx.load(exported.path)
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.ir_version, [entry.version for entry in proto.opset_import if not entry.domain]) == (9, [18])
    assert {entry.domain for entry in proto.opset_import} == {""}
    assert (proto.producer_name, proto.producer_version) == ("islr-search", search.__version__)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert (json.loads(metadata["words"]), metadata["temperature"]) == (list(WORDS), "1.6")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training, "the model is unchanged"
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("exported", ["average pooling"], indirect=True)
def test_the_caller_keeps_its_model(exported: Exported, tmp_path: Path) -> None:
    """Its hooks are not called; its numbers, gradients and data type stay, and so do all random number generators."""
    config, pre = SETTINGS["average pooling"]
    model, calls = model_of(config).double().requires_grad_(False), list[object]()
    for module in model.modules():
        module.register_forward_hook(lambda *_: calls.append(1))
        module.register_forward_pre_hook(lambda *_: calls.append(2))
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    write_onnx(model, pre, TEMPERATURE, WORDS, tmp_path / "model.onnx")
    assert calls == []
    assert (tmp_path / "model.onnx").read_bytes() == exported.path.read_bytes(), "numbers are float32 in the file"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.dtype == torch.float64 and not weight.requires_grad for weight in model.parameters())
    assert all((weight.grad == 1).all() for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert (np.random.get_state()[1] == generators[2]).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_model_on_a_gpu_is_exported_like_one_on_the_cpu(tmp_path: Path) -> None:
    """The file has the same bytes as from the CPU, and the model is not moved."""
    write_onnx(model_of(SMALL), PreprocessConfig(), 1.0, WORDS, tmp_path / "cpu.onnx")
    model = model_of(SMALL).cuda()
    write_onnx(model, PreprocessConfig(), 1.0, WORDS, tmp_path / "cuda.onnx")
    assert {weight.device.type for weight in model.parameters()} == {"cuda"}
    assert (tmp_path / "cuda.onnx").read_bytes() == (tmp_path / "cpu.onnx").read_bytes()


@pytest.mark.parametrize("words", [WORDS[:3], (*WORDS, "more"), ()])
def test_the_number_of_words_must_match_the_outputs(words: tuple[str, ...], tmp_path: Path) -> None:
    """With another number of words than outputs nothing is written."""
    with pytest.raises(ValueError, match=f"there are {len(words)} words, expected 4"):
        write_onnx(model_of(SMALL), PreprocessConfig(), 1.0, words, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_words_must_match_a_changed_head(tmp_path: Path) -> None:
    """What counts is what the model computes, not what it was made with."""
    model = model_of(SMALL)
    model.head = torch.nn.Linear(16, 7)
    with pytest.raises(ValueError, match="there are 4 words, expected 7"):
        write_onnx(model, PreprocessConfig(), 1.0, WORDS, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, and nothing is written."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        write_onnx(model_of(SMALL), PreprocessConfig(), 1.0, WORDS, tmp_path / "model.onnx")
    assert caught.value.hint == "pip install 'islr-search[onnx]'"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="not installed"):
        require_onnx()
