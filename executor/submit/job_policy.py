# SPDX-License-Identifier: BSD-3-Clause
"""What HTCondor is to do with a job that goes wrong: the expressions of its submit description.

Whatever keeps a job from its end becomes a hold with a code, which DAGMan's log shows; what follows
is that of `hold_reasons`. A held node would hang its DAG for ever, so no hold but a person's does.

Memory grows in place: the request is an expression of the holds for memory that the job has had and
of DAGMan's retries. ``retry_request_memory`` of HTCondor 25.2.1 is not used: access and execution
points of one pool may be of different releases, and this is right on all of them.
"""

import math

from executor.cluster_exit import FINAL_CODES_ATTRIBUTE, MEMORY_MAX_ATTRIBUTE
from executor.exit_codes import ExitCode
from executor.limits import WALL_TIME_ATTRIBUTE
from executor.submit.configuration import SubmitConfiguration
from executor.submit.hold_reasons import (
    OWN_MEMORY,
    OWN_NEVER_STARTED,
    OWN_TOO_MANY_STARTS,
    HoldAction,
    condition,
)
from executor.submit.requests import Requests

MEMORY_LIMIT_MIB = 491_520
"""What a request grows to if ``requestMemoryMax`` is not set: ``memoryLimit`` of BPS."""

MEMORY_ATTRIBUTE = "QuantumExecMemory"
_MAX = MEMORY_MAX_ATTRIBUTE
_MULTIPLIER = "QuantumExecMemoryMultiplier"
_MEMORY_HOLDS = "QuantumExecMemoryHolds"
# Those of ``pause`` and of people do not use up what a job may be held for by itself.
_USER_HOLDS = "(NumHoldsByReason.UserRequest ?: 0)"
_RETRY = "QuantumExecRetry"

# A transfer that was interrupted by an eviction has no time for more.
_VACATE_S = 60
_LEASE_S = 600
# The wrapper ends a task at its own limit and records that; the pool only what outlives it.
_LEAST_SLACK_S = 300

_IS_HELD = "JobStatus == 5"
_HELD_S = "(time() - EnteredCurrentStatus)"
_OTHER_HOLDS = f"(NumHolds - {_MEMORY_HOLDS} - {_USER_HOLDS})"


def memory_lines(requests: Requests) -> dict[str, str]:
    """Return the request for memory and what its growth is computed from.

    The names under which HTCondor counts holds are those of its hold codes: 34, 21 and 3; 1 is
    ``UserRequest``.
    """
    multiplier = requests.memory_multiplier or 1
    counted = " + ".join(
        f"(NumHoldsByReason.{name} ?: 0)"
        for name in ("JobOutOfResources", "StartdHeldJob", "JobPolicy")
    )
    return {
        f"My.{MEMORY_ATTRIBUTE}": "$(memory)",
        f"My.{_MAX}": str(memory_max(requests)),
        f"My.{_MULTIPLIER}": repr(multiplier),
        f"My.{_RETRY}": "$(retry)",
        f"My.{_MEMORY_HOLDS}": f"({counted})",
        "request_memory": f"int(ceiling(min({{ {_MAX}, {_memory_of(0)} }})))",
    }


def memory_max(requests: Requests) -> int:
    """MiB beyond which the request of a job does not grow."""
    first = requests.request_memory or 0
    if (requests.memory_multiplier or 1) <= 1:
        return first
    return max(first, requests.request_memory_max or MEMORY_LIMIT_MIB)


def _memory_of(holds_before: int) -> str:
    """What was asked for so many holds ago, were there no maximum."""
    tries = f"{_RETRY} + {_MEMORY_HOLDS}" + (f" - {holds_before}" if holds_before else "")
    return f"{MEMORY_ATTRIBUTE} * pow({_MULTIPLIER}, {tries})"


def policy_lines(
    configuration: SubmitConfiguration, requests: Requests, *, waits_for_person: bool = True
) -> dict[str, str]:
    """Return the policy of a job.

    Parameters
    ----------
    waits_for_person
        Whether a hold that no retry cures is kept for somebody to look at; if not, it ends the job
        at once.
    """
    return {
        "job_max_vacate_time": str(_VACATE_S),
        "job_lease_duration": str(_LEASE_S),
        **_duration_lines(requests),
        **_exit_lines(requests),
        **_hold_lines(configuration),
        "periodic_release": f"{_is_grown()} || {_is_released(configuration)}",
        **_remove_lines(configuration, waits_for_person),
    }


def _duration_lines(requests: Requests) -> dict[str, str]:
    if requests.request_walltime is None:
        return {}
    # The attribute is the wrapper's: what it ends has a log and a delta.
    slack = max(_LEAST_SLACK_S, math.ceil(0.1 * requests.request_walltime))
    return {
        f"My.{WALL_TIME_ATTRIBUTE}": str(requests.request_walltime),
        "allowed_execute_duration": str(requests.request_walltime + slack),
    }


