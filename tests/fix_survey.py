# SPDX-License-Identifier: BSD-3-Clause
"""Surveys of two exposures that were run: completed, or with one quantum that failed."""

from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from tests.local_graphs import GraphRun, make_survey


@pytest.fixture(params=["directory", "s3"])
def survey(request: pytest.FixtureRequest, tmp_path: Path) -> GraphRun:
    """A graph of two exposures that was run, on each kind of datastore."""
    is_s3 = request.param == "s3"
    uri = request.getfixturevalue("datastore") if is_s3 else (tmp_path / "store").as_uri()
    return _completed(tmp_path, uri)


@pytest.fixture
def local_survey(tmp_path: Path) -> GraphRun:
    """The same on a directory only."""
    return _completed(tmp_path, (tmp_path / "store").as_uri())


@pytest.fixture
def failed_survey(tmp_path: Path) -> GraphRun:
    """A graph that was run, and of which one quantum failed."""
    found = GraphRun(tmp_path, (tmp_path / "store").as_uri(), make_survey(2))
    found.fail("fit", exposure=1)
    report = found.run()
    assert report.code == ExitCode.FAILED, report
    return found


def _completed(directory: Path, uri: str) -> GraphRun:
    """Run the graph, and look that all is well."""
    found = GraphRun(directory, uri, make_survey(2))
    report = found.run("-j", "2")
    assert report.code == 0, report
    return found
