# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge conflicts``: list, show and settle, as a person types them."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from merger.cli import app
from merger.exit_codes import ExitCode
from merger.settings import SettingsError
from merger.settling import Selection, list_conflicts, parse_data_id
from registry.model import DimensionRecord
from tests import factories
from tests.factories import attempt
from tests.fix_merge import MergeSite


def airmass(value: float) -> list[DimensionRecord]:
    return [DimensionRecord("exposure", {"exposure": 7}, {"airmass": value})]


@pytest.fixture
def torn(site: MergeSite) -> MergeSite:
    """Conflicts about the images and catalogs of two exposures, and about one record."""
    second = factories.make_graph(2, name="second")
    factories.publish(site.store, second)
    site.put(site.delta(0, 1, dimension_record=airmass(1.5)), site.delta(1, 2))
    site.put(
        factories.make_delta(second, 0, 3, dimension_record=airmass(2.0)),
        factories.make_delta(second, 1, 4),
    )
    assert site.merge().counts.n_conflicts == 5
    return site


def conflicts(site: MergeSite, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["conflicts", *arguments, "--database", site.address])


def told(site: MergeSite, *arguments: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = conflicts(site, *arguments, "--json")
    assert done.exit_code == ExitCode.OK, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def one(site: MergeSite, dataset_type: str, exposure: int) -> dict[str, Any]:
    """The conflict about a dataset."""
    wanted = {"exposure": exposure, "detector": 1}
    (found,) = [
        conflict
        for conflict in told(site, "list", "--type", dataset_type, "--all")["conflicts"]
        if json.loads(conflict["conflict_key"])["data_id"] == wanted
    ]
    return dict(found)


def kept(site: MergeSite, dataset_type: str = "image") -> list[str]:
    """Attempts of the datasets of exposures 0 and 1."""
    return [
        attempt_id
        for (attempt_id,) in site.rows(
            "SELECT attempt_id::text FROM dataset WHERE dataset_type = %s "
            "ORDER BY data_id->'exposure'",
            dataset_type,
        )
    ]


@pytest.mark.parametrize(
    "selection, number",
    [
        (Selection(task="calibrate"), 5),
        (Selection(task="nobody"), 0),
        (Selection(data_id={"exposure": "0"}), 2),
        (Selection(data_id={"exposure": "1", "detector": "1"}, type="image"), 1),
        (Selection(data_id={"exposure": "7"}, task="calibrate"), 1),
        (Selection(data_id={"exposure": "1", "detector": "2"}), 0),
        (Selection(table_name="dimension_record"), 1),
    ],
)
def test_conflicts_are_selected(torn: MergeSite, selection: Selection, number: int) -> None:
    found, conflicts = list_conflicts(torn.registry, selection)
    assert (found, len(conflicts)) == (number, number)


@pytest.mark.parametrize("text", ["", "exposure", "=1", "exposure=1,exposure=2", "exposure=1,"])
def test_data_id_that_is_none(text: str) -> None:
    with pytest.raises(SettingsError, match=r"expected dimensions and values such as exposure=3"):
        parse_data_id(text)


def test_selected_conflicts_are_settled(torn: MergeSite) -> None:
    words = ["--data-id", "exposure=1, detector=1", "--task", "calibrate", "--decision", "keep"]
    assert told(torn, "settle", *words)["n_settled"] == 2
    assert told(torn, "list", "--data-id", "exposure=1")["n_conflicts"] == 0
    assert told(torn, "list", "--table", "dataset")["n_conflicts"] == 2


def test_open_conflicts_are_listed(torn: MergeSite) -> None:
    found = told(torn, "list")
    assert found["n_conflicts"] == 5
    assert {conflict["is_settled"] for conflict in found["conflicts"]} == {False}
    assert told(torn, "list", torn.graph.run)["n_conflicts"] == 5
    assert told(torn, "list", "u/nobody")["n_conflicts"] == 0
    assert told(torn, "list", "--type", "catalog")["n_conflicts"] == 2
    assert told(torn, "list", "--type", "exposure")["n_conflicts"] == 1
    done = conflicts(torn, "list")
    assert done.exit_code == ExitCode.OK
    lines = done.stdout.splitlines()
    assert lines[-1] == "5 conflicts"
    assert max(map(len, lines)) <= 80


def test_sides_are_shown_field_by_field(torn: MergeSite) -> None:
    conflict = one(torn, "image", 0)
    found = told(torn, "show", conflict["id"], torn.uri)
    assert [side["attempt_id"] for side in found["sides"]] == [attempt(3), attempt(1)]
    assert [side["kept"] for side in found["sides"]] == [True, False]
    assert found["attempts"][attempt(1)]["task_label"] == "calibrate"
    assert set(found["objects"].values()) == {"exists"}
    torn.store.delete(found["sides"][1]["content"]["object_key"])
    assert set(told(torn, "show", conflict["id"], torn.uri)["objects"].values()) == {
        *("exists", "missing")
    }
    shown = conflicts(torn, "show", conflict["conflict_key"]).stdout
    assert max(map(len, shown.splitlines())) <= 80
    fields = {line.split("│")[1].strip() for line in shown.splitlines() if "│" in line}
    assert {"attempt ≠", "object_key ≠", "checksum ≠", "size_bytes", "run"} <= fields
    assert shown.splitlines()[-1] == f"conflict {conflict['id']} is open"


def test_side_is_chosen_and_chosen_otherwise(torn: MergeSite) -> None:
    before, conflict = torn.dump(), one(torn, "image", 0)
    chosen = ("settle", "--key", conflict["id"], "--keep", attempt(1))
    dry = told(torn, *chosen, "--dry-run")
    assert (dry["n_settled"], dry["n_moved"], torn.dump()) == (1, 1, before)
    found = told(torn, *chosen)
    assert found == {"decision": "chosen", "n_settled": 1, "n_moved": 1} | {
        "dry_run": False,
        "exit_code": 0,
    }
    assert kept(torn) == [attempt(1), attempt(4)]
    settled = torn.dump()
    assert told(torn, *chosen)["n_moved"] == 0
    assert torn.merge().n_open_conflicts == 4
    assert torn.dump() == settled
    assert (told(torn, "list")["n_conflicts"], told(torn, "list", "--all")["n_conflicts"]) == (4, 5)
    other = one(torn, "image", 0)["sides"][1]
    assert told(torn, "settle", "--key", conflict["id"], "--keep", other["content_checksum"])
    assert kept(torn) == [attempt(3), attempt(4)]
    told(torn, "settle", "--key", conflict["id"], "--decision", "defer")
    assert torn.dump() == before


def test_many_are_settled_by_filter(torn: MergeSite) -> None:
    found = told(torn, "settle", "--type", "catalog", "--decision", "keep")
    assert (found["n_settled"], found["n_moved"]) == (2, 2)
    assert (kept(torn), kept(torn, "catalog")) == (
        [attempt(3), attempt(4)],
        [attempt(1), attempt(2)],
    )
    found = told(torn, "settle", "--run", torn.graph.run, "--decision", "replace")
    assert (found["n_settled"], found["n_moved"]) == (3, 0)
    assert told(torn, "list")["n_conflicts"] == 0
    assert torn.differences() == []
    found = told(torn, "settle", "--table", "dimension_record", "--decision", "keep", "--all")
    assert (found["n_settled"], found["n_moved"]) == (1, 1)
    assert torn.rows("SELECT record FROM dimension_record") == [({"airmass": 1.5},)]


def test_person_decides_over_a_new_attempt(torn: MergeSite) -> None:
    """The chosen side is superseded, so the conflict is open again; keep stays keep."""
    told(torn, "settle", "--key", one(torn, "image", 0)["id"], "--keep", attempt(1))
    told(torn, "settle", "--type", "catalog", "--decision", "keep")
    torn.put(torn.delta(0, 5))
    report = torn.merge()
    assert (report.counts.n_conflicts, report.counts.n_settled) == (1, 1)
    assert one(torn, "image", 0)["is_settled"] is False
    assert kept(torn) == [attempt(5), attempt(4)]
    assert kept(torn, "catalog") == [attempt(3), attempt(2)]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["show", "ffff0"],
            "conflict 'ffff0': expected one recorded conflict with this key or beginning of an id, "
            "found none; see registry-merge conflicts list --all",
        ),
        (
            ["show", ""],
            "conflict '': expected one recorded conflict with this key or beginning of an id, "
            "found none; see registry-merge conflicts list --all",
        ),
        (
            ["show", "ffff0", "--endpoint-url", "http://localhost:1"],
            "--endpoint-url: expected a DATASTORE to look in, found none",
        ),
        (["settle", "--key", "ab"], "settle: expected --decision, or --keep with --key"),
        (
            ["settle", "--keep", "019a", "--run", "r"],
            "settle: expected --decision, or --keep with --key",
        ),
        (
            ["settle", "--decision", "keep"],
            "settle: expected --key alone, or some of --run, --type, --task, --data-id, --table",
        ),
    ],
)
def test_what_is_not_clear_is_refused(torn: MergeSite, arguments: list[str], message: str) -> None:
    done = conflicts(torn, *arguments)
    assert (done.exit_code, done.stderr) == (ExitCode.USAGE, f"registry-merge: {message}\n")


