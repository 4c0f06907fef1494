"""The search as a library, for notebooks and scripts. The command line makes the same calls.

    from search.api import Range, define, load

    study = define({"space": {"lr": Range(low=1e-5, high=1e-2, log=True)}}, name="rates", data="letters")
    study.run(trials=20)
    study.confirm()
    study.report()      # in a notebook: shown below the cell

A study lives in its storage: `load("rates")` finds it again, and `study.optuna` is Optuna's view of it. Every error that a user
can put right is an `ExplainedError`, whose text says what is wrong and what to do.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

with warnings.catch_warnings(action="ignore"):  # that its bar is text where ipywidgets is missing
    import tqdm.auto  # noqa: F401 (Optuna imports it too)

from data_utils.errors import ExplainedError
from search import DEFAULT_RUNS, DEFAULT_STORAGE
from search.definition.ranges import Choices, Range
from search.errors import DefinitionError, require_in_range

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from search.definition.definition import StudyDefinition
    from search.events import Listener, RunFinished
    from search.exporting.export import Exported
    from search.reporting.report import Report
    from search.running.session import SessionKeywords
    from search.running.signals import StopSignals
    from search.study.checked import CheckedStudy
    from search.study.confirmed import Confirmed
    from search.study.recommendation import Choice

__all__ = ["Choices", "ExplainedError", "Range", "Study", "define", "load"]

Duration = str | float  # `90m`, `1h30m`, `45s`, or seconds


def define(
    study: str | Path | Mapping[str, Any] | StudyDefinition,
    *,
    name: str | None = None,
    changes: Mapping[str, Any] | Sequence[str] = (),
    seed: int | None = None,
    data: str | Path | None = None,
    storage: str = DEFAULT_STORAGE,
    runs: str | Path = DEFAULT_RUNS,
) -> Study:
    """A study that can be run. Nothing is stored before it runs.

    Args:
        study: the name or path of a study file, its content as a mapping, or a checked definition.
        name: of the study; required with a mapping, otherwise the file's.
        changes: values by key, such as `{"train.epochs": 20}`, or `KEY=VALUE` as for `--set`; not for a checked definition.
        seed: of the search; None: 0, or that of a checked definition.
        data: folder of the data set; None: the demo set under `runs`.
        storage: URL of the database.
        runs: folder for everything that is written.

    Raises:
        DefinitionError: there is no such study, or something in it is wrong.
    """
    from search.definition.definition import StudyDefinition
    from search.definition.study_file import definition_of, load_definition, plain, validate_name

    if isinstance(changes, Mapping):
        changes = [f"{key}={json.dumps(plain(value))}" for key, value in changes.items()]
    if isinstance(study, StudyDefinition):
        if changes or seed is not None:
            raise DefinitionError("a checked definition has its settings and seed", hint="change it with `dataclasses.replace`")
        definition = study if name is None else dataclasses.replace(study, name=validate_name(name))
    elif isinstance(study, Mapping):
        if name is None:
            raise DefinitionError("a study that is not from a file needs a name", hint='define({...}, name="letters")')
        definition = definition_of(study, name, changes, seed=seed or 0)
    else:
        definition = load_definition(str(study), changes, name=None if name is None else validate_name(name), seed=seed or 0)
    return Study(definition.name, definition=definition, data=data, storage=storage, runs=runs)


def load(
    name: str | None = None,
    *,
    data: str | Path | None = None,
    storage: str = DEFAULT_STORAGE,
    runs: str | Path = DEFAULT_RUNS,
    notify: Callable[[str], None] | None = None,
) -> Study:
    """A study that exists.

    Args:
        name: None: the study of the storage that was active last.
        data: folder of the data set; None: the folder of the search.
        notify: gets a line about everything in the study that other programs have spoiled; None: a warning is issued.

    Raises:
        DefinitionError: there is no such study, or it was not made by this tool.
        ResourceError: the storage cannot be read.
    """
    from search.study.latest import latest_in

    study = Study(name or latest_in(storage)[0], data=data, storage=storage, runs=runs, notify=notify)
    study.optuna  # noqa: B018 (fails here if there is none)
    return study


class Study:
    """A study in a storage, made by `define` or `load`. Every call reads what the storage holds at that moment."""

    def __init__(
        self,
        name: str,
        *,
        definition: StudyDefinition | None = None,
        data: str | Path | None = None,
        storage: str = DEFAULT_STORAGE,
        runs: str | Path = DEFAULT_RUNS,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.definition = definition
        self.data = None if data is None else Path(data)
        self.storage = storage
        self.runs = Path(runs)
        self._notify = notify or partial(warnings.warn, stacklevel=2)

    def __repr__(self) -> str:
        from search.storage.url import redact_url

        return f"<study {self.name} in {redact_url(self.storage)}>"

    def run(
        self,
        trials: int | None = None,
        *,
        more: int | None = None,
        timeout: Duration | None = None,
        max_failures: int = 10,
        allow_wider: bool = False,
        source: str | None = None,
        source_best: int = 5,
        callback: Listener | None = None,
        progress: bool = True,
        stop: StopSignals | None = None,
        **session: Unpack[SessionKeywords],
    ) -> RunFinished:
        """Searches until the target number of trials is finished; starts and resumes. The first Ctrl-C (in a notebook:
        interrupt) stops after the current epoch, and everything is kept.

        Args:
            trials: the target; None: the definition's.
            more: this many more trials instead.
            timeout: stop after this time.
            source: a study of this storage whose best trials are tried first, `source_best` of them.
            callback: gets every event (`search/events.py`). `progress`: whether to show a bar.
            stop: asks the run to stop; None: signals and `timeout` do.
            session: `workers`, `device` and the others of `SessionKeywords`.

            The others are those of `islr-search run --help`.

        Raises:
            ExplainedError: anything that a user can put right, before anything is started or with everything kept.
        """
        from search.reporting.progress_bar import watched
        from search.running.run import RunOptions, run
        from search.running.session import session_options
        from search.running.signals import stop_signals

        if self.definition is None:
            what = f"the study `{self.name}` was loaded, and has no definition here"
            raise DefinitionError(what, hint=f'define("{self.name}.yaml", ...) reads its file; then run it')
        if trials is not None and more is not None:
            raise DefinitionError("`trials` and `more` were both given", hint="`trials` is the target, `more` adds to it")
        require_in_range("trials", 1 if trials is None else trials, 1)
        definition = self.definition if trials is None else dataclasses.replace(self.definition, trials=trials)
        options = RunOptions(
            **session_options(self.data, self.storage, self.runs, **session),
            more=more,
            max_failures=max_failures,
            allow_wider=allow_wider,
            source=source,
            source_best=source_best,
        )
        with watched(callback, progress) as emit, stop_signals(stop, timeout) as request:
            return run(definition, options, emit, request)

    def confirm(
        self,
        top: int = 8,
        seeds: int = 8,
        *,
        callback: Listener | None = None,
        progress: bool = True,
        stop: StopSignals | None = None,
        **session: Unpack[SessionKeywords],
    ) -> Confirmed | None:
        """Trains the best trials again with fresh seeds; starts and resumes. None if it was stopped.

        Args:
            top: the most trials to train again, with at most `seeds` fresh seeds each. The others are those of `run`.

        Raises: same as `run`.
        """
        from search.evaluation.confirm.confirm import ConfirmOptions, confirm
        from search.reporting.progress_bar import watched
        from search.running.session import session_options
        from search.running.signals import stop_signals

        options = ConfirmOptions(
            **session_options(self.data, self.storage, self.runs, **session),
            study=self.name,
            top=top,
            seeds=seeds,
        )
        with watched(callback, progress) as emit, stop_signals(stop) as request:
            return confirm(options, emit, request)

    @property
    def caution(self) -> str:
        """What limits every result of a study that exists: that it trains and validates on the same people. Else empty."""
        from search.study.study import study_caution

        with self._reading() as (study, _):
            return study_caution(study)

    @property
    def optuna(self) -> CheckedStudy:
        """Optuna's study, for reading. `optuna.load_study(study_name=..., storage=...)` opens the same for any other use.

        Raises:
            DefinitionError: it does not exist yet, or was not made by this tool.
        """
        return self.opened()[0]

    def opened(self) -> tuple[CheckedStudy, BaseStorage]:
        """Optuna's study and its storage, for reading. On SQLite, lists of trials lack the curves of ended trials.

        Raises: same as `optuna`.
        """
        from search.storage.read_only import open_read_only
        from search.study.identity import require_usable
        from search.study.study import load_study

        storage = open_read_only(self.storage)
        study = load_study(storage, self.name, self._notify)
        require_usable(study)
        return study, storage

    @contextmanager
    def _reading(self) -> Iterator[tuple[CheckedStudy, BaseStorage]]:
        from search.storage.opening import closing_storage

        study, storage = self.opened()
        with closing_storage(storage):
            yield study, storage

    def trials(self) -> list[dict[str, Any]]:
        """Every trial as a flat row: number, state, values, metrics, cost, seed, parameters (`param_NAME`), why it failed."""
        from search.reporting.table import trial_rows

        with self._reading() as (study, _):
            return trial_rows(study)

    def frame(self) -> Any:
        """The rows of `trials` as a pandas DataFrame. Raises `DefinitionError` if pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise DefinitionError("a table needs the package pandas", hint="pip install pandas, or use `trials()`") from error
        return pandas.DataFrame(self.trials()).set_index("trial")

    def choice(self) -> Choice:
        """The trial to use and why: a confirmation recommends it, the model believes in it, or it has the best value.

        Raises `NegativeAnswer` if no trial is complete.
        """
        from search.study.recommendation import require_choice

        with self._reading() as (study, _):
            return require_choice(study)

    def configuration(self, trial: int | None = None, *, searched: bool = False) -> tuple[Exported, str]:
        """The best configuration, complete enough to train again anywhere, and a sentence on why it is this one.

        Args:
            trial: the number of another trial.
            searched: take the trial with the best value, even if another one was confirmed or is believed in.

        Raises:
            NegativeAnswer: no trial is complete.
            DefinitionError: there is no such trial, or it cannot be trained again.
        """
        from search.exporting.export import choose_trial, exported_of

        with self._reading() as (study, _):
            chosen, why = choose_trial(study, trial, searched=searched)
            return exported_of(study, chosen), why

    def export(self, file: str | Path, trial: int | None = None, *, searched: bool = False, force: bool = False) -> Path:
        """Writes the best configuration as YAML, which `islr-search retrain` trains again. `force`: replace an existing file.

        The others: see `configuration`.
        """
        from data_utils.files import write_atomically
        from search.exporting.export import export_text

        if Path(file).exists() and not force:
            raise DefinitionError("the file exists already", where=str(file), hint="name another, or say `force=True`")
        write_atomically(Path(file), export_text(*self.configuration(trial, searched=searched)).encode())
        return Path(file)

    def export_model(self, folder: str | Path, trial: int | None = None, *, searched: bool = False, onnx: bool = False) -> Path:
        """Writes a model that the confirmation trained to a new folder, for `islr-search predict` and `model.load_bundle`.

        `onnx`: whether to write it as ONNX too. The others: see `configuration`.

        Raises:
            NegativeAnswer: there is no trained model, since the trial was not confirmed.
            BundleError: the folder exists.
        """
        from search.exporting.export import choose_trial, exported_of
        from search.exporting.writing import export_model
        from search.study.trials import trial_configs

        with self._reading() as (study, storage):
            chosen, why = choose_trial(study, trial, searched=searched)
            exported, configs = exported_of(study, chosen), trial_configs(chosen)
            export_model(study, storage, exported, configs, Path(folder), runs=self.runs, onnx=onnx, why=why)
        return Path(folder)

    def report(self) -> Report:
        """Everything about the study as one HTML page, which a notebook shows and `save` writes."""
        from search.reporting.facts import Facts
        from search.reporting.report import Report, report_html

        with self._reading() as opened:
            return Report(report_html(Facts(*opened, url=self.storage, runs=self.runs)))
