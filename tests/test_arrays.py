"""NumPy arrays and HDF5 files of many shapes, widths, orders and containers: each is read to the same landmarks, or refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_utils.cli import execute
from data_utils.errors import DataError
from data_utils.folder import signer_files
from data_utils.hdf5 import Clip, read_clips
from data_utils.importing import hdf5_copy, npy
from data_utils.importing.array_files import read_rows, to_landmarks
from data_utils.importing.arrays import rows_of
from data_utils.importing.corrections import NO_CORRECTIONS, Corrections
from data_utils.importing.order import SampleClip, find_order
from data_utils.importing.readings import KAGGLE, TUTORIAL, Order, parse_order
from data_utils.inputs import check_inputs, read_inputs
from data_utils.landmarks import FILE_PARTS
from data_utils.synthetic.synthetic import synthesize
from data_utils.words import read_words

NO_FACE: Order = ("pose", "left_hand", "right_hand")
HANDS: Order = ("left_hand", "right_hand")
ORDERS = [*itertools.permutations(NO_FACE), *list(itertools.permutations(TUTORIAL))[::5]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two signers. Read-only."""
    folder = tmp_path_factory.mktemp("made") / "data"
    synthesize(folder, clips=12, signs=2, signers=2, seed=3)
    return folder


@pytest.fixture(scope="module")
def clip(made: Path) -> np.ndarray:
    """A clip in which both hands are seen."""
    return max((clip.feature_CTJ for clip in clips_of(made)["9001"]), key=hands_seen)


def hands_seen(feature_CTJ: np.ndarray) -> int:
    """Number of frames with a left hand, times those with a right hand."""
    return int(np.prod([(~np.isnan(feature_CTJ[0, :, FILE_PARTS[hand].start])).sum() for hand in HANDS]))


def clips_of(folder: Path) -> dict[str, list[Clip]]:
    """The clips of a data set by the stem of their file."""
    count = len(read_words(folder))
    return {file.path.stem: list(read_clips(file, count)) for file in signer_files(folder)}


def row(
    feature_CTJ: np.ndarray, order: Order, numbers: int = 3, *, visibility: bool = False, pose: int = 33, face: int = 468
) -> np.ndarray:
    """Frames `[T, V]`, zeros where nothing was detected."""
    parts = []
    for part in order:
        points_TPC = np.nan_to_num(feature_CTJ[:, :, FILE_PARTS[part]]).transpose(1, 2, 0).astype(np.float64)
        seen_TP1 = points_TPC[..., :1] != 0
        if numbers == 4 or (part == "pose" and visibility):
            points_TPC = np.concatenate([points_TPC[..., : min(numbers, 3)], 0.9 * seen_TP1], axis=2)
        else:
            points_TPC = points_TPC[..., :numbers]
        if part == "pose":
            points_TPC = points_TPC[:, :pose]
        if part == "face" and face > 468:
            points_TPC = np.concatenate([points_TPC, points_TPC[:, : face - 468]], axis=1)
        parts.append(points_TPC.reshape(len(points_TPC), -1))
    return np.concatenate(parts, axis=1)


def carried(feature_CTJ: np.ndarray, parts: Order, coordinates: int = 3, pose: int = 33) -> np.ndarray:
    """What a format carries: some parts, x and y only (z is 0), the first points of the pose."""
    kept = np.full_like(feature_CTJ, np.nan)
    for part in parts:
        place = FILE_PARTS[part]
        place = slice(place.start, place.start + pose) if part == "pose" else place
        kept[:, :, place] = feature_CTJ[:, :, place]
    if coordinates == 2:
        kept[2] = np.where(np.isnan(kept[0]), np.nan, 0)
    return kept


def read(values: np.ndarray, order: Order | None = None) -> np.ndarray:
    """The landmarks in an array, in the order that is given or found."""
    rows = rows_of(values, order, file=Path("clip.npy"))
    found = order or find_order([SampleClip([rows])]).order
    return to_landmarks([rows], {rows.reading.usual: found}, file=Path("clip.npy"))


