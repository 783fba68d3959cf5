# SPDX-License-Identifier: BSD-3-Clause
"""The command of a newcomer: everything started, run, merged, verified and stopped again."""

import json
import subprocess
import sys
from pathlib import Path

import psutil


def test_demo_runs_and_leaves_nothing_running(tmp_path: Path) -> None:
    """At least 60 quanta succeed, verify says equal, the stars agree with the original image."""
    done = subprocess.run(
        [Path(sys.executable).with_name("quantum-exec"), "demo", "--json", "--output", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert sum(task["n_successful"] for task in report["tasks"]) >= 60
    assert report["verify"]["n_differences"] == 0
    comparison = report["comparison"]
    assert comparison["n_matched"] > 0.9 * comparison["n_reference"] > 10
    assert comparison["position_error_median_px"] < 0.2
    assert abs(comparison["flux_ratio_median"] - 1) < 0.05
    picture = tmp_path / report["files"]["mosaic_png"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not [p for p in psutil.Process().children(recursive=True) if p.is_running()]
