"""A model as ONNX gives what ours gives, from landmarks to probabilities, whatever the settings and the length of a clip."""

from __future__ import annotations

import json
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
LENGTHS = (1, 2, 3, 17, 105, 404, 600)  # 600: more frames than the table of positions holds at first
SMALL = ModelConfig(width=16, ffn_width=24, layers=1)
SHARED = ROOT.parent / "shared" / "data"
REAL = ("gislr_sample", "asl3", "fingerspell9")

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


@pytest.fixture(scope="module", autouse=True)
def lengths_may_be_symbols() -> Iterator[None]:
    """While PyTorch traces a graph a number of frames is a symbol, which the checks of shapes in tests take for no number."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@dataclass(frozen=True)
class Exported:
    """A model beside what was made of it."""

    model: TransformerEnISLR
    preprocess: PreprocessConfig
    path: Path
    session: onnxruntime.InferenceSession

    def require_equal(self, clip: np.ndarray) -> None:
        """The same logits and probabilities to 1e-4."""
        ours = logits(self.model, [preprocess(clip, self.preprocess)], mask=self.preprocess.mask)[0]
        probabilities, found = self.session.run(None, {"landmarks": clip})
        assert (probabilities.shape, found.shape) == ((len(WORDS),), (len(WORDS),))
        np.testing.assert_allclose(found, ours, atol=1e-4)
        shares = torch.from_numpy(ours).double().div(TEMPERATURE).softmax(dim=0).numpy()
        np.testing.assert_allclose(probabilities, shares, atol=1e-4)


@pytest.fixture(scope="module", params=SETTINGS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A model of each kind, exported once for all tests."""
    config, pre = SETTINGS[request.param]
    model = model_of(config)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(model, pre, TEMPERATURE, WORDS, path)
    return Exported(model, pre, path, onnxruntime.InferenceSession(path))


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


@pytest.mark.slow
def test_equal_to_ours(exported: Exported, tiny: Path) -> None:
    """On made-up clips of all lengths with all kinds of gaps, and on made-up signs."""
    rng = np.random.default_rng(0)
    for frames in LENGTHS:
        clip = made_up(frames, rng)
        if exported.model.config.pooling == "average" and frames % 2:
            clip = np.concatenate([clip, clip[:, -1:]], axis=1)  # else the frames that are seen may have no partner
        for scale in (1, 1e-3, 40):  # also where a unit is at an end of its range
            exported.require_equal(clip * np.float32(scale))
    for clip in clips_of(tiny):
        exported.require_equal(clip)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_equal_on_recordings(name: str, exported: Exported) -> None:
    """Recordings of people have gaps and lengths that nobody makes up."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"the recordings of {name} do not lie beside the project")
    for clip in clips_of(SHARED / name):
        exported.require_equal(clip)


def clips_of(folder: Path) -> Iterator[np.ndarray]:
    """Three clips of each of three signers."""
    for path in sorted(folder.glob("*.hdf5"))[:3]:
        for _, found in list(read_unlabeled(path))[:3]:
            assert isinstance(found, np.ndarray)
            yield found


@pytest.mark.slow
def test_no_frame_counts(exported: Exported) -> None:
    """A clip of which nothing is left: numbers all the same, not NaN; the head's bias alone where empty frames do not count."""
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
    session.run(None, {"landmarks": made_up(5, np.random.default_rng(0))})
    assert tuple(capfd.readouterr()) == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("exported", ["pooled by average"], indirect=True)
def test_the_file(exported: Exported, tmp_path: Path) -> None:
    """One valid file that stands alone, says what it is, is written the same twice, and tells nothing of this machine."""
    config, pre = SETTINGS["pooled by average"]
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
    assert model.training, "the caller's model is left as it was"
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_model_on_a_gpu(tmp_path: Path) -> None:
    """It is written as from the CPU, and stays where it is."""
    write_onnx(model_of(SMALL), PreprocessConfig(), 1.0, WORDS, tmp_path / "cpu.onnx")
    model = model_of(SMALL).cuda()
    write_onnx(model, PreprocessConfig(), 1.0, WORDS, tmp_path / "cuda.onnx")
    assert {weight.device.type for weight in model.parameters()} == {"cuda"}
    assert (tmp_path / "cuda.onnx").read_bytes() == (tmp_path / "cpu.onnx").read_bytes()


@pytest.mark.parametrize("words", [WORDS[:3], (*WORDS, "more"), ()])
def test_words_that_are_not_the_outputs(words: tuple[str, ...], tmp_path: Path) -> None:
    """Each output has its word; else nothing is written."""
    with pytest.raises(ValueError, match=f"there are {len(words)} words, expected 4"):
        write_onnx(model_of(SMALL), PreprocessConfig(), 1.0, words, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install, and writes nothing."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        write_onnx(model_of(SMALL), PreprocessConfig(), 1.0, WORDS, tmp_path / "model.onnx")
    assert caught.value.hint == "pip install 'islr-search[onnx]'"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="not installed"):
        require_onnx()
