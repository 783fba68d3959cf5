# SPDX-License-Identifier: BSD-3-Clause
"""Exit codes of ``quantum-exec``; the first ones are those of LSST's ``pipetask``."""

import enum
import signal


class ExitCode(enum.IntEnum):
    """What a pool or a person can act on. A task's own non-zero code is passed through."""

    SUCCESS = 0
    """Everything asked for is done."""
    FAILED = 1
    """A quantum failed, or the command could not do what it was asked."""
    USAGE = 2
    """The command line or a configuration file is wrong."""
    REPEATABLE = 20
    """The quantum failed and will fail again with the same inputs; do not retry."""
    INVALID_QUANTUM = 21
    """The job cannot be run as it is written; mend the graph."""
    WRONG_OUTPUTS = 22
    """The task ended well, but left other outputs or registry rows than the graph predicts."""
    STAGE_IN_FAILED = 30
    """An input is not there or could not be fetched; a retry may help."""
    STAGE_OUT_FAILED = 31
    """An output or the delta could not be uploaded; nothing was committed."""
    OTHER_GRAPH = 32
    """The RUN belongs to another graph."""
    ALREADY_SUBMITTED = 33
    """A DAG of this RUN is in the queue already."""
    OVER_WALL_TIME = 34
    """The task ran longer than it had asked for and was ended."""
    OVER_MEMORY = 35
    """The task's processes held more memory than it had asked for and were ended."""
    OVER_SCRATCH = 36
    """The sandbox held more than the task had asked for, or its disk is full."""
    SANDBOX_UNUSABLE = 37
    """The sandbox is not staged in, or cannot be written; another worker may do."""
    DATASTORE_UNAVAILABLE = 38
    """The datastore cannot be reached, refuses the credentials, or has no such bucket or object."""
    NOT_QUEUED = 39
    """No DAG of this RUN is in the queue; there is nothing to steer."""
    OUTPUTS_DIFFER = 40
    """``rerun --compare`` or ``graph diff`` found differences."""
    NO_WORK = 79
    """Given by a task, not by us: there was nothing to do; the attempt is successful."""


def signal_name(number: int) -> str:
    """Name of a signal as people know it; real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def code_of_signal(number: int) -> int:
    """Exit code of a process ended by a signal, as shells have it."""
    return 128 + number
