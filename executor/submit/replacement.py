# SPDX-License-Identifier: BSD-3-Clause
"""Replacing successful attempts: new ones in the same RUN, with higher ids, are made to count.

What a replacement began with is kept in the bucket until it is done, so that one that was killed
half-way goes on where it was, and does not begin anew with what it has replaced already.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from executor.submit.bucket_run import BucketRun
from executor.submit.rerun import JobOf, Rerun, plan_of_bucket, producers_in_bucket, replacing
from registry import names, typed_json
from registry.graph_record import PredictedQuantum
from registry.model import derived_id
from transfer_plugins.deltas import Standing
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore

REPLACEMENT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ReplacementRecord:
    """A replacement that was begun: the attempts that counted then, by quantum id."""

    format: int
    run: str
    replaced: dict[str, str]


def plan_replacement(bucket: BucketRun, quantum_ids: list[str], job_of: JobOf) -> Rerun:
    """Plan new attempts of quanta, whether they were successful or not."""
    again = producers_in_bucket(bucket, quantum_ids, job_of)
    standings = bucket.standings(quantum_ids)
    begun = _read(bucket, quantum_ids)
    if begun is None or _is_done(begun, standings):
        begun = again | {q: s.counting.attempt_id for q, s in standings.items() if s.counting}
    plan = plan_of_bucket(bucket, [*again, *quantum_ids], replacing(job_of, again | begun))
    return Rerun(plan, replaced=again | begun, again=frozenset(again))


def begin_replacement(store: ObjectStore, rerun: Rerun) -> None:
    """Put on record what is replaced; before any job file."""
    record = ReplacementRecord(REPLACEMENT_FORMAT, rerun.plan.run, rerun.replaced)
    store.put(_key_of(rerun), typed_json.encode(record).encode())


def end_replacement(store: ObjectStore, rerun: Rerun) -> None:
    """Forget a replacement that is done."""
    store.delete(_key_of(rerun))


def consumers(bucket: BucketRun, replaced: Mapping[str, str]) -> list[PredictedQuantum]:
    """Return the quanta whose counting attempt read outputs of replaced attempts."""
    children = bucket.children_of(replaced)
    old = set(replaced.values())
    standings = bucket.standings(children)
    return [
        bucket.quanta[quantum_id]
        for quantum_id in children
        if (counting := standings[quantum_id].counting)
        and any(read.attempt_id in old for read in counting.inputs)
    ]


def _key_of(rerun: Rerun) -> str:
    # Of what was selected: a replacement that goes on may find fewer producers to run again.
    return _key(rerun.plan.run, [q for q in rerun.plan.quanta if q not in rerun.again])


def _key(run: str, quantum_ids: Mapping[str, object] | list[str]) -> str:
    return names.replacement_key(run, derived_id("replacement", sorted(quantum_ids)))


def _read(bucket: BucketRun, quantum_ids: list[str]) -> dict[str, str] | None:
    key = _key(bucket.run, quantum_ids)
    with suppress(ObjectNotFoundError):
        record = typed_json.decode_format(
            ReplacementRecord,
            bucket.store.get(key),
            f"replacement {bucket.store.uri}/{key}",
            newest=REPLACEMENT_FORMAT,
            upgrade="upgrade quantum-exec",
        )
        return record.replaced
    return None


def _is_done(begun: Mapping[str, str], standings: Mapping[str, Standing]) -> bool:
    """Whether every quantum has a successful attempt that is newer than the one replaced."""
    counting = {q: s.counting.attempt_id if s.counting else "" for q, s in standings.items()}
    return all(attempt > begun.get(q, "") for q, attempt in counting.items())
