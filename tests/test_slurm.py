"""A search as an array of SLURM jobs: the script itself, run by bash, signalled as SLURM signals it.

What is not here is SLURM: a `scontrol` that answers with a job's state, and records what it is asked to requeue.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from launch import ROOT, command_of, environment, is_in_trial, states, stored_trials, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bash") is None, reason="the script needs bash"),
]

SCRIPT = ROOT / "studies" / "cluster" / "slurm.sh"
TOOLS = ("bash", "cat", "date", "head", "sed", "sleep", "stat", "uname")
"""Programs available to the script besides SLURM's."""

SCONTROL = """\
#!/usr/bin/env bash
case $* in
*show*) echo "JobId=70 ArrayJobId=70 JobName=search JobState=$(cat {place}/state) Reason=None" ;;
*) echo "$*" >>{place}/asked; exit $(cat {place}/answer) ;;
esac
"""


@dataclass
class Cluster:
    """A fake cluster: a working directory and a `scontrol`."""

    place: Path
    data: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def set_state(self, state: str) -> None:
        """Sets the state of every job."""
        (self.place / "state").write_text(state, encoding="utf-8")

    def asked(self) -> list[str]:
        """Requests to `scontrol`, except for states."""
        asked = self.place / "asked"
        return asked.read_text(encoding="utf-8").splitlines() if asked.exists() else []

    def start(self, *arguments: str, task: int = 0, **variables: str) -> subprocess.Popen[str]:
        """Starts one task of the array. Empty variables are not set."""
        given = {
            "PATH": str(self.place / "bin"),
            "HOME": str(self.place),
            "PYTHON": sys.executable,
            "STUDY": "tiny.yaml",
            "SEARCH_STORAGE": f"sqlite:///{self.place}/runs/studies.db",
            "SEARCH_RUNS": str(self.place / "runs"),
            "SEARCH_DATA": str(self.data),
            "SLURM_JOB_ID": str(70 + task),
            "SLURM_ARRAY_JOB_ID": "70",
            "SLURM_ARRAY_TASK_ID": str(task),
        }
        process = subprocess.Popen(
            [str(SCRIPT), *arguments],
            cwd=self.place,
            env={name: value for name, value in environment(given | variables).items() if value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Runs one task to its end. Returns exit code and stderr."""
        process = self.start(*arguments, **variables)
        return ended(process)


@pytest.fixture
def cluster(place: Path, tiny: Path) -> Iterator[Cluster]:
    """A fake cluster; its processes are killed at the end."""
    tools = place / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    (tools / "env").symlink_to("/usr/bin/env")
    write_program(tools / "scontrol", SCONTROL.format(place=place))
    (place / "answer").write_text("0", encoding="utf-8")
    made = Cluster(place, tiny)
    made.set_state("RUNNING")
    yield made
    for process in made.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def write_program(path: Path, text: str) -> None:
    """Writes an executable file."""
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for the end of a task, which leaves no processes. Returns exit code and stderr."""
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert not [p for p in psutil.process_iter() if os_session(p) == process.pid], "nothing is left running"
    return process.returncode, err


def os_session(process: psutil.Process) -> int:
    """The session of a process; 0 if it has ended."""
    try:
        return os.getsid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else 0
    except (psutil.Error, ProcessLookupError):
        return 0


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Reads a task's stderr up to a line with this text."""
    assert process.stderr is not None
    assert any(text in line for line in process.stderr), "it ended before"


def search_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The search process of a task."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = [p for p in psutil.Process(process.pid).children() if " search run " in command_of(p)]
        return bool(found)

    wait_until(is_there, process)
    return found[0]


def has_logged(place: Path, event: str, pid: int | str = "*") -> bool:
    """Whether a search has logged this event."""
    return any(f'"{event}"'.encode() in log.read_bytes() for log in place.glob(f"runs/tiny/logs/*-{pid}-*"))


def test_before_the_limit(cluster: Cluster) -> None:
    """Two tasks share a study. Told of the limit, each keeps its trial, ends, and is requeued; both end at the target."""
    command = ("--set", "epochs=100")
    tasks = [cluster.start(*command, task=task, TRIALS="3") for task in (0, 1)]
    waiting = {search_of(task).pid: task for task in tasks}
    while waiting:
        for pid, task in list(waiting.items()):
            assert task.poll() is None, task.communicate()
            if has_logged(cluster.place, "epoch_finished", pid):
                waiting.pop(pid).send_signal(signal.SIGTERM)  # to the script alone, as `--signal=B:TERM@120` asks for
        time.sleep(0.01)
    for number, (code, err) in enumerate(map(ended, tasks)):
        assert code == 143, err
        assert "stopped (SIGTERM); everything is kept." in err
        assert f"requeued 70_{number}" in err
    assert sorted(cluster.asked()) == ["requeue 70_0", "requeue 70_1"]
    cut_off = [trial for trial in stored_trials(cluster.place) if trial.state.name == "RUNNING" and trial.intermediate_values]
    assert cut_off

    tasks = [cluster.start(*command, task=task, TRIALS="3", SLURM_RESTART_COUNT="1") for task in (0, 1)]
    said = ""
    for code, err in map(ended, tasks):
        assert code == 0, err
        assert "restarts so far: 1" in err
        said += err
    for trial in cut_off:
        epoch = max(trial.intermediate_values)
        assert f"trial {trial.number} was interrupted: resuming after epoch {epoch}" in said, "no epoch is lost"
    trials = stored_trials(cluster.place)
    assert states(cluster.place) == ["COMPLETE"] * 3
    assert len({tuple(trial.params.values()) for trial in trials}) == 3
    assert all(list(trial.intermediate_values) == list(range(1, 101)) for trial in trials)
    assert len(cluster.asked()) == 2, "a finished task is not requeued"


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 1.0])
def test_while_it_starts(delay_s: float, cluster: Cluster) -> None:
    """However early the signal comes, the task ends and is requeued."""
    task = cluster.start("--set", "epochs=3000")
    read_until(task, "70_0 on ")
    time.sleep(delay_s)
    task.send_signal(signal.SIGTERM)
    code, _ = ended(task)
    assert (code, cluster.asked()) == (143, ["requeue 70_0"])


