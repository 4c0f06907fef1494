"""Fills a study's page in optuna-dashboard: notes, named plots, and files of trials.

Everything that is unchanged is left alone, so that filling a page again writes only what is new.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import filelock
import optuna
import optuna_dashboard
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.study.study import _SYSTEM_ATTR_METRIC_NAMES
from optuna.trial import FrozenTrial, TrialState

from search.reporting.dashboard.attributes import Draft, drafting
from search.reporting.dashboard.confusion_svg import confusion_svg
from search.reporting.dashboard.contents import Contents, pages_of
from search.reporting.dashboard.notes import theirs_of, with_ours
from search.reporting.facts import Facts
from search.reporting.figures.every import figures
from search.reporting.figures.figure import Figure
from search.storage.tables import Tables, tables_of
from search.study.artifacts import ARTIFACTS, artifact_folder, our_artifacts
from search.trial.files import read_rows
from search.trial.outcome import AnswerCount
from search.wording import wrap

if TYPE_CHECKING:
    import plotly.graph_objects as go


MAX_PLOT_CHARACTERS = 50_000
"""Larger plots are left out: optuna-dashboard sends every plot each time a browser polls for news."""

_PLOT = "search-"
_PLOTS = "dashboard:plot_data:"
_NOTE_VERSION = re.compile(r"dashboard:(\d+):note_ver")
_CAPTION_COLUMNS = 90
_TITLE_PX, _LINE_PX = 42, 19
"""Heights of a plot's title with its padding, and of a line of its caption."""

_CONFUSION = "confusion"
"""The name of the image without its suffix: earlier versions added `confusion.png`."""


@dataclass
class FillResult:
    """What the pages of a study and of its confirmation show, and the errors that occurred while they were filled."""

    notes: int = 0
    """Of trials, without the studies' own."""

    plots: int = 0
    artifacts: int = 0
    errors: list[Exception] = field(default_factory=list)


def fill_page(
    study: optuna.Study,
    storage: optuna.storages.BaseStorage,
    *,
    url: str,
    runs: Path,
    should_stop: Callable[[], bool] = lambda: False,
) -> FillResult:
    """Fills the page of a study and that of its confirmation. If one part fails, the others are filled all the same; see
    `FillResult.errors`."""
    result = FillResult()
    with _collect_error(result):
        facts = Facts(study, storage, url=url, runs=runs)
        pages = pages_of(facts)
        for fill_part in (_fill_notes, _fill_plots, _fill_artifacts):
            if not should_stop():
                with _collect_error(result):
                    fill_part(facts, pages, storage, result, should_stop)
    return result


@contextlib.contextmanager
def _collect_error(result: FillResult) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        result.errors.append(error)


def _fill_notes(
    facts: Facts,
    pages: Sequence[Contents],
    storage: optuna.storages.BaseStorage,
    result: FillResult,
    should_stop: Callable[[], bool],
) -> None:
    for page in pages:
        ids = {trial.number: trial._trial_id for trial in page.trials}
        of_study, of_trials = page.note(facts), {ids[number]: text for number, text in page.trial_notes(facts).items()}
        with drafting(storage, page.study_id) as draft:
            draft.attributes.setdefault(_SYSTEM_ATTR_METRIC_NAMES, [objective.name for objective in facts.objectives])
            _save_note(draft, None, of_study)
            for trial_id, text in of_trials.items():
                _save_note(draft, trial_id, text)
            _remove_notes(draft, of_trials)
        result.notes += len(of_trials)


def _save_note(draft: Draft, trial_id: int | None, ours: str) -> None:
    view = draft.of_trial(trial_id)
    before = optuna_dashboard.get_note(view)
    if (text := with_ours(before, ours)) != before:
        optuna_dashboard.save_note(view, text)


def _remove_notes(draft: Draft, wanted: Container[int]) -> None:
    """Removes our notes of trials that no longer need one, unless a person has written into them."""
    noted = [int(found[1]) for key in draft.attributes if (found := _NOTE_VERSION.fullmatch(key))]
    for trial_id in noted:
        text = "" if trial_id in wanted else optuna_dashboard.get_note(draft.of_trial(trial_id))
        if text and not theirs_of(text):
            for key in [key for key in draft.attributes if key.startswith(f"dashboard:{trial_id}:note_")]:
                del draft.attributes[key]


def _fill_plots(
    facts: Facts,
    pages: Sequence[Contents],
    storage: optuna.storages.BaseStorage,
    result: FillResult,
    should_stop: Callable[[], bool],
) -> None:
    plots: dict[str, str] = {}
    is_complete = False
    with _collect_error(result):
        for figure in figures(facts):
            if should_stop():
                return
            is_shown = figure.plot is not None and any(page.has_figure(figure.name) for page in pages)
            if is_shown and len(text := titled(figure).to_json()) <= MAX_PLOT_CHARACTERS:
                plots[figure.name] = text
        is_complete = True
    for page in pages:
        shown = {_PLOT + name: text for name, text in plots.items() if page.has_figure(name)}
        with drafting(storage, page.study_id) as draft:
            for name, text in shown.items():
                serialized = SimpleNamespace(to_json=text.__str__)  # in advance: the transaction holds up a running search
                optuna_dashboard.save_plotly_graph_object(draft, serialized, graph_object_id=name)
            if is_complete:
                _remove_plots(draft, shown)
        result.plots += len(shown)


