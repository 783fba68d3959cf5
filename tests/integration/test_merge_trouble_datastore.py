# SPDX-License-Identifier: BSD-3-Clause
"""Trouble with the datastore or the clocks in the middle of a merge; a second one completes it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

from merger.central_registry import CentralRegistry
from merger.exit_codes import ExitCode
from merger.merge import merge_run
from tests import factories
from tests.dumps import dump, rows
from tests.fix_merge import MergeSite
from tests.processes import wait_until
from tests.refusals import call
from tests.s3_proxy import Fault, S3Proxy
from transfer_plugins.object_store import open_store

N_DELTAS = 12
N_READ = 5
BUCKET = "bucket-of-one-test"
STORE = f"s3://{BUCKET}/repo"


@pytest.fixture
def bucket(s3_environment: dict[str, str]) -> Iterator[Any]:
    """A bucket of its own, with deltas that wait for a merge."""
    boto3.resource("s3").create_bucket(Bucket=BUCKET)
    bucket = boto3.resource("s3").Bucket(BUCKET)
    factories.publish_deltas(open_store(STORE), N_DELTAS)
    yield bucket
    if bucket.creation_date is not None:
        empty(bucket)


def empty(bucket: Any) -> None:
    """Remove a bucket and all that is in it."""
    bucket.objects.all().delete()
    bucket.delete()


def n_merged(address: str) -> int:
    """Attempts that were merged."""
    with psycopg.connect(address) as connection:
        ((number,),) = connection.execute("SELECT count(*) FROM merged_attempt").fetchall()
    return int(number)


class HalfWay:
    """Lets some deltas be read; the others not before the first is merged, and what then is."""

    def __init__(self, address: str, then: Callable[[], Fault | None]) -> None:
        self._address, self._then = address, then
        self._read: set[str] = set()

    def __call__(self, method: str, key: str) -> Fault | None:
        if method != "GET" or "/deltas/" not in key or not key.endswith(".json"):
            return None
        if len(self._read) < N_READ:
            self._read.add(key)
            return None
        wait_until(lambda: n_merged(self._address) > 0, "something is merged")
        return self._then()


def merge(cwd: Path, database: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """Merge with one delta in a transaction, read one by one; a site says how often to try."""
    words = ["merge", STORE, factories.RUN, "--database", database, *more]
    words += ["--batch-size", "1", "--threads", "1"]
    return call(cwd, *words, module="merger.cli", AWS_MAX_ATTEMPTS="3")


def check(done: "subprocess.CompletedProcess[str]", code: ExitCode, *texts: str) -> None:
    """One message, its exit code, its text."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("registry-merge: ")]
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert [text for text in texts if text not in lines[0]] == [], lines[0]


def check_completed(cwd: Path, database: str, calm: str) -> None:
    """The same command completes it, and the registry is that of one merge without trouble."""
    assert 0 < n_merged(database) < N_DELTAS, "what was merged stays"
    done = merge(cwd, database)
    assert done.returncode == ExitCode.OK, done.stderr
    with CentralRegistry(calm) as registry:
        merge_run(registry, open_store(STORE), factories.RUN)
    assert dump(database) == dump(calm)


def test_permission_lost_half_way(
    tmp_path: Path, bucket: Any, s3_endpoint: str, database: str, other_database: str
) -> None:
    with S3Proxy(s3_endpoint, HalfWay(database, lambda: Fault(403, "AccessDenied"))) as proxy:
        done = merge(tmp_path, database, "--endpoint-url", proxy.endpoint)
    text = "S3 said AccessDenied: said no"
    check(done, ExitCode.NOT_PERMITTED, text, f"s3://{BUCKET}/repo/", "see registry-merge doctor")
    check_completed(tmp_path, database, other_database)


