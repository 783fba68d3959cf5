# SPDX-License-Identifier: BSD-3-Clause
"""Recipes: what can happen to a quantum, each with what a merge has to make of it."""

import dataclasses
import json
from collections.abc import Callable

from registry import names
from registry.attempt import AttemptStatus
from registry.delta import DELTA_FORMAT, DatasetRow, Delta, MetricRow, delta_body, write_delta
from registry.model import DimensionRecord, derived_id
from tests import factories
from tests.chaos.survey import (
    OTHER_RUN,
    RUN,
    PlannedSide,
    Planner,
    Survey,
    canonical,
    without_outputs,
)

Recipe = Callable[[Planner], None]


def _ordinary(planner: Planner) -> None:
    quantum = planner.quantum("survey", planner.exposure())
    (number,) = planner.numbers(1)
    kind = planner.rng.random()
    if kind < 0.03:
        status = planner.rng.choice([AttemptStatus.FAILED, AttemptStatus.ABORTED])
        planner.good(planner.make("survey", quantum, number, status=status))
    elif kind < 0.06:
        delta = planner.make("survey", quantum, number, no_work=True)
        planner.good(without_outputs(delta))
    else:
        planner.good(planner.make("survey", quantum, number))


# ---- superseded attempts, and deltas that are there twice -----------------------------------


def _several_successes(planner: Planner) -> None:
    quantum = planner.quantum("survey", planner.exposure())
    for number in planner.numbers(planner.rng.choice([2, 2, 3])):
        planner.good(planner.make("survey", quantum, number))


def _failed_then_successful(planner: Planner) -> None:
    quantum = planner.quantum("survey", planner.exposure())
    first, second = planner.numbers(2)
    planner.good(planner.make("survey", quantum, first, status=AttemptStatus.FAILED))
    planner.good(planner.make("survey", quantum, second))


def _successful_then_failed(planner: Planner) -> None:
    quantum = planner.quantum("survey", planner.exposure())
    first, second = planner.numbers(2)
    planner.good(planner.make("survey", quantum, first))
    planner.good(planner.make("survey", quantum, second, status=AttemptStatus.ABORTED))


def _late_zombie(planner: Planner) -> None:
    quantum = planner.quantum("survey", planner.exposure())
    older, newer = planner.numbers(2)
    planner.good(planner.make("survey", quantum, newer), is_late=False)
    planner.good(planner.make("survey", quantum, older), is_late=True)


def _outputs_taken_back(planner: Planner) -> None:
    """A newer attempt finds that there is nothing to do, or makes one output only."""
    quantum = planner.quantum("survey", planner.exposure())
    older, newer = planner.numbers(2)
    planner.good(planner.make("survey", quantum, older))
    n_kept = planner.rng.randrange(2)
    delta = planner.make("survey", quantum, newer, no_work=n_kept == 0)
    planner.good(without_outputs(delta, n_kept))


def _kept_by_one_attempt(planner: Planner) -> None:
    """Of two successes, in either order, one left its datasets, or some, in its sandbox."""
    quantum = planner.quantum("survey", planner.exposure())
    deltas = [planner.make("survey", quantum, number) for number in planner.numbers(2)]
    which = planner.rng.randrange(2)
    ids = [row.dataset_id for row in deltas[which].rows.dataset]
    gone = planner.rng.sample(ids, planner.rng.randint(1, len(ids)))
    deltas[which] = factories.without_record(deltas[which], *gone)
    for delta in deltas:
        planner.good(delta)


def _copy_in_another_place(planner: Planner) -> None:
    quantum = planner.quantum("survey", planner.exposure())
    delta = planner.good(planner.make("survey", quantum, *planner.numbers(1)))
    name = f"{delta.quantum_id}.{delta.attempt_id}.json"
    place = f"{names.delta_prefix(RUN)}copies/{name}"
    planner.bad(delta, write_delta(delta), "wrong_key", key=place)


def _copy_under_another_attempt(planner: Planner) -> None:
    quantum = planner.quantum("survey", planner.exposure())
    first, second = planner.numbers(2)
    delta = planner.good(planner.make("survey", quantum, first))
    key = names.delta_key(RUN, delta.quantum_id, factories.attempt(second))
    planner.bad(delta, write_delta(delta), "wrong_key", key=key)


def _attempt_of_two_quanta(planner: Planner) -> None:
    """An attempt id met twice: the delta whose key comes first has it."""
    (number,) = planner.numbers(1)
    deltas = [
        planner.make("survey", planner.quantum("survey", planner.exposure()), number)
        for _ in range(2)
    ]
    first, second = sorted(deltas, key=lambda delta: delta.quantum_id)
    # Both before any merger: what was merged before the first one came could not be undone.
    planner.good(first, is_late=False)
    planner.bad(second, write_delta(second), "wrong_key", is_late=False)
    planner.survey.together |= {
        names.delta_key(RUN, delta.quantum_id, delta.attempt_id) for delta in deltas
    }


