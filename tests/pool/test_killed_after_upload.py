# SPDX-License-Identifier: BSD-3-Clause
"""A job killed after its delta was uploaded, and run again by HTCondor, counts once."""

import stat
from pathlib import Path

import pytest

from registry import names
from tests.fix_pool import PersonalPool
from tests.pool.submission import BIN, Site, need
from tests.pool.three_tasks import write_three_tasks
from transfer_plugins.object_store import open_store

pytestmark = pytest.mark.pool

RUN = "u/operator/killed"

# Stands before the real plugin: when that has uploaded everything, it kills the starter, once for
# each sandbox's quantum, before HTCondor can hear that the job is done.
_KILLING_PLUGIN = """#!/bin/sh
{plugin} "$@" || exit $?
case "$*" in
*-upload*)
    url=$(sed -n 's/.*Url *= *"\\([^"]*\\)".*/\\1/p' "$2")
    mark={marks}/$(basename "$url")
    if [ ! -e "$mark" ]; then
        : > "$mark"
        kill -KILL "$PPID"
    fi
    ;;
esac
"""


@pytest.fixture
def killing_plugin(tmp_path: Path) -> Path:
    """The real plugin with the fault after it."""
    marks = tmp_path / "marks"
    marks.mkdir()
    path = tmp_path / "quantum_exec_plugin"
    path.write_text(_KILLING_PLUGIN.format(plugin=BIN / "quantum_exec_plugin", marks=marks))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_jobs_killed_after_their_delta_run_again_and_count_once(
    condor: None,
    killing_plugin: Path,
    pool_directory: Path,
    submit_directory: Path,
    database: str,
    datastore: str,
    s3_settings: dict[str, str],
) -> None:
    """Every job is killed once after its upload; one set of datasets comes out.

    The daemons do not know the address of the S3 service: the plugin takes it from the job ad.
    """
    need("psql")
    endpoint = s3_settings["AWS_ENDPOINT_URL"]
    daemons = {name: v for name, v in s3_settings.items() if name != "AWS_ENDPOINT_URL"}
    with PersonalPool(pool_directory, plugins=[killing_plugin], environment=daemons) as pool:
        site = Site(pool, submit_directory, database, datastore, s3_settings)
        site.prepare(s3EndpointUrl=endpoint)
        store = open_store(datastore)
        report = site.submit(write_three_tasks(site.directory / "graph.yaml", store, RUN))
        jobs = pool.history(
            f"DAGManJobId == {report['cluster']} && QuantumExecQuantumId =!= undefined"
        )
    assert [job["NumShadowStarts"] for job in jobs] == [2] * 7
    deltas = [o.key for o in store.list_objects(names.delta_prefix(RUN))]
    assert len(deltas) == 7
    counted = site.psql("SELECT count(*), count(DISTINCT data_id || dataset_type) FROM dataset")
    assert counted == [["10", "10"]]
    site.verify(RUN)
