"""The overview page: drawings, texts, and how a browser shows it."""

# T frames of a clip, J landmarks (543)

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Open, Opened, chromium, contrast, luminance, open_page, parse_color

from data_utils.checking.data_warning import WarningRecord
from data_utils.checking.examples import Example
from data_utils.checking.overview import MAX_COLUMNS, MAX_STRIPS, _percent, _round_step, overview_html
from data_utils.checking.skeleton_svg import draw_strip, guess_picture_shapes
from data_utils.checking.summary import Bar, SignerCount, Summary, WordCount
from data_utils.landmarks import FILE_PARTS, POSE_START
from data_utils.synthetic.skeleton import Body, Posture, landmarks

__all__ = ["chromium", "open_page"]  # fixtures

SCRIPT = "<script>window.hacked = 1</script>"
IMAGE = '"><img src=x onerror=window.hacked=1>'
JAPANESE = "ありがとう"

HIP = POSE_START + 23


def clip(frames: int = 9, *, missing: tuple[str, ...] = (), picture: float = 4 / 3) -> np.ndarray:
    """A drawn signer who raises the right hand and holds the left hand still; some parts may be missing."""
    wrists = np.tile(np.array([[-0.6, 0.5, -0.4], [-0.5, 0.6, -0.4]]), (frames, 1, 1))
    wrists[:, 0, 1] = np.linspace(0.5, -0.5, frames)
    points_TJ3 = landmarks(
        Body(),
        Posture(
            wrists_TS3=wrists,
            curls_TS5=np.zeros((frames, 2, 5)),
            angles_TS3=np.zeros((frames, 2, 3)),
            mouth_T2=np.zeros((frames, 2)),
            head_T3=np.zeros((frames, 3)),
        ),
    )
    feature_CTJ = (points_TJ3 * [0.3, 0.3 * picture, 0.3] + [0.5, 0.5, 0]).transpose(2, 0, 1).astype(np.float32)
    for part in missing:
        feature_CTJ[:, :, FILE_PARTS[part]] = np.nan
    return feature_CTJ


def made(words: list[str], signers: list[str], *, warnings: list[WarningRecord] | None = None) -> Summary:
    """The summary of a data set in which every signer has two clips of every word, except the last word of the last signer."""
    table = np.full((len(signers), len(words)), 2)
    table[-1, -1] = 0
    missing = {"face": 0.002, "left_hand": 0.5, "pose": 0.0, "right_hand": 0.25}
    return Summary(
        words=[
            WordCount(word=word, clips=int(made.sum()), signers=int((made > 0).sum()))
            for word, made in zip(words, table.T, strict=True)
        ],
        signers=[
            SignerCount(
                signer=signer,
                clips=int(made.sum()),
                mirrored=0,
                words=int((made > 0).sum()),
                median_frames=20.5,
                missing=missing,
            )
            for signer, made in zip(signers, table, strict=True)
        ],
        table=table.tolist(),
        frames={
            "smallest": 10,
            "first_quartile": 15.0,
            "median": 20.5,
            "third_quartile": 30.0,
            "largest": 1234,
            "mean": 22.2,
            "total": 5678,
        },
        histogram=[Bar(first=10 + 62 * n, last=71 + 62 * n, clips=count) for n, count in enumerate([40, 12, 0, 3] * 5)],
        missing=missing,
        warnings=warnings or [],
        fingerprint="0123456789abcdef" * 4,
    )


def drawn(feature_CTJ: np.ndarray, shape: str = "4:3") -> list[dict[str, np.ndarray]]:
    """For each skeleton of a strip, the points `[N, 2]` of each part."""
    return [
        {
            name: np.array(re.findall(r"-?\d+", path), float).reshape(-1, 2)
            for name, path in re.findall(r'<path class="(\w+)" d="([^"]+)"', line)
        }
        for line in draw_strip("word", feature_CTJ, shape)
    ]


