"""Progress bars of a run: one for the study, one for each trial in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from data_utils.wording import format_duration
from search.commands.run_text import NARROW
from search.events import DataPrepared, EpochFinished, Event, RunStarted, TrialFinished, TrialStarted, Working
from search.wording import format_value

Clock = Callable[[], float]
"""Seconds since some moment."""


class Bars(Progress):
    """Progress bars for a terminal of any width. Their columns have minimum widths, so that nothing moves when a trial ends."""

    def __init__(self, console: Console, clock: Clock, *, auto_refresh: bool) -> None:
        """`auto_refresh`: draw four times a second, not only on `refresh`."""
        bar = BarColumn(None, complete_style="green", finished_style="green", table_column=Column(max_width=40))
        count = _Count("{task.completed:,}/{task.total:,}", markup=False, justify="right", table_column=_column("99/99"))
        note, detail = _text("{task.fields[note]}", "val_loss 0.1234"), _text("{task.fields[detail]}", "top1 0.1234")
        self._console = console
        self._wide = (_text("{task.description}", "trial 99"), bar, count, note, detail, _TimeLeft())
        super().__init__(
            *self._wide, console=console, auto_refresh=auto_refresh, refresh_per_second=4, transient=True, get_time=clock
        )
        self._bars: dict[int | str, TaskID] = {}
        """By number of the trial, or by label."""

        self._inherited: dict[int, float] = {}
        """The share of each trial that earlier runs had trained."""

        self._step = ""
        """What the run does before, between or after its trials."""

        self._unit = "trial"
        self._objective, self._best = "", math.inf

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars for the terminal's present width, less one column: some terminals wrap a line that is full."""
        self.columns = self._wide if self._console.width >= NARROW else (*self._wide[:4], self._wide[5])
        yield Padding(self.make_tasks_table(self.tasks), (0, 1, 0, 0), expand=False)

    def show(self, event: Event) -> None:
        """Brings the bars up to date with an event."""
        match event:
            case RunStarted():
                self._unit = event.unit
                self._add("trials", f"{event.unit}s", event.finished, event.target, start=False)  # timed from the first one on
                self._objective = event.objectives[0]
                if event.best is not None:
                    self._set_best(event.best.value, event.best.trial)
            case DataPrepared():
                self._work("preparing clips", event.done, event.total)
            case Working():
                self._work(event.what, event.done, event.total)
            case TrialStarted():
                self._remove("working")
                self.start_task(self._bars["trials"])
                self._inherited.setdefault(event.trial, event.done / event.epochs)
                self._remove(event.trial)  # its worker died: it starts again at its checkpoint
                self._add(event.trial, f"{self._unit} {event.trial}", event.done, event.epochs)
            case EpochFinished() if event.trial in self._bars:
                note, detail = f"val_loss {event.record.val_loss:.4f}", f"top1 {event.record.val_top1:.4f}"
                self.update(self._bars[event.trial], completed=event.step, note=note, detail=detail)
                self._estimate(event.trial)
                self._estimate_study()
            case TrialFinished():
                self._finish(event)

    def _work(self, what: str, done: int, total: int) -> None:
        """Shows a step before, between or after the trials; without an end where nothing is counted."""
        if what != self._step:
            self._remove("working")
        if "working" not in self._bars:
            self._add("working", what, done, total or None)
        self._step = what
        self.update(self._bars["working"], completed=done)
        self._estimate("working")
        if total and done >= total:
            self._remove("working")

    def _finish(self, event: TrialFinished) -> None:
        self._remove(event.trial)
        if event.state == "failed":
            self._inherited[event.trial] = 0.0  # it does not count as finished
        value = event.values.get(self._objective, event.value)
        if event.is_best and value is not None and value < self._best:
            self._set_best(value, event.trial)
        self.update(self._bars["trials"], completed=event.finished, total=event.target)
        self._estimate_study()

    def _set_best(self, value: float, trial: int) -> None:
        self._best = value
        self.update(self._bars["trials"], note=f"best {format_value(value)}", detail=f"(trial {trial})")

    def _add(self, key: int | str, label: str, done: int, total: int | None, *, start: bool = True) -> None:
        """Adds a bar. `first` is where this process starts."""
        self._bars[key] = self.add_task(
            label, start=start, total=total, completed=done, first=done, note="", detail="", due=None
        )

    def _remove(self, key: int | str) -> None:
        if key in self._bars:
            self.remove_task(self._bars.pop(key))

    def _estimate_study(self) -> None:
        """Trials in training count in part; what earlier runs trained of this run's trials is not its work."""
        running = sum(self._tasks[bar].percentage / 100 for key, bar in self._bars.items() if isinstance(key, int))
        self._estimate("trials", running, sum(self._inherited.values()))

    def _estimate(self, key: int | str, running: float = 0.0, inherited: float = 0.0) -> None:
        """Estimates when a bar will be full, at the average pace of this process."""
        task = self._tasks[self._bars[key]]
        trained = task.completed - task.fields["first"] + running - inherited
        left = (task.total or 0.0) - task.completed - running
        due = self.get_time() + (task.elapsed or 0.0) / trained * left if trained > 0 and left > 0 else None
        self.update(task.id, due=due)


class _Count(TextColumn):
    """How much is done, and of how much; empty where nothing is counted."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


class _TimeLeft(ProgressColumn):
    """The estimated time left, in round numbers so that it does not change at every refresh."""

    def render(self, task: Task) -> Text:
        if task.fields["due"] is None:
            return Text("")
        seconds = task.fields["due"] - task.get_time()
        unit = 5 if seconds < 60 else 10 if seconds < 600 else 60
        return Text(f"~{format_duration(max(round(seconds / unit), 1) * unit)} left")

    def get_table_column(self) -> Column:
        return _column("~59m00s left")


def _text(template: str, widest: str, justify: Literal["left", "right"] = "left") -> TextColumn:
    return TextColumn(template, markup=False, justify=justify, table_column=_column(widest))


def _column(widest: str) -> Column:
    """A column that has room for the widest usual text."""
    return Column(min_width=len(widest), no_wrap=True, overflow="ellipsis")
