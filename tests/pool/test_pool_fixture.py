# SPDX-License-Identifier: BSD-3-Clause
"""The pool of the tests itself: it starts, runs jobs, and leaves nothing behind."""

from pathlib import Path

import pytest

from tests.fix_pool import PersonalPool

pytestmark = pytest.mark.pool

_TRUE = """\
executable = /bin/true
transfer_executable = false
log = true.log
queue
"""

# Files go by HTCondor's own transfer: no plugin is asked for.
_COPY = """\
executable = /bin/cp
transfer_executable = false
arguments = in.txt out.txt
transfer_input_files = in.txt
transfer_output_files = out.txt
log = copy.log
queue
"""


def test_pool_runs_jobs_and_leaves_no_process(
    condor: None, pool_directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("by HTCondor\n")
    pool = PersonalPool(pool_directory)
    pool.start()
    try:
        clusters = [pool.submit(text, tmp_path) for text in (_TRUE, _COPY)]
        ads = [ad for cluster in clusters for ad in pool.wait_for_end(cluster)]
        assert [ad["ExitCode"] for ad in ads] == [0, 0]
        assert sorted(ad["ClusterId"] for ad in pool.epochs()) == clusters
        assert pool.processes()
    finally:
        killed = pool.stop()
    assert (tmp_path / "out.txt").read_text() == "by HTCondor\n"
    assert killed == []
    assert pool.processes() == []
