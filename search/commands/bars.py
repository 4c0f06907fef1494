"""How far a run and its trials are, as rows for a terminal that moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from data_utils.wording import align, width
from search.events import DataPrepared, EpochFinished, RunStarted, TrialFinished, TrialStarted
from search.wording import format_duration, format_value, truncate

Clock = Callable[[], float]
"""Seconds since some moment."""


class Bars:
    """What is in training, as rows that fill a terminal's width and never exceed it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._whole: _Bar | None = None
        self._preparing: _Bar | None = None
        self._trials: dict[int, _Bar] = {}
        self._heads: dict[int, float] = {}
        """The share of each trial that other runs had trained before this one."""

        self._objective = ""
        self._best: tuple[float, int] | None = None

    def begin(self, event: RunStarted) -> None:
        """The whole of which this run does the rest."""
        self._whole = _Bar("trials", event.target, event.finished, self._clock())
        self._objective = event.objectives[0]
        if event.best is not None:
            self._note_best(event.best.value, event.best.trial)

    def prepare(self, event: DataPrepared) -> None:
        """Clips on their way to the store."""
        if self._preparing is None:
            self._preparing = _Bar("preparing", event.total, event.done, self._clock(), ("clips",))
        self._preparing.step(event.done, self._clock())
        if event.done >= event.total:
            self._preparing = None

    def start(self, event: TrialStarted) -> None:
        """A trial, perhaps once more after its worker died."""
        now = self._clock()
        self._preparing = None
        if self._whole is not None and not self._heads:
            self._whole.began = now
        self._heads.setdefault(event.trial, event.done / event.epochs)
        self._trials[event.trial] = _Bar(f"trial {event.trial}", event.epochs, event.done, now)

    def epoch(self, event: EpochFinished) -> None:
        """A step of a trial; it moves the whole a little too."""
        if bar := self._trials.get(event.trial):
            loss = f"val_loss {event.record.val_loss:.4f}"
            bar.notes = (f"{loss}  top1 {event.record.val_top1:.4f}", loss)
            bar.step(event.step, self._clock())
            self._estimate()

    def finish(self, event: TrialFinished) -> None:
        """A trial that is over."""
        self._trials.pop(event.trial, None)
        if event.state == "failed":
            self._heads[event.trial] = 0.0
        if self._whole is None:
            return
        self._whole.done, self._whole.total = event.finished, event.target
        value = event.values.get(self._objective, event.value)
        if event.is_best and value is not None and (self._best is None or value < self._best[0]):
            self._note_best(value, event.trial)
        self._estimate()

    def _note_best(self, value: float, trial: int) -> None:
        assert self._whole is not None, "there is a whole from the start"
        self._best = value, trial
        best = f"best {format_value(value)}"
        self._whole.notes = (f"{best} (trial {trial})", best)

    def _estimate(self) -> None:
        """The time left of the whole: as many trials a second as this run has trained so far, those in training in part."""
        if self._whole is None:
            return
        running = sum(bar.share for bar in self._trials.values())
        mine = self._whole.done - self._whole.given + running - sum(self._heads.values())
        self._whole.expect(mine, self._whole.total - self._whole.done - running, self._clock())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        full, rest = "#-" if options.ascii_only else "━─"
        for label, done, left, text in self.rows(options.max_width):
            yield Text.assemble(label, (full * done, "green"), (rest * left, "dim"), text, no_wrap=True, overflow="crop")

    def rows(self, room: int) -> list[tuple[str, int, int, str]]:
        """Each row: what stands before the bar, its full and its empty part, what stands behind it."""
        bars = [bar for bar in (self._preparing, self._whole, *self._trials.values()) if bar is not None]
        if not bars:
            return []
        now, room = self._clock(), room - 1  # a full line makes some terminals begin another
        *labels, usual = _padded([*(bar.label for bar in bars), _USUAL[0][0]])
        for brief in range(3):
            *texts, widest = align([*(bar.cells(now, brief) for bar in bars), _USUAL[brief][1:]], right=(0,))
            left = room - width(usual) - max(map(width, [*texts, widest])) - 3
            if left >= _LEAST_BAR:
                break
        else:
            left = 0
        left = min(left, _LONGEST_BAR)
        gap = "  " if left else " "
        return [
            (f"{label} ", full, left - full, truncate(gap + text, room - left - width(label) - 1))
            for label, text, bar in zip(labels, texts, bars, strict=True)
            for full in [int(left * bar.share)]
        ]


_LEAST_BAR, _LONGEST_BAR = 8, 40
_USUAL = [
    ["trial 99", "99/99", "val_loss 0.1234  top1 0.1234", "about 59m00s left"],
    ["trial 99", "99/99", "val_loss 0.1234", "about 59m00s left"],
    ["trial 99", "99/99", "val_loss 0.1234", "about 59m00s"],
]
"""Room that is kept for every row, ever briefer, so that nothing moves when a trial comes or goes."""


def _padded(texts: Sequence[str]) -> list[str]:
    widest = max(map(width, texts))
    return [text + " " * (widest - width(text)) for text in texts]


class _Bar:
    """How far something is, and when it will be done, by a clock."""

    def __init__(self, label: str, total: int, done: int, now: float, notes: Sequence[str] = ("",)) -> None:
        """`notes`: a text, and shorter ones where room is scarce."""
        self.label, self.total, self.done = label, total, done
        self.given, self.began = done, now
        self.notes = notes
        self._due: float | None = None

    @property
    def share(self) -> float:
        """How much of it is done."""
        return min(self.done / self.total, 1.0) if self.total else 1.0

    def step(self, done: int, now: float) -> None:
        """So much is done now. How fast it goes is measured from where this process took it up."""
        self.done = done
        self.expect(done - self.given, self.total - done, now)

    def expect(self, mine: float, to_go: float, now: float) -> None:
        """What is left takes as long as what was done here, in proportion."""
        self._due = now + (now - self.began) / mine * to_go if mine > 0 and to_go > 0 else None

    def cells(self, now: float, brief: int) -> list[str]:
        """Count, note and time left, the shorter the larger `brief` is."""
        note = self.notes[min(brief, len(self.notes) - 1)]
        left = "" if self._due is None else f"about {_rough(self._due - now)}{'' if brief > 1 else ' left'}"
        return [f"{self.done:,}/{self.total:,}", note, left]


def _rough(seconds: float) -> str:
    """A guess in round numbers, so that it does not change with every look."""
    unit = 5 if seconds < 60 else 10 if seconds < 600 else 60
    return format_duration(max(round(seconds / unit), 1) * unit)
