# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge requests``: what tasks used, and what the next run should ask for."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from executor.submit.configuration import read_submit_configuration
from merger.cli import app
from merger.exit_codes import ExitCode
from registry.attempt import AttemptStatus
from registry.delta import Delta, ResourceUse
from registry.job import ResourceRequest
from tests.fix_merge import MergeSite

MIB = 2**20


def use(memory_mib: int, scratch_mib: int | None = 100, wall_s: float = 100.0) -> ResourceUse:
    scratch = None if scratch_mib is None else scratch_mib * MIB
    return ResourceUse(wall_s, wall_s, wall_s / 2, memory_mib * MIB, 0, 0, scratch)


def killed(site: MergeSite, quantum: int, number: int, **changes: Any) -> Delta:
    delta = site.delta(
        quantum, number, status=AttemptStatus.FAILED, requested=ResourceRequest(memory_mib=256)
    )
    return dataclasses.replace(delta, **changes)


@pytest.fixture
def measured(site: MergeSite) -> MergeSite:
    """A RUN with three successes, a task over its memory, one killed, and one that failed."""
    site.put(
        killed(site, 0, 1, resources=use(300)),
        killed(site, 0, 2, resources=use(10), signal=9, exit_code=None),
        killed(site, 0, 3, resources=use(10)),
        site.delta(0, 4, resources=use(100)),
        site.delta(1, 5, resources=use(200, None, 50.0)),
        site.delta(2, 6, resources=use(1000, 500, 700.0)),
    )
    site.merge()
    return site


def requests(site: MergeSite, *words: str) -> Result:
    command = ["requests", site.graph.run, "--database", site.address, *words]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def test_use_is_told_by_task(measured: MergeSite) -> None:
    (task,) = json.loads(requests(measured, "--json").stdout)["tasks"]
    assert (task["label"], task["n_successful"], task["n_attempts"]) == ("calibrate", 3, 6)
    assert task["n_over_memory"] == 2
    memory = task["max_rss_bytes"]
    assert [memory[n] / MIB for n in ("median", "p95", "max", "cover")] == [200, 1000, 1000, 1000]
    assert task["scratch_bytes"]["median"] == 100 * MIB
    assert task["cpus"] == {"max": 1.5, "median": 1.5, "p95": 1.5, "cover": 1.5}
    # 1000 * 1.2 + 40 for the wrapper, 500 * 1.2, and twice 700 s.
    assert task["requests"] == {
        "requestMemory": 1280,
        "requestDisk": 640,
        "requestWalltime": 1800,
    }


def test_yaml_is_a_submit_configuration(measured: MergeSite, tmp_path: Path) -> None:
    file = tmp_path / "requests.yaml"
    file.write_text(requests(measured, "--yaml", "--margin", "1.5").stdout)
    asked = read_submit_configuration(file).pipetask["calibrate"]
    found = (asked.request_memory, asked.request_disk, asked.request_walltime)
    assert found == (1600, 768, 1800)


def test_memory_for_a_share_of_the_quanta(measured: MergeSite) -> None:
    report = json.loads(requests(measured, "--json", "--cover", "0.6").stdout)
    (task,) = report["tasks"]
    assert (report["cover"], task["requests"]["requestMemory"]) == (0.6, 320)
    assert task["requests"]["requestDisk"] == 640


def test_table_has_what_to_ask_for(measured: MergeSite) -> None:
    done = CliRunner().invoke(
        app,
        ["requests", measured.graph.run, "--database", measured.address],
        env={"COLUMNS": "200"},
    )
    assert done.exit_code == ExitCode.OK
    for text in ("calibrate", "200/1e+03/1e+03", "1280", "640", "1800"):
        assert text in done.stdout


def test_nothing_measured_is_told(site: MergeSite) -> None:
    failed = requests(site, "--yaml")
    assert (failed.exit_code, failed.stdout) == (ExitCode.ERROR, "")
    assert "expected successful attempts in the central registry, found none" in failed.stderr


def test_run_without_success_is_told(site: MergeSite) -> None:
    site.put(killed(site, 0, 1, resources=use(300)))
    site.merge()
    assert requests(site, "--json").exit_code == ExitCode.ERROR


def test_yaml_or_json(site: MergeSite) -> None:
    assert requests(site, "--yaml", "--json").exit_code == ExitCode.USAGE
