# SPDX-License-Identifier: BSD-3-Clause
"""One quantum that copies a raw exposure to a calibrated one: its job, and deltas of it."""

from dataclasses import replace
from typing import Any

from registry import names
from registry.attempt import AttemptStatus
from registry.delta import Delta, write_delta
from registry.job import Job, PredictedInput, PredictedOutput, TaskCall
from registry.model import DatasetType, DimensionRecord, derived_id
from tests import factories

RUN = factories.RUN
RAW = DatasetType("raw", ["exposure", "detector"], "File", ".raw")
CALEXP = DatasetType("calexp", ["exposure", "detector"], "File", ".img")

GRAPH = factories.make_graph(2, types=[CALEXP])
QUANTUM, OTHER_QUANTUM = GRAPH.quanta
QUANTUM_ID, OTHER_QUANTUM_ID = QUANTUM.quantum_id, OTHER_QUANTUM.quantum_id
DATA_ID = QUANTUM.data_id
CALEXP_ID = QUANTUM.outputs[0]
RAW_ID = derived_id("raw", 0)

# Attempts at the same quantum, oldest first.
ATTEMPTS = [factories.attempt(number) for number in (1, 2, 3)]
ATTEMPT_ID = ATTEMPTS[0]

RAW_CONTENT = b"pixels of exposure 0\n"
RAW_KEY = "raw/all/raw/0.raw"


def make_input(**changes: Any) -> PredictedInput:
    """The raw exposure, which is in the datastore before the graph runs."""
    path = names.dataset_path("raw/all", "raw", DATA_ID, ".raw")
    return replace(PredictedInput(RAW_ID, "raw", DATA_ID, "raw/all", path, key=RAW_KEY), **changes)


def make_output(**changes: Any) -> PredictedOutput:
    """The calibrated exposure."""
    path = names.dataset_path(RUN, "calexp", DATA_ID, ".img")
    return replace(PredictedOutput(CALEXP_ID, "calexp", DATA_ID, path), **changes)


def make_job(**changes: Any) -> Job:
    """The job of the quantum: one input, one output, one dimension record, the command cp."""
    fields: dict[str, Any] = {
        "task": TaskCall(command=["cp", "{input:raw}", "{output:calexp}"]),
        "dataset_types": [CALEXP, RAW],
        "inputs": [make_input()],
        "outputs": [make_output()],
        "dimension_records": [DimensionRecord("exposure", {"exposure": 0}, {"airmass": 1.25})],
    }
    return factories.make_job(GRAPH, 0, **{**fields, **changes})


def make_delta(**changes: Any) -> Delta:
    """The delta of a successful attempt at the quantum."""
    return factories.make_delta(GRAPH, 0, **changes)


def make_failed_delta(**changes: Any) -> Delta:
    """The delta of a failed attempt: it names no outputs."""
    return make_delta(**{"status": AttemptStatus.FAILED, **changes})


def key_of(delta: Delta) -> str:
    """The key under which a delta belongs."""
    return names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)


def written(delta: Delta) -> tuple[bytes, str]:
    """The bytes of a delta, and its key."""
    return write_delta(delta), key_of(delta)
