# SPDX-License-Identifier: BSD-3-Clause
"""Which formats this release reads and writes, so that worker and access point can be compared."""

from collections.abc import Mapping

from registry.delta import DELTA_FORMAT
from registry.errors import QuantumExecError
from registry.graph_record import GRAPH_RECORD_FORMAT
from registry.job import JOB_FORMAT
from registry.quantum_cluster import QUANTUM_CLUSTER_FORMAT


class FormatsDifferError(QuantumExecError):
    """Worker and access point have releases that do not fit together; upgrade the older one."""

    error_type = "formats_differ"


def submitted_formats() -> dict[str, int]:
    """Return the newest format of each file that goes between access point and worker."""
    return {
        "graph_record": GRAPH_RECORD_FORMAT,
        "job": JOB_FORMAT,
        "cluster": QUANTUM_CLUSTER_FORMAT,
        "delta": DELTA_FORMAT,
    }


def formats_text(formats: Mapping[str, int]) -> str:
    """Return formats as one word of a command line: ``job=1,delta=3``."""
    return ",".join(f"{name}={number}" for name, number in formats.items())


def parse_formats(text: str) -> dict[str, int]:
    """Read such a word; raises `ValueError`."""
    pairs = (word.partition("=") for word in text.split(",") if word)
    return {name: int(number) for name, _, number in pairs}


def check_formats(access_point: Mapping[str, int]) -> None:
    """Compare the formats of the access point with ours, who are on a worker.

    Raises
    ------
    FormatsDifferError
        If the worker could not read what it is given, or its deltas could not be merged.
    """
    ours = submitted_formats()
    for name, theirs in access_point.items():
        here = ours.get(name, 0)
        if name == "delta" and here > theirs:
            raise FormatsDifferError(
                f"deltas: expected format {theirs} or older, which registry-merge on the access "
                f"point reads; this worker writes {here}: upgrade quantum-exec on the access point"
            )
        if name != "delta" and here < theirs:
            raise FormatsDifferError(
                f"{name}: expected a worker that reads format {theirs}, found one that reads "
                f"{here}: upgrade quantum-exec on the worker"
            )
