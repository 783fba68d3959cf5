# SPDX-License-Identifier: BSD-3-Clause
"""HTCondor's event log, read as it grows: one file tells of all jobs of a DAG.

An event is a line ``NNN (cluster.proc.subproc) date time text``, more lines, and a line of three
dots. Read here and not with ``htcondor2.JobEventLog``, which takes four times as long, cannot be
asked where it is, and waits for the rest of an event that was cut off.
"""

import codecs
import datetime
import enum
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 1 << 20
# Enough for the time of the first event.
_FIRST_BYTES = 100
_END = "\n...\n"
# Anchored at the start of a line: an event that a crash cut off is followed by another one.
_HEAD = re.compile(
    r"^(\d{3}) \((\d+)\.(\d+)\.\d+\) "
    r"((?:\d{4}-\d\d-|\d\d/)\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?) ?",
    re.MULTILINE,
)


class EventKind(enum.IntEnum):
    """The events that are looked at; numbers are HTCondor's."""

    SUBMIT = 0
    EXECUTE = 1
    EXECUTABLE_ERROR = 2
    EVICTED = 4
    TERMINATED = 5
    IMAGE_SIZE = 6
    SHADOW_EXCEPTION = 7
    ABORTED = 9
    HELD = 12
    RELEASED = 13
    POST_SCRIPT_TERMINATED = 16
    DISCONNECTED = 22
    RECONNECTED = 23
    RECONNECT_FAILED = 24
    FILE_TRANSFER = 40


@dataclass(frozen=True, slots=True)
class LogEvent:
    """An event: its number, the job (``cluster.proc``), seconds since 1970, and its text.

    ``text`` has all lines; the first is what stands behind the time.
    """

    number: int
    job: str
    time_s: float
    text: str


class EventLog:
    """A log that is read on from where reading ended the last time.

    A last event that is not whole yet is left for the next time. ``n_unreadable`` counts pieces
    between two ends of events that are no events.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_unreadable = 0
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._first_bytes = b""
        self._offset = 0
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def is_another(self) -> bool:
        """Whether the file was replaced or cut since it was read; then it is read from its start.

        DAGMan cuts it when it takes up a rescue file. What was learnt from the former events is to
        be forgotten.
        """
        try:
            with self.path.open("rb") as file:
                is_same = file.read(len(self._first_bytes)) == self._first_bytes
                is_same = is_same and os.fstat(file.fileno()).st_size >= self._offset
        except OSError:
            return False
        if not is_same:
            self._begin_anew()
        return not is_same

    def events(self) -> Iterator[LogEvent]:
        """The events that came since; none if there is no file yet."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            if len(self._first_bytes) < _FIRST_BYTES:
                self._first_bytes = file.read(_FIRST_BYTES)
            file.seek(self._offset)
            while content := file.read(_CHUNK_BYTES):
                self._offset += len(content)
                *pieces, self._rest = (self._rest + self._decoder.decode(content)).split(_END)
                for piece in pieces:
                    found = parse_event(piece)
                    if found is None:
                        self.n_unreadable += 1
                    else:
                        yield found


def parse_event(text: str) -> LogEvent | None:
    """Read one event without its three dots; None if it is none.

    Of two heads the last one counts: the event before it was cut off.
    """
    head = None
    for head in _HEAD.finditer(text):  # noqa: B007 - the last one
        pass
    if head is None:
        return None
    number, cluster, proc, time = head.groups()
    seconds = _seconds(time)
    if seconds is None:
        return None
    return LogEvent(int(number), f"{int(cluster)}.{int(proc)}", seconds, text[head.end() :])


def _seconds(text: str) -> float | None:
    """A time of the log; it is local time of the access point unless it says otherwise."""
    try:
        if text[2] != "/":
            return datetime.datetime.fromisoformat(text).timestamp()
        # Before HTCondor 9 a log had no years.
        now = datetime.datetime.now()
        found = datetime.datetime.strptime(f"{now.year}/{text}", "%Y/%m/%d %H:%M:%S")
        return (found if found <= now else found.replace(year=now.year - 1)).timestamp()
    except (ValueError, OverflowError):
        return None