def test_a_strip_is_oriented_as_the_picture() -> None:
    """The face is above the body, the signer's right hand on the left; only the raised hand moves; all points fit."""
    first, *_, last = drawn(clip())
    assert first["face"][:, 1].max() < first["body"][:, 1].min()
    assert first["right"][:, 0].mean() < first["face"][:, 0].mean() < first["left"][:, 0].mean()
    assert last["right"][:, 1].mean() < first["right"][:, 1].mean() - 150
    assert np.array_equal(last["left"], first["left"])
    for name in ("face", "oval", "left", "right"):
        assert first[name].min() >= 0, name
        assert first[name].max() <= 1000, name


def test_frames_are_spread_over_the_clip() -> None:
    """Frames from the first to the last, at most five, each once."""
    for frames, numbers in (
        (9, ["1", "3", "5", "7", "9"]),
        (1, ["1"]),
        (3, ["1", "2", "3"]),
        (2001, ["1", "501", "1,001", "1,501", "2,001"]),
    ):
        lines = "".join(draw_strip("word", clip(frames), "4:3"))
        assert re.findall(r"<small>([^<]*)</small>", lines) == numbers


def test_undetected_parts_are_not_drawn() -> None:
    """A missing part is not drawn in the frames in which it is missing; an empty frame says so."""
    feature_CTJ = clip(5, missing=("left_hand",))
    feature_CTJ[:, 1, FILE_PARTS["face"]] = np.nan
    feature_CTJ[:, 2, FILE_PARTS["right_hand"]] = 0  # as other tools write it
    feature_CTJ[:, 3] = np.nan
    everything = {"oval", "face", "body", "right"}
    assert [set(one) for one in drawn(feature_CTJ)] == [
        everything,
        {"body", "right"},
        everything - {"right"},
        set(),
        everything,
    ]
    lines = list(draw_strip("word", feature_CTJ, "4:3"))
    assert ["nothing detected</small>" in line for line in lines] == [False, False, False, True, False]
    assert 'aria-label="word, frame 2 of 5: body, right hand"' in lines[1]
    assert 'aria-label="word, frame 4 of 5: nothing detected"' in lines[3]
    assert drawn(np.full((3, 2, 543), np.nan, np.float32)) == [{}, {}]


def test_distant_points_do_not_set_the_scale() -> None:
    """Hips far below or a hand far outside do not shrink the rest; coordinates in pixels give the same drawing."""
    plain = drawn(clip())
    below = clip()
    below[1, :, HIP : HIP + 10] += 30
    assert all(np.array_equal(one["face"], other["face"]) for one, other in zip(drawn(below), plain, strict=True))
    lost = clip()
    lost[:2, 4, FILE_PARTS["left_hand"]] = 900
    assert all(np.abs(one["face"] - other["face"]).max() <= 60 for one, other in zip(drawn(lost), plain, strict=True))
    pixels = drawn(clip() * np.float32(640))
    assert all(np.abs(one["face"] - other["face"]).max() <= 1 for one, other in zip(pixels, plain, strict=True))


@pytest.mark.parametrize(("shape", "picture"), [("9:16", 9 / 16), ("3:4", 3 / 4), ("4:3", 4 / 3), ("16:9", 16 / 9)])
def test_the_aspect_ratio_is_guessed_from_the_face(shape: str, picture: float) -> None:
    """The aspect ratio is the one in which a face is 0.75 times as wide as high."""
    feature_CTJ = clip(picture=picture)
    feature_CTJ[0, :, FILE_PARTS["face"]] *= 0.75 / (0.4 / 0.6)
    assert guess_picture_shapes([("anna", feature_CTJ), ("ben", clip(missing=("face",)))]) == {"anna": shape, "ben": "1:1"}
    straight, found = drawn(clip(), "4:3"), drawn(clip(picture=picture), shape)
    assert all(np.abs(one["right"] - other["right"]).max() <= 1 for one, other in zip(straight, found, strict=True))


