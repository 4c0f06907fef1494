"""What the models of the chosen setting answer to the validation clips: confused words, signers, calibration."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from data_utils.wording import counted
from search.reporting.facts import Facts, ModelAnswers
from search.reporting.figures.figure import Figure, name_of
from search.reporting.figures.style import BLUE, GRAY, GREEN, ORANGE, label_text, rounded, styled_figure
from search.trial.outcome import AnswerCount, Confidence
from search.wording import format_number, trial_name

_MAX_WORDS = 40
"""A confusion matrix of more words shows those that are confused most often."""

_MAX_NUMBERED = 20
"""Up to this many words, every cell shows its count."""

_Pairs = Counter[tuple[str, str]]


@dataclass(frozen=True)
class ConfusionMatrix:
    """Answers by signed word (rows) and answered word (columns)."""

    words: Sequence[str]
    counts: Sequence[Sequence[int]]
    shares: Sequence[Sequence[float]]
    """Counts divided by all answers to the signed word, also those in columns that are not shown."""


def confusion_matrix(answers: Sequence[AnswerCount], words: Sequence[str]) -> ConfusionMatrix:
    """The answers of all trainings together; of many words those that are confused most often."""
    pairs = pair_counts(answers)
    signed = word_counts(pairs)
    chosen = shown_words(words, pairs)
    counts = [[pairs[word, answer] for answer in chosen] for word in chosen]
    shares = [[count / (signed[word] or 1) for count in row] for word, row in zip(chosen, counts, strict=True)]
    return ConfusionMatrix(chosen, counts, shares)


def confusion(facts: Facts, models: ModelAnswers | None) -> Figure:
    """Signed words against answered words."""
    title = "Confusion matrix"
    if models is None:
        return Figure("confusion", title, _no_answers(facts))
    matrix = confusion_matrix(models.answers, facts.data.words)
    count = len(matrix.words)
    is_numbered = count <= _MAX_NUMBERED
    ticks = {"showgrid": False, "tickvals": list(range(count)), "ticktext": [label_text(word) for word in matrix.words]}
    heat = go.Heatmap(
        z=[rounded(row, 2) for row in matrix.shares],
        text=[[str(cell or "") for cell in row] for row in matrix.counts] if is_numbered else None,
        texttemplate="%{text}" if is_numbered else None,
        colorscale=[[0, "rgba(47,126,216,0)"], [1, "rgba(47,126,216,1)"]],
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        showscale=False,
        hovertemplate="%{z:.0%} of row %{y} in column %{x}<extra></extra>",
    )
    plot = styled_figure(
        [heat],
        height=160 + 24 * min(count, 24),
        xaxis={**ticks, "title": {"text": "answered"}, "tickangle": -45},
        yaxis={**ticks, "title": {"text": "signed"}, "autorange": "reversed"},
    )
    return Figure("confusion", title, _confusion_caption(facts, models, count), plot)


def pair_counts(answers: Sequence[AnswerCount]) -> _Pairs:
    """Answers by (signed word, answered word), all trainings together."""
    found: _Pairs = Counter()
    for row in answers:
        found[row.word, row.answer] += row.clips
    return found


def word_counts(pairs: _Pairs) -> Counter[str]:
    """Answers by the word that was signed."""
    found: Counter[str] = Counter()
    for (word, _), count in pairs.items():
        found[word] += count
    return found


def worst_pairs(models: ModelAnswers, most: int = 10) -> list[tuple[str, str, int, int]]:
    """The most frequent confusions: signed word, answered word, how often, and the number of answers to the signed word."""
    pairs = pair_counts(models.answers)
    signed = word_counts(pairs)
    wrong = [(word, answer, count, signed[word]) for (word, answer), count in pairs.items() if word != answer]
    return sorted(wrong, key=lambda pair: -pair[2])[:most]


def shown_words(words: Sequence[str], pairs: _Pairs) -> list[str]:
    """The words that a matrix has room for, in their order: all of them, or those that are confused most often."""
    if len(words) <= _MAX_WORDS:
        return list(words)
    wrong = sorted((pair for pair in pairs if pair[0] != pair[1]), key=lambda pair: -pairs[pair])
    ranked = dict.fromkeys([*(word for pair in wrong for word in pair), *words])
    chosen = set(list(ranked)[:_MAX_WORDS])
    return [word for word in words if word in chosen]


def _confusion_caption(facts: Facts, models: ModelAnswers, count: int) -> str:
    pairs = pair_counts(models.answers)
    total, right = sum(pairs.values()), sum(count for (word, answer), count in pairs.items() if word == answer)
    clips = counted(sum({row.signer: row.clips for row in models.signers}.values()), "clip")
    most = "no word is confused with another"
    for word, answer, times, signed in worst_pairs(models, 1):
        most = f"the most frequent mistake is `{answer}` for `{word}` ({times} of {signed} answers)"
    words = len(facts.data.words)
    some = "" if count == words else f" Only the {count} of {words} words that are confused most often are shown."
    whose = f"that they were not trained on ({facts.caution})" if facts.caution else "of signers that they were not trained on"
    return (
        f"{_whose(models)} gave {right:,} correct answers of {total:,} ({right / (total or 1):.0%}) to {clips} {whose}; "
        f"{most}.{some}"
    )


def _whose(models: ModelAnswers) -> str:
    start = "The model" if models.models == 1 else f"The {models.models} models"
    return f"{start} of {trial_name(models.trial)}{' with fresh seeds' if models.confirmed else ''}"


def _no_answers(facts: Facts) -> str:
    if facts.chosen is None:
        return "Nothing to draw: no trial has trained to its end."
    return (
        f"Nothing to draw: no answers of the models of {name_of(facts.chosen.number)} were kept, either because an earlier "
        "version trained them or because the files were deleted."
    )


def signers(facts: Facts, models: ModelAnswers | None, baseline: ModelAnswers | None) -> Figure:
    """Accuracy by validation signer, of the chosen setting and of the baseline."""
    title = "Accuracy by signer"
    if models is None or not models.signers:
        return Figure("signers", title, _no_answers(facts))
    groups = [models]
    if baseline is not None and baseline.signers and baseline.trial != models.trial:
        groups.append(baseline)
    order = sorted({row.signer for one in groups for row in one.signers})
    traces: list[go.Bar | go.Scatter] = []
    for n, (one, color) in enumerate(zip(groups, (BLUE, ORANGE), strict=False)):
        shift = 0.0 if len(groups) == 1 else (n - 0.5) * 0.3
        traces += _signer_traces(one, order, shift, color)
    plot = styled_figure(
        traces,
        xaxis={
            "tickvals": list(range(len(order))),
            "ticktext": [label_text(signer) for signer in order],
            "title": {"text": "signer"},
        },
        yaxis={"title": {"text": "accuracy"}, "range": [0, 1.02]},
    )
    means = by_signer(models)
    low, high = min(means, key=lambda signer: means[signer]), max(means, key=lambda signer: means[signer])
    spread = f"{means[low]:.0%} on signer {low}"
    if len(means) > 1:
        spread = f"from {means[low]:.0%} (signer {low}) to {means[high]:.0%} (signer {high})"
    caption = (
        f"Accuracy of {name_of(models.trial)} on the validation {facts.held_out}: {spread}. A bar is the mean of its models, "
        "a dot is one model."
    )
    return Figure("signers", title, caption, plot)


def _signer_traces(models: ModelAnswers, order: Sequence[str], shift: float, color: str) -> list[go.Bar | go.Scatter]:
    means = by_signer(models)
    bars = go.Bar(
        x=[order.index(signer) + shift for signer in means],
        y=rounded(means.values(), 4),
        width=0.28,
        name=name_of(models.trial),
        marker={"color": color},
        hovertemplate="%{y:.3f}<extra></extra>",
    )
    dots = go.Scatter(
        x=[order.index(row.signer) + shift for row in models.signers],
        y=rounded((row.val_top1 for row in models.signers), 4),
        mode="markers",
        marker={"color": GRAY, "size": 5, "line": {"color": "black", "width": 0.5}},
        showlegend=False,
        hovertemplate="one model: %{y:.3f}<extra></extra>",
    )
    return [bars, dots]


def by_signer(models: ModelAnswers) -> dict[str, float]:
    """Mean accuracy of the models on each signer."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in models.signers:
        found[row.signer].append(row.val_top1)
    return {signer: sum(values) / len(values) for signer, values in sorted(found.items())}