def test_side_must_be_one(torn: MergeSite) -> None:
    name = one(torn, "image", 0)["id"]
    done = conflicts(torn, "settle", "--key", name, "--keep", attempt(1)[:8])
    assert done.exit_code == ExitCode.USAGE
    assert done.stderr == (
        f"registry-merge: conflict '{name}': expected one side with attempt or checksum "
        f"'{attempt(1)[:8]}', found 2 of them; see registry-merge conflicts show {name}\n"
    )


def test_sides_that_share_both_keys_are_settled_at_once(site: MergeSite) -> None:
    """One dataset made by two quanta: its id and its data ID are both claimed twice."""
    thief = factories.make_graph(1, name="thief", types=factories.TYPES[:1])
    (mine,) = thief.quanta[0].outputs
    theirs = site.graph.quanta[0].outputs[0]
    row = site.graph.outputs[theirs]
    del thief.outputs[mine]
    thief.outputs[theirs] = row
    thief.quanta[0].outputs[:] = [theirs]
    factories.publish(site.store, thief)
    site.put(site.delta(0, 1), factories.make_delta(thief, 0, 2))
    assert site.merge().counts.n_conflicts == 2
    (first, _) = told(site, "list")["conflicts"]
    found = told(site, "settle", "--key", first["id"], "--keep", attempt(1))
    assert (found["n_settled"], found["n_moved"]) == (2, 2)
    assert kept(site) == [attempt(1)]
    assert site.differences() == []
