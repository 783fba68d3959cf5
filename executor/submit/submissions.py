# SPDX-License-Identifier: BSD-3-Clause
"""The directories of a RUN's submissions, which are all that ``status`` needs of a pool."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from executor.submit.dag import DAG_FILE, DAGMAN_LOG, STATUS_FILE
from executor.submit.dag_structure import DagNode, read_dag_structure
from executor.submit.event_log import EventKind, EventLog, LogEvent
from executor.submit.node_states import NodeLog
from executor.submit.node_table import read_node_table
from executor.submit.nodes import Node
from registry.errors import FormatError, QuantumExecError
from registry.names import CONTROL

NODES_LOG = f"{DAG_FILE}.nodes.log"
_NODE_STATUS = re.compile(r'Node = "([^"]+)";\s*NodeStatus = (?:(6)|\d+);')


def find_submissions(place: Path, run: str) -> list[Path]:
    """The directories of the DAGs of a RUN, oldest first; none if there are none.

    Parameters
    ----------
    place
        The directory of one submission (it and the earlier ones beside it are meant), or the
        ``submitPath`` below which they are.
    """
    if (place / DAG_FILE).is_file():
        found = [d for d in place.resolve().parent.iterdir() if d.name <= place.resolve().name]
    else:
        root = place / run / CONTROL
        found = list(root.iterdir()) if root.is_dir() else []
    # Names are times, so their order is that of the submissions.
    return sorted(d for d in found if (d / DAG_FILE).is_file())


class NoSubmissionError(QuantumExecError):
    """Nothing was submitted from where one looked; name another submitPath or directory."""

    error_type = "no_submission"


class UnreadableSubmissionError(NoSubmissionError):
    """A file in the directory of a submission is missing, damaged, or may not be read."""


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        raise UnreadableSubmissionError(
            f"{error}; {directory} is not as submit made it: name another --directory, or "
            "--datastore for what the datastore alone tells"
        ) from error
    except OSError as error:
        raise UnreadableSubmissionError(
            f"{error.filename}: {error.strerror}; status reads the logs of a DAG as the one who "
            "submitted it, or whoever may read them"
        ) from error


@dataclass
class DagmanState:
    """What ``run.dag.dagman.log`` tells of DAGMan's own job; the newest one counts."""

    job: str = ""
    is_running: bool = False
    is_held: bool = False
    has_ended: bool = False
    is_removed: bool = False
    exit_code: int | None = None
    submitted_s: float | None = None
    ended_s: float | None = None

    def read(self, event: LogEvent) -> None:
        """Take in an event."""
        match event.number:
            case EventKind.SUBMIT:
                self.__init__(job=event.job, submitted_s=event.time_s)  # type: ignore[misc]
            case EventKind.EXECUTE:
                self.is_running = True
            case EventKind.HELD:
                self.is_held, self.is_running = True, False
            case EventKind.RELEASED:
                self.is_held = False
            case EventKind.EVICTED | EventKind.SHADOW_EXCEPTION:
                self.is_running = False
            case EventKind.TERMINATED | EventKind.ABORTED:
                self.is_running, self.is_held = False, False
                self.has_ended, self.ended_s = True, event.time_s
                self.is_removed = event.number == EventKind.ABORTED
                self.exit_code = _exit_code(event)

    @property
    def word(self) -> str:
        """In one word: QUEUED, RUNNING, HELD (paused), ENDED or REMOVED."""
        if self.has_ended:
            return "REMOVED" if self.is_removed else "ENDED"
        return "HELD" if self.is_held else "RUNNING" if self.is_running else "QUEUED"


def _exit_code(event: LogEvent) -> int | None:
    marker = "(return value "
    _, found, after = event.text.partition(marker)
    return int(after.partition(")")[0]) if found else None


class Submission:
    """One DAG: what was submitted, and what its logs tell so far."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with _readable(directory):
            self.nodes: dict[str, Node] = {n.name: n for n in read_node_table(directory)}
            self.structure: dict[str, DagNode] = read_dag_structure(directory)
        self._nodes_log = EventLog(directory / NODES_LOG)
        self._dagman_log = EventLog(directory / DAGMAN_LOG)
        self.log = NodeLog(self.label_of)
        self.dagman = DagmanState()

    def label_of(self, node_name: str) -> str:
        """The label of a node; nodes without quanta (init, merge) are their own."""
        node = self.nodes.get(node_name)
        return node.label if node else node_name

    def read_on(self) -> None:
        """Read what came since; from the start if a log was replaced."""
        if self._nodes_log.is_another():
            self.log = NodeLog(self.label_of)
        if self._dagman_log.is_another():
            self.dagman = DagmanState()
        with _readable(self.directory):
            self.log.read(self._nodes_log.events())
            for event in self._dagman_log.events():
                was_ended = self.dagman.has_ended
                self.dagman.read(event)
                if was_ended and not self.dagman.has_ended:
                    # Another DAGMan in the same directory takes up a rescue file.
                    self.structure = read_dag_structure(self.directory)

    @property
    def n_unreadable(self) -> int:
        """Pieces of the logs that are no events."""
        return self._nodes_log.n_unreadable + self._dagman_log.n_unreadable

    def refused(self) -> set[str]:
        """Nodes that the schedd took no job of: DAGMan's node status file alone tells of them."""
        try:
            text = (self.directory / STATUS_FILE).read_text(errors="replace")
        except OSError:
            return set()
        return {name for name, is_error in _NODE_STATUS.findall(text) if is_error}
