# SPDX-License-Identifier: BSD-3-Clause
"""One exit code for quanta that ended in several."""

from pathlib import Path

import pytest

from executor.cluster_exit import code_for_pool
from executor.submit.configuration import SubmitConfiguration
from executor.submit.job_policy import memory_lines, policy_lines
from executor.submit.requests import Requests

MAY_GROW, IS_LARGEST = 400, 512


@pytest.fixture
def ads(tmp_path: Path) -> dict[str, str]:
    """The ad of a job as our policy writes it, up to 512 MiB."""
    requests = Requests(
        request_memory=400,
        request_memory_max=512,
        memory_multiplier=2,
        number_of_retries=2,
        retry_unless_exit=[20, 21],
    )
    lines = memory_lines(requests) | policy_lines(SubmitConfiguration(), requests)
    ad = {k.removeprefix("My."): v for k, v in lines.items() if k.startswith("My.")}
    path = tmp_path / "job.ad"
    path.write_text("".join(f"{name} = {value}\n" for name, value in ad.items()))
    return {"_CONDOR_JOB_AD": str(path), "_CONDOR_MACHINE_AD": str(tmp_path / "machine.ad")}


@pytest.mark.parametrize(
    ("codes", "granted", "expected"),
    [
        ([1], MAY_GROW, 1),
        ([1, 35], MAY_GROW, 35),
        ([20, 35], MAY_GROW, 35),
        ([35, 1], IS_LARGEST, 1),
        ([35, 20], IS_LARGEST, 35),
        ([20, 7, 8], MAY_GROW, 7),
        ([21, 20], MAY_GROW, 21),
        ([20, 143], IS_LARGEST, 143),
    ],
)
def test_code_is_that_by_which_the_pool_helps(
    ads: dict[str, str], codes: list[int], granted: int, expected: int
) -> None:
    """More memory before a retry, a retry before none."""
    Path(ads["_CONDOR_MACHINE_AD"]).write_text(f"Cpus = 1\nMemory = {granted}\nDisk = 9\n")
    assert code_for_pool(codes, ads) == expected


@pytest.mark.parametrize(("codes", "expected"), [([20, 1], 20), ([1, 35], 35), ([7, 1], 7)])
def test_without_a_pool_nothing_is_final_but_memory(codes: list[int], expected: int) -> None:
    assert code_for_pool(codes, {}) == expected
