# SPDX-License-Identifier: BSD-3-Clause
"""Why a job is held: what HTCondor's codes mean for a run, and what is to be done about it.

The policy expressions of jobs (`job_policy`) and the words that people read come from this one
table. Codes are those of HTCondor 23.9 to 25.14. Memory: 34/0 before 24.0.12, 34/102 since, 21/102
where a policy of the startd watches it, and 3/34 of our own ``on_exit_hold``.
"""

import enum
import re
from dataclasses import dataclass

USER = 1
JOB_POLICY = 3
FAILED_TO_START = 6
OUTPUT_TRANSFER = 12
INPUT_TRANSFER = 13
STARTD_POLICY = 21
OUT_OF_RESOURCES = 34

OUT_OF_MEMORY = 102
OUT_OF_DISK = 104

# Subcodes of holds by our own expressions, with code 3.
OWN_MEMORY = 34
OWN_NEVER_STARTED = 60
OWN_TOO_MANY_STARTS = 61

# Words of boto3, of S3 services and of ours; the same expression is read by Python and by ClassAds.
CREDENTIAL_WORDS = (
    "access ?denied|forbidden|invalid ?access ?key|signature ?does ?not ?match"
    "|(expired|invalid) ?token|credentials"
)
_CREDENTIAL = re.compile(CREDENTIAL_WORDS, re.IGNORECASE)

# As `job_policy` words them.
_MEMORY_TOLD = re.compile(r"memory: asked for (\d+) MiB, last measured (\d+)?")


class HoldCause(enum.StrEnum):
    """What keeps a job from going on, in words for people."""

    INPUT_TRANSFER = "input transfer"
    OUTPUT_TRANSFER = "output transfer"
    MEMORY = "memory"
    DISK = "disk"
    DURATION = "duration"
    POLICY = "policy"
    CREDENTIAL = "missing credential"
    TASK_ERROR = "task error"
    USER = "user"
    NEVER_STARTED = "never started"
    TOO_MANY_STARTS = "too many starts"
    FAILED_TO_START = "failed to start"
    UNKNOWN = "unknown"


class HoldAction(enum.StrEnum):
    """What the policy of the job does with it."""

    RELEASE = "release"
    """Released after a growing pause, a bounded number of times; then kept for a person."""
    GROW = "grow"
    """Released at once with more memory; removed when there is no more to ask for."""
    REMOVE = "remove"
    """Removed at once: as it is, it would end so again. DAGMan's retries apply."""
    KEEP = "keep"
    """Held for a person, who releases or removes it; removed after ``holdTimeout``."""
    LEAVE = "leave"
    """Held until a person says otherwise."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What a hold means: ``advice`` is a sentence that a person can act on."""

    cause: HoldCause
    action: HoldAction
    advice: str

    @property
    def may_retry(self) -> bool:
        """Whether the job is run again without anybody's doing."""
        return self.action in (HoldAction.RELEASE, HoldAction.GROW)


_CREDENTIAL_HOLD = Hold(
    HoldCause.CREDENTIAL,
    HoldAction.KEEP,
    "the S3 service refused the execution point, or it has no credentials: mend these, then "
    "condor_release the jobs",
)
_MEMORY = Hold(
    HoldCause.MEMORY,
    HoldAction.GROW,
    "the job went over its memory; it runs again with more, up to requestMemoryMax",
)
_DISK = Hold(
    HoldCause.DISK,
    HoldAction.REMOVE,
    "the job went over its disk: raise requestDisk and restart the run",
)
_DURATION = Hold(
    HoldCause.DURATION,
    HoldAction.REMOVE,
    "the job ran longer than allowed: raise requestWalltime and restart the run",
)
_NO_PLUGIN = Hold(
    HoldCause.NEVER_STARTED,
    HoldAction.RELEASE,
    "the transfer plugin of the execution point cannot be executed: look at its path, x bit and "
    "interpreter there (condor_config_val FILETRANSFER_PLUGINS); another machine may do",
)
_UNKNOWN = Hold(
    HoldCause.UNKNOWN,
    HoldAction.KEEP,
    "read the reason (condor_q -hold), then condor_release or condor_rm the job",
)

