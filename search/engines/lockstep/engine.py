"""Trains several jobs at once in one process for each GPU, in rounds: one epoch of all of its jobs, then their decisions.

If a host is lost, one of the jobs in its round may be to blame. If that happens to jobs twice, each trains in rounds of its
own from then on: so the one to blame shows, and no other is counted as failed.

All that happens between two rounds happens in a fixed order. So with one host, the same search gives the same numbers again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import wait

from search.engines.child import Child
from search.engines.engine import EngineEvent, JobInterrupted, JobStarted, StepDone, WorkerLost
from search.engines.job_run import Decision, Setup
from search.engines.limits import Clock, startup_failures
from search.engines.lockstep.host import Round, RoundAccepted, RoundDone, work
from search.engines.pool import STARTUP_S, Worker, Workers
from search.engines.worker import Ready
from search.events import Listener, Notice
from search.trial.job import Job

_MAX_TOGETHER = 2
"""So many hosts may be lost with a job and others in one round. Then it trains in rounds of its own."""


@dataclass(kw_only=True, eq=False)
class _Running:
    """A job of a host."""

    job: Job
    clock: Clock
    """The time of the rounds that it took part in."""

    slot: int
    """Its place among the jobs of all hosts."""

    is_sent: bool = False
    """Whether the host was told of it."""

    has_accepted: bool = False
    """Whether the host has received it. If the host dies from then on, the job may be to blame."""

    awaits_decision: bool = False
    num_restored: int = 0
    """Steps of its checkpoint that it has not reported again yet."""

    last_round: int = 0
    """The number of the last round that it took part in; 0 for none."""


@dataclass(kw_only=True, eq=False)
class _Host(Worker):
    child: Child
    room: int
    """How many jobs it trains at once."""

    jobs: dict[int, _Running] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)
    """Jobs that it still has, although they were canceled."""

    in_round: list[_Running] = field(default_factory=list)
    """The jobs of the round that it trains; none between two rounds."""

    suspects: list[_Running] = field(default_factory=list)
    """The jobs of its current round, or else of its last."""

    has_accepted: bool = False
    """Whether it has received the round."""

    @property
    def deadline(self) -> float:
        """When its round has taken more than the time of all its trials. Until it has received the round, `clock` counts."""
        if self.in_round and self.has_accepted:
            return max(running.clock.deadline for running in self.in_round)
        return self.clock.deadline

    def extend(self, late_s: float) -> None:
        super().extend(late_s)
        for running in self.in_round:
            running.clock.extend(late_s)

    @property
    def is_waiting(self) -> bool:
        """Whether it is between two rounds, and every job has its decision."""
        return not self.in_round and not any(running.awaits_decision for running in self.jobs.values())

    @property
    def repeating(self) -> list[_Running]:
        """Jobs that have to report steps of their checkpoints, as far as is known. The others wait for them."""
        resumed = [running for running in self.jobs.values() if running.job.is_resumed]
        return [running for running in resumed if running.num_restored or not running.is_sent]


class LockstepEngine(Workers[_Host]):
    """`slots` jobs at once, evenly on one host process for each GPU, or on a single one on the CPU."""

    slots: int = 0
    """How many jobs can run at once."""

    def __init__(
        self, setup: Setup, *, slots: int, gpus: tuple[str, ...], width: int, trial_timeout_s: float, emit: Listener
    ) -> None:
        """`gpus`: values for the hosts' CUDA_VISIBLE_DEVICES; none for the CPU. `width`: the most trainings in one stack."""
        super().__init__(trial_timeout_s, emit)
        self.slots = slots
        self._setup, self._gpus, self._width = setup, gpus, width
        self._num_hosts = min(max(len(gpus), 1), slots)
        self._startup_failures = startup_failures(gpus)
        self._losses: Counter[int] = Counter()
        """By trial, how many hosts were lost with it in a round; at least one more than `_MAX_TOGETHER` if it was alone."""

        self._num_rounds = 0
        self._asks = True
        """Whether to ask for more jobs before the next round, by returning from `next_event`."""

    @property
    def takes_jobs(self) -> bool:
        """Whether a host with a free slot is between two rounds, and nothing is left to be decided."""
        if self._events or self._is_interrupting:
            return False
        return len(self._workers) < self._num_hosts or any(
            host.is_waiting and len(host.jobs) < host.room for host in self._workers
        )

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """Waits for the end of a round. Returns None at once if there are free slots to be filled before the next round.

        Raises: same as `Workers.next_event`.
        """
        if self._asks and self.takes_jobs:
            self._asks = False
            return None
        self._send_rounds()
        return super().next_event(timeout_s)

    def advance(self, trial: int) -> None:
        """Lets a job train its next step in the next round; when jobs are being interrupted, interrupts it then."""
        host = self._host_of(trial)
        assert host is not None, "only a running job can advance"
        assert host.jobs[trial].awaits_decision, "a decision follows a step"
        host.jobs[trial].awaits_decision = False

    def cancel(self, trial: int) -> None:
        """Ends a job and forgets its events. In the middle of a round, its epoch is trained in vain."""
        self._forget_events(trial)
        if (host := self._host_of(trial)) is not None:
            self._drop(host, trial)

    def interrupt_jobs(self) -> None:
        """Interrupts jobs after their current epoch. Those that no host has begun are interrupted at once."""
        self._is_interrupting = True
        for host in list(self._workers):
            for trial in [trial for trial, running in host.jobs.items() if not (running.is_sent and host.is_ready)]:
                del host.jobs[trial]
                self._events.append(JobInterrupted(trial))
            if not host.is_ready:
                self._dismiss(host)

    def _accept(self, job: Job) -> None:
        host = self._host_for(job)
        taken = {running.slot for other in self._workers for running in other.jobs.values()}
        slot = min(set(range(len(taken) + 1)) - taken)
        host.jobs[job.trial] = _Running(job=job, clock=Clock(self._trial_timeout_s), slot=slot)
        self._asks = True

    def _host_for(self, job: Job) -> _Host:
        """A host with room: one that trains with the same seed, if that decides the order of the clips, else the emptiest."""
        hosts = [host for host in self._workers if len(host.jobs) < host.room]
        if job.order_seed is None:
            for host in hosts:
                if any(running.job.seed == job.seed for running in host.jobs.values()):
                    return host
        best = min(hosts, key=lambda host: (len(host.jobs), bool(host.in_round), host.slot), default=None)
        return self._start_host() if best is None or (best.jobs and len(self._workers) < self._num_hosts) else best

    def _start_host(self) -> _Host:
        slot = self._free_slot()
        setup = replace(self._setup, gpu=self._gpus[slot]) if self._gpus else self._setup
        child = Child(partial(work, width=self._width), setup, name=f"host {slot}")
        room = len(range(slot, self.slots, self._num_hosts))
        clock = Clock(self._trial_timeout_s)
        host = _Host(child=child, gpu=setup.gpu, shares_device=room > 1, room=room, slot=slot, clock=clock)
        self._workers.append(host)
        return host

    def _send_rounds(self) -> None:
        """Sends each host that waits its next round, unless jobs may come for it."""
        if not self._events and not (self._asks and self.takes_jobs):
            for host in self._workers:
                if host.jobs and host.is_waiting:
                    self._send_round(host)

    def _send_round(self, host: _Host) -> None:
        repeating = [] if self._is_interrupting else host.repeating
        host.in_round = host.suspects = self._next_group(repeating or list(host.jobs.values()))
        host.has_accepted = False
        host.child.send(
            Round(
                dropped=tuple(host.dropped),
                advanced=tuple(running.job.trial for running in host.in_round if running.is_sent),
                decision=Decision.INTERRUPT if self._is_interrupting else Decision.CONTINUE,
                started=tuple(running.job for running in host.in_round if not running.is_sent),
                trains=not repeating,
            )
        )
        host.dropped.clear()
        host.clock.start(0.0 if host.is_ready else -STARTUP_S)
        self._num_rounds += 1
        for running in host.in_round:
            running.is_sent, running.last_round = True, self._num_rounds
            if running.has_accepted:
                running.clock.resume()

    def _next_group(self, jobs: list[_Running]) -> list[_Running]:
        """Those of a host's jobs that train next: those whose turn is the longest ago, and of new ones the least suspect."""
        if self._is_interrupting:
            return jobs
        together = [one for one in jobs if self._losses[one.job.trial] < _MAX_TOGETHER]
        groups = [together] * bool(together) + [[one] for one in jobs if one not in together]
        return min(groups, key=lambda group: min((one.last_round, self._losses[one.job.trial]) for one in group))

    def _maintain(self) -> None:
        self._send_rounds()

    def _wait(self, timeout_s: float) -> Sequence[_Host]:
        ready = wait([host.child.pipe for host in self._workers], timeout_s)
        return [host for host in self._workers if host.child.pipe in ready]

    def _listen(self, host: _Host) -> None:
        try:
            message = host.child.pipe.recv()
        except (EOFError, OSError):
            self._lose(host, host.child.how_it_ended())
            return
        match message:
            case Ready():
                host.is_ready = True
                if host.in_round:
                    host.clock.start()
            case RoundAccepted():
                self._startup_failures[host.gpu].reset()
                host.has_accepted = True
                host.clock.pause()
                for running in host.in_round:
                    if not running.has_accepted:
                        running.has_accepted = True
                        running.clock.start()
            case RoundDone(events=events):
                self._end_round(host, events)
            case _:
                self._handle_common(host, message)

    def _end_round(self, host: _Host, events: Sequence[EngineEvent]) -> None:
        for running in host.in_round:
            running.clock.pause()
        host.in_round = []
        self._asks = True
        for event in events:
            if event.trial not in host.jobs:
                continue  # it was canceled meanwhile
            running = host.jobs[event.trial]
            match event:
                case JobStarted(seconds=seconds, steps_done=steps):
                    running.num_restored = steps
                    running.clock.spend(seconds)
                    event = replace(event, worker=running.slot, gpu=host.gpu)
                case StepDone() if running.clock.is_used_up:
                    self._drop(host, event.trial)
                    event = self._overdue(event.trial)
                case StepDone():
                    running.awaits_decision = True
                    running.num_restored = max(running.num_restored - 1, 0)
                case _:
                    del host.jobs[event.trial]
                    if isinstance(event, WorkerLost):
                        event = replace(event, gpu=host.gpu, shares_device=host.shares_device)
            self._events.append(event)

    def _time_out(self, host: _Host) -> None:
        for trial, running in list(host.jobs.items()):
            if running in host.in_round and running.clock.is_used_up:
                del host.jobs[trial]
                self._events.append(self._overdue(trial))
        self._lose(host, "it did not respond in the time allowed for a trial")

    def _lose(self, host: _Host, reason: str, *, device_failed: bool = False) -> None:
        self._dismiss(host)
        if host.in_round and not host.has_accepted:
            self._startup_failures[host.gpu].add(reason)
        lost = []
        for running in sorted(host.jobs.values(), key=lambda one: host.suspects == [one]):  # the one to blame is tried last
            if running.has_accepted and not self._is_interrupting:
                event = WorkerLost(running.job.trial, reason, device_failed=device_failed, gpu=host.gpu)
                lost.append(replace(event, shares_device=host.shares_device, with_others=host.suspects != [running]))
            else:
                self.start(running.job)  # no host ever had the job, or the job is to be interrupted anyway
        if lost:
            self._events += lost
            self._count_loss([running.job.trial for running in host.suspects])
            self._say_lost([host.jobs[event.trial].job for event in lost if event.with_others], lost[0].text)

    def _count_loss(self, trials: Sequence[int]) -> None:
        """A host was lost while it trained these, or after it."""
        if len(trials) == 1:
            forgotten = [trial for trial, count in self._losses.items() if count <= _MAX_TOGETHER]
            for trial in forgotten:  # that one was to blame
                del self._losses[trial]
            self._losses[trials[0]] = max(self._losses[trials[0]], _MAX_TOGETHER)
        self._losses.update(trials)

    def _say_lost(self, jobs: Sequence[Job], reason: str) -> None:
        if not jobs:
            return
        one = f"{jobs[0].name} lost its worker ({reason}) and resumes from its checkpoint"
        numbers = ", ".join(map(str, sorted(job.trial for job in jobs)))
        several = f"{jobs[0].unit}s {numbers} lost their worker ({reason}) and resume from their checkpoints"
        are_apart = any(self._losses[job.trial] == _MAX_TOGETHER for job in jobs)
        then = "; from now on each trains in rounds of its own, which shows the one to blame" if are_apart else ""
        self._emit(Notice((several if len(jobs) > 1 else one) + then))

    def _dismiss(self, host: _Host) -> None:
        self._workers.remove(host)
        host.child.end()

    def _drop(self, host: _Host, trial: int) -> None:
        if host.jobs.pop(trial).is_sent:
            host.dropped.append(trial)

    def _host_of(self, trial: int) -> _Host | None:
        return next((host for host in self._workers if trial in host.jobs), None)
