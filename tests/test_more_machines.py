"""Runs the commands of `docs/several-machines.md`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from launch import ROOT, STORAGE, TINY_STUDY, environment, stored_trials

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def commands() -> list[str]:
    """The command lines of the page, in order."""
    text = (ROOT / "docs" / "several-machines.md").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def test_the_page_says_how(place: Path, tiny: Path, postgres_url: str) -> None:
    """From a laptop's SQLite to a server, by two runs at once, on a Ray cluster, and back: nothing lost, nothing twice."""
    ray = pytest.importorskip("ray", reason="Ray, the extra `ray`, is not installed")
    from ray.cluster_utils import Cluster

    (place / "tiny.yaml").unlink()
    (place / "letters.yaml").write_text(TINY_STUDY, encoding="utf-8")
    (place / STORAGE).write_text(postgres_url, encoding="utf-8")
    lines = commands()
    assert [line.split()[0] for line in lines] == ["pip", "export", *["islr-search"] * 4, "ray", "ray", *["islr-search"] * 2]
    assert lines[1].startswith("export SEARCH_STORAGE=postgresql://")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    try:
        env = {
            **environment({"SEARCH_DATA": str(tiny), "SEARCH_STORAGE": postgres_url, "RAY_ADDRESS": cluster.address}),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        said = {}
        for line in [line for line in lines if line.startswith("islr-search")]:
            on_two_machines = line == "islr-search run letters.yaml --trials 20"
            runs = [
                subprocess.Popen(
                    ["bash", "-c", f"{line} --runs {host}" if on_two_machines else line],
                    cwd=place,
                    env=env,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for host in (("runs", "other") if on_two_machines else ("runs",))
            ]
            for run in runs:
                out, err = run.communicate(timeout=300)
                assert run.returncode == 0, (line, out, err)
                said[line] = out + err
    finally:
        cluster.shutdown()
        assert not ray.is_initialized()
    trials = stored_trials(place, "letters")
    assert Counter(trial.state.name for trial in trials) == {"COMPLETE": 30}
    assert len({tuple(trial.params.values()) for trial in trials}) == 30
    assert [f"{count} of {count} trials finished" for count in (6, 20, 30)] == [
        next(text for text in text.splitlines() if "trials finished" in text).split(" (")[0].removeprefix("search   ")
        for line, text in said.items()
        if " run " in line
    ]
    assert (place / "letters.db").exists()
