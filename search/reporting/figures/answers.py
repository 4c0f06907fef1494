"""What the models of the recommended setting answer to the validation clips: words, signers, how sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go

from search.reporting.facts import Clips, Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.style import GOOD, OTHER, QUIET, picture, short, shown
from search.reporting.figures.trust import name_of
from search.trial.outcome import Confidence
from search.wording import format_number, trial_name

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
    signed = word_counts(counts)
    shares = [short((cell / (signed[word] or 1) for cell in row), 2) for word, row in zip(words, rows, strict=True)]
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


def word_counts(counts: Counter[tuple[str, str]]) -> Counter[str]:
    """Answers by the word that was signed."""
    found: Counter[str] = Counter()
    for (word, _), count in counts.items():
        found[word] += count
    return found


def worst_pairs(clips: Clips, most: int = 10) -> list[tuple[str, str, int, int]]:
    """The confusions that happen most often: signed, answered, how often, of how many clips of that word."""
    counts = pair_counts(clips)
    signed = word_counts(counts)
    wrong = sorted(
        ((count, word, answer) for (word, answer), count in counts.items() if word != answer), key=lambda one: -one[0]
    )
    return [(word, answer, count, signed[word]) for count, word, answer in wrong[:most]]


def shown_words(words: Sequence[str], counts: Counter[tuple[str, str]]) -> list[str]:
    """The words that a matrix has room for: all, or those that are mistaken most often. In their order."""
    if len(words) <= _MOST_WORDS:
        return list(words)
    pairs = sorted((pair for pair in counts if pair[0] != pair[1]), key=lambda pair: -counts[pair])
    ranked = dict.fromkeys([*(word for pair in pairs for word in pair), *words])
    chosen = set(list(ranked)[:_MOST_WORDS])
    return [word for word in words if word in chosen]


def _confusion_caption(facts: Facts, clips: Clips, counts: Counter[tuple[str, str]], words: int) -> str:
    total, right = sum(counts.values()), sum(count for (word, answer), count in counts.items() if word == answer)
    clips_there = sum({row.signer: row.clips for row in clips.signers}.values())
    worst = worst_pairs(clips, 1)
    most = (
        "none is mistaken"
        if not worst
        else f"most often `{worst[0][0]}` is taken for `{worst[0][1]}` ({worst[0][2]} of {worst[0][3]} answers)"
    )
    there = len(facts.data.words)
    some = "" if words == there else f" Shown are {words} of {there} words, those of the most frequent mistakes."
    to = f"to {clips_there:,} clips of signers that the models were not trained on"
    return f"{_whose(clips)} gave {right:,} right answers of {total:,} {to}; {most}.{some}"


def _whose(clips: Clips) -> str:
    models = "the model" if clips.models == 1 else f"the {clips.models} models"
    kind = " with fresh seeds" if clips.confirmed else ""
    whose = trial_name(clips.trial)
    return f"{models} of {whose}{kind}".capitalize()


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
    temperature = format_number(sum(used) / len(used)) + (" on average" if len(used) > 1 else "")
    gap_before, gap_after = mean_gap(before), mean_gap(after)
    each = "its" if clips.models == 1 else "each model's"
    caption = (
        f"{_whose(clips)}: how often answers are right by how sure they are, all validation answers together; {each} "
        f"confidence and accuracy lie {gap_before:.3f} apart (calibration error) as trained, and {gap_after:.3f} after "
        f"division by the temperature {temperature}, which was fitted to these same clips; a larger dot is more answers."
    )
    return Figure("reliability", title, caption, plot)


def _merged(rows: Sequence[Confidence]) -> list[tuple[float, float, int]]:
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


def mean_gap(rows: Sequence[Confidence]) -> float:
    """The mean over the models of their expected calibration error: gaps of several models do not cancel each other."""
    models = sorted({row.training for row in rows})
    return sum(_gap([row for row in rows if row.training == model]) for model in models) / len(models)


def _gap(rows: Sequence[Confidence]) -> float:
    return sum(abs(row.accuracy - row.confidence) * row.clips for row in rows) / sum(row.clips for row in rows)


def _sure(name: str, rows: Sequence[Confidence], color: str) -> go.Scatter:
    bins = _merged(rows)
    most = max(clips for _, _, clips in bins)
    return go.Scatter(
        x=short((confidence for confidence, _, _ in bins), 4),
        y=short((accuracy for _, accuracy, _ in bins), 4),
        customdata=[clips for _, _, clips in bins],
        mode="lines+markers",
        name=name,
        line={"color": color, "width": 1.5},
        marker={"size": [round(6 + 12 * (clips / most) ** 0.5, 1) for _, _, clips in bins]},
        hovertemplate="%{customdata} answers: sure %{x:.2f}, right %{y:.2f}<extra></extra>",
    )
