# SPDX-License-Identifier: BSD-3-Clause
"""Policies, decisions, forgetting and taking back, in any order: the outcome follows from content.

Two predictions must hold at the end of every story: the dump is that of one merge of everything
that counts in the end, and dataset, merge_conflict and conflict_decision are what a model in plain
Python says.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from merger.central_registry import CentralRegistry
from merger.conflict_policy import parse
from merger.forgetting import forget, let_back
from merger.merge import merge_run
from merger.settling import settle_one
from registry.delta import Delta
from registry.typed_json import canonical
from tests import factories
from tests.conflict_model import Claim, Predicted, claims_of, predict
from tests.dumps import Dump, dump, empty, rows
from tests.integration.test_merge_order import GRAPHS, N_QUANTA, new_store, put, tries
from transfer_plugins.object_store import ObjectStore

RUN = factories.RUN
QUANTA = [quantum.quantum_id for graph in GRAPHS for quantum in graph.quanta]


@dataclass(frozen=True)
class Before:
    """A row that is there before any merge: like an output of a graph, but for some columns."""

    graph: int
    quantum: int
    output: int
    has_own_id: bool
    is_like_attempt: int | None

    def row(self) -> tuple[str, str, dict[str, str | int], int | None, str | None]:
        graph = GRAPHS[self.graph]
        row = graph.outputs[graph.quanta[self.quantum].outputs[self.output]]
        dataset_id = f"00000000-0000-0000-0000-00000000000{self.quantum}"
        size = checksum = None
        if self.is_like_attempt is not None:
            delta = factories.make_delta(graph, self.quantum, self.is_like_attempt)
            record = delta.rows.datastore_record[self.output]
            size, checksum = record.size_bytes, record.checksum
        chosen = dataset_id if self.has_own_id else row.dataset_id
        return chosen, row.dataset_type, row.data_id, size, checksum


@dataclass(frozen=True)
class Story:
    """What happens, as the strategy draws it."""

    policy: str
    before: Before | None
    deltas: list[Delta]
    groups: list[list[Delta]]
    batch_sizes: list[int]
    deeds: list[tuple[str, int]]
    """One after each group: kind, and which quantum or conflict."""
    decided: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """By the persons of the story, as the model wants it."""


befores = st.builds(
    Before,
    graph=st.integers(0, 2),
    quantum=st.integers(0, N_QUANTA - 1),
    output=st.integers(0, 1),
    has_own_id=st.booleans(),
    is_like_attempt=st.none() | st.integers(1, 6),
)
deeds = st.tuples(
    st.sampled_from(
        ["nothing", "keep", "replace", "chosen", "chosen", "quantum", "quantum", "run", "back"]
    ),
    st.integers(0, 5),
)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    drawn = draw(st.lists(tries, min_size=1, max_size=9))
    deltas = [one.delta(number) for number, one in enumerate(drawn, 1)]
    shuffled = draw(st.permutations(deltas))
    cuts = sorted(draw(st.sets(st.integers(1, len(deltas)), max_size=5)) | {len(deltas)})
    groups = [shuffled[a:b] for a, b in zip([0, *cuts[:-1]], cuts, strict=True)]
    return Story(
        draw(st.sampled_from(["defer", "keep", "replace"])),
        draw(st.none() | befores),
        deltas,
        groups,
        [draw(st.integers(1, 4)) for _ in groups],
        [draw(deeds) for _ in groups],
    )


def prepare(address: str, before: Before | None) -> None:
    """An empty registry but for what the story says was there."""
    empty(address)
    if before is None:
        return
    dataset_id, dataset_type, data_id, size, checksum = before.row()
    with psycopg.connect(address) as connection:
        connection.execute("INSERT INTO run VALUES (%s)", [RUN])
        for each in factories.TYPES:
            values = (each.name, json.dumps(each.dimensions), each.storage_class)
            connection.execute("INSERT INTO dataset_type VALUES (%s, %s, %s)", values)
        connection.execute(
            "INSERT INTO dataset VALUES (%s, %s, %s, %s)",
            (dataset_id, RUN, dataset_type, json.dumps(data_id)),
        )
        connection.execute(
            "INSERT INTO datastore_record VALUES (%s, 'raw/1', %s, %s, 'Fits')",
            (dataset_id, size, checksum),
        )


def merge(registry: CentralRegistry, store: ObjectStore, policy: str, batch_size: int) -> None:
    merge_run(registry, store, RUN, batch_size=batch_size, policies=parse([policy]))


def live(address: str, story: Story) -> None:
    """Let the story happen."""
    prepare(address, story.before)
    with new_store() as store, CentralRegistry(address) as registry:
        for group, size, deed in zip(story.groups, story.batch_sizes, story.deeds, strict=True):
            put(store, group)
            merge(registry, store, story.policy, size)
            act(address, registry, story, *deed)
            merge(registry, store, story.policy, size)


def act(address: str, registry: CentralRegistry, story: Story, kind: str, which: int) -> None:
    merged = {q for (q,) in rows(address, "SELECT quantum_id::text FROM merged_attempt")}
    if kind == "quantum" and QUANTA[which] in merged:
        forget(registry, RUN, [QUANTA[which]])
    elif kind == "run":
        forget(registry, RUN)
    elif kind == "back":
        let_back(registry, RUN, None if which else [QUANTA[which]])
    elif kind in ("keep", "replace", "chosen"):
        decide(address, registry, story, kind, which)


def decide(address: str, registry: CentralRegistry, story: Story, kind: str, which: int) -> None:
    """A person settles one of the conflicts that there are."""
    found = rows(
        address,
        "SELECT conflict_key, content_checksum, content->>'dataset_id', attempt_id::text "
        "FROM merge_conflict WHERE table_name = 'dataset' ORDER BY 1, 2",
    )
    if not found:
        return
    key, checksum, dataset_id, attempt_id = found[which % len(found)]
    if kind == "chosen":
        settle_one(registry, key, side=checksum)
    else:
        settle_one(registry, key, decision=kind)
    chosen = f"{dataset_id} {attempt_id or ''}" if kind == "chosen" else None
    for (decided,) in rows(
        address, "SELECT conflict_key FROM conflict_decision WHERE NOT by_policy"
    ):
        if decided == key or decided not in story.decided:
            story.decided[decided] = (kind, chosen)


def counted(address: str, story: Story) -> list[Delta]:
    """The deltas that are in the registry at the end."""
    statement = "SELECT attempt_id::text FROM merged_attempt WHERE NOT forgotten"
    merged = {attempt_id for (attempt_id,) in rows(address, statement)}
    return [delta for delta in story.deltas if delta.attempt_id in merged]


def merged_at_once(address: str, story: Story, deltas: Sequence[Delta], persons: Dump) -> Dump:
    """The dump of one merge of these deltas, where persons had decided beforehand."""
    prepare(address, story.before)
    with psycopg.connect(address) as connection:
        for row in persons["conflict_decision"]:
            connection.execute(
                "INSERT INTO conflict_decision SELECT (%s::conflict_decision).*", [row]
            )
        connection.execute("DELETE FROM conflict_decision WHERE by_policy")
    with new_store() as store, CentralRegistry(address) as registry:
        put(store, deltas)
        merge(registry, store, story.policy, 100)
    return dump(address)


def without_history(found: Dump) -> Dump:
    """What must be equal: not which attempts were forgotten, nor what names they left."""
    ignored = ("merged_attempt", "run", "dataset_type")
    return {table: lines for table, lines in found.items() if table not in ignored}


def claim_of(before: Before) -> Claim:
    dataset_id, dataset_type, data_id, size, checksum = before.row()
    natural = canonical({"run": RUN, "dataset_type": dataset_type, "data_id": data_id})
    return Claim("", dataset_id, natural, (size, checksum))


def found_in(address: str) -> Predicted:
    """The tables as the model has them."""
    return Predicted(
        set(rows(address, "SELECT dataset_id::text, coalesce(attempt_id::text, '') FROM dataset")),
        set(
            rows(
                address,
                "SELECT conflict_key, content->>'dataset_id', coalesce(attempt_id::text, ''), kept "
                "FROM merge_conflict WHERE table_name = 'dataset'",
            )
        ),
        dict(
            rows(
                address,
                "SELECT conflict_key, decision FROM conflict_decision "
                "WHERE table_name = 'dataset' AND by_policy",
            )
        ),
    )


@given(stories())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_outcome_follows_from_content_and_decisions(
    database: str, other_database: str, story: Story
) -> None:
    story.decided.clear()
    live(database, story)
    deltas, found = counted(database, story), dump(database)
    expected = merged_at_once(other_database, story, deltas, found)
    for table in without_history(expected):
        note(f"{table}: {expected[table]} / {found[table]}")
    assert without_history(found) == without_history(expected)
    claims = claims_of(deltas) | ({claim_of(story.before)} if story.before else set())
    predicted = predict(claims, story.policy, story.decided)
    assert found_in(database) == predicted
