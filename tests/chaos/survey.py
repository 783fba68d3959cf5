# SPDX-License-Identifier: BSD-3-Clause
"""A survey of deltas, made from a seed, with everything that a merge must come to because of it.

Each recipe takes quanta and data IDs of its own, so what becomes of its deltas is known while it
is written: which conflict they make and which side stays, why a delta is bad. Nothing of the
merger is asked. Recipes are in `recipes`.
"""

import dataclasses
import json
import random
from dataclasses import dataclass, field

from registry import names
from registry.attempt import AttemptStatus
from registry.delta import DatasetRow, Delta, MetricRow, write_delta
from registry.graph_record import (
    GRAPH_RECORD_FORMAT,
    GraphRecord,
    PredictedQuantum,
    write_graph_record,
    write_predicted_quanta,
)
from registry.model import DimensionRecord, derived_id
from tests import factories

RUN = "u/chaos/night1"
OTHER_RUN = "u/chaos/night2"

ConflictKey = tuple[str, str]
"""Table and canonical JSON of the key that several sides claim."""


@dataclass(frozen=True, slots=True)
class PlannedSide:
    """A side of a conflict: who brought it first, which content, and whether it stays."""

    attempt_id: str
    content: str
    kept: bool


@dataclass(frozen=True, slots=True)
class PlannedObject:
    """An object of the bucket; a late one appears while the mergers run."""

    key: str
    content: bytes
    is_late: bool = False


@dataclass(slots=True)
class Survey:
    """The objects of a RUN, and what a merge has to make of them."""

    seed: int
    graphs: list[PlannedObject] = field(default_factory=list)
    deltas: list[PlannedObject] = field(default_factory=list)
    datasets: list[PlannedObject] = field(default_factory=list)
    ledger: set[str] = field(default_factory=set)
    quarantine: dict[str, str] = field(default_factory=dict)
    newer: set[str] = field(default_factory=set)
    conflicts: dict[ConflictKey, set[PlannedSide]] = field(default_factory=dict)
    together: set[str] = field(default_factory=set)
    """Keys of deltas that have to be there before the first merge, whatever the order."""
    kinds: dict[str, int] = field(default_factory=dict)

    def early(self) -> list[PlannedObject]:
        """Everything that is there before the first merger; deltas last, as workers do it."""
        return [o for o in (*self.datasets, *self.graphs, *self.deltas) if not o.is_late]

    def late(self, rng: random.Random) -> list[PlannedObject]:
        """What appears later, graphs before anything of theirs, the rest in any order."""
        deltas = [o for o in self.deltas if o.is_late]
        rng.shuffle(deltas)
        return [*(o for o in self.graphs if o.is_late), *deltas]


