# SPDX-License-Identifier: BSD-3-Clause
"""The local runner: a plan on this machine, N quanta at once, in dependency order.

It keeps no state of its own. What is done is what has a valid successful delta in the datastore,
so that a runner killed at any moment is simply started again.
"""

import queue
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from executor.stop_signal import taking_stop_signals
from executor.submit.local_attempt import AttemptEnd, Children, attempt_locally
from executor.submit.orphans import adopting_orphans
from executor.submit.plan import Plan
from executor.submit.scratch import scratch_directory
from executor.submit.standings import counting_deltas
from executor.submit.unkept_inputs import with_producers_again
from executor.worker_command import stage_in_code
from registry.attempt import AttemptStatus
from registry.delta import Delta
from registry.errors import QuantumExecError
from transfer_plugins.object_store import ObjectStore

_AWAKE_S = 0.5


@dataclass
class LocalRun:
    """What became of the quanta of a plan."""

    earlier: dict[str, Delta]
    ended: dict[str, AttemptEnd] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    stopped_by: int | None = None

    def is_successful(self, quantum_id: str) -> bool:
        """Whether a quantum has a successful attempt, of now or of earlier."""
        end = self.ended.get(quantum_id)
        if end is None:
            return quantum_id in self.earlier
        return end.delta is not None and end.delta.status is AttemptStatus.SUCCESSFUL

    def failed(self) -> list[str]:
        """Ids of the quanta that ended without success."""
        return [q for q in self.ended if not self.is_successful(q)]

    def deltas(self) -> dict[str, Delta]:
        """The deltas known, by quantum id, with those of failed attempts."""
        new = {q: end.delta for q, end in self.ended.items() if end.delta}
        return {**self.earlier, **new}


def run_locally(
    plan: Plan,
    store: ObjectStore,
    *,
    jobs: int,
    replaced: Mapping[str, str] | None = None,
    scratch: Path | None = None,
    python_path: Path | None = None,
    on_end: Callable[[str, AttemptEnd | None], None] = lambda quantum_id, end: None,
) -> LocalRun:
    """Run what has no valid successful delta yet; go on beside quanta that fail.

    Parameters
    ----------
    jobs
        Quanta under way at once.
    replaced
        Attempts that are to be replaced, by quantum id: one that is not newer does not count.
    scratch
        Directory for sandboxes; that of the system for temporary files if not given.
    python_path
        Directory of the users' modules, for tasks that are Python functions.
    on_end
        Called with the id of each quantum that ended, and with None for each that was done before.

    Raises
    ------
    QuantumExecError
        If the standing of the quanta cannot be read, or no sandbox can be made at all.
    """
    old = replaced or {}
    counting = counting_deltas(store, plan.run, plan.quanta, plan.rule_of)
    earlier = {q: d for q, d in counting.items() if d.attempt_id > old.get(q, "")}
    plan, again = with_producers_again(plan, earlier)
    run = LocalRun({q: delta for q, delta in earlier.items() if q not in again})
    children = Children()

    def attempt(quantum_id: str) -> AttemptEnd:
        job = plan.job_of(quantum_id)
        return attempt_locally(job, store, directory, children, python_path=python_path)

    with (
        scratch_directory(scratch) as directory,
        adopting_orphans(children.held, directory) as children.end_orphans,
        passing_on_signals(children),
        ThreadPoolExecutor(jobs) as pool,
    ):
        _Scheduler(plan, run, children, on_end).run(pool, attempt)
    run.stopped_by = children.stopped_by
    run.blocked = {q for q in plan.quanta if q not in run.ended and q not in run.earlier}
    return run


class _Scheduler:
    """Gives out quanta whose inputs are there; one of a failed quantum never becomes ready."""

    def __init__(
        self,
        plan: Plan,
        run: LocalRun,
        children: Children,
        on_end: Callable[[str, AttemptEnd | None], None],
    ) -> None:
        self.record = run
        self.children = children
        self.on_end = on_end
        self.sorter = plan.sorter()
        self.sorter.prepare()
        self.ended: queue.Queue[tuple[str, AttemptEnd | BaseException | None]] = queue.Queue()

    def run(self, pool: ThreadPoolExecutor, attempt: Callable[[str], AttemptEnd]) -> None:
        """Run until nothing is under way and nothing is ready."""
        n_running = self._start_ready(pool, attempt)
        while n_running:
            quantum_id, end = self._next_end()
            n_running -= 1
            if isinstance(end, BaseException):
                self.children.stop(signal.SIGTERM)
                raise end
            if end is None:
                continue
            self.record.ended[quantum_id] = end
            self.on_end(quantum_id, end)
            if self.record.is_successful(quantum_id):
                self.sorter.done(quantum_id)
            n_running += self._start_ready(pool, attempt)

    def _next_end(self) -> tuple[str, AttemptEnd | BaseException | None]:
        """Wait for what ends next, and wake up in between.

        A signal may reach any thread of a process that was stopped (Ctrl-Z), and is acted on when
        this one runs again.
        """
        while True:
            with suppress(queue.Empty):
                return self.ended.get(timeout=_AWAKE_S)

    def _start_ready(self, pool: ThreadPoolExecutor, attempt: Callable[[str], AttemptEnd]) -> int:
        n_started = 0
        while not self.children.is_stopping and (ready := self.sorter.get_ready()):
            for quantum_id in ready:
                if quantum_id in self.record.earlier:
                    self.sorter.done(quantum_id)
                    self.on_end(quantum_id, None)
                else:
                    pool.submit(self._attempt, quantum_id, attempt)
                    n_started += 1
        return n_started

    def _attempt(self, quantum_id: str, attempt: Callable[[str], AttemptEnd]) -> None:
        if self.children.is_stopping:
            self.ended.put((quantum_id, None))
            return
        try:
            self.ended.put((quantum_id, attempt(quantum_id)))
        except QuantumExecError as error:
            # Its job cannot be had; that is no reason to stop the others.
            self.ended.put((quantum_id, AttemptEnd(None, stage_in_code(error), str(error))))
        except BaseException as error:
            self.ended.put((quantum_id, error))


@contextmanager
def passing_on_signals(children: Children) -> Iterator[None]:
    """Tell all wrappers to stop when this process is told to."""

    def stop(number: int, frame: FrameType | None) -> None:
        children.stop(number)

    with taking_stop_signals(stop):
        yield
