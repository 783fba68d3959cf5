# SPDX-License-Identifier: BSD-3-Clause
"""Plans of quanta that exist only as ids, for clusters."""

from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from executor.submit.plan import Plan
from registry.graph_record import PredictedQuantum
from registry.model import DataId

Quanta = Mapping[str, tuple[str, DataId, Sequence[str]]]
"""Task label, data ID and parents by quantum id."""


def make_plan(quanta: Quanta, run: str = "u/me/run") -> Plan:
    """A plan in which quantum ``q`` makes ``q.read``, which its children read, and ``q.end``."""
    found = {
        q: PredictedQuantum(q, label, data_id, [f"{q}.read", f"{q}.end"], list(parents))
        for q, (label, data_id, parents) in quanta.items()
    }

    def readers_of(quantum_ids: Collection[str]) -> dict[str, frozenset[str]]:
        children: dict[str, set[str]] = {}
        for quantum_id, (_, _, parents) in quanta.items():
            for parent in parents:
                children.setdefault(f"{parent}.read", set()).add(quantum_id)
        return {dataset_id: frozenset(read_by) for dataset_id, read_by in children.items()}

    def job_of(quantum_id: str) -> Any:
        parents = quanta[quantum_id][2]
        inputs = [SimpleNamespace(dataset_id=f"{parent}.read") for parent in parents]
        return SimpleNamespace(graph_id="graph", quantum_id=quantum_id, inputs=inputs)

    labels = list(dict.fromkeys(quantum.task_label for quantum in found.values()))
    return Plan(run, found, job_of, lambda quantum_id: lambda delta: True, labels, readers_of)


def survey_plan(n_visits: int, n_detectors: int) -> Plan:
    """``isr`` by exposure and detector, ``fit`` by visit and detector, ``mosaic`` by visit."""
    quanta: dict[str, tuple[str, DataId, list[str]]] = {}
    for visit in range(1, n_visits + 1):
        for detector in range(1, n_detectors + 1):
            name = f"{visit}.{detector}"
            quanta[f"isr.{name}"] = ("isr", {"exposure": visit, "detector": detector}, [])
            quanta[f"fit.{name}"] = ("fit", {"visit": visit, "detector": detector}, [f"isr.{name}"])
        fits = [f"fit.{visit}.{detector}" for detector in range(1, n_detectors + 1)]
        quanta[f"mosaic.{visit}"] = ("mosaic", {"visit": visit}, fits)
    return make_plan(quanta)
