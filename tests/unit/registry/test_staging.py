# SPDX-License-Identifier: BSD-3-Clause
"""Stage-in report and stage-out list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import names, staging
from registry.errors import FormatError, InvalidNameError
from tests.samples import ATTEMPT_ID, QUANTUM_ID, RUN, make_delta

FILE = staging.StageOutFile("repo/a.fits", f"{RUN}/calexp/a.fits", 7, "sha256:00", 1)


@given(st.builds(staging.StageInReport))
def test_report_round_trip(report: staging.StageInReport) -> None:
    text = staging.write_stage_in_report(report)
    assert staging.read_stage_in_report(text, "report") == report


def test_report_keeps_inputs() -> None:
    inputs = make_delta().inputs
    report = staging.StageInReport(QUANTUM_ID, ATTEMPT_ID, "2026", inputs=inputs, missing=["x"])
    text = staging.write_stage_in_report(report)
    assert staging.read_stage_in_report(text, "report") == report


def test_list_round_trip() -> None:
    delta = staging.StageOutFile(
        names.DELTA_FILE, names.delta_key(RUN, "q", "a"), 1, "sha256:01", 2
    )
    for stage_out in (staging.StageOutList(RUN), staging.StageOutList(RUN, [FILE], delta)):
        text = staging.write_stage_out_list(stage_out)
        assert staging.read_stage_out_list(text, "list") == stage_out


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "repo/../../x", ""])
@pytest.mark.parametrize("is_delta", [False, True])
def test_path_outside_of_the_sandbox_is_refused(path: str, is_delta: bool) -> None:
    bad = staging.StageOutFile(path, FILE.key, 7, "sha256:00", 1)
    stage_out = staging.StageOutList(RUN, *(([], bad) if is_delta else ([bad], None)))
    with pytest.raises(InvalidNameError, match="list: path: expected a key"):
        staging.read_stage_out_list(staging.write_stage_out_list(stage_out), "list")


@pytest.mark.parametrize("key", ["other/x", f"{RUN}x/y", f"{RUN}/../x", RUN, f"{RUN}/"])
def test_key_outside_of_the_run_is_refused(key: str) -> None:
    bad = staging.StageOutFile(FILE.path, key, 7, "sha256:00", 1)
    text = staging.write_stage_out_list(staging.StageOutList(RUN, [bad]))
    with pytest.raises(InvalidNameError, match=r"list: (key: expected a key|expected keys below)"):
        staging.read_stage_out_list(text, "list")


@pytest.mark.parametrize("control", ["jobs/q.json", "graphs/g.json", "deltas/q.a.json"])
def test_file_among_the_control_objects_is_refused(control: str) -> None:
    bad = staging.StageOutFile(FILE.path, names.control_prefix(RUN) + control, 7, "sha256:00", 1)
    text = staging.write_stage_out_list(staging.StageOutList(RUN, [bad]))
    with pytest.raises(InvalidNameError, match="list: expected keys of datasets and logs, found"):
        staging.read_stage_out_list(text, "list")


def test_damaged_list_names_its_place() -> None:
    text = staging.write_stage_out_list(staging.StageOutList(RUN, [FILE]))
    with pytest.raises(FormatError, match=r"list\.files\[0\]\.size_bytes: expected an integer"):
        staging.read_stage_out_list(text.replace(b'"size_bytes":7', b'"size_bytes":"7"'), "list")
    with pytest.raises(FormatError, match="list: expected JSON"):
        staging.read_stage_out_list(text[:-1], "list")
