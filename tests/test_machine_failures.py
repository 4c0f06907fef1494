"""What a search does when the machine fails: memory runs out, a GPU breaks, workers die."""

from __future__ import annotations

import contextlib
import gc
import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Cli
from launch import CONFIRM, stored_trials, workers
from optuna.trial import TrialState
from pretended_gpu import Failure, pretended_environment, pretended_gpu
from test_engine_contract import events_of, job_of, trial_clips_of

from data_utils.prepared import fingerprint
from data_utils.splits import Split
from search.definition.trial_attributes import attribute
from search.engines import devices, limits
from search.engines.engine import Engine, EngineEvent, JobDone, JobStarted, StepDone, WorkerLost
from search.engines.inline import InlineEngine
from search.engines.job_run import JobAccepted, Setup
from search.engines.processes import ProcessEngine
from search.errors import ResourceError
from search.running.machine_failures import MachineFailures, with_advice
from search.study.companion import CANDIDATE
from search.trial.trial_run import TrialRun

CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
ADVICE = "try a smaller batch_size in a new study (`--as NAME`)"
KILLED = "it was killed by SIGKILL (out of memory?)"
OTHERS = "it trained several at once"
QUICK = ("--set", "epochs=1")

Break = Callable[..., None]


@pytest.fixture
def break_trials(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Lets the next steps of trials raise errors, by number; a text stands for a worker that is killed."""
    real_step, real_event = TrialRun.next_step, InlineEngine.next_event
    ahead: dict[int, list[Exception | str]] = {}
    before: list[weakref.ref[TrialRun]] = []

    def next_step(run: TrialRun) -> object:
        gone = [one for one in before if one() is not run]
        assert not any(one() for one in gone), "what a failed attempt held is given back before the next"
        if errors := ahead.get(run._job.trial):
            before.append(weakref.ref(run))
            error = errors.pop(0)
            assert isinstance(error, Exception)
            raise type(error)(*error.args)  # a new one: its traceback holds the run
        return real_step(run)

    def next_event(engine: InlineEngine, timeout_s: float) -> EngineEvent | None:
        trial = None if engine._job is None else engine._job.trial
        if trial is not None and (errors := ahead.get(trial)) and isinstance(errors[0], str):
            engine.close()
            return WorkerLost(trial, errors[0], with_others=errors.pop(0) == OTHERS)
        return real_event(engine, timeout_s)

    monkeypatch.setattr(TrialRun, "next_step", next_step)
    monkeypatch.setattr(InlineEngine, "next_event", next_event)

    def plan(errors: dict[int, list[Exception | str]]) -> None:
        ahead.clear()
        ahead.update(errors)

    return plan


def found(place: Path, study: str = "tiny") -> list[tuple[str, str]]:
    """State and reason of each trial."""
    return [(trial.state.name, attribute(trial, "reason", "")) for trial in stored_trials(place, study)]


def test_a_trial_is_tried_once_more(place: Path, tiny: Path, cli: Cli, break_trials: Break) -> None:
    """Memory that ran out once costs nothing. Twice, the trial fails with its reason, and the search goes on."""
    break_trials(
        {
            1: [RuntimeError(CUBLAS)],
            2: [MemoryError("Unable to allocate 7 TiB")] * 2,
            3: [torch.OutOfMemoryError("CUDA out of memory.")],
            4: [OTHERS] * 9,
        }
    )
    done = cli("run", "tiny.yaml", "--data", tiny, *QUICK)
    assert done.code == 0
    assert f"trial 1 is tried once more: out of memory on the GPU: {CUBLAS}" in " ".join(done.err.split())
    lost = ("FAIL", f"out of memory: Unable to allocate 7 TiB; {ADVICE}")
    assert found(place) == [("COMPLETE", "")] * 2 + [lost] + [("COMPLETE", "")] * 2
    trials = stored_trials(place)
    assert attribute(trials[1], "deaths") == [f"out of memory on the GPU: {CUBLAS}"], "readable for earlier versions"
    assert len(attribute(trials[2], "deaths")) == 2
    assert attribute(trials[4], "deaths", []) == [], "others were there too"


@pytest.mark.parametrize(
    ("errors", "runs", "got"),
    [
        ([RuntimeError(CUBLAS)] * 2, 1, f"out of memory on the GPU: {CUBLAS}; {ADVICE}"),
        ([KILLED] * 2, 2, f"its worker died 2 times; the last time: {KILLED}"),
    ],
    ids=["memory", "killed"],
)
def test_the_baseline_is_never_lost(
    errors: list[Exception | str], runs: int, got: str, place: Path, tiny: Path, cli: Cli, break_trials: Break
) -> None:
    """A baseline that the machine failed for good stays to be resumed, in every run again."""
    words = ("run", "tiny.yaml", "--data", tiny, *QUICK, "--trials", 2, "--max-restarts", 1)
    seeds = set()
    for _ in range(runs):
        break_trials({0: list(errors)})
        stopped = cli(*words)
        assert stopped.code == 3
        assert f"error: the machine failed trial 0, the baseline\ngot: {got}\nhint: " in stopped.err
        assert "It is not recorded as failed: the same command tries it again" in stopped.err
        assert found(place) == [("RUNNING", "")]
        seeds.add(attribute(stored_trials(place)[0], "seed"))
    assert cli(*words).code == 0
    assert found(place) == [("COMPLETE", "")] * 2
    assert {attribute(stored_trials(place)[0], "seed")} == seeds
    assert stored_trials(place)[0].params == {"label_smoothing": 0.0, "lr": 1e-3, "dropout": 0.1}


def test_three_in_a_row_stop_the_run(place: Path, tiny: Path, cli: Cli, break_trials: Break) -> None:
    """A trial that ends otherwise starts the count anew. The third in a row stays for the next run, which begins with it."""
    words = ("run", "tiny.yaml", "--data", tiny, *QUICK, "--trials", 5)
    failed: dict[int, list[Exception | str]] = {n: [RuntimeError(CUBLAS)] * 2 for n in (1, 2, 4, 6)}
    break_trials({**failed, 5: [KILLED] * 4})
    stopped = cli(*words)
    assert stopped.code == 3
    last = f"got: the last: trial 6: out of memory on the GPU: {CUBLAS}; {ADVICE}\n"
    assert f"error: the machine failed in 3 trials in a row\n{last}" in stopped.err
    assert "hint: does another program use the memory? The same command goes on, with this trial first" in stopped.err
    states = ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "FAIL", "FAIL", "RUNNING"]
    assert [state for state, _ in found(place)] == states
    break_trials({})
    assert cli(*words).code == 0
    assert [state for state, _ in found(place)] == [*states[:6], *["COMPLETE"] * 3]


def test_one_gpu_of_several_stops_the_run(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that end well on another GPU do not hide it. It is named, and the third trial that it fails is not lost."""
    real = InlineEngine.next_event

    def next_event(engine: InlineEngine, timeout_s: float) -> EngineEvent | None:
        trial = -1 if engine._job is None else engine._job.trial
        if trial % 2 == 1:
            engine.close()
            return WorkerLost(trial, "the GPU failed: CUDA error", device_failed=True, gpu="7")
        event = real(engine, timeout_s)
        return replace(event, gpu="4") if isinstance(event, JobStarted) else event

    monkeypatch.setattr(InlineEngine, "next_event", next_event)
    stopped = cli("run", "tiny.yaml", "--data", tiny, *QUICK, "--trials", 9)
    assert stopped.code == 3
    assert "trial 1 is tried once more: the GPU failed: CUDA error, on GPU 7" in " ".join(stopped.err.split())
    last = "got: the last: trial 5: the GPU failed: CUDA error, on GPU 7\n"
    assert f"error: GPU 7 failed in 3 trials in a row\n{last}" in stopped.err
    hint = "The same command goes on, with this trial first; with `CUDA_VISIBLE_DEVICES=4` before it, without this GPU"
    assert hint in " ".join(stopped.err.split())
    assert [state for state, _ in found(place)] == [*["COMPLETE", "FAIL"] * 2, "COMPLETE", "RUNNING"]


def test_fewer_workers_are_advised_where_they_help() -> None:
    """Only to trials that share the device."""
    lost = WorkerLost(0, "out of memory: why", device_failed=True)
    assert with_advice(lost) == f"out of memory: why; {ADVICE}"
    fewer = ADVICE.replace("try", "try fewer --workers, or")
    assert with_advice(replace(lost, shares_device=True)) == f"out of memory: why; {fewer}"
    assert with_advice(WorkerLost(0, "the GPU failed: why", device_failed=True)) == "the GPU failed: why"


def test_what_counts_against_a_gpu() -> None:
    """Failures at the same time count once, memory that ran out only if the trial is lost; a trial that ended well ends it."""
    failures = MachineFailures("trial")

    def verdict(trial: int, reason: str = "the GPU failed: why", *, is_final: bool = False) -> bool:
        lost = WorkerLost(trial, reason, device_failed=True, gpu="1")
        return failures.verdict(f"trial {trial}", lost, reason if is_final else "", is_baseline=False) is not None

    for trial in range(4):
        failures.start(trial, "1")
    assert not any(verdict(trial) for trial in range(4)), "one incident"
    for trial in range(2):
        failures.start(trial, "1")
        assert not verdict(trial, "out of memory on the GPU: why")
    assert not verdict(1, "out of memory on the GPU: why", is_final=True)
    failures.start(2, "1")
    assert verdict(2)
    failures.end("1", TrialState.PRUNED, by_machine=False)
    failures.start(3, "1")
    assert not verdict(3)


def test_a_broken_gpu_ends_a_run_without_workers(
    place: Path, tiny: Path, cli: Cli, break_trials: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process cannot use the GPU any more, whether it failed in training or in saving; the next run resumes the trial."""
    broken = RuntimeError("CUDA error: unspecified launch failure")
    words = ("run", "tiny.yaml", "--data", tiny, "--trials", 2)
    break_trials({1: [broken]})
    stopped = cli(*words)
    assert (stopped.code, found(place)) == (3, [("COMPLETE", ""), ("RUNNING", "")])
    assert f"error: the GPU failed in trial 1\ngot: {broken}\nhint: the same command resumes it; with `--engine" in stopped.err
    with monkeypatch.context() as patch:
        patch.setattr(TrialRun, "save", lambda *args, **options: (_ for _ in ()).throw(broken))
        stopped = cli(*words)
    assert (stopped.code, found(place)) == (3, [("COMPLETE", ""), ("RUNNING", "")])
    assert f"error: the GPU failed in trial 1\ngot: {broken}\n" in stopped.err
    assert cli(*words).code == 0
    assert found(place) == [("COMPLETE", "")] * 2


def test_a_confirmation_does_not_lose_its_baseline(searched_copy: Path, cli: Cli, break_trials: Break) -> None:
    """A training of the baseline that the machine failed stays to be resumed too."""
    break_trials({number: [RuntimeError(CUBLAS)] * 2 for number in range(99)})
    stopped = cli(*CONFIRM)
    assert stopped.code == 3
    *before, last = stored_trials(searched_copy, "tiny/confirm")
    assert (last.state.name, last.params[CANDIDATE]) == ("RUNNING", 0)
    assert f"the machine failed training {last.number}, the baseline" in stopped.err
    assert all(trial.params[CANDIDATE] for trial in before)


def test_a_baseline_lost_by_an_earlier_version(
    place: Path, tiny: Path, cli: Cli, break_trials: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands say what it means and how to go on."""
    monkeypatch.setattr(MachineFailures, "verdict", lambda *args, **options: None)
    break_trials({0: [RuntimeError(CUBLAS)] * 2})
    words = ("run", "tiny.yaml", "--data", tiny, *QUICK, "--trials", 1)
    assert cli(*words).code == 0
    says = "the machine failed the baseline, trial 0 (out of memory on the GPU: "
    for shown in (cli("status", "tiny").out, cli(*words).err):
        text = " ".join(shown.split())
        assert says in text
        assert "`islr-search confirm tiny` trains it again, and `--as NAME` starts a new study with a baseline" in text


def test_other_commands(searched_copy: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that fails in any command is no bug of the program."""
    assert cli("export", "tiny", "--output", "best.yaml").code == 0
    monkeypatch.setattr("model.training.Training.run_epoch", lambda self: (_ for _ in ()).throw(RuntimeError(CUBLAS)))
    failed = cli("retrain", "best.yaml")
    assert failed.code == 3
    assert f"error: out of memory on the GPU\ngot: {CUBLAS}\nhint: does another program use it? `islr-search doc" in failed.err

    old = "The NVIDIA driver on your system is too old (found version 12040)"
    monkeypatch.setattr("model.training.Training.run_epoch", lambda self: (_ for _ in ()).throw(RuntimeError(old)))
    with pretended_gpu(failures=[Failure(old, of="product", always=True)]):
        failed = cli("retrain", "best.yaml", "--device", "cpu")
    assert failed.code == 3
    remedy = "update the driver, or install a PyTorch for an older CUDA (pytorch.org/get-started/locally shows the command)"
    assert f"error: the GPU failed\ngot: {old}\nhint: {remedy}; `--device cpu` does without it" in failed.err


class TestWarmUp:
    """A worker tries its device before it says that it is ready."""

    def test_the_device_is_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        devices.warm_up("cpu")
        with pretended_gpu() as gpu:
            devices.warm_up("cuda")
            gc.collect()
            assert gpu.left == gpu.memory, "it keeps nothing there"
            devices.warm_up("cuda", workers=4)
            assert gpu.left < gpu.memory / 4, "each of four workers has its share"
        failure = Failure("CUDA error: unspecified launch failure", of="product")
        with pretended_gpu(failures=(failure,)), pytest.raises(RuntimeError, match="unspecified launch failure"):
            devices.warm_up("cuda")
        monkeypatch.setattr(devices, "_product", lambda device: torch.full((2, 2), float(device == "cuda")))
        with pytest.raises(ResourceError, match="a GPU computes wrong numbers"):
            devices.warm_up("cuda")

    @pytest.mark.slow
    def test_a_worker_whose_gpu_fails(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its job is tried again in a fresh worker."""
        in_job = Failure(CUBLAS, at=600, once=str(tmp_path / "job"))  # after the warm-up, which needs a third of these
        job = replace(job_of(0, tmp_path), device="cuda")
        with self.engine(tiny, tmp_path, monkeypatch, in_job) as engine:
            *_, lost = events_of(engine, job)
            assert lost == WorkerLost(0, f"out of memory on the GPU: {CUBLAS}", device_failed=True, gpu="0")
            assert not workers()
            assert [type(event) for event in events_of(engine, job.resumed())] == [JobStarted, *[StepDone] * 4, JobDone]

    @pytest.mark.slow
    def test_a_gpu_that_always_fails(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The run stops before a trial is lost, and names the reason."""
        monkeypatch.setattr(limits, "MAX_STARTUP_FAILURES", 1)
        broken = Failure("No CUDA GPUs are available", of="product", always=True)
        with self.engine(tiny, tmp_path, monkeypatch, broken) as engine, pytest.raises(ResourceError) as caught:
            events_of(engine, replace(job_of(0, tmp_path, epochs=1), device="cuda"))
        assert caught.value.what == "workers end before they start training"
        assert caught.value.where == "GPU 0"
        assert caught.value.got == "1 in a row; the last: the GPU failed: No CUDA GPUs are available"

    def test_one_of_two_gpus_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """That the other one trains does not hide it."""

        class Child:
            def __init__(self, work: object, setup: Setup, name: str) -> None:
                self.gpu, self.pipe = setup.gpu, self

            def recv(self) -> JobAccepted:
                if self.gpu == "7":
                    raise EOFError
                return JobAccepted()

            how_it_ended = send = end = lambda self, *given: "it exited with code 1"

        monkeypatch.setattr("search.engines.processes.Child", Child)
        setup = Setup(tmp_path, tmp_path, Split((), (), ()), "", gpu=None)
        engine = ProcessEngine(setup, slots=2, gpus=("4", "7"), trial_timeout_s=math.inf, emit=lambda event: None)
        for trial in range(2):
            engine.start(job_of(trial, tmp_path))
        assert not any(worker.shares_device for worker in engine._workers), "each GPU trains one"
        for _ in range(limits.MAX_STARTUP_FAILURES - 1):
            for one in list(engine._workers):
                engine._listen(one)
        with pytest.raises(ResourceError) as caught:
            engine._listen(next(one for one in engine._workers if one.gpu == "7"))
        assert (caught.value.where, caught.value.got) == ("GPU 7", "4 in a row; the last: it exited with code 1")

    @contextlib.contextmanager
    def engine(self, data: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, *failures: Failure) -> Iterator[Engine]:
        """One worker on a machine with a GPU that fails."""
        for name, value in pretended_environment(failures=failures).items():
            monkeypatch.setenv(name, value)
        clips = trial_clips_of(data, runs)
        setup = Setup(data, runs, clips.split, fingerprint(clips.data), gpu=None)
        engine = ProcessEngine(setup, slots=1, gpus=("0",), trial_timeout_s=math.inf, emit=clips.emit)
        try:
            yield engine
        finally:
            engine.close()