def test_text_is_escaped() -> None:
    """HTML in words, signers, clips and warnings is shown as text; Japanese too."""
    warnings = [WarningRecord(what=f"what {SCRIPT}", where=IMAGE, got=f"got {SCRIPT}", hint=f"look at `{SCRIPT}`")]
    words, signers = [SCRIPT, IMAGE, JAPANESE], [f"signer {SCRIPT}", JAPANESE]
    examples = {word: Example(f"by {SCRIPT}", f"called {IMAGE}", clip()) for word in words}
    page = overview_html(made(words, signers, warnings=warnings), examples)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;window.hacked") >= 4 + len(words)
    assert page.count(JAPANESE) >= 3


def test_counts() -> None:
    """The tables contain the numbers, and `none` where a signer has no clip of a word."""
    page = overview_html(made(["hello", "thanks"], ["anna", "ben"]), {})
    assert "<h1>6 clips of 2 words by 2 signers</h1>" in page
    assert "1 of 4 pairs of a signer and a word has no clip." in page
    assert '<th scope="row">ben</th><td>2</td><td class="none">none</td><td>2</td>' in page
    assert '<th scope="row">all</th><td>4</td><td>2</td><td>6</td>' in page
    assert '<th scope="row">all</th><td>&lt;1%</td><td>50%</td><td>0%</td><td>25%</td>' in page
    assert "No warnings." in page
    assert page.count("no example") == 2
    assert page == overview_html(made(["hello", "thanks"], ["anna", "ben"]), {})


def test_warnings_come_first() -> None:
    """Warnings come before all numbers; many are folded."""
    warnings = [WarningRecord(what=f"warning {n}", where=None, got=None, hint=None) for n in range(40)]
    page = overview_html(made(["hello"], ["anna"], warnings=warnings), {})
    assert "No warnings." not in page
    assert page.index("warning 0") < page.index("<details>") < page.index("warning 39") < page.index("<table>")


def test_a_large_data_set_gives_a_page_of_limited_size() -> None:
    """250 words and 300 signers: a list instead of a table, and skeletons of the first words only."""
    words = [f"word {n}" for n in range(250)]
    examples = {word: Example("anna", "clip", clip(30)) for word in words}
    page = overview_html(made(words, [f"signer {n}" for n in range(300)]), examples)
    assert len(page.encode()) < 3e6
    assert page.count('<div class="strip">') == MAX_STRIPS
    assert f"The first {MAX_STRIPS} of 250 words are shown." in page
    assert '<th scope="row">word 249</th><td>598</td><td>299</td>' in page
    assert page.count('scope="col"') < MAX_COLUMNS
    assert page.count('<th scope="row">signer 299</th>') == 2