# A subcode of None stands for any that is not named.
_TABLE: dict[tuple[int, int | None], Hold] = {
    (USER, None): Hold(
        HoldCause.USER, HoldAction.LEAVE, "somebody held the job; condor_release lets it go on"
    ),
    (JOB_POLICY, OWN_MEMORY): _MEMORY,
    (JOB_POLICY, OWN_NEVER_STARTED): Hold(
        HoldCause.NEVER_STARTED,
        HoldAction.REMOVE,
        "the job was sent to execution points, but never started: the transfer plugin or the "
        "wrapper cannot be executed there; look at its path, x bit and interpreter",
    ),
    (JOB_POLICY, OWN_TOO_MANY_STARTS): Hold(
        HoldCause.TOO_MANY_STARTS,
        HoldAction.REMOVE,
        "the job was started maxStarts times without coming to an end: evictions, lost workers, "
        "or a plugin that is killed; look at the log of its last machine",
    ),
    (JOB_POLICY, None): Hold(
        HoldCause.POLICY,
        HoldAction.KEEP,
        "an expression of the job held it; look at its periodic_hold and on_exit_hold",
    ),
    (4, None): _CREDENTIAL_HOLD,
    (5, None): Hold(
        HoldCause.POLICY,
        HoldAction.KEEP,
        "an expression of the job is undefined or no truth value; look at profile.condor",
    ),
    (FAILED_TO_START, None): Hold(
        HoldCause.FAILED_TO_START,
        HoldAction.RELEASE,
        "the wrapper could not be executed: look whether workerExecutable is on that machine",
    ),
    (OUTPUT_TRANSFER, None): Hold(
        HoldCause.OUTPUT_TRANSFER,
        HoldAction.RELEASE,
        "outputs could not be uploaded; the job runs again from its start",
    ),
    (INPUT_TRANSFER, None): Hold(
        HoldCause.INPUT_TRANSFER,
        HoldAction.RELEASE,
        "inputs could not be fetched: look whether the object that the reason names is there",
    ),
    (STARTD_POLICY, OUT_OF_MEMORY): _MEMORY,
    (STARTD_POLICY, OUT_OF_DISK): _DISK,
    (STARTD_POLICY, None): Hold(
        HoldCause.POLICY, HoldAction.KEEP, "a policy of the execution point held the job"
    ),
    (26, None): Hold(
        HoldCause.POLICY, HoldAction.KEEP, "a policy of the access point held the job"
    ),
    (27, None): Hold(
        HoldCause.POLICY, HoldAction.KEEP, "a policy of the access point is undefined"
    ),
    (OUT_OF_RESOURCES, 0): _MEMORY,
    (OUT_OF_RESOURCES, OUT_OF_MEMORY): _MEMORY,
    (OUT_OF_RESOURCES, OUT_OF_DISK): _DISK,
    (OUT_OF_RESOURCES, None): Hold(
        HoldCause.UNKNOWN, HoldAction.KEEP, "the job went over a resource of its slot"
    ),
    (35, None): Hold(
        HoldCause.TASK_ERROR, HoldAction.KEEP, "the container image cannot be used: containerImage"
    ),
    (46, None): _DURATION,
    (47, None): _DURATION,
}


def classify(code: int, subcode: int = 0, reason: str = "") -> Hold:
    """Tell what a hold means, from ``HoldReasonCode``, ``HoldReasonSubCode`` and ``HoldReason``."""
    if code in (INPUT_TRANSFER, OUTPUT_TRANSFER) and _CREDENTIAL.search(reason):
        return _CREDENTIAL_HOLD
    if code == INPUT_TRANSFER and "plugin for type" in reason:
        return _NO_PLUGIN
    return _TABLE.get((code, subcode)) or _TABLE.get((code, None)) or _UNKNOWN


def memory_told(reason: str) -> tuple[int, int]:
    """Return what a job had asked for and used, MiB, as our own reasons say it; 0 if they do not.

    The event of a hold by ``on_exit_hold`` has no table of resources.
    """
    found = _MEMORY_TOLD.search(reason)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def condition(action: HoldAction) -> str:
    """ClassAd expression that is true of a held job for which `classify` gives this action.

    For `HoldAction.RELEASE`, `GROW` and `REMOVE`: what they do not name is kept.
    """
    terms = [
        _term(code, subcode) for (code, subcode), hold in _TABLE.items() if hold.action is action
    ]
    return f"({' || '.join(terms)})"


def _term(code: int, subcode: int | None) -> str:
    term = _is_code(code, subcode)
    if code in (INPUT_TRANSFER, OUTPUT_TRANSFER):
        return f'({term} && !regexp("{CREDENTIAL_WORDS}", HoldReason ?: "", "i"))'
    return term


def _is_code(code: int, subcode: int | None = None) -> str:
    term = f"HoldReasonCode =?= {code}"
    return term if subcode is None else f"({term} && HoldReasonSubCode =?= {subcode})"
