# SPDX-License-Identifier: BSD-3-Clause
"""Collections: chains of RUNs and chains, their rules, and two changes at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from merger.central_registry import CentralRegistry
from merger.collection_chains import (
    ChainMode,
    CollectionError,
    change_chain,
    list_collections,
    prepend_run,
    show_chain,
)
from merger.exit_codes import ExitCode
from merger.merge import merge_run
from registry.errors import InvalidNameError
from tests import factories
from tests.dumps import rows
from tests.fix_merge import MergeSite
from tests.integration.test_merge_cli import call

PREPEND, APPEND, REMOVE = ChainMode.PREPEND, ChainMode.APPEND, ChainMode.REMOVE


@pytest.fixture
def runs(site: MergeSite) -> MergeSite:
    """A registry with five RUNs, a to e."""
    for run in "abcde":
        rows(site.address, "INSERT INTO run VALUES (%s) RETURNING run", run)
    return site


def chain(site: MergeSite, name: str, *children: str, mode: str = "redefine") -> list[str]:
    """Change a chain, and see that what is returned is what is stored, with dense positions."""
    members = change_chain(site.registry, name, children, ChainMode(mode))
    stored = site.rows(
        "SELECT child, position FROM collection_chain WHERE chain = %s ORDER BY position", name
    )
    assert stored == [(member, place) for place, member in enumerate(members)]
    return members


def test_modes(runs: MergeSite) -> None:
    assert chain(runs, "all", "a", "b", "c") == ["a", "b", "c"]
    assert chain(runs, "all", "c", "d", mode="prepend") == ["c", "d", "a", "b"]
    assert chain(runs, "all", "d", "e", mode="append") == ["c", "a", "b", "d", "e"]
    assert chain(runs, "all", "a", "e", mode="remove") == ["c", "b", "d"]
    assert chain(runs, "all", "e") == ["e"]
    assert chain(runs, "all", mode="delete") == []
    assert chain(runs, "new", "b", mode="append") == ["b"]


def test_chains_in_chains_are_searched_in_order(runs: MergeSite) -> None:
    chain(runs, "inner", "c", "a")
    chain(runs, "all", "b", "inner", "a", "d")
    assert show_chain(runs.registry, "all") == ["b", "c", "a", "d"]
    found = {c.name: c for c in list_collections(runs.registry, "[ai]*")}
    assert set(found) == {"a", "all", "inner"}
    assert (found["a"].kind, found["a"].n_datasets) == ("RUN", 0)
    assert (found["all"].kind, found["all"].members) == ("CHAINED", ["b", "inner", "a", "d"])


@pytest.mark.parametrize(
    "name, children, mode, message",
    [
        ("a", ["b"], "redefine", "chain 'a': expected a free name, found a RUN of this name"),
        ("all", ["b", "b"], "append", "expected each child once, found twice ['b']"),
        ("all", ["x"], "prepend", "expected children that exist, found neither RUN nor chain 'x'"),
        ("inner", ["outer"], "append", "expected children that do not contain it, found 'outer'"),
        ("new", ["new"], "redefine", "expected children that do not contain it, found 'new'"),
        ("inner", ["d"], "remove", "expected children to remove among ['c'], found ['d']"),
        ("inner", ["c"], "remove", "expected no chain that contains it, found ['outer']"),
        ("inner", [], "delete", "expected no chain that contains it, found ['outer']"),
        ("none", [], "delete", "chain 'none': expected a chain, found none of this name"),
        ("outer", ["inner"], "delete", "expected no children with --mode delete"),
        ("outer", [], "redefine", "expected at least one child, found none"),
        ("../up", ["a"], "redefine", "RUN '../up': part '..'"),
    ],
)
def test_what_is_refused(
    runs: MergeSite, name: str, children: list[str], mode: str, message: str
) -> None:
    chain(runs, "inner", "c")
    chain(runs, "outer", "inner", "a")
    before = runs.dump()
    with pytest.raises((CollectionError, InvalidNameError)) as raised:
        change_chain(runs.registry, name, children, ChainMode(mode))
    assert message in str(raised.value)
    assert runs.dump() == before


def test_run_cannot_take_the_name_of_a_chain(runs: MergeSite) -> None:
    runs.put(runs.delta(0, 1))
    chain(runs, "u/tester/night1", "a")
    with pytest.raises(CollectionError, match="expected a RUN, found a chain"):
        merge_run(runs.registry, runs.store, runs.graph.run)


def test_prepend_is_idempotent_and_moves_to_the_front(runs: MergeSite) -> None:
    for run, members in [("a", ["a"]), ("b", ["b", "a"]), ("b", ["b", "a"]), ("a", ["a", "b"])]:
        assert prepend_run(runs.registry, "all", run) == members
    before = runs.rows("SELECT ctid::text, * FROM collection_chain")
    prepend_run(runs.registry, "all", "a")
    assert runs.rows("SELECT ctid::text, * FROM collection_chain") == before


def test_two_at_once_lose_nothing(runs: MergeSite) -> None:
    def prepend(run: str) -> None:
        with CentralRegistry(runs.address) as registry:
            for _ in range(10):
                change_chain(registry, "all", [run], PREPEND)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(prepend, run) for run in "abcde"]:
            done.result()
    stored = runs.rows("SELECT child, position FROM collection_chain ORDER BY position")
    assert sorted(child for child, _ in stored) == list("abcde")
    assert [position for _, position in stored] == list(range(5))


def test_long_names_are_whole_in_80_columns(runs: MergeSite) -> None:
    name = "u/somebody/of/the/survey/" + "a-chain-with-a-very-long-name-" * 3
    chain(runs, name, "a")
    shown = call("collections", "list", "u/*", "--database", runs.address).stdout
    assert "…" not in shown
    cells = (line.split("│")[1].strip() for line in shown.splitlines() if line[:1] == "│")
    assert "".join(cells) == name


def test_commands(site: MergeSite) -> None:
    site.put(site.delta(0, 1))
    site.merge()
    database, run = ("--database", site.address), factories.RUN
    dry = call("collections", "chain", "u/all", run, "--dry-run", *database)
    assert dry.stdout == f"chain u/all would be: {run}\n"
    assert site.rows("SELECT * FROM collection_chain") == []
    made = call("collections", "chain", "u/all", run, "--mode", "prepend", *database)
    assert (made.returncode, made.stdout) == (ExitCode.OK, f"chain u/all is: {run}\n")
    assert call("collections", "show", "u/all", *database).stdout == f"{run}\n"
    listed = json.loads(call("collections", "list", "u/*", "--json", *database).stdout)
    assert listed["collections"] == [
        {"name": "u/all", "kind": "CHAINED", "n_datasets": None, "members": [run]},
        {"name": run, "kind": "RUN", "n_datasets": 2, "members": []},
    ]
    assert "CHAINED" in call("collections", "list", *database).stdout
    wrong = call("collections", "chain", "u/all", run, "--mode", "sideways", *database)
    assert wrong.returncode == ExitCode.USAGE
    assert (
        "--mode: expected one of redefine, prepend, append, remove, delete, found" in wrong.stderr
    )
    none = call("collections", "show", "u/none", *database)
    assert "chain 'u/none': expected a chain, found none of this name" in none.stderr
