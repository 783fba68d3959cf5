# SPDX-License-Identifier: BSD-3-Clause
"""Policies as they stand on a command line."""

import pytest

from merger.conflict_policy import DEFER_ALL, ConflictPolicies, Policy, PolicyError, parse


def test_policies_are_read() -> None:
    policies = parse(["keep", "catalog=replace", "a=b=fail", "dimension:exposure=defer"])
    assert policies == ConflictPolicies(
        Policy.KEEP,
        {"catalog": Policy.REPLACE, "a=b": Policy.FAIL},
        {"exposure": Policy.DEFER},
    )
    assert parse([]) == DEFER_ALL
    assert parse(["keep", "keep"]).default is Policy.KEEP


def test_more_particular_policy_goes_first() -> None:
    policies = parse(["keep", "catalog=replace", "dimension:catalog=fail"])
    assert policies.of_datasets({"image"}) is Policy.KEEP
    assert policies.of_datasets({"catalog"}) is Policy.REPLACE
    assert policies.of_dimension("catalog") is Policy.FAIL
    assert policies.of_dimension("exposure") is Policy.KEEP


def test_types_that_meet_in_an_id_must_agree() -> None:
    policies = parse(["keep", "catalog=replace", "image=fail"])
    assert policies.of_datasets({"catalog", "mask"}) is Policy.DEFER
    assert policies.of_datasets({"catalog", "image"}) is Policy.FAIL
    assert policies.of_datasets({"mask", "other"}) is Policy.KEEP


def test_what_no_delta_brings_cannot_be_left_out() -> None:
    policies = parse(["fail", "catalog=keep", "image=fail", "dimension:exposure=fail"])
    assert policies.may_fail
    assert not policies.without_fail().may_fail
    assert policies.without_fail().of_datasets({"catalog"}) is Policy.KEEP


@pytest.mark.parametrize("text", ["kept", "", "=keep", "catalog=", "dimension:=keep", "Keep"])
def test_bad_policies_are_refused(text: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse([text])
    assert str(error.value) == (
        f"conflict policy {text!r}: expected defer, keep, replace or fail, alone or as "
        "DATASET_TYPE=POLICY or dimension:NAME=POLICY"
    )


@pytest.mark.parametrize(
    "texts, what", [(["keep", "fail"], "everything"), (["a=keep", "a=fail"], "'a'")]
)
def test_two_policies_for_one_thing_are_refused(texts: list[str], what: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse(texts)
    assert str(error.value) == (
        f"conflict policy {texts[1]!r}: expected one policy for {what}, found 'keep' before it"
    )