def _exit_lines(requests: Requests) -> dict[str, str]:
    """Over its memory by our own measure, or killed: held, so that it can grow in its place."""
    over = f"(ExitCode =?= {ExitCode.OVER_MEMORY:d} || ExitSignal =?= 9)"
    lines = {
        "on_exit_hold": f"{over} && {_memory_of(0)} < {_MAX}",
        "on_exit_hold_reason": (
            'strcat("memory: asked for ", RequestMemory, " MiB, last measured ", '
            'MemoryUsage ?: "none", '
            f'ifThenElse(ExitCode =?= {ExitCode.OVER_MEMORY:d}, " MiB", " MiB when killed"), '
            '"; the next try asks for more, up to requestMemoryMax")'
        ),
        "on_exit_hold_subcode": str(OWN_MEMORY),
    }
    codes = requests.final_exit_codes()
    if codes:
        # For the wrapper of a cluster, which has one exit code for quanta that ended in several.
        lines[f"My.{FINAL_CODES_ATTRIBUTE}"] = f'"{" ".join(map(str, codes))}"'
    if retries_in_place(requests):
        final = ", ".join(map(str, [*codes, int(ExitCode.OVER_MEMORY)]))
        lines["max_retries"] = str(requests.number_of_retries)
        lines["retry_until"] = f"member(ExitCode ?: -1, {{ {final} }})"
    return lines


def retries_in_place(requests: Requests) -> bool:
    """Whether HTCondor itself tries a failed job again, and not DAGMan.

    DAGMan's RETRY takes one exit code after which it gives up; ``retryUnlessExit`` may name more.
    """
    return bool(requests.number_of_retries) and len(requests.final_exit_codes()) > 1


def dagman_retry(requests: Requests) -> str:
    """Return what follows ``RETRY <node>`` in the DAG file; empty if DAGMan is not to retry."""
    if not requests.number_of_retries or retries_in_place(requests):
        return ""
    [code] = requests.final_exit_codes() or [int(ExitCode.OVER_MEMORY)]
    return f"{requests.number_of_retries} UNLESS-EXIT {code}"


def _hold_lines(configuration: SubmitConfiguration) -> dict[str, str]:
    """A plugin that cannot be executed, or is killed during the upload, never ends a job."""
    most = configuration.max_starts
    never = f"(NumShadowStarts > {most} && NumJobStarts =?= 0)"
    often = f"(JobStatus == 1 && NumJobStarts > {most})"
    return {
        "periodic_hold": f"JobStatus != 5 && ({never} || {often})",
        "periodic_hold_reason": (
            'ifThenElse(NumJobStarts =?= 0, strcat("sent to execution points ", NumShadowStarts, '
            '" times and never started: transfer plugin or wrapper cannot be executed there"), '
            'strcat("started ", NumJobStarts, " times without an end; maxStarts is '
            f'{most}"))'
        ),
        "periodic_hold_subcode": (
            f"ifThenElse(NumJobStarts =?= 0, {OWN_NEVER_STARTED}, {OWN_TOO_MANY_STARTS})"
        ),
    }


def _is_grown() -> str:
    return f"({condition(HoldAction.GROW)} && {_memory_of(1)} < {_MAX})"


def _is_released(configuration: SubmitConfiguration) -> str:
    pause = f"{configuration.hold_retry_delay} * pow(2, {_OTHER_HOLDS} - 1)"
    return f"({_may_be_released(configuration)} && {_HELD_S} >= {pause})"


def _may_be_released(configuration: SubmitConfiguration) -> str:
    return f"({condition(HoldAction.RELEASE)} && {_OTHER_HOLDS} <= {configuration.hold_retries})"


def _remove_lines(configuration: SubmitConfiguration, waits_for_person: bool) -> dict[str, str]:
    is_outgrown = f"({condition(HoldAction.GROW)} && !({_memory_of(1)} < {_MAX}))"
    if waits_for_person:
        is_over = f"(HoldReasonCode =!= 1 && {_HELD_S} > {configuration.hold_timeout})"
        causes = f"{condition(HoldAction.REMOVE)} || {is_outgrown} || {is_over}"
    else:
        is_pending = f"{_is_grown()} || {_may_be_released(configuration)}"
        causes = f"(HoldReasonCode =!= 1 && !({is_pending}))"
    return {
        "periodic_remove": f"{_IS_HELD} && ({causes})",
        "My.PeriodicRemoveReason": (
            f'strcat(ifThenElse({is_outgrown}, strcat("memory: asked for ", RequestMemory, '
            '" MiB, last measured ", MemoryUsage ?: "none", " MiB; raise requestMemoryMax (", '
            f"{_MAX}, "
            '" MiB) and restart the run; held before: "), "held too long or in vain: "), '
            'HoldReason ?: "no reason")'
        ),
    }
