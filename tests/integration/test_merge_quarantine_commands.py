# SPDX-License-Identifier: BSD-3-Clause
"""What a person does about bad deltas: list them, look again, give them up."""

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from merger.cli import app
from merger.delta_archive import archive_run
from merger.delta_checks import Reason
from merger.exit_codes import ExitCode
from registry import names
from tests import factories
from tests.fix_merge import MergeSite

RUN = factories.RUN
ROOT = Path(__file__).parents[2]


class Quarantine:
    """A site with a delta that is cut, one of another graph, and a key that is none."""

    def __init__(self, site: MergeSite) -> None:
        self.site = site
        self.delta = site.delta(0, 1)
        self.cut = factories.put_delta(site.store, self.delta, b'{"checksum":')
        self.later = factories.make_graph(1, name="later")
        self.other = factories.put_delta(site.store, factories.make_delta(self.later, 0, 2))
        self.stranger = f"{RUN}/quantum-exec/deltas/notes.txt"
        site.store.put(self.stranger, b"no delta")
        site.put(site.delta(1, 3))
        site.merge()

    def call(self, *words: str) -> tuple[int, str]:
        """Run a command; returns exit code and standard output."""
        command = ["quarantine", *words, "--database", self.site.address]
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        return done.exit_code, done.stdout

    def read(self, *words: str) -> dict[str, Any]:
        """Run a command with --json."""
        code, stdout = self.call(*words, "--json")
        read: dict[str, Any] = json.loads(stdout)
        assert read["exit_code"] == code
        return read

    def keys(self) -> set[str]:
        """The keys that are in the quarantine."""
        return {key for (key,) in self.site.rows("SELECT delta_key FROM quarantine")}


@pytest.fixture
def bad(site: MergeSite) -> Quarantine:
    """A site with bad deltas."""
    return Quarantine(site)


def test_list(bad: Quarantine) -> None:
    found = bad.read("list", RUN)
    assert (found["n_quarantined"], found["n_dropped"]) == (3, 0)
    assert {(one["key"], one["reason"]) for one in found["quarantined"]} == {
        (bad.cut, "truncated"),
        (bad.other, "unknown_graph"),
        (bad.stranger, "wrong_key"),
    }
    assert bad.read("list", "u/nobody")["quarantined"] == []
    assert [q["key"] for q in bad.read("list", "--reason", "truncated")["quarantined"]] == [bad.cut]
    code, shown = bad.call("list")
    assert code == ExitCode.OK
    assert f"truncated: {bad.cut}" in shown
    assert "no delta is in quarantine" in bad.call("list", "u/nobody")[1]


def test_retry_merges_what_is_good_by_now(bad: Quarantine) -> None:
    """Only what is selected is looked at; other new deltas wait for a merge."""
    bad.site.put(bad.delta, bad.site.delta(2, 4))
    factories.publish(bad.site.store, bad.later)
    uri = bad.site.uri
    would = bad.read("retry", uri, RUN, "--reason", "truncated", "--dry-run")
    assert (would["n_deltas_to_merge"], would["n_deltas_merged"]) == (1, 0)
    assert bad.keys() == {bad.cut, bad.other, bad.stranger}
    done = bad.read("retry", uri, RUN, "--quantum", bad.delta.quantum_id)
    assert (done["exit_code"], done["n_deltas_merged"]) == (ExitCode.OK, 1)
    assert bad.keys() == {bad.other, bad.stranger}
    done = bad.read("retry", uri, RUN)
    assert done["exit_code"] == ExitCode.CONFLICTS, "the later graph has the same data IDs"
    assert (done["n_selected"], done["n_deltas_merged"], done["n_quarantined"]) == (2, 1, 1)
    assert bad.site.rows("SELECT count(*) FROM merged_attempt") == [(3,)]


def test_retry_by_key(bad: Quarantine) -> None:
    bad.site.put(bad.delta)
    would = bad.read("retry", bad.site.uri, RUN, "--key", bad.stranger, "--dry-run")
    assert (would["n_selected"], would["n_quarantined"]) == (1, 1)
    done = bad.read("retry", bad.site.uri, RUN, "--key", bad.cut)
    assert (done["n_selected"], done["n_deltas_merged"], done["n_quarantined"]) == (1, 1, 0)
    assert bad.keys() == {bad.other, bad.stranger}


