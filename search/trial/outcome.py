"""What a finished trial gave."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SignerScore:
    """How well one training does on one of its validation signers, at the epoch that counts."""

    training: int
    signer: str
    clips: int
    val_loss: float
    val_top1: float


@dataclass(frozen=True)
class AnswerCount:
    """How often one training answered one word to the validation clips of another, or of the same."""

    training: int
    word: str
    """What was signed."""

    answer: str
    """What the model holds most likely."""

    clips: int


@dataclass(frozen=True)
class Confidence:
    """Validation clips of which one training is about equally sure: see `model.metrics.ConfidenceBin`."""

    training: int
    temperature: float
    """By which its logits were divided: 1, and then the one that suits these clips best."""

    low: float
    clips: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Outcome:
    """What a trial that has trained to its end gave, beside its curves."""

    signers: tuple[SignerScore, ...]
    answers: tuple[AnswerCount, ...]
    """What the models answered, word by word; pairs that did not happen are left out."""

    confidences: tuple[Confidence, ...]
    """How sure they are and how right, before and after temperature scaling."""

    parameters: int
    """Numbers that the model learned."""

    latency_ms: float | None
    """Milliseconds for one clip; None where nobody asked."""

    models: tuple[str, ...] = ()
    """SHA-256 of the files of weights that were kept, one a training."""
