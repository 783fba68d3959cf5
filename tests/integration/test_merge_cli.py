# SPDX-License-Identifier: BSD-3-Clause
"""The commands as a person or a DAG runs them: output, exit codes, no secret anywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from merger import schema
from merger.exit_codes import ExitCode
from tests import factories
from tests.fix_merge import MergeSite

RUN = factories.RUN


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``registry-merge`` as a process."""
    return subprocess.run(
        [sys.executable, "-m", "merger.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **environment},
        cwd=Path(__file__).parents[2],
        timeout=60,
    )


def test_whole_way(site: MergeSite, empty_database: str) -> None:
    database = ("--database", empty_database)
    too_early = call("merge", site.uri, RUN, *database)
    assert too_early.returncode == ExitCode.SCHEMA
    assert "run registry-merge init" in too_early.stderr
    assert "created" in call("init", *database).stdout
    assert "was there already" in call("init", *database).stdout
    version = schema.SCHEMA_VERSION
    assert f"schema version {version}, now {version}" in call("migrate", *database).stdout
    site.put(site.delta(0, 1), site.delta(1, 2))
    merged = call("merge", site.uri, RUN, *database)
    assert (merged.returncode, merged.stderr) == (ExitCode.OK, "")
    assert "merged now" in merged.stdout
    again = json.loads(call("merge", site.uri, RUN, *database, "--json").stdout)
    assert (again["n_deltas_merged"], again["n_deltas_merged_before"]) == (0, 2)
    verified = call("verify", site.uri, RUN, *database)
    assert verified.returncode == ExitCode.OK
    assert verified.stdout.splitlines()[-1] == "equal"
    assert "note not_run" in verified.stdout
    assert "0 superseded attempts with 0 objects, 0 orphaned objects" in verified.stdout


def test_differences(site: MergeSite) -> None:
    site.put(site.delta(0, 1))
    verified = call("verify", site.uri, RUN, "--database", site.address)
    assert verified.returncode == ExitCode.DIFFERENCES
    assert verified.stdout.splitlines()[-1] == "1 difference"
    as_json = call("verify", site.uri, RUN, "--database", site.address, "--json", "--checksums")
    report = json.loads(as_json.stdout)
    assert (as_json.returncode, report["n_differences"]) == (ExitCode.DIFFERENCES, 1)
    (found,) = [finding for finding in report["findings"] if finding["is_difference"]]
    assert (found["kind"], found["id"]) == ("delta_not_merged", factories.attempt(1))


def test_lowest_exit_code_wins_and_json_has_all_counts(site: MergeSite) -> None:
    second = factories.make_graph(1, name="second")
    factories.publish(site.store, second)
    key = factories.put_delta(site.store, site.delta(1, 3), b"junk")
    site.put(site.delta(0, 1), factories.make_delta(second, 0, 2))
    merged = call("merge", site.uri, RUN, "--database", site.address, "--json")
    assert merged.returncode == ExitCode.CONFLICTS
    report = json.loads(merged.stdout)
    assert (report["n_conflicts"], report["n_quarantined"], report["n_deltas_merged"]) == (2, 1, 2)
    assert report["quarantined"][0]["key"] == key
    merged = call("merge", site.uri, RUN, "--database", site.address)
    # The conflicts are old by now, and nobody has settled them.
    assert merged.returncode == ExitCode.CONFLICTS
    assert "quarantined (truncated)" in merged.stdout and key in merged.stdout


def test_configuration_file_and_environment(site: MergeSite, tmp_path: Path) -> None:
    config = tmp_path / "registry-merge.yaml"
    config.write_text(f"datastore: {site.uri}\nbatch_size: 1\nthreads: 2\n")
    site.put(site.delta(0, 1), site.delta(1, 2))
    merged = call(
        "merge", RUN, "--config", str(config), "--json", REGISTRY_MERGE_DATABASE=site.address
    )
    assert merged.returncode == ExitCode.OK, merged.stderr
    assert json.loads(merged.stdout)["n_deltas_merged"] == 2


def test_service_and_password_file(site: MergeSite, tmp_path: Path) -> None:
    """The ways that keep a password out of arguments."""
    from psycopg.conninfo import conninfo_to_dict

    parsed = conninfo_to_dict(site.address)
    service = tmp_path / "services.conf"
    service.write_text(
        "[registry]\n" + "".join(f"{key}={value}\n" for key, value in parsed.items())
    )
    merged = call(
        *("merge", site.uri, RUN, "--database", "service=registry"),
        PGSERVICEFILE=str(service),
        PGPASSWORD="not asked for",
    )
    assert merged.returncode == ExitCode.OK, merged.stderr


def test_s3_datastore(site: MergeSite, datastore: str, s3_settings: dict[str, str]) -> None:
    from transfer_plugins.object_store import open_store

    store = open_store(datastore)
    factories.publish(store, site.graph)
    factories.put_delta(store, site.delta(0, 1))
    endpoint = s3_settings["AWS_ENDPOINT_URL"]
    merged = call(
        *("merge", datastore, RUN, "--database", site.address, "--endpoint-url", endpoint),
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
    )
    assert merged.returncode == ExitCode.OK, merged.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["merge", "file:///nowhere", "u/nobody"], "expected a graph record below"),
        (["verify", "file:///nowhere", "u/nobody"], "expected a graph record below"),
        (
            ["merge", "ftp://nowhere", "u/nobody"],
            "expected s3://bucket/prefix or file:///directory",
        ),
        (["merge", "file:///nowhere", "../up"], "RUN '../up': part '..'"),
        (["merge", "only-one"], "expected DATASTORE and RUN"),
    ],
)
def test_errors_are_one_line_without_traceback(
    database: str, arguments: list[str], message: str
) -> None:
    ended = call(*arguments, "--database", database, "--json")
    assert ended.returncode in (ExitCode.ERROR, ExitCode.USAGE)
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert message in json.loads(ended.stdout)["message"]


def test_database_that_is_not_there() -> None:
    ended = call("init", "--database", "postgresql://nobody@127.0.0.1:1/none")
    assert ended.returncode == ExitCode.UNAVAILABLE
    assert "Traceback" not in ended.stderr