def test_one_object_that_may_not_be_read(
    tmp_path: Path, bucket: Any, s3_endpoint: str, database: str, other_database: str
) -> None:
    refused: set[str] = set()

    def refuse_one(method: str, key: str) -> Fault | None:
        if method == "GET" and key.endswith(".json") and "/deltas/" in key:
            refused.update(set() if refused else {key})
        return Fault(403, "AccessDenied") if key in refused else None

    with S3Proxy(s3_endpoint, refuse_one) as proxy:
        done = merge(tmp_path, database, "--endpoint-url", proxy.endpoint)
    assert done.returncode == ExitCode.QUARANTINED, done.stderr
    assert n_merged(database) == N_DELTAS - 1
    ((key, reason, message),) = rows(database, "SELECT delta_key, reason, message FROM quarantine")
    assert next(iter(refused)).endswith(key) and reason == "refused_by_datastore"
    assert message.startswith(f"delta {key!r}: ") and "S3 said AccessDenied" in message
    check_completed(tmp_path, database, other_database)


def test_bucket_gone_half_way(
    tmp_path: Path, bucket: Any, s3_endpoint: str, database: str, other_database: str
) -> None:
    def remove() -> None:
        if bucket.creation_date is not None:
            empty(bucket)

    with S3Proxy(s3_endpoint, HalfWay(database, remove)) as proxy:
        done = merge(tmp_path, database, "--endpoint-url", proxy.endpoint)
    text = "no such bucket (NoSuchBucket); what was merged stays; run it again later"
    check(done, ExitCode.UNAVAILABLE, text)
    boto3.resource("s3").create_bucket(Bucket=BUCKET)
    factories.publish_deltas(open_store(STORE), N_DELTAS)
    check_completed(tmp_path, database, other_database)


def test_service_away_half_way(
    tmp_path: Path, bucket: Any, s3_endpoint: str, database: str, other_database: str
) -> None:
    with S3Proxy(s3_endpoint, HalfWay(database, lambda: Fault(503, "SlowDown"))) as proxy:
        done = merge(tmp_path, database, "--endpoint-url", proxy.endpoint)
    check(done, ExitCode.UNAVAILABLE, "S3 said SlowDown", "3 tries", "run it again later")
    check_completed(tmp_path, database, other_database)


def test_expired_credentials(tmp_path: Path, bucket: Any, s3_endpoint: str, database: str) -> None:
    with S3Proxy(s3_endpoint, lambda method, key: Fault(400, "ExpiredToken")) as proxy:
        done = merge(tmp_path, database, "--endpoint-url", proxy.endpoint)
    check(done, ExitCode.NOT_PERMITTED, "S3 said ExpiredToken")


LATE = """
import sys, time
now = time.time
time.time = lambda: now() + {shift}
from merger.cli import main
sys.argv = ["registry-merge", *{words}]
main()
"""


def run_late(shift_s: int, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the program with a clock that is off."""
    code = LATE.format(shift=shift_s, words=list(words))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("shift_s", [400 * 86400, -400 * 86400])
def test_a_merge_does_not_depend_on_our_clock(
    site: MergeSite, other_database: str, shift_s: int
) -> None:
    site.put(site.delta(0, 1), site.delta(1, 2), site.delta(1, 3))
    words = ("merge", site.uri, site.graph.run, "--database")
    done = run_late(shift_s, *words, other_database)
    assert done.returncode == ExitCode.OK, done.stderr
    site.merge()
    assert dump(site.address) == dump(other_database)


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize(
    ("shift_s", "standing", "code"), [(60, "warn", ExitCode.OK), (-1000, "bad", ExitCode.ADVICE)]
)
def test_doctor_tells_which_clock_is_off(
    bucket: Any, database: str, shift_s: int, standing: str, code: ExitCode
) -> None:
    words = ("doctor", STORE, factories.RUN, "--json", "--database", database)
    done = run_late(shift_s, *words)
    checks = {c["subject"]: c for c in json.loads(done.stdout)["checks"]}
    assert done.returncode == code
    assert checks["clock of database"]["standing"] == standing
    assert checks["clock of datastore"]["standing"] == standing
    assert checks["clock of database against datastore"]["standing"] == "ok"
    assert checks["clock of database"]["found"].startswith(f"{-shift_s:+d}"[:3])
    assert "set the clocks by NTP" in checks["clock of database"]["remedy"]
