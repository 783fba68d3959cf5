# SPDX-License-Identifier: BSD-3-Clause
"""What the codes of a hold mean."""

import itertools

import classad2
import pytest

from executor.submit.hold_reasons import HoldAction, HoldCause, classify, condition


@pytest.mark.parametrize(
    ("code", "subcode", "cause", "may_retry"),
    [
        (1, 0, HoldCause.USER, False),
        (3, 34, HoldCause.MEMORY, True),
        (3, 60, HoldCause.NEVER_STARTED, False),
        (3, 61, HoldCause.TOO_MANY_STARTS, False),
        (3, 7, HoldCause.POLICY, False),
        (4, 0, HoldCause.CREDENTIAL, False),
        (6, 2, HoldCause.FAILED_TO_START, True),
        (12, 1, HoldCause.OUTPUT_TRANSFER, True),
        (12, 2, HoldCause.OUTPUT_TRANSFER, True),
        (13, 256, HoldCause.INPUT_TRANSFER, True),
        (13, 62, HoldCause.INPUT_TRANSFER, True),
        (21, 102, HoldCause.MEMORY, True),
        (21, 104, HoldCause.DISK, False),
        (21, 0, HoldCause.POLICY, False),
        (34, 0, HoldCause.MEMORY, True),
        (34, 102, HoldCause.MEMORY, True),
        (34, 104, HoldCause.DISK, False),
        (46, 0, HoldCause.DURATION, False),
        (47, 0, HoldCause.DURATION, False),
        (35, 0, HoldCause.TASK_ERROR, False),
        (99, 0, HoldCause.UNKNOWN, False),
    ],
)
def test_cause_of_a_code(code: int, subcode: int, cause: HoldCause, may_retry: bool) -> None:
    hold = classify(code, subcode)
    assert (hold.cause, hold.may_retry) == (cause, may_retry)
    assert hold.advice


@pytest.mark.parametrize(
    "reason",
    [
        "Transfer input files failure: s3://b/k: S3 said AccessDenied: Access Denied",
        "s3://b/k: An error occurred (403) when calling HeadObject: Forbidden",
        "s3://b/k: Unable to locate credentials",
        "S3 said InvalidAccessKeyId: The AWS Access Key Id you provided does not exist",
        "S3 said ExpiredToken: the provided token has expired",
    ],
)
def test_refused_transfer_waits_for_a_person(reason: str) -> None:
    for code in (12, 13):
        hold = classify(code, 256, reason)
        assert (hold.cause, hold.may_retry) == (HoldCause.CREDENTIAL, False)


def test_expressions_name_the_codes_of_an_action() -> None:
    assert condition(HoldAction.GROW) == (
        "((HoldReasonCode =?= 3 && HoldReasonSubCode =?= 34)"
        " || (HoldReasonCode =?= 21 && HoldReasonSubCode =?= 102)"
        " || (HoldReasonCode =?= 34 && HoldReasonSubCode =?= 0)"
        " || (HoldReasonCode =?= 34 && HoldReasonSubCode =?= 102))"
    )


def test_plugin_that_cannot_be_executed_is_told() -> None:
    """As HTCondor 23.9.6 holds it: 13, and the number of the system's error."""
    reason = (
        "Transfer input files failure at execution point slot1_3@vm. Details: receiving file k: "
        "FILETRANSFER:1:FILETRANSFER: plugin for type qs3 not found!|FILETRANSFER:1:FILETRANSFER: "
        "Failed to execute /opt/quantum_exec_plugin -classad: Permission denied"
    )
    hold = classify(13, 13, reason)
    assert (hold.cause, hold.may_retry) == (HoldCause.NEVER_STARTED, True)
    assert "x bit" in hold.advice


@pytest.mark.parametrize(
    ("release", "code", "subcode", "cause"),
    [
        ("23.9", 34, 0, HoldCause.MEMORY),
        ("23.9", 12, 1, HoldCause.OUTPUT_TRANSFER),
        ("23.9", 13, 0, HoldCause.INPUT_TRANSFER),
        ("23.9", 13, 1 << 8, HoldCause.INPUT_TRANSFER),
        ("23.9", 13, 62, HoldCause.INPUT_TRANSFER),
        ("24.0", 34, 0, HoldCause.MEMORY),
        ("24.0.12", 34, 102, HoldCause.MEMORY),
        ("24.0", 21, 102, HoldCause.MEMORY),
        ("25.0", 34, 102, HoldCause.MEMORY),
        ("25.0", 34, 104, HoldCause.DISK),
        ("25.0", 12, 1 << 8, HoldCause.OUTPUT_TRANSFER),
        ("25.0", 13, 9, HoldCause.INPUT_TRANSFER),
        ("25.2", 21, 102, HoldCause.MEMORY),
        ("25.2", 34, 102, HoldCause.MEMORY),
        ("25.2", 12, 2, HoldCause.OUTPUT_TRANSFER),
        ("25.2", 13, -1004, HoldCause.INPUT_TRANSFER),
    ],
)
def test_codes_of_every_release_are_known(
    release: str, code: int, subcode: int, cause: HoldCause
) -> None:
    """Of memory, disk and transfer, whose codes changed between the releases that are in use."""
    hold = classify(code, subcode)
    assert hold.cause is cause, release
    assert hold.may_retry is (cause is not HoldCause.DISK)


REASONS = (
    "",
    "Transfer input files failure: S3 said AccessDenied",
    "plugin for type qs3 not found",
)


@pytest.mark.parametrize("reason", REASONS)
def test_policy_does_what_is_told(reason: str) -> None:
    """HTCondor's own evaluation of the expressions takes each hold for the action of the table."""
    expressed = (HoldAction.RELEASE, HoldAction.GROW, HoldAction.REMOVE)
    conditions = {action: classad2.ExprTree(condition(action)) for action in expressed}
    subcodes = (-1004, 0, 1, 2, 3, 9, 34, 60, 61, 62, 102, 104, 256)
    for code, subcode in itertools.product(range(50), subcodes):
        job = classad2.ClassAd({"HoldReasonCode": code, "HoldReasonSubCode": subcode})
        if reason:
            job["HoldReason"] = reason
        taken = {action for action, tree in conditions.items() if tree.eval(job) is True}
        action = classify(code, subcode, reason).action
        assert taken == {action} & set(expressed), (code, subcode)


def test_no_action_is_taken_for_a_job_that_is_not_held() -> None:
    job = classad2.ClassAd({"JobStatus": 2})
    for action in (HoldAction.RELEASE, HoldAction.GROW, HoldAction.REMOVE):
        assert classad2.ExprTree(condition(action)).eval(job) is False