_REPEATED: list[Recipe] = [
    *(_several_successes, _failed_then_successful, _successful_then_failed, _late_zombie),
    *(_outputs_taken_back, _kept_by_one_attempt, _copy_in_another_place),
    *(_copy_under_another_attempt, _attempt_of_two_quanta),
]


# ---- conflicts ------------------------------------------------------------------------------


def by_data_id(row: DatasetRow) -> dict[str, object]:
    """The key of a dataset within its RUN."""
    return {"run": RUN, "dataset_type": row.dataset_type, "data_id": row.data_id}


def _side(delta: Delta, row: DatasetRow, kept: bool) -> PlannedSide:
    return PlannedSide(delta.attempt_id, row.dataset_id, kept)


def _two_uuids(planner: Planner) -> None:
    """An extended graph makes other datasets of the same types and data IDs."""
    exposure = planner.exposure()
    sides = [("survey", planner.quantum("survey", exposure))]
    sides += [("extension", planner.quantum("extension", exposure))]
    planner.rng.shuffle(sides)
    deltas = [
        planner.good(planner.make(*side, number, dataset=_rows_of(planner, side)))
        for side, number in zip(sides, planner.numbers(2), strict=True)
    ]
    for lower, higher in zip(*(delta.rows.dataset for delta in deltas), strict=True):
        key = by_data_id(lower)
        lost, kept = _side(deltas[0], lower, False), _side(deltas[1], higher, True)
        planner.conflict("dataset", key, lost, kept)


def _rows_of(planner: Planner, side: tuple[str, int]) -> list[DatasetRow]:
    graph = planner.graphs[side[0]]
    return [graph.outputs[output] for output in graph.quanta[side[1]].outputs]


def _one_uuid_of_two_quanta(planner: Planner) -> None:
    exposure = planner.exposure()
    first = ("survey", planner.quantum("survey", exposure))
    rows = _rows_of(planner, first)
    sides = [first, ("shared", planner.quantum("shared", exposure, rows))]
    planner.rng.shuffle(sides)
    deltas = [
        planner.good(planner.make(*side, number, dataset=rows))
        for side, number in zip(sides, planner.numbers(2), strict=True)
    ]
    for row in rows:
        planned = _side(deltas[0], row, False), _side(deltas[1], row, True)
        planner.conflict("dataset", {"dataset_id": row.dataset_id}, *planned)
        planner.conflict("dataset", by_data_id(row), *planned)


def _chain(planner: Planner) -> None:
    """The middle one claims a key of either end: it alone stays, or both ends do."""
    exposure, other = planner.exposure(), planner.exposure()
    left = ("survey", planner.quantum("survey", exposure))
    middle = ("extension", planner.quantum("extension", exposure))
    x, y = _rows_of(planner, left)[:1], _rows_of(planner, middle)[:1]
    z = [dataclasses.replace(y[0], data_id={"exposure": other, "detector": 1})]
    right = ("shared", planner.quantum("shared", other, z))
    lowest, between, highest = planner.numbers(3)
    middle_stays = planner.rng.random() < 0.5
    numbers = (lowest, highest, between) if middle_stays else (highest, lowest, between)
    made = [
        planner.good(one_image(planner.make(*side, number, dataset=rows)))
        for side, rows, number in zip((left, middle, right), (x, y, z), numbers, strict=True)
    ]
    end = _side(made[0], x[0], not middle_stays)
    centre = _side(made[1], y[0], middle_stays)
    other_end = _side(made[2], z[0], not middle_stays)
    planner.conflict("dataset", by_data_id(x[0]), end, centre)
    planner.conflict("dataset", {"dataset_id": y[0].dataset_id}, centre, other_end)


def one_image(delta: Delta) -> Delta:
    """The delta with the datastore records of the datasets that it still has."""
    ids = {row.dataset_id for row in delta.rows.dataset}
    records = [r for r in delta.rows.datastore_record if r.dataset_id in ids]
    return dataclasses.replace(
        delta, rows=dataclasses.replace(delta.rows, datastore_record=records)
    )


def _settled_by_a_newer_attempt(planner: Planner) -> None:
    """Either side of what was a conflict is taken back: no conflict is left."""
    exposure = planner.exposure()
    sides = [("survey", planner.quantum("survey", exposure))]
    sides += [("extension", planner.quantum("extension", exposure))]
    planner.rng.shuffle(sides)
    first, second, third = planner.numbers(3)
    planner.good(planner.make(*sides[0], first))
    planner.good(planner.make(*sides[1], second))
    taken_back = planner.rng.choice(sides)
    planner.good(without_outputs(planner.make(*taken_back, third, no_work=True)))


