"""Preprocessing: the article's numbers, edge cases, and the effect of each option."""

from __future__ import annotations

from pathlib import Path

import make_golden
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_utils.landmarks import FILE_PARTS, MIRROR_PAIRS, NUM_FEATURES, NUM_LANDMARKS, PARTS, POINTS
from data_utils.normalize import UNIT_RANGE, PreprocessConfig, detected, preprocess

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "golden.npz"
CLIPS = range(9)


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    if not REFERENCE.is_file():
        pytest.skip("the reference's numbers are not beside this checkout")
    with np.load(REFERENCE) as file:
        return dict(file)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(make_golden.FILE) as file:
        return dict(file)


def random_clip(seed: int, frames: int) -> np.ndarray:
    """All parts are detected; powers of two and a coarse grid keep float32 sums exact."""
    grid = np.random.default_rng(seed).integers(64, 960, (3, frames, NUM_LANDMARKS))
    return (grid / 1024).astype(np.float32)


def as_points(frames_TF: np.ndarray) -> np.ndarray:
    """`[T, 260]` back to `[2, T, 130]`."""
    return frames_TF.reshape(len(frames_TF), 2, -1).transpose(1, 0, 2)


def test_landmarks_are_the_references(reference: dict[str, np.ndarray]) -> None:
    """The 130 points and the mirror pairs are those of the reference."""
    assert POINTS.tolist() == reference["landmarks"].tolist()
    assert {tuple(sorted(pair)) for pair in MIRROR_PAIRS.tolist()} == {
        tuple(sorted(pair)) for pair in reference["swap_pairs_filtered"].tolist()
    }


@pytest.mark.parametrize(
    ("stem", "config"),
    [
        ("norm_framewise_unique", PreprocessConfig()),
        ("norm_framewise_framewise", PreprocessConfig(scale="framewise")),
        ("norm_unique_unique", PreprocessConfig(align="unique")),
        ("norm_unique_framewise", PreprocessConfig(align="unique", scale="framewise")),
        ("norm_framewise_none", PreprocessConfig(scale="none")),
    ],
)
def test_every_setting_gives_the_references_numbers(
    reference: dict[str, np.ndarray], stem: str, config: PreprocessConfig
) -> None:
    """Each stored clip is normalized to the reference's numbers, edge cases included."""
    compared = 0
    for clip in CLIPS:
        if f"{stem}_{clip}" not in reference:
            continue
        result = as_points(preprocess(reference[f"raw_{clip}"], config))
        np.testing.assert_allclose(result, reference[f"{stem}_{clip}"], rtol=1e-6, atol=1e-6)
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("setting", list(make_golden.CONFIGS))
def test_numbers_are_unchanged(golden: dict[str, np.ndarray], setting: str) -> None:
    """Preprocessing gives the same numbers as when it was last compared with the reference."""
    for name, feature in make_golden.clips().items():
        np.testing.assert_array_equal(feature[:2][:, :, POINTS], golden[f"clip_{name}"])
        result = preprocess(feature, make_golden.CONFIGS[setting])
        np.testing.assert_allclose(result, golden[f"{setting}_{name}"], rtol=1e-6, atol=1e-6)


def test_result_is_x_then_y_of_each_frame() -> None:
    """A frame is 130 x followed by 130 y, float32, in the order of the selected points."""
    feature = random_clip(1, 4)
    result = preprocess(feature, PreprocessConfig(scale="none", align="framewise"))
    assert result.shape == (4, NUM_FEATURES)
    assert result.dtype == np.float32
    shoulders = POINTS[PARTS["pose"]][:2]
    for channel, columns in ((0, result[:, :130]), (1, result[:, 130:])):
        origin = feature[channel][:, shoulders].mean(axis=1)
        expected = feature[channel][:, POINTS[PARTS["pose"]]] - origin[:, None]
        np.testing.assert_allclose(columns[:, PARTS["pose"]], expected, atol=1e-6)


