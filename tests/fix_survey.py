# SPDX-License-Identifier: BSD-3-Clause
"""Surveys of two exposures that were run: completed, or with one quantum that failed.

Each is run once per session and kind of datastore; a test has a copy of its own.
"""

from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from tests.fix_s3 import BUCKET
from tests.local_graphs import GraphRun, make_survey


@pytest.fixture(scope="session")
def completed_in_directory(tmp_path_factory: pytest.TempPathFactory) -> GraphRun:
    """A completed survey to copy."""
    directory = tmp_path_factory.mktemp("completed")
    return _completed(directory, (directory / "store").as_uri())


@pytest.fixture(scope="session")
def completed_in_s3(
    tmp_path_factory: pytest.TempPathFactory, s3_settings: dict[str, str]
) -> GraphRun:
    """The same in S3."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in s3_settings.items():
            patched.setenv(name, value)
        return _completed(tmp_path_factory.mktemp("completed-s3"), f"s3://{BUCKET}/completed")


@pytest.fixture(scope="session")
def failed_in_directory(tmp_path_factory: pytest.TempPathFactory) -> GraphRun:
    """A survey to copy, of which one quantum failed."""
    directory = tmp_path_factory.mktemp("failed")
    found = GraphRun(directory, (directory / "store").as_uri(), make_survey(2))
    found.fail("fit", exposure=1)
    report = found.run()
    assert report.code == ExitCode.FAILED, report
    return found


@pytest.fixture(params=["directory", "s3"])
def survey(request: pytest.FixtureRequest, tmp_path: Path) -> GraphRun:
    """A graph of two exposures that was run, on each kind of datastore."""
    if request.param == "directory":
        completed: GraphRun = request.getfixturevalue("completed_in_directory")
        return completed.copy(tmp_path, (tmp_path / "store").as_uri())
    completed = request.getfixturevalue("completed_in_s3")
    return completed.copy(tmp_path, request.getfixturevalue("datastore"))


@pytest.fixture
def local_survey(tmp_path: Path, completed_in_directory: GraphRun) -> GraphRun:
    """The same on a directory only."""
    return completed_in_directory.copy(tmp_path, (tmp_path / "store").as_uri())


@pytest.fixture
def failed_survey(tmp_path: Path, failed_in_directory: GraphRun) -> GraphRun:
    """A graph that was run, and of which one quantum failed."""
    return failed_in_directory.copy(tmp_path, (tmp_path / "store").as_uri())


def _completed(directory: Path, uri: str) -> GraphRun:
    """Run the graph, and look that all is well."""
    found = GraphRun(directory, uri, make_survey(2))
    report = found.run("-j", "2")
    assert report.code == 0, report
    return found