def canonical(value: object) -> str:
    """JSON as the conflict keys of a registry have it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Planner:
    """Adds quanta, deltas and what must become of them to a survey, as recipes say."""

    def __init__(self, seed: int, n_deltas: int) -> None:
        self.rng = random.Random(f"survey {seed}")
        self.survey = Survey(seed)
        self.is_extended_late = self.rng.random() < 0.5
        self._numbers = list(range(1, 20 * n_deltas))
        self.rng.shuffle(self._numbers)
        self._n_exposures = 0
        # Other datasets for the same data IDs, and the same datasets made by other quanta.
        self.graphs = {name: _empty_graph(name) for name in ("survey", "extension", "shared")}

    def finish(self) -> Survey:
        """Add the graphs, once all quanta are known."""
        for name, graph in self.graphs.items():
            self._publish(graph, name != "survey" and self.is_extended_late)
        self.rng.shuffle(self.survey.deltas)
        return self.survey

    def numbers(self, n_attempts: int) -> list[int]:
        """Places in time that nobody has, in their order."""
        return sorted(self._numbers.pop() for _ in range(n_attempts))

    def quantum(self, name: str, exposure: int, rows: list[DatasetRow] | None = None) -> int:
        """Add a quantum to a graph; it makes an image and a catalog if nothing else is said."""
        graph = self.graphs[name]
        data_id: dict[str, str | int] = {"exposure": exposure, "detector": 1}
        if rows is None:
            rows = [
                DatasetRow(derived_id(name, t.name, exposure), t.name, dict(data_id))
                for t in factories.TYPES
            ]
        graph.outputs.update({row.dataset_id: row for row in rows})
        quantum_id = derived_id(name, "quantum", exposure)
        outputs = [row.dataset_id for row in rows]
        graph.quanta.append(PredictedQuantum(quantum_id, "calibrate", data_id, outputs))
        return len(graph.quanta) - 1

    def exposure(self) -> int:
        """A data ID that no other recipe has."""
        self._n_exposures += 1
        return self._n_exposures

    def make(self, name: str, quantum: int, number: int, **overrides: object) -> Delta:
        """Make a delta with the small differences that deltas have."""
        rng = self.rng
        graph = self.graphs[name]
        exposure = int(graph.quanta[quantum].data_id["exposure"])
        chosen: dict[str, object] = {
            "host": f"worker-{rng.randrange(50)}",
            "metric": [MetricRow(f"m{n}", rng.random()) for n in range(rng.randrange(3))],
        }
        if rng.random() < 0.3:
            chosen["dimension_record"] = [agreed_record(exposure)]
        delta = factories.make_delta(graph, quantum, number, **(chosen | overrides))
        if delta.status is not AttemptStatus.SUCCESSFUL:
            return delta
        if "dataset" not in overrides and len(delta.rows.dataset) > 1 and rng.random() < 0.05:
            # The catalog is optional.
            return without_outputs(delta, 1)
        return delta

    def good(self, delta: Delta, *, is_late: bool | None = None) -> Delta:
        """Add a delta that has to be merged; some have datasets that were not kept."""
        self.survey.ledger.add(delta.attempt_id)
        ids = [record.dataset_id for record in delta.rows.datastore_record]
        if ids and self.rng.random() < 0.05:
            gone = self.rng.sample(ids, self.rng.randint(1, len(ids)))
            delta = factories.without_record(delta, *delta.not_kept, *gone)
        content = write_delta(delta)
        # Older formats cannot say that a dataset was not kept.
        if not delta.not_kept and self.rng.random() < 0.05:
            content = factories.in_format(self.rng.choice((1, 2)), delta)
        self._put(delta, content, is_late)
        return delta

    def bad(
        self,
        delta: Delta,
        content: bytes,
        reason: str,
        *,
        key: str | None = None,
        is_late: bool | None = None,
    ) -> None:
        """Add a delta that has to be quarantined."""
        self.survey.quarantine[self._put(delta, content, is_late, key)] = reason

    def newer(self, delta: Delta, content: bytes) -> None:
        """Add a delta that has to wait."""
        self.survey.newer.add(self._put(delta, content, None))

    def _put(
        self, delta: Delta, content: bytes, is_late: bool | None, key: str | None = None
    ) -> str:
        if is_late is None:
            is_late = self.rng.random() < 0.5
        if self.is_extended_late and delta.graph_id != self.graphs["survey"].record.graph_id:
            is_late = True
        key = key or names.delta_key(RUN, delta.quantum_id, delta.attempt_id)
        self.survey.deltas.append(PlannedObject(key, content, is_late))
        for record in delta.rows.datastore_record:
            made = factories.object_content(record.dataset_id, delta.attempt_id)
            self.survey.datasets.append(PlannedObject(record.object_key, made))
        return key

    def conflict(self, table: str, key: object, *sides: PlannedSide) -> None:
        """Note a conflict that has to be there in the end."""
        self.survey.conflicts[table, canonical(key)] = set(sides)

    def _publish(self, graph: factories.Graph, is_late: bool) -> None:
        record = dataclasses.replace(graph.record, n_quanta=len(graph.quanta))
        graph_id = record.graph_id
        for key, content in (
            (names.predicted_quanta_key(RUN, graph_id), write_predicted_quanta(graph.quanta)),
            (names.graph_record_key(RUN, graph_id), write_graph_record(record)),
        ):
            self.survey.graphs.append(PlannedObject(key, content, is_late))


def _empty_graph(name: str) -> factories.Graph:
    record = GraphRecord(
        format=GRAPH_RECORD_FORMAT,
        graph_id=derived_id(RUN, name),
        name=name,
        run=RUN,
        dataset_types=list(factories.TYPES),
        dimension_records=[agreed_record(number) for number in range(0, 40, 10)],
        n_quanta=0,
    )
    return factories.Graph(record, [], {})


def agreed_record(exposure: int) -> DimensionRecord:
    """The record of a night, which all its exposures bring, alike."""
    night = exposure // 10
    return DimensionRecord("night", {"night": night}, {"seeing": 0.5 + night / 100, "n": night})


def without_outputs(delta: Delta, n_kept: int = 0) -> Delta:
    """The same delta with fewer outputs."""
    datasets = delta.rows.dataset[:n_kept]
    ids = {row.dataset_id for row in datasets}
    records = [r for r in delta.rows.datastore_record if r.dataset_id in ids]
    rows = dataclasses.replace(delta.rows, dataset=datasets, datastore_record=records)
    return dataclasses.replace(delta, rows=rows)