WIDTHS = {  # parts, numbers per point, and what else; the number of values
    1662: (TUTORIAL, 3, {"visibility": True}),
    1692: (TUTORIAL, 3, {"visibility": True, "face": 478}),
    1629: (TUTORIAL, 3, {}),
    1659: (TUTORIAL, 3, {"face": 478}),
    1086: (TUTORIAL, 2, {}),
    1119: (TUTORIAL, 2, {"visibility": True}),
    2172: (TUTORIAL, 4, {}),
    258: (NO_FACE, 3, {"visibility": True}),
    226: (NO_FACE, 3, {"visibility": True, "pose": 25}),
    225: (NO_FACE, 3, {}),
    201: (NO_FACE, 3, {"pose": 25}),
    150: (NO_FACE, 2, {}),
    183: (NO_FACE, 2, {"visibility": True}),
    300: (NO_FACE, 4, {}),
    126: (HANDS, 3, {}),
    84: (HANDS, 2, {}),
    132: (("pose",), 3, {"visibility": True}),
    1536: (("pose", "face"), 3, {"visibility": True}),
}


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_is_read(width: int, clip: np.ndarray) -> None:
    """A row of numbers gives the landmarks that it carries; absent parts are NaN, and z is 0 if there are two coordinates."""
    parts, numbers, more = WIDTHS[width]
    values_TV = row(clip, parts, numbers, **more)  # type: ignore[arg-type]
    assert values_TV.shape[1] == width
    expected = carried(clip, parts, min(numbers, 3), int(more.get("pose", 33)))
    np.testing.assert_array_equal(read(values_TV), expected)
    np.testing.assert_array_equal(read(values_TV.astype(np.float32)), expected)


@pytest.mark.parametrize(
    "order", [*itertools.permutations(NO_FACE), *list(itertools.permutations(TUTORIAL))[::5]], ids="-".join
)
def test_the_order_is_found(order: Order, clip: np.ndarray) -> None:
    """In whatever order the parts are, the one that fits the body is found; it is told unless it is the usual one."""
    values_TV = row(clip, order, visibility=True)
    np.testing.assert_array_equal(read(values_TV), carried(clip, order))
    np.testing.assert_array_equal(read(values_TV, order), carried(clip, order))
    found = find_order([SampleClip([rows_of(values_TV, None, file=Path("clip.npy"))])])
    usual = order in (TUTORIAL, NO_FACE)
    assert (found.order, found.sure) == (order, usual)
    assert ("not the usual one" in found.text or "hands swapped" in found.text) != usual


def shapes(feature_CTJ: np.ndarray) -> dict[str, np.ndarray]:
    """A clip in forms that carry all of it."""
    points_TJC = feature_CTJ.transpose(1, 2, 0)
    irises = np.insert(points_TJC, [468] * 10, 0.5, axis=1)
    tutorial = row(feature_CTJ, TUTORIAL).reshape(len(points_TJC), 543, 3)
    return {
        "[3, T, 543]": feature_CTJ,
        "[T, 543, 3]": points_TJC,
        "[T, 543, 4]": np.concatenate([points_TJC, np.ones_like(points_TJC[..., :1])], axis=2),
        "[T, 553, 3]": irises,
        "[3, T, 553]": irises.transpose(2, 0, 1),
        "float64": points_TJC.astype(np.float64),
        "big-endian": points_TJC.astype(">f4"),
        "zeros": np.nan_to_num(points_TJC),
        "minus one": np.nan_to_num(points_TJC, nan=-1),
        "[1, T, 543, 3]": points_TJC[None],
        "[T, 1, 543, 3]": points_TJC[:, None],
        "[1, T, 1629]": points_TJC.reshape(1, len(points_TJC), -1),
        "[T, 3, 543]": feature_CTJ.transpose(1, 0, 2),
        "[1, 21, 1629]": np.resize(points_TJC, (21, 543, 3)).reshape(1, 21, -1),
        "[T, 1629, 1]": points_TJC.reshape(len(points_TJC), -1, 1),
        "pose first": tutorial,
        "Fortran": np.asfortranarray(points_TJC),
    }


def test_every_shape_is_read(clip: np.ndarray) -> None:
    """Points in any order of axes, with irises or visibility, of any float type, give the same landmarks."""
    for name, values in shapes(clip).items():
        expected = clip if "21" not in name else np.resize(clip.transpose(1, 0, 2), (21, 3, 543)).transpose(1, 0, 2)
        np.testing.assert_array_equal(read(values), expected, err_msg=name)
    short = clip[:, :4].transpose(1, 0, 2)
    np.testing.assert_array_equal(rows_of(short, None, file=Path("x")).values_TV.shape, (4, 1629))
    hands = np.stack([clip[:, :, FILE_PARTS[hand]] for hand in HANDS], axis=2).transpose(1, 2, 3, 0)  # [T, 2, 21, 3]
    np.testing.assert_array_equal(read(hands), carried(clip, HANDS))
    half = clip.transpose(1, 2, 0).astype(np.float16)
    np.testing.assert_array_equal(read(half), half.astype(np.float32).transpose(2, 0, 1))


