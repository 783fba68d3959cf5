# SPDX-License-Identifier: BSD-3-Clause
"""Finding the attempt of a quantum that counts, from a listing of its deltas."""

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from registry import names
from registry.attempt import AttemptStatus
from registry.delta import Delta, read_delta
from registry.errors import FormatError, InvalidNameError
from registry.job import Job, PredictedInput, read_job
from registry.prediction import (
    Expected,
    UnknownGraphError,
    UnpredictedDeltaError,
    check_datasets,
    check_expected,
)
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore

_log = logging.getLogger(__name__)

IsTrusted = Callable[[Delta], bool]
"""Tells whether a successful delta, which is whole, is also one that was predicted."""

ReadDelta = Callable[[bytes, str], Delta]
"""Verifies and reads the delta under a key; `registry.delta.read_delta` and what does the same."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a quantum stands: the delta that counts, if any, and its newest attempt id."""

    counting: Delta | None
    newest_attempt: str | None


def standing_of(
    store: ObjectStore, run: str, quantum_id: str, *, is_trusted: IsTrusted | None = None
) -> Standing:
    """Ask the bucket how a quantum stands; ``is_trusted`` as in `standing_among`."""
    listed = store.list_objects(names.delta_prefix(run, quantum_id))
    return standing_among(store, [stored.key for stored in listed], is_trusted=is_trusted)


def standing_among(
    store: ObjectStore,
    keys: Sequence[str],
    *,
    is_trusted: IsTrusted | None = None,
    read: ReadDelta = read_delta,
) -> Standing:
    """Tell how a quantum stands from the keys of all its deltas; reads as few as it can.

    Of several successful attempts the one with the highest id counts. A delta that cannot be
    verified counts as nothing, and so does one that was not predicted: the merger puts both into
    quarantine.

    Parameters
    ----------
    is_trusted
        What is predicted, from `trusting` or `trusting_producer`.
    """
    attempts = {parsed[1]: key for key in keys if (parsed := names.parse_delta_key(key))}
    newest_first = sorted(attempts, reverse=True)
    for attempt_id in newest_first:
        key = attempts[attempt_id]
        try:
            delta = read(store.get(key), key)
        except FormatError as error:
            _log.warning("%s", error)
            continue
        if delta.status is AttemptStatus.SUCCESSFUL and (is_trusted is None or is_trusted(delta)):
            return Standing(delta, newest_first[0])
    return Standing(None, newest_first[0] if newest_first else None)


def trusting(store: ObjectStore, quantum: Expected, run: str, graph_id: str) -> IsTrusted:
    """Return the rule for deltas of a quantum of which the job, or the graph, is at hand.

    Parameters
    ----------
    run, graph_id
        Where the quantum belongs. A RUN may have more graphs: of another one the datastore is
        asked whether it has a record.
    """

    def check(delta: Delta) -> None:
        _check_against(store, run, delta, quantum, graph_id)

    return _logged(check)


def trusting_producer(store: ObjectStore, job: Job, run: str, producer: str) -> IsTrusted:
    """Return the rule for deltas of a quantum that makes inputs of a job.

    The job tells what these inputs are. Everything else that the producer may make is in the job
    of the producer; if that is gone or damaged, the inputs have to do.
    """
    wanted: list[PredictedInput] = [i for i in job.inputs if (i.run, i.producer) == (run, producer)]

    def check(delta: Delta) -> None:
        check_datasets(delta, _key_of(delta), wanted)
        key = names.job_key(run, producer)
        try:
            made_by = read_job(store.get(key), f"job file {store.uri}/{key}")
        except (ObjectNotFoundError, FormatError, InvalidNameError) as error:
            _log.warning("quantum %s, which makes inputs: %s", producer, error)
            _check_graph(store, run, delta, job.graph_id)
        else:
            _check_against(store, run, delta, made_by, made_by.graph_id)

    return _logged(check)


def _check_against(
    store: ObjectStore, run: str, delta: Delta, quantum: Expected, graph_id: str
) -> None:
    """Compare a delta with its quantum, in full if it is of the same graph.

    A RUN that was extended may have another graph with the same quantum and other outputs.
    """
    if delta.graph_id == graph_id:
        check_expected(delta, _key_of(delta), quantum)
    else:
        _check_graph(store, run, delta, graph_id)
        check_datasets(delta, _key_of(delta), quantum.outputs)


def _logged(check: Callable[[Delta], None]) -> IsTrusted:
    def is_trusted(delta: Delta) -> bool:
        try:
            check(delta)
        except UnpredictedDeltaError as error:
            _log.warning("%s; it does not count", error)
            return False
        return True

    return is_trusted


def _check_graph(store: ObjectStore, run: str, delta: Delta, known: str) -> None:
    """Compare the graph of a delta with one that is known, else look for its record."""
    if delta.graph_id != known:
        try:
            _find_graph(store, run, delta.graph_id)
        except UnknownGraphError as error:
            raise UnknownGraphError(f"delta {_key_of(delta)!r}: {error}") from error


# Asked for each of 27,000 deltas of a RUN that was extended. An exception is not remembered: the
# record may come later.
@functools.lru_cache(maxsize=256)
def _find_graph(store: ObjectStore, run: str, graph_id: str) -> None:
    with suppress(InvalidNameError):
        key = names.check_key(names.graph_record_key(run, graph_id), "graph record")
        if any(stored.key == key for stored in store.list_objects(key)):
            return
    raise UnknownGraphError(f"expected a graph of RUN {run!r}, found {graph_id!r}")


def _key_of(delta: Delta) -> str:
    return names.delta_key(delta.run, delta.quantum_id, delta.attempt_id)
