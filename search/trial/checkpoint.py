"""Put aside and taken up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from data_utils.files import PART_SUFFIX
from data_utils.prepared import fingerprint
from search.trial.clips import TrialClips
from search.trial.job import Job

CHECKPOINT = "checkpoint"
"""A file of this name in a trial's folder, from its first epoch until it ends."""

_SAVING_SHARE = 0.01
"""Writing checkpoints takes about this share of the time: after each epoch where epochs are long, every few where they are
short."""

_SECOND_SAVE_S = 1.0
"""How long after the first checkpoint the next one may come: the first says little of what one costs."""


def remove_checkpoint(folder: Path) -> None:
    """Deletes the checkpoint of a trial that has ended, and what killed processes left half written.

    Raises:
        OSError: it cannot be deleted.
    """
    for path in (folder / CHECKPOINT, *folder.glob(f".*{PART_SUFFIX}")):
        path.unlink(missing_ok=True)


def _about(job: Job, trial_clips: TrialClips, machine: dict[str, Any]) -> str:
    """What decides a trial's numbers. A checkpoint that was made with anything else is of no use."""
    about = {
        "seed": job.seed,
        "settings": job.configs.as_dict(),
        "data": fingerprint(trial_clips.data),
        **trial_clips.split.parts(),
        "folds": trial_clips.split.folds,
        "plan": dataclasses.asdict(job.plan),
        "made_with": {name: value for name, value in machine.items() if name != "optuna"},  # it has no part in training
    }
    return json.dumps(about, sort_keys=True)