def test_retry_counts_a_damaged_archive_if_it_is_selected(bad: Quarantine) -> None:
    archive_run(bad.site.store, RUN)
    (archive,) = bad.site.store.list_objects(names.archive_prefix(RUN))
    bad.site.store.put(archive.key, bad.site.store.get(archive.key)[:-100])
    bad.site.merge()
    for key, n_good, code in ((archive.key, 0, ExitCode.QUARANTINED), (bad.cut, 1, ExitCode.OK)):
        bad.site.put(bad.delta)
        for words in (["--dry-run"], []):
            found = bad.read("retry", bad.site.uri, RUN, "--key", key, *words)
            n_found = found["n_deltas_to_merge"] + found["n_deltas_merged"]
            counts = (n_found, found["n_quarantined"], found["n_gone"], found["exit_code"])
            assert counts == (n_good, 1 - n_good, 0, code)
    assert archive.key in bad.keys()


def test_reason_of_a_newer_release_is_shown_as_it_is(bad: Quarantine) -> None:
    with psycopg.connect(bad.site.address) as connection:
        connection.execute("UPDATE quarantine SET reason = 'tired' WHERE reason = 'truncated'")
    found = bad.read("list", "--reason", "tired")["quarantined"]
    assert [one["key"] for one in found] == [bad.cut]


def test_retry_of_what_is_gone(bad: Quarantine) -> None:
    bad.site.store.delete(bad.stranger)
    bad.site.store.delete(bad.cut)
    code, shown = bad.call("retry", bad.site.uri, RUN)
    assert code == ExitCode.QUARANTINED
    assert "3 deltas looked at: 0 merged, 1 still bad, 0 of a newer format, 2 gone" in shown
    assert bad.keys() == {bad.other}


def test_dropped_deltas_are_neither_read_nor_counted(bad: Quarantine) -> None:
    keys = [bad.cut, bad.other, bad.stranger]
    before = bad.site.dump()
    assert bad.read("drop", RUN, "--all", "--dry-run")["dropped"] == sorted(keys)
    assert bad.site.dump() == before
    assert bad.read("drop", RUN, "--reason", "wrong_key")["dropped"] == [bad.stranger]
    assert bad.read("drop", RUN, "--key", bad.cut, "--key", bad.other)["n_dropped"] == 2
    assert bad.read("list", RUN)["n_dropped"] == 3
    bad.site.put(bad.delta)
    merged = bad.site.merge()
    assert (merged.exit_code, merged.quarantined, merged.counts.n_deltas) == (ExitCode.OK, [], 0)
    assert bad.keys() == set(keys)
    assert bad.site.differences() == []
    done = bad.read("retry", bad.site.uri, RUN, "--reason", "truncated")
    assert (done["exit_code"], done["n_deltas_merged"]) == (ExitCode.OK, 1)
    assert bad.keys() == {bad.other, bad.stranger}
    assert bad.read("drop", RUN, "--all")["n_dropped"] == 0


@pytest.mark.parametrize(
    "words, message",
    [
        (["drop", RUN], "expected --key, --reason or --all, found none"),
        (["drop", RUN, "--all", "--key", "no"], "expected --all alone, found --key or --reason"),
        (["drop", RUN, "--key", "no/such"], "expected keys that are in the quarantine"),
        (["list", "--reason", "ugly"], "expected one of truncated, checksum, "),
        (["list", "--key", "no/such"], "expected keys that are in the quarantine"),
        (["retry", "raw", RUN, "--quantum", "no"], "expected the id of a quantum, found 'no'"),
    ],
)
def test_mistakes(bad: Quarantine, words: list[str], message: str) -> None:
    found = bad.read(*words)
    assert found["exit_code"] == ExitCode.USAGE
    assert message in found["message"]


def test_documented_reasons_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    (section,) = re.findall(r"\n## Bad deltas\n(.*?)\n## ", text, re.DOTALL)
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(Reason)