def test_cancelled(cluster: Cluster) -> None:
    """`scancel` signals every process of a job: the search stops after its epoch and nothing is requeued."""
    task = cluster.start("--set", "epochs=3000")
    wait_until(is_in_trial(cluster.place, 0), task)
    cluster.set_state("CANCELLED")
    os.killpg(task.pid, signal.SIGTERM)
    code, err = ended(task)
    assert code == 143
    assert "stopped (SIGTERM); everything is kept." in err, "a second signal would have ended it at once"
    assert "everything is kept: unless SLURM requeues it, submit the same job again" in err
    assert cluster.asked() == []


LONG = ("--set", "width=1024", "--set", "ffn_width=8192", "--set", "layers=4", "--set", "train.kernel=torch")
"""A network whose epochs take many seconds."""


def test_a_second_signal(cluster: Cluster) -> None:
    """A second signal ends the search at once, in the middle of an epoch."""
    task = cluster.start(*LONG)
    wait_until(lambda: has_logged(cluster.place, "trial_started"), task)
    time.sleep(0.5)  # the epoch begins when that is said
    task.send_signal(signal.SIGTERM)
    read_until(task, "press Ctrl-C again to stop at once")  # two that come while PyTorch computes would reach Python as one
    task.send_signal(signal.SIGTERM)
    read_until(task, "the search stops after the current epoch")
    code, err = ended(task)
    assert (code, cluster.asked()) == (143, ["requeue 70_0"])
    assert "everything is kept. Resume with" not in err, "that is said after an epoch"


def test_an_epoch_that_outlives_the_grace(cluster: Cluster) -> None:
    """It is given up before SLURM ends everything, so that the task can still be requeued."""
    task = cluster.start(*LONG, PATIENCE="1")
    wait_until(lambda: has_logged(cluster.place, "trial_started"), task)
    time.sleep(0.5)  # the epoch begins when that is said
    task.send_signal(signal.SIGTERM)
    code, err = ended(task)
    assert "the epoch takes longer than 1 s and is given up" in err
    assert (code, cluster.asked()) == (143, ["requeue 70_0"])
    assert states(cluster.place) == ["RUNNING"]


def test_a_search_that_hangs(cluster: Cluster) -> None:
    """It is killed in time, and the task is requeued."""
    task = cluster.start("--set", "epochs=3000", PATIENCE="1")
    wait_until(is_in_trial(cluster.place, 0), task)
    search_of(task).suspend()
    task.send_signal(signal.SIGTERM)
    code, _ = ended(task)
    assert (code, cluster.asked()) == (137, ["requeue 70_0"])


