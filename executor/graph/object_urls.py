# SPDX-License-Identifier: BSD-3-Clause
"""What each quantum needs from and puts into the datastore, as URIs.

The keys of outputs, logs and deltas carry the attempt, which is not known before: they show
``{attempt}`` for an attempt id and ``{attempt20}`` for its short form of 20 digits, unless the
bucket is asked for the attempt that counts.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.quantum_graph import Quantum
from registry import names
from registry.delta import Delta
from registry.job import PredictedInput, PredictedOutput

ATTEMPT = "{attempt}"
SHORT_ATTEMPT = "{attempt20}"
_SAFE = "/{}+@=,:"
"""What stays in a file URI; s3:// has keys as they are."""

CountingDelta = Callable[[str, str], Delta | None]
"""The delta that counts, by RUN and quantum id; None if there is none."""


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """An object that a quantum gets or puts."""

    quantum_id: str
    task_label: str
    direction: str
    uri: str


def object_urls(
    graph: ColumnarGraph,
    quanta: Iterable[Quantum],
    datastore: str,
    counting: CountingDelta | None = None,
) -> Iterator[ObjectUrl]:
    """The objects of some quanta, one after the other.

    Parameters
    ----------
    datastore
        ``s3://bucket/prefix`` or ``file:///directory``.
    counting
        Asks the bucket for the attempt that counts; without it keys show placeholders. What that
        attempt did not make is left out.
    """
    root = datastore.rstrip("/")
    is_file = root.startswith("file:")
    ask = lru_cache(maxsize=100_000)(counting) if counting else lambda run, quantum_id: None
    extensions = {kind.name: kind.extension for kind in graph.header.dataset_types.values()}

    def key_of(found: PredictedInput | PredictedOutput, run: str, quantum_id: str) -> str | None:
        delta = ask(run, quantum_id)
        if delta is None:
            extension = extensions[found.dataset_type]
            stem = found.path.removesuffix(extension) if extension else found.path
            return f"{stem}.{SHORT_ATTEMPT}{extension}"
        records = delta.rows.datastore_record
        return next((r.object_key for r in records if r.dataset_id == found.dataset_id), None)

    for quantum in quanta:
        run, quantum_id = graph.header.run, quantum.quantum_id
        delta = ask(run, quantum_id)
        attempt = ATTEMPT if delta is None else delta.attempt_id
        gets = [names.job_key(run, quantum_id)]
        gets += [i.key or key_of(i, i.run, i.producer or "") or "" for i in quantum.inputs]
        puts = [key_of(output, run, quantum_id) or "" for output in quantum.outputs]
        puts += [names.log_key(run, quantum_id, attempt)]
        puts += [names.delta_key(run, quantum_id, attempt)]
        for direction, keys in (("get", gets), ("put", puts)):
            for key in filter(None, keys):
                uri = f"{root}/{quote(key, safe=_SAFE) if is_file else key}"
                yield ObjectUrl(quantum_id, quantum.task_label, direction, uri)