def _dimension(planner: Planner) -> None:
    """Three attempts bring a record, two of them alike: the greatest text stays."""
    data_id: dict[str, str | int] = {"visit": planner.exposure()}
    notes = [f"cloud {planner.rng.randrange(1000)}" for _ in range(2)]
    brought: dict[str, list[str]] = {}
    texts = [notes[0], notes[1] + "x", notes[0]]
    for number, note in zip(planner.numbers(3), texts, strict=True):
        quantum = planner.quantum("survey", planner.exposure())
        record = DimensionRecord("visit", dict(data_id), {"note": note})
        delta = planner.make("survey", quantum, number, dimension_record=[record])
        brought.setdefault(note, []).append(planner.good(delta).attempt_id)
    planner.conflict(
        "dimension_record",
        {"dimension": "visit", "data_id": data_id},
        *(
            PlannedSide(min(ids), canonical({"note": note}), note == max(texts))
            for note, ids in brought.items()
        ),
    )


_CONFLICTS: list[Recipe] = [
    *(_two_uuids, _one_uuid_of_two_quanta, _chain, _settled_by_a_newer_attempt, _dimension)
]


# ---- damaged deltas -------------------------------------------------------------------------


def _fresh(planner: Planner) -> Delta:
    quantum = planner.quantum("survey", planner.exposure())
    return planner.make("survey", quantum, *planner.numbers(1))


def _cut_short(planner: Planner) -> None:
    delta = _fresh(planner)
    content = write_delta(delta)
    planner.bad(delta, content[: planner.rng.randrange(len(content))].rstrip(b"}"), "truncated")


def _flipped_byte(planner: Planner) -> None:
    delta = _fresh(planner)
    content = bytearray(write_delta(delta))
    content[planner.rng.randrange(len(content) - 1)] ^= 1 << planner.rng.randrange(8)
    planner.bad(delta, bytes(content), "checksum")


def _wrong_run(planner: Planner) -> None:
    delta = dataclasses.replace(_fresh(planner), run=OTHER_RUN)
    planner.bad(delta, write_delta(delta), "wrong_key")


def _other_graph(planner: Planner) -> None:
    delta = dataclasses.replace(_fresh(planner), graph_id=derived_id("another graph"))
    planner.bad(delta, write_delta(delta), "unknown_graph")


def _unpredicted_output(planner: Planner) -> None:
    delta = _fresh(planner)
    other = {
        row.dataset_id: derived_id("unpredicted", row.dataset_id) for row in delta.rows.dataset
    }
    rows = [dataclasses.replace(r, dataset_id=other[r.dataset_id]) for r in delta.rows.dataset]
    records = [
        dataclasses.replace(r, dataset_id=other[r.dataset_id]) for r in delta.rows.datastore_record
    ]
    changed = dataclasses.replace(delta.rows, dataset=rows, datastore_record=records)
    delta = dataclasses.replace(delta, rows=changed)
    planner.bad(delta, write_delta(delta), "unpredicted_output")


def _nul(planner: Planner) -> None:
    """Valid JSON with the right checksum, which PostgreSQL does not take."""
    delta = _fresh(planner)
    record = DimensionRecord("visit", {"visit": planner.exposure()}, {"note": "a\0b"})
    in_record = dataclasses.replace(delta.rows, dimension_record=[record])
    in_metric = dataclasses.replace(delta.rows, metric=[MetricRow("n\0", 1.0)])
    delta = planner.rng.choice(
        [
            dataclasses.replace(delta, host="worker\0seven"),
            dataclasses.replace(delta, rows=in_record),
            dataclasses.replace(delta, rows=in_metric),
        ]
    )
    planner.bad(delta, write_delta(delta), "refused_by_database")


def _of_the_future(planner: Planner) -> None:
    delta = _fresh(planner)
    body = json.loads(delta_body(write_delta(delta))) | {"format": DELTA_FORMAT + 1, "news": [1]}
    planner.newer(delta, factories.framed(canonical_behind_format(body)))


def canonical_behind_format(body: dict[str, object]) -> bytes:
    """The body of a delta, from its format on."""
    ordered = {"format": body.pop("format")} | body
    return json.dumps(ordered, separators=(",", ":"))[1:].encode()


_DAMAGED: list[Recipe] = [
    *(_cut_short, _flipped_byte, _wrong_run, _other_graph, _unpredicted_output, _nul),
    _of_the_future,
]


def plan_survey(seed: int, n_deltas: int) -> Survey:
    """Make the survey of a seed: 5 % repeated, 2 % in conflict, 2 % damaged, the rest ordinary."""
    planner = Planner(seed, n_deltas)
    survey = planner.survey

    def follow(recipe: Recipe) -> None:
        name = recipe.__name__.strip("_")
        survey.kinds[name] = survey.kinds.get(name, 0) + 1
        recipe(planner)

    for recipes, share in ((_REPEATED, 0.05), (_CONFLICTS, 0.02), (_DAMAGED, 0.02)):
        start = planner.rng.randrange(len(recipes))
        for number in range(max(1, round(n_deltas * share))):
            follow(recipes[(start + number) % len(recipes)])
    while len(survey.deltas) < n_deltas:
        follow(_ordinary)
    return planner.finish()
