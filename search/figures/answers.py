"""What the models of the recommended setting answer to the validation clips: words, signers, how sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go

from search.figures import Figure
from search.figures.facts import Clips, Facts
from search.figures.style import GOOD, OTHER, QUIET, picture, short, shown
from search.figures.trust import name_of
from search.records import Confidence
from search.wording import number

_MOST_WORDS = 40
"""A confusion matrix of more words shows those that are mistaken most often."""


def confusion(facts: Facts, clips: Clips | None) -> Figure:
    """True words against what the models answer."""
    title = "Confusion matrix"
    if clips is None:
        return Figure("confusion", title, _nothing(facts))
    counts = pair_counts(clips)
    words = shown_words(facts.data.words, counts)
    rows = [[counts[word, answer] for answer in words] for word in words]
    shares = [short(((cell / (sum(row) or 1)) for cell in row), 2) for row in rows]
    names = [shown(word) for word in words]
    marks = [[str(cell or "") for cell in row] for row in rows]
    ticks = {"showgrid": False, "tickvals": list(range(len(words))), "ticktext": names}
    heat = go.Heatmap(
        z=shares,
        text=marks if len(words) <= 20 else None,
        texttemplate="%{text}" if len(words) <= 20 else None,
        colorscale=[[0, "rgba(47,126,216,0)"], [1, "rgba(47,126,216,1)"]],
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        showscale=False,
        hovertemplate="%{z:.0%} of row %{y} in column %{x}<extra></extra>",
    )
    plot = picture(
        [heat],
        height=160 + 24 * min(len(words), 24),
        xaxis={**ticks, "title": {"text": "answered"}, "tickangle": -45},
        yaxis={**ticks, "title": {"text": "signed"}, "autorange": "reversed"},
    )
    return Figure("confusion", title, _confusion_caption(facts, clips, counts, len(words)), plot)


def pair_counts(clips: Clips) -> Counter[tuple[str, str]]:
    """Answers by (word, answer), all models together."""
    found: Counter[tuple[str, str]] = Counter()
    for row in clips.answers:
        found[row.word, row.answer] += row.clips
    return found


def worst_pairs(clips: Clips, most: int = 10) -> list[tuple[str, str, int, int]]:
    """The confusions that happen most often: signed, answered, how often, of how many clips of that word."""
    counts = pair_counts(clips)
    signed: Counter[str] = Counter()
    for (word, _), count in counts.items():
        signed[word] += count
    wrong = sorted(
        ((count, word, answer) for (word, answer), count in counts.items() if word != answer), key=lambda one: -one[0]
    )
    return [(word, answer, count, signed[word]) for count, word, answer in wrong[:most]]


def shown_words(words: Sequence[str], counts: Counter[tuple[str, str]]) -> list[str]:
    """The words that a matrix has room for: all, or those that are mistaken most often. In their order."""
    if len(words) <= _MOST_WORDS:
        return list(words)
    wrong: Counter[str] = Counter(dict.fromkeys(words, 0))
    for (word, answer), count in counts.items():
        if word != answer:
            wrong[word] += count
            wrong[answer] += count
    chosen = {word for word, _ in wrong.most_common(_MOST_WORDS)}
    return [word for word in words if word in chosen]


def _confusion_caption(facts: Facts, clips: Clips, counts: Counter[tuple[str, str]], words: int) -> str:
    total, right = sum(counts.values()), sum(count for (word, answer), count in counts.items() if word == answer)
    worst = worst_pairs(clips, 1)
    most = (
        "none is mistaken"
        if not worst
        else f"most often `{worst[0][0]}` is taken for `{worst[0][1]}` ({worst[0][2]} of {worst[0][3]} times)"
    )
    some = (
        ""
        if words == len(facts.data.words)
        else f" Shown are the {words} words that are mistaken most often, of {len(facts.data.words)}."
    )
    return f"{_whose(clips)} answered {right:,} of {total:,} clips of the validation signers rightly; {most}.{some}"


def _whose(clips: Clips) -> str:
    models = "the model" if clips.models == 1 else f"the {clips.models} models"
    kind = " with fresh seeds" if clips.confirmed else ""
    return f"{models} of {name_of(clips.trial)}{kind}".capitalize()


def _nothing(facts: Facts) -> str:
    if facts.chosen is None:
        return "There is nothing to draw: no trial has trained to its end."
    whose = name_of(facts.chosen.number)
    return f"Nothing was kept of what the models of {whose} answered: an earlier version trained them, or the files are gone."


def signers(facts: Facts, clips: Clips | None, baseline: Clips | None) -> Figure:
    """Accuracy by validation signer, of the recommended setting and of the baseline."""
    title = "Accuracy by signer"
    groups = [one for one in (clips, baseline) if one is not None and one.signers]
    if clips is None or not clips.signers:
        return Figure("signers", title, _nothing(facts))
    if baseline is not None and baseline.trial == clips.trial:
        groups = groups[:1]
    order = sorted({row.signer for one in groups for row in one.signers})
    traces = []
    for n, (one, color) in enumerate(zip(groups, (GOOD, OTHER), strict=False)):
        means = by_signer(one)
        shift = 0.0 if len(groups) == 1 else (n - 0.5) * 0.3
        traces.append(
            go.Bar(
                x=[order.index(signer) + shift for signer in means],
                y=short(means.values(), 4),
                width=0.28,
                name=name_of(one.trial),
                marker={"color": color},
                hovertemplate="%{y:.3f}<extra></extra>",
            )
        )
        traces.append(
            go.Scatter(
                x=[order.index(row.signer) + shift for row in one.signers],
                y=short((row.val_top1 for row in one.signers), 4),
                mode="markers",
                marker={"color": QUIET, "size": 5, "line": {"color": "black", "width": 0.5}},
                showlegend=False,
                hovertemplate="one model: %{y:.3f}<extra></extra>",
            )
        )
    plot = picture(
        traces,
        xaxis={
            "tickvals": list(range(len(order))),
            "ticktext": [shown(signer) for signer in order],
            "title": {"text": "signer"},
        },
        yaxis={"title": {"text": "accuracy"}, "range": [0, 1.02]},
    )
    means = by_signer(clips)
    low, high = min(means, key=lambda signer: means[signer]), max(means, key=lambda signer: means[signer])
    spread = (
        f"from {means[low]:.3f} (signer {low}) to {means[high]:.3f} (signer {high})"
        if len(means) > 1
        else f"{means[low]:.3f} on signer {low}"
    )
    whose = name_of(clips.trial)
    caption = f"Accuracy of {whose} on the validation signers: {spread}; a bar is the mean of its models, a dot is one model."
    return Figure("signers", title, caption, plot)


def by_signer(clips: Clips) -> dict[str, float]:
    """Mean accuracy of the models on each signer."""
    found: dict[str, list[float]] = {}
    for row in clips.signers:
        found.setdefault(row.signer, []).append(row.val_top1)
    return {signer: sum(values) / len(values) for signer, values in sorted(found.items())}


def reliability(facts: Facts, clips: Clips | None) -> Figure:
    """Accuracy against confidence, before and after the temperature that suits the validation clips."""
    title = "Reliability"
    if clips is None or not clips.confidences:
        return Figure("reliability", title, _nothing(facts))
    before = [row for row in clips.confidences if row.temperature == 1.0]
    after = [row for row in clips.confidences if row.temperature != 1.0] or before
    diagonal = go.Scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="as sure as right", line={"color": QUIET, "dash": "dot"}, hoverinfo="skip"
    )
    traces = [diagonal, _sure("as trained", before, OTHER), _sure("after temperature", after, GOOD)]
    plot = picture(
        traces,
        height=380,
        xaxis={"title": {"text": "confidence"}, "range": [0, 1.02]},
        yaxis={"title": {"text": "accuracy"}, "range": [0, 1.02]},
    )
    used = sorted({row.temperature for row in after})
    temperature = number(sum(used) / len(used)) + (" on average" if len(used) > 1 else "")
    gap_before, gap_after = gap(merged(before)), gap(merged(after))
    caption = (
        f"How often {_whose(clips).lower()} are right by how sure they are, over validation clips: confidence and accuracy lie "
        f"{gap_before:.3f} apart as trained, and {gap_after:.3f} after division by the temperature {temperature}; a larger dot "
        "stands for more clips."
    )
    if clips.models == 1:
        caption = caption.replace(" are right by how sure they are", " is right by how sure it is")
    return Figure("reliability", title, caption, plot)


def merged(rows: Sequence[Confidence]) -> list[tuple[float, float, int]]:
    """Bins of all models together: (confidence, accuracy, clips), in order."""
    found: dict[float, list[Confidence]] = {}
    for row in rows:
        found.setdefault(row.low, []).append(row)
    bins = []
    for _, inside in sorted(found.items()):
        clips = sum(row.clips for row in inside)
        confidence = sum(row.confidence * row.clips for row in inside) / clips
        accuracy = sum(row.accuracy * row.clips for row in inside) / clips
        bins.append((confidence, accuracy, clips))
    return bins


def gap(bins: Sequence[tuple[float, float, int]]) -> float:
    """Mean gap between confidence and accuracy, each bin weighed by its clips."""
    return sum(abs(accuracy - confidence) * clips for confidence, accuracy, clips in bins) / sum(clips for _, _, clips in bins)


def _sure(name: str, rows: Sequence[Confidence], color: str) -> go.Scatter:
    bins = merged(rows)
    most = max(clips for _, _, clips in bins)
    return go.Scatter(
        x=short((confidence for confidence, _, _ in bins), 4),
        y=short((accuracy for _, accuracy, _ in bins), 4),
        customdata=[clips for _, _, clips in bins],
        mode="lines+markers",
        name=name,
        line={"color": color, "width": 1.5},
        marker={"size": [round(6 + 12 * (clips / most) ** 0.5, 1) for _, _, clips in bins]},
        hovertemplate="%{customdata} clips: sure %{x:.2f}, right %{y:.2f}<extra></extra>",
    )