def _remove_plots(draft: Draft, wanted: Container[str]) -> None:
    """Removes our plots that are no longer drawn."""
    for key in list(draft.attributes):
        if key.startswith(_PLOTS + _PLOT) and key.removeprefix(_PLOTS).rsplit(":", 1)[0] not in wanted:
            del draft.attributes[key]


def titled(figure: Figure) -> go.Figure:
    """The plot with its title and its caption inside it: optuna-dashboard shows nothing else of a figure."""
    assert figure.plot is not None, "a figure without a plot is not saved"
    lines = [html.escape(line, quote=False) for line in wrap("", figure.caption.replace("`", '"'), "", _CAPTION_COLUMNS)]
    title, caption = html.escape(figure.title, quote=False), "<br>".join(lines)
    plot = type(figure.plot)(figure.plot)
    plot.update_xaxes(title_standoff=4)
    plot.update_layout(
        height=None,  # that of the page's box
        margin={"t": _TITLE_PX + _LINE_PX * len(lines)},
        legend={"yref": "container", "y": 0, "yanchor": "bottom"},
        title={
            "text": f'<b>{title}</b><br><span style="font-size: 11px">{caption}</span>',
            "font": {"size": 14},
            "x": 0,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": 12, "t": 10},
        },
    )
    return plot


def _fill_artifacts(
    facts: Facts,
    pages: Sequence[Contents],
    storage: optuna.storages.BaseStorage,
    result: FillResult,
    should_stop: Callable[[], bool],
) -> None:
    folder = artifact_folder(facts.runs)
    folder.mkdir(parents=True, exist_ok=True)
    tables = tables_of(storage)
    if tables is None:  # a journal accepts no attributes for finished trials
        return
    with filelock.FileLock(folder.with_name(".artifacts.lock")):  # two dashboards must not add a file twice
        errors: list[Exception] = []
        for page in pages:
            with tables.reading() as connection:
                known = tables.trial_attributes(connection, page.study_id, ARTIFACTS)
            result.artifacts += sum(value != "null" for attributes in known.values() for value in attributes.values())
            for trial in page.with_files:
                if should_stop():
                    break
                try:
                    shown, files = known.get(trial._trial_id, {}), page.folder.of_trial(trial)
                    result.artifacts += _add_files(trial, shown, files, facts.data.words, folder, tables)
                except Exception as error:  # the other trials get their files all the same
                    errors.append(error)
    result.errors += errors[:1]


def _add_files(
    trial: FrozenTrial,
    known: dict[str, Any],
    folder: Path,
    words: Sequence[str],
    artifacts: Path,
    tables: Tables,
) -> int:
    """Adds the files that a trial does not show yet and returns their number; 0 if a person has deleted one of its files.

    A file that the trial names but that is gone, such as with a study of which this one is a copy, is written again.
    """
    if any(json.loads(value) is None for value in known.values()):
        return 0
    store, named = FileSystemArtifactStore(artifacts), our_artifacts(known)
    shown = {name for id, name in named.items() if (artifacts / id).is_file()}
    gone = {name: id for id, name in named.items() if name not in shown}
    with tempfile.TemporaryDirectory() as drawn:
        paths = [folder / name for name in ("curve.csv", "config.yaml") if name not in shown and (folder / name).is_file()]
        if trial.state == TrialState.COMPLETE and _CONFUSION not in {Path(name).stem for name in shown}:
            paths += _draw_confusion(trial, folder / "answers.csv", words, Path(drawn))
        if not paths:
            return 0
        added = _Attributes()
        try:
            for path in paths:
                if path.name in gone:
                    with path.open("rb") as stream:
                        store.write(gone[path.name], stream)
                    continue
                upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=trial, storage=added)  # type: ignore[arg-type]
            with tables.writing() as connection:
                tables.set_trial_attributes(connection, trial._trial_id, added)
        except BaseException:
            for key in added:
                with contextlib.suppress(Exception):
                    store.remove(key.removeprefix(ARTIFACTS))
            raise
    # The page reads a finished trial only once. The dictionary is replaced, not changed: the page may be reading it now.
    trial._system_attrs = {**trial._system_attrs, **added}
    return len(added)


def _draw_confusion(trial: FrozenTrial, kept: Path, words: Sequence[str], folder: Path) -> list[Path]:
    """The confusion matrix as a file; empty if the answers were not kept."""
    answers = read_rows(AnswerCount, kept)
    if not answers:
        return []
    right, total = sum(row.clips for row in answers if row.word == row.answer), sum(row.clips for row in answers)
    path = folder / f"{_CONFUSION}.svg"
    title = f"trial {trial.number}: {right:,} of {total:,} answers correct"
    path.write_text(confusion_svg(answers, words, title), encoding="utf-8")
    return [path]


class _Attributes(dict[str, Any]):
    """Attributes that `upload_artifact` writes; they go into the database once all files are in their folder."""

    def set_trial_system_attr(self, _trial_id: int, key: str, value: Any) -> None:
        """The method of a storage."""
        self[key] = value
