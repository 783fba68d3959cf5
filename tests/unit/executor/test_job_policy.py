# SPDX-License-Identifier: BSD-3-Clause
"""Policy of jobs, and what may stand in a submit description; pools read them in tests/pool."""

from collections.abc import Callable

import pytest

from executor.submit.configuration import ConfigurationError, SubmitConfiguration
from executor.submit.job_policy import dagman_retry, memory_lines, memory_max, policy_lines
from executor.submit.requests import Requests
from executor.submit.submit_text import (
    class_ad_string,
    class_ad_value,
    environment_text,
    node_word,
    submit_text,
)


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        (Requests(request_memory=100), 100),
        (Requests(request_memory=100, memory_multiplier=1, request_memory_max=900), 100),
        (Requests(request_memory=100, memory_multiplier=2, request_memory_max=900), 900),
        (Requests(request_memory=2000, memory_multiplier=2, request_memory_max=900), 2000),
        (Requests(request_memory=100, memory_multiplier=1.5), 491_520),
    ],
)
def test_memory_grows_to_its_maximum(requests: Requests, expected: int) -> None:
    assert memory_max(requests) == expected
    assert memory_lines(requests)["My.QuantumExecMemoryMax"] == str(expected)


@pytest.mark.parametrize(
    ("codes", "dagman", "in_place"),
    [
        (None, "3 UNLESS-EXIT 35", None),
        (20, "3 UNLESS-EXIT 20", None),
        ([2, 1], "", "member(ExitCode ?: -1, { 1, 2, 35 })"),
    ],
)
def test_retries_end_after_final_codes(
    codes: int | list[int] | None, dagman: str, in_place: str | None
) -> None:
    requests = Requests(number_of_retries=3, retry_unless_exit=codes)
    assert dagman_retry(requests) == dagman
    assert policy_lines(SubmitConfiguration(), requests).get("retry_until") == in_place


def test_wall_time_of_the_pool_is_after_that_of_the_wrapper() -> None:
    lines = policy_lines(SubmitConfiguration(), Requests(request_walltime=7200))
    assert lines["allowed_execute_duration"] == "7920"
    assert lines["My.QuantumExecWallTime"] == "7200"


def test_environment_is_quoted_as_condor_submit_reads_it() -> None:
    found = environment_text({"A": "1", "B": "x y", "C": "it's", "D": 'say "so"'}, "environment")
    assert found == "\"A=1 'B=x y' 'C=it''s' 'D=say \"\"so\"\"'\""


def test_values_of_yaml_become_values_of_class_ads() -> None:
    values = ("workday", 7200, 1.5, True)
    assert [class_ad_value(v, "x") for v in values] == ['"workday"', "7200", "1.5", "true"]


@pytest.mark.parametrize("text", ['a" || true', "a\nqueue 1000", "$(HOME)", "a\\", "a\rb", "\0"])
@pytest.mark.parametrize(
    "use",
    [
        lambda text: class_ad_string(text, "project"),
        lambda text: environment_text({"A": text}, "environment"),
        lambda text: environment_text({text: "1"}, "environment"),
        lambda text: node_word(text, "node"),
    ],
)
def test_what_breaks_out_of_its_line_is_refused(use: Callable[[str], str], text: str) -> None:
    try:
        found = use(text)
    except ConfigurationError as error:
        assert "expected" in str(error)
    else:
        # Quoted, a value of the environment may hold quotes and backslashes.
        assert found in ('"A=a\\"', '"\'A=a"" || true\'"')


@pytest.mark.parametrize("value", ["1\nqueue 1000", "true\\", "a\rb"])
def test_a_submit_description_has_no_line_that_we_did_not_write(value: str) -> None:
    with pytest.raises(ConfigurationError, match="rank: expected one line"):
        submit_text({"rank": value})
