# SPDX-License-Identifier: BSD-3-Clause
"""Verify: do central registry, deltas and bucket say the same about a RUN?"""

import time
from collections.abc import Collection, Iterator

from merger.archived_deltas import with_archives
from merger.bucket_comparison import (
    compare_checksums,
    compare_objects,
    list_datasets,
    list_logs,
    without_other_runs,
)
from merger.central_registry import CentralRegistry
from merger.delta_listing import DeltaListing, list_deltas
from merger.delta_reading import read_batches
from merger.findings import Finding, FindingKind, VerifyReport
from merger.left_objects import LeftObjects
from merger.predictions import read_predictions
from merger.progress import Progress
from merger.registry_comparison import (
    ExpectedRows,
    bad_delta,
    compare_datasets,
    compare_deltas,
    compare_ledger,
    compare_quanta,
)
from merger.registry_rows import RegistryRows, read_rows
from merger.settings import DEFAULT_BATCH_SIZE
from registry import names
from registry.typed_json import canonical
from transfer_plugins.object_store import ObjectStore


def verify_run(
    registry: CentralRegistry,
    store: ObjectStore,
    run: str,
    *,
    checksums: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Compare what the registry, the deltas and the bucket say about a RUN.

    Parameters
    ----------
    checksums
        Fetch every dataset and compare its bytes; sizes are always compared, by listing.
    threads
        Deltas read at once; chosen by the kind of datastore if not given.

    Raises
    ------
    registry.errors.QuantumExecError
        If one of the three cannot be read.
    """
    progress, began = progress or Progress(), time.monotonic()
    store = with_archives(store, run)
    predictions = read_predictions(store, run)
    # The registry first: a delta that arrives meanwhile is then rightly said to be not merged.
    rows = registry.read_snapshot(lambda cursor: read_rows(cursor, run))
    listing = list_deltas(store, run)
    report = VerifyReport(run, n_deltas=len(listing), n_datasets=len(rows.datasets))
    report.add(bad_delta(key, "wrong_key", rows) for key in listing.strangers)
    archives = {bad.key: bad.message for bad in store.bad_archives()}
    report.add(bad_delta(key, message, rows) for key, message in archives.items())
    progress.start(len(listing))
    expected = ExpectedRows()
    keys = listing.all_keys()
    batches = read_batches(
        store,
        keys,
        predictions,
        batch_size=DEFAULT_BATCH_SIZE,
        threads=threads,
        are_refused_left=True,
    )
    for batch in batches:
        report.add(compare_deltas(batch, rows, expected))
        progress.advance(batch.n_keys)
    report.add(compare_ledger(rows, listing))
    report.add(compare_quanta(rows, expected))
    report.add(_compare_dimensions(rows))
    report.add(compare_datasets(rows, expected))
    sizes = list_datasets(store, run)
    report.add(compare_objects(sizes, run, rows))
    if checksums:
        report.add(compare_checksums(store, sizes, run, rows))
    objects, logs = without_other_runs(sizes, run), list_logs(store, run)
    _add_left(report, LeftObjects(objects, logs, listing, rows, expected))
    report.add(_recorded(rows, listing, archives))
    predicted = list(predictions.quantum_ids())
    report.add(_notes(predicted, expected))
    report.n_not_kept = sum(
        side.object_key is None and side.attempt_id in rows.ledger
        for side in rows.datasets.values()
    )
    report.n_quanta, report.n_objects = len(predicted), len(objects)
    report.wall_s = time.monotonic() - began
    return report


def _add_left(report: VerifyReport, left: LeftObjects) -> None:
    report.superseded_attempts.extend(left.superseded_attempts())
    report.add_left(FindingKind.SUPERSEDED_OBJECT, left.superseded())
    report.add_left(FindingKind.ORPHAN, left.orphaned())
    report.add_left(FindingKind.ORPHAN_LOG, left.orphaned_logs())


def _compare_dimensions(rows: RegistryRows) -> Iterator[Finding]:
    for dimension, data_id, brought, found in rows.dimensions:
        key = f"{dimension} {canonical(data_id)}"
        yield Finding(FindingKind.DIMENSION_DIFFERS, None, key, brought, found or "no row")


def _recorded(
    rows: RegistryRows, listing: DeltaListing, archives: Collection[str]
) -> Iterator[Finding]:
    """What earlier merges recorded for a person to decide."""
    for side in rows.conflicts:
        yield Finding(
            FindingKind.SETTLED if side.is_settled else FindingKind.CONFLICT,
            side.attempt_id,
            f"{side.table_name} {side.conflict_key}",
            "one content",
            f"{'kept' if side.kept else 'not kept'}: {canonical(side.content)}",
        )
    for key in sorted(rows.quarantine.keys() - {*listing.strangers, *archives}):
        named = names.parse_delta_key(key)
        if named is not None and listing.find(named[1]) == key:
            continue
        kind = FindingKind.DROPPED if key in rows.dropped else FindingKind.QUARANTINED
        yield Finding(kind, None, key, "a good delta", ": ".join(rows.quarantine[key]))
    for dataset_id, key, n_times in rows.forgotten_inputs:
        read = f"read by {n_times} attempt{'s' * (n_times != 1)}"
        yield Finding(FindingKind.INPUT_FORGOTTEN, dataset_id, key, None, read)


def _notes(predicted: list[str], expected: ExpectedRows) -> Iterator[Finding]:
    for quantum_id in sorted(predicted):
        decisive = expected.quanta.get(quantum_id)
        if decisive is not None and not decisive.is_successful:
            yield Finding(FindingKind.UNFINISHED, quantum_id, None, "successful", decisive.status)
        elif quantum_id not in expected.tried:
            yield Finding(FindingKind.NOT_RUN, quantum_id)
