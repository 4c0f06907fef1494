"""A worker imports only what it needs: each import costs its start time and its memory, times the number of workers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from launch import environment
from test_engine_contract import job_of, trial_clips_of

from data_utils.prepared import fingerprint
from search.engines.job_run import Setup

pytestmark = pytest.mark.slow

NOT_NEEDED = (
    *("torch._dynamo", "torch._inductor", "torch.onnx", "sympy"),  # PyTorch's compiler: more than a second and 70 MB
    *("optuna", "sqlalchemy", "alembic", "psycopg", "ray", "h5py", "pyarrow", "pydantic"),
    *("scipy", "sklearn", "pandas", "plotly", "matplotlib", "jinja2", "rich", "typer", "psutil", "onnx"),
)

CODE = f"""
import sys
from search.engines.worker import JobRun, open_trial_clips
import pickle
setup, job = pickle.load(sys.stdin.buffer)
run = JobRun(job, open_trial_clips(setup, print))
events = [type(event).__name__ for event in run.start()]
print(*events, sorted(set({NOT_NEEDED!r}) & sys.modules.keys()))
"""


def test_a_worker_imports_only_what_it_needs(tiny: Path, tmp_path: Path) -> None:
    """After a trial's first epoch on prepared clips, with every option of the training that has code of its own."""
    clips = trial_clips_of(tiny, tmp_path)
    job = job_of(0, tmp_path, train__optimizer="adamw", train__weight_decay=0.1, train__clip_norm=1.0, train__ema=0.9)
    clips.folds(job.configs.preprocess)
    setup = Setup(tiny, tmp_path, clips.split, fingerprint(clips.data), gpu=None)
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=pickle.dumps((setup, job)), env=environment(), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "JobStarted StepDone []"
