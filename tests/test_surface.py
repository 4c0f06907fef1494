"""The public interface that users and scripts rely on. Adding a flag or name is a decision: list it here."""

from __future__ import annotations

import dataclasses
import enum
import os
from typing import get_args

import typer

from data_utils.cli import app as data_app
from search.cli import app
from search.definition.assignments import SECTIONS
from search.definition.pruners import PRUNERS
from search.definition.samplers import SAMPLERS
from search.definition.settings import settings
from search.errors import ExitCode
from search.events import SCHEMA, Event, event_name
from search.exporting.export import EXPORT_SCHEMA, Exported

STORAGE = "--storage=sqlite:///runs/studies.db"
COMMANDS = {
    "run": [
        "study=None",
        "--trials=None",
        "--more=None",
        "--timeout=None",
        "--data=None",
        STORAGE,
        "--runs=runs",
        "--set=[]",
        "--as=None",
        "--seed=0",
        "--device=auto",
        "--workers=None",
        "--engine=None",
        "--address=None",
        "--trial-timeout=None",
        "--max-failures=10",
        "--max-restarts=3",
        "--lease=1m",
        "--storage-patience=10m",
        "--allow-wider=False",
        "--from=None",
        "--from-best=5",
        "--dry-run=False",
        "--progress/--no-progress=True",
        "--json=False",
    ],
    "status": ["study=None", STORAGE, "--watch=False", "--json=False"],
    "list": [STORAGE, "--json=False"],
    "trials": ["study=None", STORAGE, "--format=None", "--top=None", "--output=None"],
    "show": ["study=None", "trial=None", STORAGE, "--runs=runs", "--json=False"],
    "confirm": [
        "study=None",
        "--top=8",
        "--seeds=8",
        "--data=None",
        STORAGE,
        "--runs=runs",
        "--device=auto",
        "--workers=None",
        "--engine=None",
        "--address=None",
        "--max-restarts=3",
        "--lease=1m",
        "--storage-patience=10m",
        "--progress/--no-progress=True",
        "--json=False",
    ],
    "test": ["study=None", "--data=None", STORAGE, "--runs=runs", "--again=False", "--json=False"],
    "analyze": ["study=None", STORAGE, "--json=False"],
    "report": ["study=None", "other=None", STORAGE, "--runs=runs", "--output=None"],
    "export": [
        "study=None",
        STORAGE,
        "--output=None",
        "--force=False",
        "--trial=None",
        "--searched=False",
        "--model=None",
        "--onnx=False",
        "--runs=runs",
    ],
    "retrain": [
        "file=None",
        "--data=None",
        "--output=None",
        "--seed=None",
        "--device=None",
        "--all-signers=False",
        "--onnx=False",
        "--runs=runs",
    ],
    "predict": ["bundle=None", "files=None", "--top=3", "--order=None", "--output=None", "--device=auto", "--json=False"],
    "copy": ["--to=None", "study=None", STORAGE, "--runs=runs"],
    "dashboard": ["study=None", STORAGE, "--runs=runs", "--host=127.0.0.1", "--port=8080", "--print-command=False"],
    "stop": ["study=None", STORAGE, "--wait/--no-wait=True"],
    "rename": ["study=None", "new=None", STORAGE, "--runs=runs", "--yes=False"],
    "delete": ["study=None", STORAGE, "--runs=runs", "--yes=False"],
    "doctor": ["--data=None", STORAGE, "--runs=runs", "--json=False"],
}
_IMPORT = [
    "--swap-hands=None",
    "--mirrored=None",
    f"--workers={os.cpu_count() or 1}",
    "--skip-broken=False",
    "--json=False",
]
_IMPORT_NPY = ["source=None", "folder=None", "--signer=None", "--layout=None", "--order=None", *_IMPORT]
DATA_COMMANDS = {
    "check": ["folder=None", f"--workers={os.cpu_count() or 1}", "--json=False"],
    "info": ["folder=None", f"--workers={os.cpu_count() or 1}", "--json=False", "--overview=None"],
    "synth": ["folder=None", "--clips=480", "--signs=10", "--signers=10", "--seed=0"],
    "import-kaggle": ["source=None", "folder=None", "--top=None", "--signs=None", "--signer=None", *_IMPORT],
    "import-pose": [
        *("source=None", "folder=None", "--index=None", "--signer=None", "--layout=None", "--words=None", "--min-signers=1"),
        *_IMPORT,
    ],
    "import-npy": _IMPORT_NPY,
    "import-hdf5": ["source=None", "folder=None", "--order=None", *_IMPORT],
    "import-holistic": _IMPORT_NPY,
    "import-video": ["source=None", "folder=None", "--signer=None", "--layout=None", *_IMPORT[1:]],
    "setup-video": ["--python=None", "--remove=False"],
}
VARIABLES = {"--data": "SEARCH_DATA", "--storage": "SEARCH_STORAGE", "--runs": "SEARCH_RUNS"}
EXIT_CODES = {"DONE": 0, "NO": 1, "WRONG_INPUT": 2, "RESOURCE": 3, "BUG": 4, "INTERRUPTED": 130, "TERMINATED": 143}


def shown(value: object) -> str:
    """A default as typed on the command line."""
    return str(value.value if isinstance(value, enum.Enum) else value)


