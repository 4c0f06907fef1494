"""The programs that measure: they run, and their figures fit together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launch import ROOT, environment

from model.kernel.library import NoKernel, load_library

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # seconds on an idle machine


def measured(tmp_path: Path, program: str, *options: str) -> dict[str, Any]:
    """The JSON output of a program."""
    command = [sys.executable, str(ROOT / "benchmarks" / program), "--json", *options]
    answer = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_training(tmp_path: Path) -> None:
    """Every side is measured, and the ratios are those of the seconds."""
    try:
        library = load_library("float32")
    except NoKernel as error:
        pytest.skip(str(error))
    result = measured(tmp_path, "training.py", "--epochs", "1", "--clips", "24")
    sides = {"article", "article, one thread", "ours, PyTorch", "ours"}
    assert library.instructions in result["kernel"]
    for field in ("cpu_s", "cpu_min_s", "wall_s", "peak_mb", "cpu_ratios", "cpu_ratios_of_min", "gemm_shares", "epochs"):
        assert set(result[field]) == sides, field
    assert result["cpu_ratio"] == result["cpu_ratios"]["article"] > result["cpu_ratios"]["ours"] == 1
    assert result["gemm_share"] == pytest.approx(result["gemm_s"] / result["cpu_s"]["ours"])
    assert set(result["workers"]) == {"ours, PyTorch", "ours"}
    assert [row["variant"] for row in result["variants"]][:2] == ["20 clips in all", "batches of 128 clips"]
