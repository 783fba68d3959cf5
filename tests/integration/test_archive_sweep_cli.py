# SPDX-License-Identifier: BSD-3-Clause
"""``archive`` and ``sweep`` as a person or a script runs them."""

import json
import os

import pytest

from merger.commands.sweep_command import parse_age
from merger.exit_codes import ExitCode
from merger.settings_error import SettingsError
from registry import names
from tests import factories
from tests.fix_merge import MergeSite
from tests.integration.test_merge_cli import call

RUN = factories.RUN


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("1w", 604_800),
    ],
)
def test_ages_of_people(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1y", "1 d", "inf", "1e3", "nan"])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--older-than: expected an age such as 90m, 36h or 7d"):
        parse_age(text)


def test_archive_as_a_command(site: MergeSite) -> None:
    site.put(site.delta(0, 1), site.delta(1, 2))
    planned = json.loads(call("archive", site.uri, RUN, "--dry-run", "--json").stdout)
    assert (planned["n_to_archive"], planned["n_archived"], planned["dry_run"]) == (2, 0, True)
    done = call("archive", site.uri, RUN)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    (stored,) = site.store.list_objects(names.archive_prefix(RUN))
    assert f"wrote {stored.key}" in done.stdout
    again = json.loads(call("archive", site.uri, RUN, "--json").stdout)
    assert (again["n_archived_before"], again["written"], again["exit_code"]) == (2, [], 0)
    site.store.put(stored.key, b"junk")
    damaged = call("archive", site.uri, RUN)
    assert damaged.returncode == ExitCode.DIFFERENCES
    assert "it is damaged" in damaged.stdout
    assert call("archive", site.uri, "u/nobody").returncode == ExitCode.ERROR


def test_sweep_as_a_command(site: MergeSite) -> None:
    database = ("--database", site.address)
    site.put(site.delta(0, 1), site.delta(0, 2))
    site.merge()
    site.store.put(f"{RUN}/image/.part-abc", b"half")
    for path in site.store.root.rglob("*"):
        os.utime(path, (0, 0))
    listed = call("sweep", site.uri, RUN, *database, "--older-than", "7d")
    assert (listed.returncode, listed.stderr) == (ExitCode.OK, "")
    assert "superseded by attempt" in listed.stdout
    assert "an upload that did not end" in listed.stdout
    assert listed.stdout.splitlines()[-1] == "nothing was deleted; --delete does it"
    found = json.loads(call("sweep", site.uri, RUN, *database, "--delete", "--json").stdout)
    assert (found["n_deleted"], found["n_not_deleted"], found["exit_code"]) == (2, 0, 0)
    assert all(one["is_deleted"] for one in found["objects"])
    assert len(found["unfinished"]) == 1
    after = json.loads(call("sweep", site.uri, RUN, *database, "--json").stdout)
    assert (after["objects"], after["unfinished"], after["n_objects"]) == ([], [], 2)
    assert site.differences() == []


def test_keys_are_shown_whole(site: MergeSite) -> None:
    keys = {f"{RUN}/image/{'long_name_' * 9}[{number}].fits" for number in (1, 2)}
    keys.add(f"{RUN}/image/.part-{'long_name_' * 9}[bold]")
    for key in keys:
        site.store.put(key, b"x")
    site.merge()
    options = ("--database", site.address, "--older-than", "0")
    shown = call("sweep", site.uri, RUN, *options, COLUMNS="80").stdout
    assert "…" not in shown
    column = "".join(line.split("│")[1].strip() for line in shown.splitlines() if "│" in line)
    assert all(key in column for key in keys)


def test_sweep_says_what_is_wrong(site: MergeSite) -> None:
    database = ("--database", site.address)
    both = call("sweep", site.uri, RUN, *database, "--delete", "--dry-run")
    assert both.returncode == ExitCode.USAGE
    assert "expected --delete or --dry-run, found both" in both.stderr
    age = call("sweep", site.uri, RUN, *database, "--older-than", "soon")
    assert age.returncode == ExitCode.USAGE
    nobody = call("sweep", site.uri, "u/nobody", *database)
    assert nobody.returncode == ExitCode.ERROR
    assert "check the names of datastore and RUN" in nobody.stderr