def reliability(facts: Facts, models: ModelAnswers | None, baseline: ModelAnswers | None = None) -> Figure:
    """Accuracy against confidence, before and after temperature scaling, with the baseline's for comparison."""
    title = "Reliability"
    if models is None or not models.confidences:
        return Figure("reliability", title, _no_answers(facts))
    before = [row for row in models.confidences if row.temperature == 1.0]
    after = [row for row in models.confidences if row.temperature != 1.0] or before
    line = {"color": GRAY, "dash": "dot"}
    diagonal = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", name="perfect calibration", line=line, hoverinfo="skip")
    traces = [_reliability_trace("as trained", before, GREEN), _reliability_trace("temperature-scaled", after, BLUE)]
    if baseline is not None and baseline.confidences and baseline.trial != models.trial:
        rows = [row for row in baseline.confidences if row.temperature == 1.0]
        traces.append(_reliability_trace("baseline, as trained", rows, ORANGE).update(line={"dash": "dash"}))
    plot = styled_figure(
        [diagonal, *traces],
        height=380,
        xaxis={"title": {"text": "confidence"}, "range": [0, 1.02]},
        yaxis={"title": {"text": "accuracy"}, "range": [0, 1.02]},
    )
    used = sorted({row.temperature for row in after})
    temperature = format_number(sum(used) / len(used)) + (" on average" if len(used) > 1 else "")
    each = "" if models.models == 1 else ", averaged over the models,"
    caption = (
        f"{_whose(models)}: accuracy by confidence over all validation answers. The expected calibration error{each} is "
        f"{mean_ece(before):.3f} as trained and {mean_ece(after):.3f} after temperature scaling (temperature {temperature}, "
        "fitted to these same clips). A larger dot stands for more answers."
    )
    return Figure("reliability", title, caption, plot)


