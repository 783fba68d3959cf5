# SPDX-License-Identifier: BSD-3-Clause
"""The time that a stopped job has, from the ads that HTCondor puts beside it."""

from pathlib import Path

import pytest

from executor.vacate_time import seconds_for_task, seconds_to_stop


@pytest.mark.parametrize(
    ("job", "machine", "expected"),
    [
        ("JobMaxVacateTime = 60", "MachineMaxVacateTime = 600", 50),
        ("JobMaxVacateTime = 60", "MachineMaxVacateTime = 15", 12),
        ("jobmaxvacatetime=20", "", 16),
        ("JobMaxVacateTime = 600", "", 590),
        ("JobMaxVacateTime = 1", "", 2),
        ("JobMaxVacateTime = 60 * 2", "Memory = 15", 45),
        ("MyJobMaxVacateTime = 3", "", 45),
        ("", "", 45),
    ],
)
def test_less_of_both_counts_less_a_reserve(
    tmp_path: Path, job: str, machine: str, expected: float
) -> None:
    (tmp_path / "job").write_text(f'ClusterId = 1\n{job}\nOwner = "x"\n')
    (tmp_path / "machine").write_text(f"{machine}\n")
    ads = {"_CONDOR_JOB_AD": str(tmp_path / "job"), "_CONDOR_MACHINE_AD": str(tmp_path / "machine")}
    assert seconds_to_stop(ads) == pytest.approx(expected)


def test_ads_that_are_not_there_leave_the_default(tmp_path: Path) -> None:
    assert seconds_to_stop({}) == 45
    assert seconds_to_stop({"_CONDOR_JOB_AD": str(tmp_path / "none")}) == 45


def test_task_has_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_CONDOR_JOB_AD", raising=False)
    monkeypatch.delenv("_CONDOR_MACHINE_AD", raising=False)
    assert seconds_for_task() == 20
    (tmp_path / "job").write_text("JobMaxVacateTime = 15\n")
    monkeypatch.setenv("_CONDOR_JOB_AD", str(tmp_path / "job"))
    assert seconds_for_task() == pytest.approx(6)