def test_axis_and_shares() -> None:
    """Axis steps are round and few; 0% means none and 100% means all."""
    for most in range(1, 3000):
        step = _round_step(most)
        assert step in {n * 10**power for n in (1, 2, 5) for power in range(5)}, most
        assert 1 <= -(-most // step) <= 5, most
    assert [_percent(share) for share in (0.0, 0.001, 0.25, 0.999, 1.0)] == ["0%", "<1%", "25%", ">99%", "100%"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with warnings, long names, many words, a missing part and a word without an example."""
    words = [
        "hello",
        JAPANESE,
        f"a {SCRIPT}",
        "Donaudampfschifffahrtsgesellschaftskapitän" * 2,
        *(f"word {n}" for n in range(20)),
    ]
    signers = [*(str(n) for n in range(1001, 1040)), "a_signer_whose_name_is_a_whole_sentence_without_a_space"]
    warnings = [
        WarningRecord(what="signers lack words", where=", ".join(signers), got="x" * 200, hint="try `make test`")
        for _ in range(14)
    ]
    examples = {word: Example(signers[-1], "clip" * 30, clip()) for word in words[:5]}
    examples["word 2"] = Example("1001", "1", clip(missing=("face", "left_hand")))
    file = tmp_path_factory.mktemp("overview") / "page.html"
    file.write_text(overview_html(made(words, signers, warnings=warnings), examples), encoding="utf-8")
    return file


def opened(open_page: Open, page: Path, **options: Any) -> Opened:
    """The page in a browser; it must not request anything else or report errors."""
    one = open_page(page.as_uri(), **options)
    assert [url for url in one.requests if not url.startswith("data:")] == [page.as_uri()]
    assert one.errors == []
    return one


MARKS = """svg => [...svg.querySelectorAll("path")].filter(path => {
    const box = svg.getBoundingClientRect(), at = path.getBoundingClientRect(), style = getComputedStyle(path);
    return Math.max(at.width, at.height) > 4 && at.right > box.left && at.left < box.right && at.bottom > box.top
        && at.top < box.bottom && style.stroke !== "none" && parseFloat(style.strokeWidth) >= 1 && +style.opacity > 0.5;
}).map(path => path.className.baseVal)"""


def test_skeletons_are_visible(open_page: Open, page: Path) -> None:
    """Every skeleton is visible on a square of sufficient size, and no script from the data runs."""
    window = opened(open_page, page).page
    assert window.evaluate("typeof window.hacked") == "undefined"
    found = [one.evaluate(MARKS) for one in window.locator(".strip svg").all()]
    assert found == [["oval", "face", "body", "left", "right"]] * 25 + [["body", "right"]] * 5
    sides = window.evaluate(
        "[...document.querySelectorAll('.strip svg')].map(one => one.getBoundingClientRect()).map(at => [at.width, at.height])"
    )
    assert all(width > 100 and abs(width - height) < 1 for width, height in sides), sides
    assert window.locator("svg").count() == window.get_by_role("img").count() == 31
    assert window.locator(".histogram rect").count() == 20


def test_on_a_phone(open_page: Open, page: Path) -> None:
    """At 360 pixels the page does not scroll sideways; wide tables scroll in their own box; axis labels stay visible."""
    window = opened(open_page, page, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True).page
    assert window.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
    ends = window.evaluate("""[...document.querySelectorAll("p, li, h1, h2, h3, figcaption, svg, .wide, .histogram text")]
        .filter(one => !one.closest("details:not([open])"))
        .map(one => one.getBoundingClientRect()).map(at => [at.left, at.right])""")
    assert len(ends) > 60
    assert all(left >= 0 and right <= 360 for left, right in ends), ends
    assert window.evaluate("[...document.querySelectorAll('.wide')].some(one => one.scrollWidth > one.clientWidth)")


TEXTS = "h1, h2, h3, p, b, th, td, li, a, code, figcaption, small, summary, .key, .histogram text"

READ = """selector => [...document.querySelectorAll(selector)].map(one => {
    let ground = one;
    while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)" && ground !== document.body)
        ground = ground.parentElement;
    const style = getComputedStyle(one);
    return [one.tagName === "text" ? style.fill : style.color, getComputedStyle(ground).backgroundColor];
})"""

SEEN = """() => [...document.querySelectorAll(".strip path:not(.oval)")].map(one =>
    [getComputedStyle(one).stroke, getComputedStyle(one.closest("svg")).backgroundColor])"""


@pytest.mark.parametrize("scheme", ["light", "dark", "paper"])
def test_colours(open_page: Open, page: Path, scheme: str) -> None:
    """Text and lines have enough contrast (WCAG 2.2: 4.5 for text, 3 for lines) in light and dark mode and in print."""
    window = opened(open_page, page, color_scheme="light" if scheme == "light" else "dark").page
    if scheme == "paper":
        window.emulate_media(media="print")
    ground = luminance(parse_color(window.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert ground < 0.05 if scheme == "dark" else ground > 0.9
    texts, lines = window.evaluate(READ, TEXTS), window.evaluate(SEEN)
    assert len(texts) > 1000
    assert len(lines) > 100
    assert [pair for pair in set(map(tuple, texts)) if contrast(parse_color(pair[0]), parse_color(pair[1])) < 4.5] == []
    assert [pair for pair in set(map(tuple, lines)) if contrast(parse_color(pair[0]), parse_color(pair[1])) < 3] == []
    if scheme == "paper":
        assert window.pdf(format="A4").startswith(b"%PDF")