@pytest.mark.parametrize("config", list(make_golden.CONFIGS.values()), ids=list(make_golden.CONFIGS))
def test_a_part_not_detected_is_zero(config: PreprocessConfig) -> None:
    """All numbers of an undetected part are 0, and the other parts are unchanged."""
    feature = random_clip(2, 6)
    whole = as_points(preprocess(feature, config))
    feature[:, 2:4, FILE_PARTS["left_hand"]] = np.nan
    result = as_points(preprocess(feature, config))
    assert (result[:, 2:4, PARTS["left_hand"]] == 0).all()
    assert (result[:, :2, PARTS["left_hand"]] != 0).any()
    for part in ("face", "pose", "right_hand"):
        np.testing.assert_array_equal(result[..., PARTS[part]], whole[..., PARTS[part]])


def test_an_empty_clip_is_all_zero() -> None:
    """A clip in which nothing was detected becomes zeros, not NaN."""
    result = preprocess(np.full((3, 3, NUM_LANDMARKS), np.nan, np.float32))
    assert (result == 0).all()
    assert not detected(result).any()


def test_units_are_clipped() -> None:
    """A part smaller than the smallest unit is divided by that unit, a collapsed one by 1."""
    feature = random_clip(3, 1)
    left, right = FILE_PARTS["left_hand"], FILE_PARTS["right_hand"]
    feature[:2, :, left] = 0.5
    feature[0, :, left.start] += np.float32(2**-14)  # the wrist: smaller than the smallest unit
    feature[:2, :, right] = 0.25
    result = as_points(preprocess(feature))
    across = result[0, 0, PARTS["left_hand"].start] - result[0, 0, PARTS["left_hand"].start + 1]
    assert across == pytest.approx(2**-14 / UNIT_RANGE[0], rel=1e-5)
    assert (result[..., PARTS["right_hand"]] == 0).all()


def test_the_right_hands_origin_is_an_option() -> None:
    """With `mirror`, equal hands give equal numbers; by default they differ, as in the article."""
    feature = random_clip(4, 3)
    feature[:, :, FILE_PARTS["right_hand"]] = feature[:, :, FILE_PARTS["left_hand"]]

    def hands(config: PreprocessConfig) -> tuple[np.ndarray, np.ndarray]:
        points = as_points(preprocess(feature, config))
        return points[..., PARTS["left_hand"]], points[..., PARTS["right_hand"]]

    np.testing.assert_array_equal(*hands(PreprocessConfig(right_hand_origin="mirror")))
    assert np.abs(np.subtract(*hands(PreprocessConfig()))).max() > 1e-3


def test_a_missing_point_moves_the_origin_only_by_default() -> None:
    """`aware` ignores a missing point; by default it counts as (0, 0), as in the article."""
    feature = random_clip(5, 2)
    whole = as_points(preprocess(feature, PreprocessConfig(scale="none")))[..., PARTS["left_hand"]]
    wrist = FILE_PARTS["left_hand"].start
    feature[:, :, wrist + 1 : wrist + 21] = feature[:, :, wrist, None]  # all at the wrist: leaving one out moves nothing
    feature[:, :, wrist + 5] = np.nan
    aware = as_points(preprocess(feature, PreprocessConfig(scale="none", missing="aware")))[..., PARTS["left_hand"]]
    zero = as_points(preprocess(feature, PreprocessConfig(scale="none")))[..., PARTS["left_hand"]]
    assert np.abs(aware).max() < 1e-6
    assert np.abs(zero).max() > 0.01
    assert whole.shape == aware.shape


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), frames=st.integers(1, 6), shift=st.integers(-8, 8), zoom=st.sampled_from([0.5, 1.0, 2.0]))
def test_position_and_size_in_the_picture_do_not_matter(seed: int, frames: int, shift: int, zoom: float) -> None:
    """Moving or enlarging a clip changes nothing while units stay within their range."""
    feature = random_clip(seed, frames)
    moved = (feature * np.float32(zoom) + np.float32(shift / 4)).astype(np.float32)
    moved[moved == 0] = 2**-12  # an exact 0 would count as missing
    np.testing.assert_allclose(preprocess(moved), preprocess(feature), atol=2e-2, rtol=1e-3)


def test_the_input_is_not_modified() -> None:
    """Preprocessing does not write to its input."""
    feature = random_clip(6, 3)
    feature[:, 1, FILE_PARTS["face"]] = np.nan
    before = feature.copy()
    for config in make_golden.CONFIGS.values():
        preprocess(feature, config)
    np.testing.assert_array_equal(feature, before)
