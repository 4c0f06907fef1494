"""Files of trials that optuna-dashboard shows: all in one folder, and named by attributes that other programs copy too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ARTIFACTS = "artifacts:"
"""How the keys of attributes begin in which Optuna keeps the artifacts of a trial. The rest is a file's name in the folder."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OURS = re.compile(r"curve\.csv|config\.yaml|confusion\.(svg|png)")
"""Names of the files that this tool adds. People add others."""


def artifact_folder(runs: Path) -> Path:
    """The folder of the files that optuna-dashboard shows of trials."""
    return runs / "artifacts"


def our_artifacts(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The names of the files that this tool has added to a trial, by their names in the folder, which Optuna has made.

    Anything else under such a key is left out, above all a path out of the folder.
    """
    names = {key.removeprefix(ARTIFACTS): _name(value) for key, value in attributes.items() if key.startswith(ARTIFACTS)}
    return {id: name for id, name in names.items() if _ID.fullmatch(id) and _OURS.fullmatch(name)}


def without_our_artifacts(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a trial for a copy, which shares no file with its original: the dashboard adds new ones."""
    ours = our_artifacts(attributes)
    return {key: value for key, value in attributes.items() if key.removeprefix(ARTIFACTS) not in ours}


def _name(value: Any) -> str:
    try:
        return str(json.loads(value)["filename"])
    except (TypeError, ValueError, LookupError):  # a person has deleted the file, or another program wrote the attribute
        return ""
