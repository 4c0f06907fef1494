"""Results of a trial that was trained to its end, besides its curves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SignerScore:
    """Result of one training on one of its validation signers, at the kept epoch."""

    training: int
    signer: str
    clips: int
    val_loss: float
    val_top1: float


@dataclass(frozen=True)
class AnswerCount:
    """How often one training predicted one word for the validation clips of another word, or of the same one."""

    training: int
    word: str
    """The signed word."""

    answer: str
    """The predicted word."""

    clips: int


@dataclass(frozen=True)
class Confidence:
    """Validation clips for which one training has similar confidence; see `model.metrics.ConfidenceBin`."""

    training: int
    temperature: float
    """Divisor of the logits: 1, and the one that fits these clips best."""

    low: float
    clips: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Outcome:
    """Results of a trial besides its curves."""

    signers: tuple[SignerScore, ...]
    answers: tuple[AnswerCount, ...]
    """Counts by signed and predicted word; those of zero are left out."""

    confidences: tuple[Confidence, ...]
    """Confidence and accuracy, before and after temperature scaling."""

    parameters: int
    """Number of learned parameters."""

    latency_ms: float | None
    """Milliseconds per clip; None if not measured."""

    models: tuple[str, ...] = ()
    """SHA-256 of the saved files of weights, one per training."""