def test_every_container_is_read(clip: np.ndarray, tmp_path: Path) -> None:
    """Files of a clip, archives of parts and folders of frames give the same landmarks, also to `predict`."""
    points_TJC = clip.transpose(1, 2, 0)
    part = {name: points_TJC[:, place] for name, place in FILE_PARTS.items()}
    names = {
        "pose_landmarks": part["pose"],
        "Face": part["face"],
        "lh": part["left_hand"],
        "right_hand_keypoints": part["right_hand"],
    }
    np.save(tmp_path / "a.npy", points_TJC)
    np.savez(tmp_path / "b.npz", points_TJC)
    np.savez_compressed(
        tmp_path / "c.NPZ", keypoints=row(clip, TUTORIAL, visibility=True), label=np.array("hello"), fps=np.array(30)
    )
    (tmp_path / "c.NPZ.npz").rename(tmp_path / "c.NPZ")
    np.savez(tmp_path / "d.npz", **{name: np.nan_to_num(values) for name, values in names.items()}, label=np.arange(3))
    for name, pose, face, left, right in (
        ("j.npz", "pose_kpts", "face_mesh", "left_hand_kps", "right_hand_kps"),
        ("k.npz", "body", "faceLandmarksXYZ", "hand_left", "hand_right"),
    ):
        arrays = zip((pose, face, left, right), (part[one] for one in TUTORIAL), strict=True)
        np.savez(tmp_path / name, **dict(arrays), world_pose=part["pose"])
    np.savez(tmp_path / "i.npz", points_TJC, labels=np.arange(len(points_TJC)), times=np.linspace(0, 1, len(points_TJC)))
    np.savez(tmp_path / "e.npz", **{name: values.reshape(len(values), -1) for name, values in names.items()})
    for folder, save, suffix in (("f", np.save, "npy"), ("g", np.savez, "npz")):
        (tmp_path / folder).mkdir()
        for number, values in enumerate(points_TJC):
            save(tmp_path / folder / f"frame_{number}.{suffix}", values)
    (tmp_path / "h.hdf5").write_bytes(b"")
    with h5py.File(tmp_path / "h.hdf5", "w") as h5:
        h5["clip/feature"] = np.insert(clip, [468] * 10, 0.5, axis=2)
    paths = sorted(tmp_path.iterdir())
    check_inputs(paths)
    for found in read_inputs(paths):
        assert not isinstance(found.landmarks, DataError), found.landmarks
        np.testing.assert_array_equal(found.landmarks, clip, err_msg=str(found.file))
        assert found.note == ""


def test_a_wrong_order_is_told_by_predict(clip: np.ndarray, tmp_path: Path) -> None:
    """An order that the user names is kept, and it is told if the clip fits the body in another one only."""
    np.save(tmp_path / "a.npy", row(clip, TUTORIAL))
    (wrong,) = read_inputs([tmp_path / "a.npy"], ("face", "pose", "left_hand", "right_hand"))
    assert wrong.note == (
        "--order face,pose,left_hand,right_hand does not fit the body of a.npy: pose,face,left_hand,right_hand does"
    )
    assert next(read_inputs([tmp_path / "a.npy"], TUTORIAL)).note == ""


def test_archives_that_are_refused(clip: np.ndarray, tmp_path: Path) -> None:
    """Several clips in one archive, parts of different lengths, and parts without a name of their own are errors."""
    points_TJC = clip.transpose(1, 2, 0)
    cases = {
        "does not hold one clip": {"a": points_TJC, "b": points_TJC},
        "different numbers of frames": {"pose": points_TJC[:, 489:522], "lh": points_TJC[1:, 468:489]},
        "does not tell its part": {"pose": points_TJC[:, 489:522], "hands": points_TJC[:, :42]},
        "the pose has another shape": {"pose": points_TJC[:, :21]},
    }
    others = ({"pose": points_TJC[:, 489:522], name: points_TJC[:, 468:489]} for name in ("l", "Body"))
    for message, arrays in [*cases.items(), *(("does not tell its part", other) for other in others)]:
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(DataError, match=message):
            read_rows(tmp_path / "x.npz")