def _reliability_trace(name: str, rows: Sequence[Confidence], color: str) -> go.Scatter:
    bins = _merged_bins(rows)
    most = max(clips for _, _, clips in bins)
    return go.Scatter(
        x=rounded((confidence for confidence, _, _ in bins), 4),
        y=rounded((accuracy for _, accuracy, _ in bins), 4),
        customdata=[clips for _, _, clips in bins],
        mode="lines+markers",
        name=name,
        line={"color": color, "width": 1.5},
        marker={"size": [round(6 + 12 * (clips / most) ** 0.5, 1) for _, _, clips in bins]},
        hovertemplate="%{customdata} answers: confidence %{x:.2f}, accuracy %{y:.2f}<extra></extra>",
    )


def _merged_bins(rows: Sequence[Confidence]) -> list[tuple[float, float, int]]:
    """The bins of all models together, in order: (confidence, accuracy, clips)."""
    found: dict[float, list[Confidence]] = defaultdict(list)
    for row in rows:
        found[row.low].append(row)
    bins = []
    for _, inside in sorted(found.items()):
        clips = sum(row.clips for row in inside)
        confidence = sum(row.confidence * row.clips for row in inside) / clips
        accuracy = sum(row.accuracy * row.clips for row in inside) / clips
        bins.append((confidence, accuracy, clips))
    return bins


def mean_ece(rows: Sequence[Confidence]) -> float:
    """The mean expected calibration error of the models. Pooled bins would let errors of opposite sign cancel."""
    models = sorted({row.training for row in rows})
    return sum(_ece([row for row in rows if row.training == model]) for model in models) / len(models)


def _ece(rows: Sequence[Confidence]) -> float:
    return sum(abs(row.accuracy - row.confidence) * row.clips for row in rows) / sum(row.clips for row in rows)
