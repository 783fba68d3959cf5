# SPDX-License-Identifier: BSD-3-Clause
"""Files among deltas and datasets whose names are no UTF-8: a file system allows them."""

import json
import os

import pytest

from merger.delta_archive import archive_run
from merger.exit_codes import ExitCode
from registry import names
from tests import factories
from tests.fix_merge import MergeSite
from tests.integration.test_merge_cli import call

RUN = factories.RUN
SHOWN = f"{names.delta_prefix(RUN)}\\xff.json"


@pytest.fixture
def odd_site(site: MergeSite) -> MergeSite:
    """A delta, and files whose names nobody can write in a text."""
    site.put(site.delta(0, 1))
    for directory in (names.delta_prefix(RUN), names.log_prefix(RUN), f"{RUN}/image/"):
        site.store.path(f"{directory}x").parent.mkdir(parents=True, exist_ok=True)
        (site.store.root / os.fsdecode(os.fsencode(directory) + b"\xff.json")).write_bytes(b"x")
    return site


def test_merge_puts_them_into_quarantine(odd_site: MergeSite) -> None:
    for _ in range(2):
        report = odd_site.merge()
        assert report.exit_code == ExitCode.QUARANTINED
        assert [(bad.reason, bad.key) for bad in report.quarantined] == [("wrong_key", SHOWN)]
    assert odd_site.rows("SELECT count(*) FROM merged_attempt") == [(1,)]
    assert odd_site.rows("SELECT delta_key FROM quarantine") == [(SHOWN,)]
    report_of_archive = archive_run(odd_site.store, RUN)
    assert (report_of_archive.n_archived, report_of_archive.strangers) == (1, [SHOWN])


def test_commands_name_them(odd_site: MergeSite) -> None:
    odd_site.merge()
    database = ("--database", odd_site.address)
    verified = call("verify", odd_site.uri, RUN, *database)
    assert (verified.returncode, verified.stderr) == (ExitCode.DIFFERENCES, "")
    assert "\\xff.json" in verified.stdout
    done = call("sweep", odd_site.uri, RUN, *database, "--older-than", "0", "--delete", "--json")
    found = json.loads(done.stdout)
    swept = {one["key"]: one["is_deleted"] for one in found["objects"]}
    assert swept == {f"{names.log_prefix(RUN)}\\xff.json": True, f"{RUN}/image/\\xff.json": True}
    image = os.fsencode(odd_site.store.path(f"{RUN}/image"))
    assert b"\xff.json" not in os.listdir(image)
