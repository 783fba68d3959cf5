# SPDX-License-Identifier: BSD-3-Clause
"""Three mergers while everything around them fails: few seeds of ``python -m tests.chaos``."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.chaos.faults import KINDS, plan_faults
from tests.chaos.places import ROOT
from tests.chaos.recipes import plan_survey
from tests.fix_pgbouncer import find_pgbouncer

N_DELTAS = 300

# Half a minute each on a quiet machine; most of it is waiting for processes to start.
pytestmark = pytest.mark.timeout(900)


def try_seed(seed: int, *words: str) -> dict[str, Any]:
    """Try one seed as people do, and return what it reports."""
    command = [sys.executable, "-m", "tests.chaos", "--seeds", "1", "--first", str(seed), "--json"]
    done = subprocess.run(
        [*command, "--deltas", str(N_DELTAS), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
    (line,) = done.stdout.splitlines()
    report: dict[str, Any] = json.loads(line)
    assert report["problems"] == []
    return report


def test_s3() -> None:
    report = try_seed(2, "--datastore", "s3")
    assert report["n_started"] > 3
    kinds = {struck["fault"]["kind"] for struck in report["struck"] if struck["is_hit"]}
    assert any(kind.startswith("bucket") for kind in kinds)


def test_directory_through_pgbouncer() -> None:
    if find_pgbouncer() is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    report = try_seed(1, "--datastore", "file", "--pgbouncer")
    assert any("PostgreSQL restarted" in s["fault"]["kind"] for s in report["struck"])


def test_a_seed_is_always_the_same_survey() -> None:
    surveys = [plan_survey(5, N_DELTAS) for _ in range(2)]
    assert surveys[0] == surveys[1] != plan_survey(6, N_DELTAS)
    assert plan_faults(5, 6, has_bucket=True) == plan_faults(5, 6, has_bucket=True)


def test_survey_has_its_shares() -> None:
    survey = plan_survey(7, 2000)
    assert len(survey.deltas) == len({delta.key for delta in survey.deltas}) >= 2000
    assert len(survey.ledger) + len(survey.quarantine) + len(survey.newer) == len(survey.deltas)
    n_damaged = len(survey.newer) + sum(r != "wrong_key" for r in survey.quarantine.values())
    assert 30 <= n_damaged <= 40
    assert len(survey.conflicts) >= 40
    assert sum(survey.kinds.values()) - survey.kinds["ordinary"] == 100 + 40 + 40


def test_every_fault_is_planned_before_any_comes_again() -> None:
    planned = plan_faults(1, len(KINDS), has_bucket=True)
    assert {fault.kind for fault in planned} == set(KINDS)
