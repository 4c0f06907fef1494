"""What optuna-dashboard shows of a study beside its trials: notes, named plots, and the files of the trials that matter.

Everything is put where it lies already if it has not changed, so that filling a page again writes only what is new.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.study.study import _SYSTEM_ATTR_METRIC_NAMES
from optuna.trial import FrozenTrial, TrialState

from search.reporting.dashboard.attributes import Draft, add_to_trial, drafting, takes_files, trial_attributes
from search.reporting.dashboard.notes import study_note, theirs_of, trial_notes, with_ours
from search.reporting.dashboard.serve import artifact_folder
from search.reporting.facts import Facts
from search.reporting.figures.every import figures
from search.reporting.figures.figure import Figure
from search.trial.files import read_rows, trial_folder
from search.trial.outcome import AnswerCount
from search.wording import wrap

if TYPE_CHECKING:
    import plotly.graph_objects as go


MOST_CHARACTERS = 50_000
"""A larger plot would make the page slow: optuna-dashboard sends all of them at every look."""

_PLOT = "search-"
_PLOTS = "dashboard:plot_data:"
_NOTE_VERSION = re.compile(r"dashboard:(\d+):note_ver")
_ARTIFACTS = "artifacts:"
_MOST_TRIALS = 100
"""So many of the best trials show their files, and so many of the newest."""

_TITLE_WIDTH = 90
_TITLE_PX, _LINE_PX, _LEGEND_PX, _GAP_PX = 30, 19, 24, 12
_BOX_PX = 600
"""How wide a plot stands on the page."""

_ENTRY_PX, _LETTER_PX = 45, 7
_CONFUSION = "confusion.png"


@dataclass
class Filled:
    """What a page holds, and what went wrong on the way."""

    notes: int = 0
    """Of trials; the study's own is not among them."""

    plots: int = 0
    artifacts: int = 0
    faults: list[Exception] = field(default_factory=list)


def fill(
    study: optuna.Study,
    storage: optuna.storages.BaseStorage,
    *,
    url: str,
    runs: Path,
    is_over: Callable[[], bool] = lambda: False,
) -> Filled:
    """Fills the page of a study. A part that fails is told in `faults` and keeps no other from being filled."""
    done = Filled()
    with _told(done):
        facts = Facts(study, storage, url=url, runs=runs)
        for part in (_fill_notes, _fill_plots, _fill_artifacts):
            if not is_over():
                with _told(done):
                    part(facts, storage, done, is_over)
    return done


@contextlib.contextmanager
def _told(done: Filled) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        done.faults.append(error)


def _fill_notes(facts: Facts, storage: optuna.storages.BaseStorage, done: Filled, _is_over: Callable[[], bool]) -> None:
    whole, single = study_note(facts), {facts.trials[n]._trial_id: text for n, text in trial_notes(facts).items()}
    with drafting(storage, facts.opened._study_id) as draft:
        draft.attributes.setdefault(_SYSTEM_ATTR_METRIC_NAMES, [objective.name for objective in facts.objectives])
        _save_note(draft, None, whole)
        for trial_id, text in single.items():
            _save_note(draft, trial_id, text)
        _drop_notes(draft, single.keys())
    done.notes = len(single)


def _save_note(draft: Draft, trial_id: int | None, ours: str) -> None:
    of = draft.of_trial(trial_id)
    there = optuna_dashboard.get_note(of)
    if (text := with_ours(there, ours)) != there:
        optuna_dashboard.save_note(of, text)


def _drop_notes(draft: Draft, wanted: Any) -> None:
    """Takes away what we wrote of trials that stand out no longer; what a person wrote stays, and ours with it."""
    noted = [int(found[1]) for key in draft.attributes if (found := _NOTE_VERSION.fullmatch(key))]
    for trial_id in noted:
        if trial_id in wanted:
            continue
        text = optuna_dashboard.get_note(draft.of_trial(trial_id))
        if text and not theirs_of(text):
            for key in [key for key in draft.attributes if key.startswith(f"dashboard:{trial_id}:note_")]:
                del draft.attributes[key]


def _fill_plots(facts: Facts, storage: optuna.storages.BaseStorage, done: Filled, is_over: Callable[[], bool]) -> None:
    made: dict[str, _Json] = {}
    try:
        for figure in figures(facts):
            if is_over():
                return
            if figure.plot is not None and len(text := titled(figure).to_json()) <= MOST_CHARACTERS:
                made[_PLOT + figure.name] = _Json(text)
        is_whole = True
    except Exception as error:
        done.faults.append(error)
        is_whole = False
    with drafting(storage, facts.opened._study_id) as draft:
        for name, plot in made.items():
            optuna_dashboard.save_plotly_graph_object(draft, plot, graph_object_id=name)
        if is_whole:
            _drop_plots(draft, made.keys())
    done.plots = len(made)


class _Json:
    """A plot that is written out already."""

    def __init__(self, text: str) -> None:
        self._text = text

    def to_json(self) -> str:
        return self._text


def _drop_plots(draft: Draft, wanted: Any) -> None:
    """Takes away plots of ours that are drawn no longer."""
    for key in list(draft.attributes):
        if key.startswith(_PLOTS + _PLOT) and key.removeprefix(_PLOTS).rsplit(":", 1)[0] not in wanted:
            del draft.attributes[key]


