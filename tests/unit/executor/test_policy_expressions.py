# SPDX-License-Identifier: BSD-3-Clause
"""The expressions of the policy, evaluated by HTCondor's own ClassAd library."""

import time
from typing import Any

import classad2
import pytest

from executor.submit.configuration import SubmitConfiguration
from executor.submit.hold_reasons import memory_told
from executor.submit.job_policy import memory_lines, policy_lines
from executor.submit.requests import Requests

REQUESTS = Requests(request_memory=100, memory_multiplier=2, request_memory_max=350)
CONFIGURATION = SubmitConfiguration(hold_retries=2, hold_retry_delay=60, hold_timeout=1000)


def job(
    *, waits_for_person: bool = True, held_s: int = 0, **attributes: object
) -> classad2.ClassAd:
    """A job ad as condor_submit makes it of these lines, with what the schedd adds."""
    lines = memory_lines(REQUESTS) | policy_lines(
        CONFIGURATION, REQUESTS, waits_for_person=waits_for_person
    )
    ad = classad2.ClassAd()
    for key, text in lines.items():
        name = key.removeprefix("My.").replace("request_memory", "RequestMemory")
        ad[name] = classad2.ExprTree(text.replace("$(memory)", "100").replace("$(retry)", "0"))
    held = {"JobStatus": 5, "NumHolds": 1, "HoldReason": "because"}
    entered = {"EnteredCurrentStatus": int(time.time()) - held_s}
    for name, value in {**held, **entered, **attributes}.items():
        ad[name] = value
    return ad


def after(ad: classad2.ClassAd) -> str:
    """What the schedd does with a held job."""
    if ad.eval("periodic_release") is True:
        return "released"
    return "removed" if ad.eval("periodic_remove") is True else "held"


@pytest.mark.parametrize(("n_holds", "asked"), [(0, 100), (1, 200), (2, 350), (5, 350)])
def test_each_hold_for_memory_asks_for_more(n_holds: int, asked: int) -> None:
    assert job().eval("RequestMemory") == 100
    counted = job(NumHoldsByReason={"JobPolicy": n_holds})
    assert counted.eval("RequestMemory") == asked
    assert job(QuantumExecRetry=n_holds).eval("RequestMemory") == asked


@pytest.mark.parametrize(
    ("code", "subcode", "name"),
    [
        (3, 34, "JobPolicy"),
        (21, 102, "StartdHeldJob"),
        (34, 0, "JobOutOfResources"),
        (34, 102, "JobOutOfResources"),
    ],
)
def test_memory_is_released_until_there_is_no_more(code: int, subcode: int, name: str) -> None:
    held: dict[str, Any] = {"HoldReasonCode": code, "HoldReasonSubCode": subcode}
    for n_holds, expected in ((1, "released"), (2, "released"), (3, "removed")):
        ad = job(**held, NumHolds=n_holds, NumHoldsByReason={name: n_holds}, MemoryUsage=340)
        assert after(ad) == expected
    assert memory_told(ad.eval("PeriodicRemoveReason")) == (350, 340)
    assert ad.eval("PeriodicRemoveReason") == (
        "memory: asked for 350 MiB, last measured 340 MiB; raise requestMemoryMax (350 MiB) "
        "and restart the run; held before: because"
    )


@pytest.mark.parametrize(
    ("code", "subcode", "n_holds", "held_s", "expected"),
    [
        (13, 256, 1, 59, "held"),
        (13, 256, 1, 61, "released"),
        (13, 256, 2, 61, "held"),
        (12, 1, 2, 121, "released"),
        (12, 1, 3, 900, "held"),
        (12, 1, 3, 1001, "removed"),
        (6, 2, 1, 61, "released"),
        (47, 0, 1, 0, "removed"),
        (34, 104, 1, 0, "removed"),
        (3, 60, 1, 0, "removed"),
        (3, 61, 1, 0, "removed"),
        (1, 0, 1, 900_000, "held"),
        (99, 0, 1, 900, "held"),
        (99, 0, 1, 1001, "removed"),
    ],
)
def test_holds_end_as_the_table_says(
    code: int, subcode: int, n_holds: int, held_s: int, expected: str
) -> None:
    ad = job(HoldReasonCode=code, HoldReasonSubCode=subcode, NumHolds=n_holds, held_s=held_s)
    assert after(ad) == expected


def test_holds_by_people_are_not_counted() -> None:
    """A job that was paused four times may still be released as often as any other."""
    held: dict[str, Any] = {"HoldReasonCode": 13, "HoldReasonSubCode": 256, "held_s": 61}
    paused = {"UserRequest": 4}
    assert after(job(**held, NumHolds=5, NumHoldsByReason=paused)) == "released"
    assert after(job(**held, NumHolds=6, NumHoldsByReason=paused)) == "held"
    assert after(job(**held, NumHolds=5, NumHoldsByReason={})) == "held"


def test_missing_credential_waits_for_a_person_but_not_in_the_init_job() -> None:
    denied = "S3 said AccessDenied: x"
    held: dict[str, Any] = {"HoldReasonCode": 13, "HoldReasonSubCode": 256, "HoldReason": denied}
    assert after(job(**held, held_s=500)) == "held"
    assert after(job(**held, waits_for_person=False)) == "removed"
    passing = {**held, "HoldReason": "connection reset"}
    assert after(job(**passing, waits_for_person=False)) == "held"
    assert after(job(**passing, waits_for_person=False, held_s=61)) == "released"


@pytest.mark.parametrize(
    ("exit_", "n_holds", "expected"),
    [
        ({"ExitCode": 35, "ExitBySignal": False}, 0, True),
        ({"ExitSignal": 9, "ExitBySignal": True}, 1, True),
        ({"ExitCode": 35, "ExitBySignal": False}, 2, False),
        ({"ExitCode": 1, "ExitBySignal": False}, 0, False),
    ],
)
def test_exit_over_memory_is_held_while_there_is_more(
    exit_: dict[str, Any], n_holds: int, expected: bool
) -> None:
    ad = job(**exit_, NumHoldsByReason={"JobPolicy": n_holds}, JobStatus=2)
    assert ad.eval("on_exit_hold") is expected
    assert "the next try asks for more" in ad.eval("on_exit_hold_reason")
    measured = job(**exit_, NumHoldsByReason={"JobPolicy": n_holds}, JobStatus=2, MemoryUsage=90)
    asked = measured.eval("RequestMemory")
    assert memory_told(ad.eval("on_exit_hold_reason")) == (asked, 0)
    assert memory_told(measured.eval("on_exit_hold_reason")) == (asked, 90)


@pytest.mark.parametrize(
    ("shadows", "starts", "status", "subcode"), [(9, 0, 1, 60), (9, 9, 1, 61), (9, 9, 2, None)]
)
def test_jobs_that_never_come_to_an_end_are_held(
    shadows: int, starts: int, status: int, subcode: int | None
) -> None:
    ad = job(NumShadowStarts=shadows, NumJobStarts=starts, JobStatus=status)
    assert ad.eval("periodic_hold") is (subcode is not None)
    if subcode is not None:
        assert ad.eval("periodic_hold_subcode") == subcode
