# SPDX-License-Identifier: BSD-3-Clause
"""How each node of a DAG stands, from the events of its jobs and from what DAGMan does about them.

The words are the field's: those of ``bps report``.
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from executor.submit.event_log import EventKind, LogEvent
from executor.submit.hold_reasons import HoldCause, classify, memory_told
from executor.submit.state_series import JobState, StateSeries

_HOLD = re.compile(r"\n\s*(?P<reason>.*)\n\s*Code (?P<code>-?\d+) Subcode (?P<subcode>-?\d+)")
_NODE = re.compile(r"^\s*DAG Node: (\S+)", re.MULTILINE)
_HOST = re.compile(r"SlotName: \S*?@?([^@\s]+)\s*$", re.MULTILINE)
_RETURN = re.compile(r"\(1\) Normal termination \(return value (-?\d+)\)")
_SIGNAL = re.compile(r"\(0\) Abnormal termination \(signal (\d+)\)")
_USED_MIB = re.compile(r"(\d+)\s+-\s+MemoryUsage of job")
# The table of an execution that ended: usage, which may be empty, request, allocated.
_MEMORY_ROW = re.compile(r"Memory \(MB\)\s*:(?:\s+(\d+))?\s+(\d+)\s+(\d+)")
# Begin and end of stage-in and stage-out.
_TRANSFER_STARTS = ("Transferring input", "Started transferring input")


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """Why a job was held, as its event has it."""

    code: int
    subcode: int
    reason: str


@dataclass(slots=True)
class NodeRecord:
    """What the log tells of a node: its newest job, and counts over all of them.

    ``n_lost_starts`` are executions that ended in another way than well. Memory in MiB.
    ``went_over_memory``: a job of the node was held for it.
    """

    name: str
    job: str = ""
    state: JobState | None = None
    n_submits: int = 0
    n_starts: int = 0
    n_lost_starts: int = 0
    n_evictions: int = 0
    evicted_s: float = -math.inf
    started_s: float | None = None
    host: str = ""
    hold: HoldEvent | None = None
    held_s: float = 0.0
    exit_code: int | None = None
    signal: int | None = None
    removal: str | None = None
    requested_mib: int = 0
    used_mib: int = 0
    went_over_memory: bool = False

    def note_memory(self, asked_mib: int, used_mib: int) -> None:
        """A job of the node asked for so much, and used so much; 0 is not known."""
        self.requested_mib = asked_mib or self.requested_mib
        self.used_mib = max(self.used_mib, used_mib)

    def end_of_start(self, *, is_lost: bool) -> float | None:
        """The execution ended, if there was one; returns when it had begun."""
        started, self.started_s = self.started_s, None
        self.n_lost_starts += started is not None and is_lost
        return started

    def no_eviction(self, time_s: float) -> None:
        """A running job that is held or removed is evicted first: that does not count."""
        if time_s - self.evicted_s <= 1:
            self.n_evictions -= 1
        self.evicted_s = -math.inf


@dataclass
class NodeLog:
    """What the events of a DAG's jobs tell so far; jobs without a node are passed over.

    ``hold_counts`` are of all holds ever, ``run_s`` seconds of the executions that ended well, by
    what ``group_of`` makes of the name of their node.
    """

    group_of: Callable[[str], str]
    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    hold_counts: Counter[HoldEvent] = field(default_factory=Counter)
    run_s: dict[str, "array[float]"] = field(default_factory=dict)
    series: StateSeries = field(default_factory=StateSeries)
    post_scripts: dict[str, int] = field(default_factory=dict)
    _of_job: dict[str, NodeRecord] = field(default_factory=dict)

    def read(self, events: Iterable[LogEvent]) -> None:
        """Take in events in the order of the log."""
        for event in events:
            if event.number == EventKind.SUBMIT:
                self._submit(event)
            elif event.number == EventKind.POST_SCRIPT_TERMINATED:
                self._post_script(event)
            elif node := self._of_job.get(event.job):
                self._take(node, event)

    def _submit(self, event: LogEvent) -> None:
        found = _NODE.search(event.text)
        if not found:
            return
        node = self.nodes.setdefault(found[1], NodeRecord(found[1]))
        # Events of the former job may still come; they are of no interest any more.
        self._of_job.pop(node.job, None)
        node.job, node.hold, node.removal = event.job, None, None
        node.exit_code = node.signal = None
        node.n_submits += 1
        self._of_job[event.job] = node
        self._change(node, JobState.PENDING, event.time_s)

    def _take(self, node: NodeRecord, event: LogEvent) -> None:
        match event.number:
            case EventKind.EXECUTE:
                self._execute(node, event)
            case EventKind.IMAGE_SIZE:
                if found := _USED_MIB.search(event.text):
                    node.note_memory(0, int(found[1]))
            case EventKind.FILE_TRANSFER:
                # The job has a machine from here on, though it executes only after stage-in.
                if event.text.startswith(_TRANSFER_STARTS):
                    self._change(node, JobState.RUNNING, event.time_s)
            case EventKind.EVICTED | EventKind.RECONNECT_FAILED:
                # A reconnection that failed is followed by an eviction.
                if node.state is JobState.RUNNING:
                    node.n_evictions += 1
                    node.evicted_s = event.time_s
                self._back_to_queue(node, event)
            case EventKind.SHADOW_EXCEPTION | EventKind.EXECUTABLE_ERROR:
                self._back_to_queue(node, event)
            case EventKind.TERMINATED:
                self._terminate(node, event)
            case EventKind.ABORTED:
                node.end_of_start(is_lost=True)
                node.no_eviction(event.time_s)
                node.removal = " ".join(event.text.partition("\n")[2].split()) or "removed"
                node.note_memory(*memory_told(node.removal))
                self._change(node, JobState.DELETED, event.time_s)
            case EventKind.HELD:
                self._hold(node, event)
            case EventKind.RELEASED:
                node.hold = None
                self._change(node, JobState.PENDING, event.time_s)

    def _execute(self, node: NodeRecord, event: LogEvent) -> None:
        node.end_of_start(is_lost=True)
        node.n_starts += 1
        node.started_s = event.time_s
        found = _HOST.search(event.text)
        node.host = found[1] if found else ""
        self._change(node, JobState.RUNNING, event.time_s)

    def _back_to_queue(self, node: NodeRecord, event: LogEvent) -> None:
        node.end_of_start(is_lost=True)
        self._note_memory(node, event.text)
        self._change(node, JobState.PENDING, event.time_s)

    def _terminate(self, node: NodeRecord, event: LogEvent) -> None:
        self._note_memory(node, event.text)
        normal, killed = _RETURN.search(event.text), _SIGNAL.search(event.text)
        node.exit_code = int(normal[1]) if normal else None
        node.signal = int(killed[1]) if killed else None
        is_well = node.exit_code == 0
        started = node.end_of_start(is_lost=not is_well)
        if is_well and started is not None:
            seconds = self.run_s.setdefault(self.group_of(node.name), array("d"))
            seconds.append(max(0.0, event.time_s - started))
        state = JobState.SUCCEEDED if is_well else JobState.FAILED
        self._change(node, state, event.time_s)

    def _hold(self, node: NodeRecord, event: LogEvent) -> None:
        node.end_of_start(is_lost=True)
        node.no_eviction(event.time_s)
        found = _HOLD.search(event.text)
        if found:
            node.hold = HoldEvent(int(found["code"]), int(found["subcode"]), found["reason"])
        else:
            node.hold = HoldEvent(0, 0, " ".join(event.text.split()))
        node.held_s = event.time_s
        node.note_memory(*memory_told(node.hold.reason))
        cause = classify(node.hold.code, node.hold.subcode, node.hold.reason).cause
        node.went_over_memory = node.went_over_memory or cause is HoldCause.MEMORY
        self.hold_counts[node.hold] += 1
        self._change(node, JobState.HELD, event.time_s)

    def _post_script(self, event: LogEvent) -> None:
        name, normal = _NODE.search(event.text), _RETURN.search(event.text)
        if name:
            self.post_scripts[name[1]] = int(normal[1]) if normal else 1

    def _note_memory(self, node: NodeRecord, text: str) -> None:
        if found := _MEMORY_ROW.search(text):
            used, requested, _ = found.groups()
            node.note_memory(int(requested), int(used or 0))

    def _change(self, node: NodeRecord, state: JobState, time_s: float) -> None:
        self.series.change(node.state, state, time_s)
        node.state = state