def titled(figure: Figure) -> go.Figure:
    """The plot with its title and its caption above it: optuna-dashboard shows nothing else of it."""
    assert figure.plot is not None, "there is something to draw"
    lines = wrap("", figure.caption, "", _TITLE_WIDTH)
    small = "<br>".join(html.escape(line, quote=False) for line in lines)
    plot = type(figure.plot)(figure.plot)
    top = _TITLE_PX + _LINE_PX * len(lines) + _LEGEND_PX * _legend_rows(plot) + _GAP_PX
    plot.update_xaxes(title_standoff=4)
    plot.update_layout(
        height=None,  # that of the page's box
        title={
            "text": f'<b>{html.escape(figure.title, quote=False)}</b><br><span style="font-size: 11px">{small}</span>',
            "font": {"size": 14},
            "x": 0,
            "xref": "container",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": 12, "t": 10},
        },
        margin={"t": top},
    )
    return plot


def _legend_rows(plot: go.Figure) -> int:
    """How many rows the names of a plot take."""
    names = [trace.name for trace in plot.data if trace.name and trace.showlegend is not False]
    if len(plot.data) < 2 or not names:
        return 0
    title = len(plot.layout.legend.title.text or "") * _LETTER_PX
    width = _BOX_PX - title
    longest = max(_ENTRY_PX + _LETTER_PX * len(name) for name in names)  # all entries are as wide as the widest
    return -(-len(names) // max(1, width // longest))


def _fill_artifacts(facts: Facts, storage: optuna.storages.BaseStorage, done: Filled, is_over: Callable[[], bool]) -> None:
    folder = artifact_folder(facts.runs)
    folder.mkdir(parents=True, exist_ok=True)
    if not takes_files(storage):
        return  # the page is served without
    store = FileSystemArtifactStore(folder)
    known = trial_attributes(storage, facts.opened._study_id, _ARTIFACTS)
    done.artifacts = sum(value != "null" for attributes in known.values() for value in attributes.values())
    first: Exception | None = None
    for trial in _that_matter(facts):
        if is_over():
            break
        try:
            done.artifacts += _add_files(facts, trial, known.get(trial._trial_id, {}), store, storage)
        except Exception as error:  # the others have theirs all the same
            first = first or error
    if first is not None:
        raise first


def _that_matter(facts: Facts) -> list[FrozenTrial]:
    """The best and the newest trials that are over, in turns."""
    best = sorted(facts.complete, key=lambda trial: (trial.values[facts.primary], trial.number))[:_MOST_TRIALS]
    newest = [trial for trial in reversed(facts.trials) if trial.state.is_finished()][:_MOST_TRIALS]
    first = [trial for trial in (facts.chosen, facts.baseline) if trial is not None]
    length = max(len(best), len(newest))
    turns = [one for n in range(length) for one in (best[n : n + 1] + newest[n : n + 1])]
    return list({trial.number: trial for trial in [*first, *turns]}.values())


def _add_files(
    facts: Facts,
    trial: FrozenTrial,
    known: dict[str, Any],
    store: FileSystemArtifactStore,
    storage: optuna.storages.BaseStorage,
) -> int:
    """Adds the files that a trial does not show yet, and says how many. None to one from which a person has taken some."""
    metas = [json.loads(value) for value in known.values()]
    if None in metas:
        return 0
    there = {meta["filename"] for meta in metas}
    folder = trial_folder(facts.runs, facts.name, trial.number)
    with tempfile.TemporaryDirectory() as made:
        paths = [folder / name for name in ("curve.csv", "config.yaml") if name not in there and (folder / name).is_file()]
        if trial.state == TrialState.COMPLETE and _CONFUSION not in there:
            paths += _drawn(facts, trial, read_rows(AnswerCount, folder / "answers.csv"), Path(made))
        if not paths:
            return 0
        added = _Added()
        try:
            for path in paths:
                upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=trial, storage=added)  # type: ignore[arg-type]
            add_to_trial(storage, trial._trial_id, added.attributes)
        except BaseException:
            for key in added.attributes:
                with contextlib.suppress(Exception):
                    store.remove(key.removeprefix(_ARTIFACTS))
            raise
    # The page reads a trial that is over once. In the place of the old dictionary, which it may be reading now.
    trial._system_attrs = {**trial._system_attrs, **added.attributes}
    return len(paths)


def _drawn(facts: Facts, trial: FrozenTrial, answers: Sequence[AnswerCount], folder: Path) -> list[Path]:
    """The confusion matrix; none if the answers were not kept."""
    if not answers:
        return []
    from search.reporting.dashboard.confusion_png import confusion_png  # Matplotlib takes a second to come

    right, total = sum(row.clips for row in answers if row.word == row.answer), sum(row.clips for row in answers)
    path = folder / _CONFUSION
    path.write_bytes(confusion_png(answers, facts.data.words, f"trial {trial.number}: {right:,} of {total:,} right"))
    return [path]


class _Added:
    """A storage to `upload_artifact`: it keeps what is to be written once the files lie in their folder."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def set_trial_system_attr(self, _trial_id: int, key: str, value: Any) -> None:
        """As a storage."""
        self.attributes[key] = value