def test_wrong_input(cluster: Cluster) -> None:
    """An unknown study ends the task with exit code 2 and is not tried again."""
    code, err = cluster.run(STUDY="nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml" in err
    assert cluster.asked() == []


def test_a_resource_that_fails(cluster: Cluster) -> None:
    """A database that cannot be used: 3, and another try, for which the task is requeued."""
    (cluster.place / "runs").mkdir()
    (cluster.place / "runs" / "studies.db").write_text("this is no database", encoding="utf-8")
    code, _ = cluster.run()
    assert (code, cluster.asked()) == (3, ["requeue 70_0"])


@pytest.mark.parametrize(("restarts", "asked"), [("2", ["requeue 70_0"]), ("3", [])])
def test_limit_of_restarts(restarts: str, asked: list[str], cluster: Cluster) -> None:
    """A task that keeps failing is not requeued forever."""
    write_program(cluster.place / "bin" / "search", "#!/usr/bin/env bash\nexit 3\n")
    code, _ = cluster.run(PYTHON="search", RESTARTS="3", SLURM_RESTART_COUNT=restarts)
    assert (code, cluster.asked()) == (3, asked)


@pytest.mark.parametrize(
    ("code", "requeued"), [(0, False), (1, False), (2, False), (3, True), (4, False), (130, False), (137, True), (143, True)]
)
def test_exit_codes(code: int, requeued: bool, cluster: Cluster) -> None:
    """The search's exit code decides, and is the task's too. The script's arguments are passed to the search."""
    write_program(cluster.place / "bin" / "search", f'#!/usr/bin/env bash\nprintf "%s\\n" "$@"\nexit {code}\n')
    task = cluster.start("--workers", "2", "--as", "a b", PYTHON="search", TRIALS="7")
    out, _ = task.communicate(timeout=60)
    expected = ["-m", "search", "run", "tiny.yaml", "--trials", "7", "--no-progress", "--workers", "2", "--as", "a b"]
    assert out.splitlines() == expected
    assert (task.returncode, cluster.asked()) == (code, ["requeue 70_0"] * requeued)


def without_scontrol(cluster: Cluster) -> None:
    """A node without SLURM's commands."""
    (cluster.place / "bin" / "scontrol").unlink()


def refusing(cluster: Cluster) -> None:
    """SLURM does not requeue this job."""
    (cluster.place / "answer").write_text("1", encoding="utf-8")


@pytest.mark.parametrize("broken", [without_scontrol, refusing])
def test_the_job_cannot_be_requeued(broken: Callable[[Cluster], None], cluster: Cluster) -> None:
    """If the task cannot be requeued, everything is kept and the script says what to do."""
    broken(cluster)
    write_program(cluster.place / "bin" / "search", "#!/usr/bin/env bash\nexit 143\n")
    code, err = cluster.run(PYTHON="search")
    assert code == 143
    assert "the job could not be requeued; everything is kept: submit the same job again to continue" in err


def test_not_in_an_array(cluster: Cluster) -> None:
    """A job outside an array has a plain number."""
    write_program(cluster.place / "bin" / "search", "#!/usr/bin/env bash\nexit 143\n")
    cluster.run(PYTHON="search", SLURM_ARRAY_JOB_ID="", SLURM_ARRAY_TASK_ID="")
    assert cluster.asked() == ["requeue 70"]


@pytest.mark.parametrize("name", ["SEARCH_STORAGE", "SEARCH_RUNS", "SEARCH_DATA"])
def test_required_variables(name: str, cluster: Cluster) -> None:
    """Storage, folder and data must be given, so that tasks do not use separate ones by mistake."""
    code, err = cluster.run(**{name: ""})
    assert code == 2
    assert name in err
    assert cluster.asked() == []


def test_the_database_from_a_file(cluster: Cluster) -> None:
    """The storage URL may come from a private file, so that its password is in no command line. Other files are refused."""
    secret = cluster.place / ".islr-search-storage"
    secret.write_text("postgresql+psycopg://me:secret@there/studies\n", encoding="utf-8")
    secret.chmod(0o640)
    code, err = cluster.run(SEARCH_STORAGE="")
    assert code == 2
    assert f"chmod 600 {secret}" in err
    secret.chmod(0o600)
    write_program(cluster.place / "bin" / "search", '#!/usr/bin/env bash\necho "$SEARCH_STORAGE"\necho "$@" >&2\n')
    task = cluster.start(SEARCH_STORAGE="", PYTHON="search")
    out, err = task.communicate(timeout=60)
    assert out == "postgresql+psycopg://me:secret@there/studies\n"
    assert "secret" not in err
