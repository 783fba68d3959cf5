# SPDX-License-Identifier: BSD-3-Clause
"""What a task must not exceed on a worker, and what the kernel tells of its end."""

import json
import time
from pathlib import Path

import pytest

from executor.limits import WALL_TIME_ATTRIBUTE, Watch, limits_here
from executor.submit.cluster_requests import wall_times
from executor.submit.requests import Requests
from registry.job import ResourceRequest


def test_kill_by_the_kernel_is_told_from_another(tmp_path: Path) -> None:
    """Of a task that was far from its limit: the kernel counts whom it killed for memory."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    groups = [line[3:] for line in lines if line.startswith("0::")]
    if not groups:
        pytest.skip("control groups of version 1 count in another file")
    events = tmp_path / groups[0].lstrip("/") / "memory.events"
    events.parent.mkdir(parents=True, exist_ok=True)
    events.write_text("low 0\nmax 17\noom 1\noom_kill 1\n")
    watch = Watch(ResourceRequest(memory_mib=1000), tmp_path, tmp_path)
    assert watch.killed_for_memory(2**20) is None
    events.write_text("low 0\nmax 19\noom 2\noom_kill 2\n")
    over = watch.killed_for_memory(2**20)
    assert over is not None and over.code == 35
    assert "expected at most 1000 MiB, found 1 MiB when the task was killed by the" in over.message


@pytest.mark.parametrize(
    ("asked", "told", "alone", "as_member"),
    [
        (None, None, None, None),
        (50.0, None, 50.0, 50.0),
        (None, 1, 1.0, 0.0),
        (50.0, 10**9, 1e9, 50.0),
        (50.0, 1, 1.0, 0.0),
    ],
)
def test_wall_time_is_that_of_the_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: float | None,
    told: int | None,
    alone: float | None,
    as_member: float | None,
) -> None:
    """A job that began long ago leaves its members what is left of its time."""
    monkeypatch.setattr("executor.limits._BEGUN", -1e6)
    ad = tmp_path / "job.ad"
    ad.write_text(f"ClusterId = 3\n{'' if told is None else f'QuantumExecWallTime = {told}'}\n")
    environment = {"_CONDOR_JOB_AD": str(ad)}
    request = ResourceRequest(wall_s=asked)
    assert limits_here(request, environment).wall_s == alone
    assert limits_here(request, environment, member="isr").wall_s == as_member


@pytest.mark.parametrize(
    ("member", "told", "expected"),
    [("isr", 700, 600.0), ("other", 700, 50.0), ("isr", None, 600.0), ("fit", 700, 600.0)],
)
def test_member_of_a_cluster_has_its_own_wall_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, told: int | None, expected: float
) -> None:
    """That of the submit configuration goes before that of the graph here, too."""
    monkeypatch.setattr("executor.limits._BEGUN", time.monotonic() - 100)
    members = {
        label: Requests(request_walltime=seconds)
        for label, seconds in {"isr": 600, "fit": 1200}.items()
    }
    requests = wall_times(members)
    lines = {**requests, **({} if told is None else {WALL_TIME_ATTRIBUTE: told})}
    ad = tmp_path / "job.ad"
    ad.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
    request = ResourceRequest(wall_s=50.0)
    found = limits_here(request, {"_CONDOR_JOB_AD": str(ad)}, member=member).wall_s
    assert found is not None and expected - 5 <= found <= expected