REFUSED: dict[str, tuple[np.ndarray, str, str]] = {
    "pixels": (np.ones((9, 543, 3), int), "whole numbers: pixels", "divide x by the width"),
    "float pixels": (np.linspace(100, 400, 9 * 1662).reshape(9, 1662), "in pixels", "divide x by the width"),
    "one hand": (np.full((9, 63), 0.5), "in different ways", "--order left_hand"),
    "two readings": (np.full((9, 1566), 0.5), "in different ways", "pose 33 x 4, face 478 x 3"),
    "another width": (np.zeros((9, 777)), "another number of values", "[frames, 1662]"),
    "many clips": (np.zeros((4, 30, 1662)), "holds many clips", "import-npy reads SRC/<signer>/<word>/<clip>.npy"),
    "many clips of points": (np.zeros((4, 30, 75, 3)), "holds many clips", "one clip per file"),
    "a picture": (np.zeros((480, 640, 3)), "wrong shape", "[frames, 543, 3]"),
    "a number": (np.array(1.0), "wrong shape", "[]"),
    "nothing": (np.zeros((0, 1662)), "no frame", "[0, 1662]"),
    "text": (np.array(["hello"]), "not floats", "<U5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    """An array that is not landmarks, or may be different ones, is an error that says what is read."""
    values, what, more = REFUSED[name]
    with pytest.raises(DataError, match=what) as caught:
        read(values)
    assert more in caught.value.render()


def test_an_order_decides_between_readings(clip: np.ndarray) -> None:
    """With an order, a row may hold one hand; parts that the frames do not have, and names, are checked."""
    one_hand = row(clip, ("right_hand",))
    np.testing.assert_array_equal(read(one_hand, ("right_hand",)), carried(clip, ("right_hand",)))
    with pytest.raises(DataError, match=r"(?s)other parts than --order.*hint: name the parts"):
        read(row(clip, TUTORIAL), ("pose", "left_hand"))
    assert parse_order("Pose, face,left-hand,right_hand") == TUTORIAL
    for text, message in (("pose,feet", "no such part"), ("pose,pose", "given twice"), ("", "no such part")):
        with pytest.raises(DataError, match=message):
            parse_order(text)


def test_what_cannot_be_checked_is_told(clip: np.ndarray) -> None:
    """Without a pose the usual order is kept and told; so it is if nothing fits the body."""
    for values, why in (
        (row(clip, HANDS), "cannot be checked"),
        (np.random.default_rng(0).random((9, 1662)), "do not fit the body"),
    ):
        found = find_order([SampleClip([rows_of(values, None, file=Path("clip.npy"))])])
        assert found.order in (HANDS, TUTORIAL)
        assert not found.sure
        assert why in found.text


def test_hands_swapped_in_some_clips_are_no_order(made: Path) -> None:
    """If the hands are swapped in some clips only, the usual order is kept; a correction is considered."""
    clips = [clip.feature_CTJ for own in clips_of(made).values() for clip in own if hands_seen(clip.feature_CTJ)]
    swap = Corrections(swap_hands=("all",)).apply
    half = [SampleClip([rows_of(swap("x", one) if n % 2 else one, None, file=Path("x"))]) for n, one in enumerate(clips)]
    found = find_order(half)
    assert found.order == KAGGLE
    whole = [rows_of(swap("x", one), None, file=Path("x")) for one in clips]
    assert find_order([SampleClip([rows]) for rows in whole]).order == ("face", "right_hand", "pose", "left_hand")
    corrected = find_order([SampleClip([rows], lambda feature: swap("x", feature)) for rows in whole])
    assert (corrected.order, corrected.sure) == (KAGGLE, True)


@pytest.mark.parametrize(
    ("order", "others"),
    [
        ("pose,left_hand,right_hand,face", ("9002",)),
        ("left_hand,right_hand,pose", ("9002",)),  # in the usual order, there are no shoulders
        ("pose,left_hand,right_hand,face", ("9001", "9002")),
    ],
)
def test_signers_have_orders_of_their_own(order: str, others: tuple[str, ...], made: Path, tmp_path: Path) -> None:
    """Clips of a signer in another order are read in it, and it is told; a given order is kept, and told if it is worse."""
    parts = parse_order(order)
    usual = tuple(part for part in TUTORIAL if part in parts)
    for signer, own in clips_of(made).items():
        for number, one in enumerate(own):
            (tmp_path / f"src/{signer}/hi").mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / f"src/{signer}/hi/{number}", row(one.feature_CTJ, parts if signer in others else usual))
    told: list[str] = []
    plan = npy.plan_import(tmp_path / "src", notify=told.append)
    for signer, own in clips_of(made).items():
        for number, one in enumerate(own):
            found = plan.reader(signer)(tmp_path / f"src/{signer}/hi/{number}.npy")
            np.testing.assert_array_equal(found, carried(one.feature_CTJ, parts))
    found_order = f"order of the parts: {', '.join(parts)} (not the usual one;"
    if len(others) == 1:
        assert f"order of the parts: {', '.join(usual)} (the usual one; no other" in told[1]
        assert told[2].startswith(f"9002: {found_order}")
        assert plan.options == {"order_of": {"9002": {",".join(TUTORIAL): order}}}
    else:
        assert told[1].startswith(found_order)
    told = []
    given = npy.plan_import(tmp_path / "src", order=TUTORIAL, notify=told.append)
    assert (given.options, given.reads) == ({}, {})
    assert told[1] == f"--order {','.join(TUTORIAL)} does not fit the body of {', '.join(others)}: {order} does"


def rewrite(source: Path, target: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> None:
    """Copies a data set with other landmarks."""
    target.mkdir()
    (target / "words.json").write_text('{"listen": 0, "look": 1}')
    for signer, own in clips_of(source).items():
        with h5py.File(target / f"{signer}.hdf5", "w") as h5:
            for clip in own:
                h5[f"{clip.name}/feature"], h5[f"{clip.name}/token"] = change(signer, clip.feature_CTJ), [clip.label]
                h5[clip.name].attrs["session"] = "monday"


POSE_FIRST = np.concatenate([np.arange(543)[FILE_PARTS[part]] for part in TUTORIAL])
SWAP, MIRROR = Corrections(swap_hands=("9002",)), Corrections(mirrored=("all",))
COPIES: dict[str, tuple[Callable[[str, np.ndarray], np.ndarray], Corrections]] = {
    "other axes": (lambda signer, clip: clip.transpose(1, 2, 0), NO_CORRECTIONS),
    "irises": (lambda signer, clip: np.insert(clip, [468] * 10, 0.5, axis=2), NO_CORRECTIONS),
    "pose first": (
        lambda signer, clip: np.concatenate([clip[:, :, FILE_PARTS[part]] for part in TUTORIAL], axis=2),
        NO_CORRECTIONS,
    ),
    "zeros": (lambda signer, clip: np.nan_to_num(clip), NO_CORRECTIONS),
    "swapped": (SWAP.apply, SWAP),
    "mirrored": (MIRROR.apply, MIRROR),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_corrected(name: str, made: Path, tmp_path: Path) -> None:
    """`import-hdf5` plans a copy of all clips with their names, labels and sessions, and corrects them."""
    change, corrections = COPIES[name]
    rewrite(made, tmp_path / "old", change)
    plan = hdf5_copy.plan_import(tmp_path / "old", corrections=corrections)
    for signer, own in clips_of(made).items():
        for listed, clip in zip(plan.clips_of[signer], own, strict=True):
            assert (listed.name, listed.label, listed.session) == (clip.name, clip.label, "monday")
            found = corrections.apply(signer, plan.read(plan.source / listed.file))
            np.testing.assert_allclose(found, clip.feature_CTJ, atol=1e-7)


def test_a_copy_is_written(made: Path, tmp_path: Path) -> None:
    """`import-hdf5` writes the corrected copy; the same folder with other options is another import."""
    rewrite(made, tmp_path / "old", COPIES["swapped"][0])
    command = ["import-hdf5", str(tmp_path / "old"), str(tmp_path / "new"), "--workers", "1", "--swap-hands"]
    assert execute([*command, "9002"]) == 0
    for signer, own in clips_of(tmp_path / "new").items():
        for mine, clip in zip(own, clips_of(made)[signer], strict=True):
            assert (mine.name, mine.label, mine.session) == (clip.name, clip.label, "monday")
            np.testing.assert_array_equal(mine.feature_CTJ, clip.feature_CTJ)
    assert execute([*command, "9002"]) == 0
    assert execute([*command, "9001,9002"]) == 2


def test_a_correction_names_signers(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A signer that does not exist is an error before anything is written. Files of mirrored copies follow their signer."""
    assert execute(["import-hdf5", str(made), str(tmp_path / "new"), "--swap-hands", "901"]) == 2
    assert "did you mean `9001`" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    feature = np.zeros((3, 1, 543), np.float32)
    assert Corrections(mirrored=("9001",)).apply("9001_swap", feature)[0].max() == 1
    assert Corrections(mirrored=("9001",)).apply("9002", feature)[0].max() == 0