def surface(program: typer.Typer) -> dict[str, list[str]]:
    """All commands with arguments, options and defaults, in order."""
    group = typer.main.get_command(program)
    return {
        name: [f"{'/'.join([*p.opts, *p.secondary_opts])}={shown(p.default)}" for p in command.params]
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }


def test_commands_and_options() -> None:
    """Every command, option and default is listed here."""
    assert surface(app) == COMMANDS
    assert surface(data_app) == DATA_COMMANDS


def test_exit_codes() -> None:
    """Scripts rely on these numbers."""
    assert {code.name: code.value for code in ExitCode} == EXIT_CODES


def test_environment_variables() -> None:
    """Every command reads data, storage and runs from the environment too, and nothing else."""
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            assert parameter.envvar == VARIABLES.get(parameter.opts[0]), f"{name} {parameter.opts}"


def test_keys_of_a_study_file() -> None:
    """The sections of a study file, and the options of samplers and pruners."""
    sections = "about objective trials time stagnation repeats sampler pruner resources data fixed space baseline"
    assert " ".join(SECTIONS) == sections
    kinds = {**SAMPLERS, **PRUNERS}
    assert {name: {field.name: field.default for field in dataclasses.fields(kind)} for name, kind in kinds.items()} == {
        "tpe": {"startup": 10},
        "gp": {"startup": 8},
        "cmaes": {"startup": 1, "population": None},
        "random": {},
        "qmc": {"sequence": "sobol", "scramble": True},
        "grid": {},
        "nsga2": {"population": 20},
        "median": {"startup": 5, "warmup_epochs": 10},
        "none": {},
        "percentile": {"keep": 25.0, "startup": 5, "warmup_epochs": 10},
        "hyperband": {"min_epochs": 5, "reduction": 3},
        "asha": {"min_epochs": 5, "reduction": 3},
        "patient": {"patience": 10, "min_gain": 0.0, "wraps": "median", "startup": 5},
        "wilcoxon": {"p": 0.1, "startup": 2},
        "threshold": {"upper": dataclasses.MISSING, "warmup_epochs": 10},
    }


def test_settings_and_their_defaults() -> None:
    """Changing a default would change the meaning of old study files."""
    assert {key: setting.default for key, setting in settings().items()} == {
        "model.width": 64,
        "model.layers": 2,
        "model.heads": 2,
        "model.ffn_width": 256,
        "model.dropout": 0.1,
        "model.activation": "relu",
        "model.norm_first": True,
        "model.tail_norm": True,
        "model.bias": True,
        "model.pooling": "none",
        "model.init": "sound",
        "train.lr": 0.0003,
        "train.label_smoothing": 0.0,
        "train.epochs": 50,
        "train.batch_size": 32,
        "train.label_smoothing_over": "all",
        "train.optimizer": "adam",
        "train.weight_decay": 0.0,
        "train.warmup_epochs": 0,
        "train.schedule": "constant",
        "train.clip_norm": 0.0,
        "train.ema": 0.0,
        "train.patience": 20,
        "train.kernel": "auto",
        "train.precision": "float32",
        "preprocess.align": "framewise",
        "preprocess.scale": "unique",
        "preprocess.missing": "zero",
        "preprocess.right_hand_origin": "reference",
        "preprocess.mask": "lengths",
        "augment.flip": 0.0,
        "augment.crop": 0.0,
        "augment.crop_least": 0.5,
        "augment.warp": 0.0,
        "augment.warp_most": 2.0,
        "augment.affine": 0.0,
        "augment.affine_scope": "body",
        "augment.affine_shift": 0.1,
        "augment.affine_scale": 1.5,
        "augment.affine_rotate": 30.0,
        "augment.affine_skew": 30.0,
        "augment.drop_frames": 0.0,
        "augment.drop_frames_share": 0.2,
        "augment.drop_parts": 0.0,
        "augment.noise": 0.0,
        "augment.noise_sd": 0.01,
    }


EVENTS = """
run_started: study about data words parts clips device workers storage runs finished target epochs space objectives folds trainings run best unit caution place
notice: text
working: what done total
data_prepared: done total
trial_started: trial params epochs done remark
epoch_finished: trial record step
worker_died: trial reason deaths allowed device_failed
trial_finished: trial state params value values val_top1 epochs seconds is_best finished target reason
run_finished: study finished target counts best baseline front edges noise seconds stopped_by ended_by continue_with believed caution
run_failed: error exit_code
confirm_finished: study confirmed seconds
"""  # noqa: E501
EXPORTED = (
    "schema study study_id about trial exported seed order_seed first_order stack recorded baseline front confirmed sealed "
    "objective repeats model train preprocess augment data made_with"
)


def test_events_and_their_fields() -> None:
    """Programs that read `--json` rely on these."""
    assert SCHEMA == 1
    lines = [f"{event_name(kind)}: {' '.join(field.name for field in dataclasses.fields(kind))}" for kind in get_args(Event)]
    assert lines == EVENTS.strip().splitlines()


def test_keys_of_an_exported_file() -> None:
    """Exported files outlive the version that wrote them."""
    assert EXPORT_SCHEMA == 2
    assert " ".join(field.name for field in dataclasses.fields(Exported)) == EXPORTED
