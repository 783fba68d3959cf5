# SPDX-License-Identifier: BSD-3-Clause
"""Deltas that can be judged without the job: ids and keys follow from what the datasets are."""

from collections.abc import Iterable, Mapping

from registry import names
from registry.delta import Delta
from registry.graph_record import GraphRecord
from registry.model import DatasetType, derived_id


def agreed_types(records: Iterable[GraphRecord]) -> dict[str, DatasetType]:
    """Dataset types by name, without those of which two graphs say different things."""
    found: dict[str, DatasetType] = {}
    disputed: set[str] = set()
    for record in records:
        for kind in record.dataset_types:
            if found.setdefault(kind.name, kind) != kind:
                disputed.add(kind.name)
    return {name: kind for name, kind in found.items() if name not in disputed}


def has_derived_outputs(delta: Delta, kinds: Mapping[str, DatasetType]) -> bool:
    """Whether all datasets of a delta have the ids and keys that follow from type and data ID.

    If their ids are predicted, they then are the datasets that the graph means, at their paths: all
    that a job could tell of them. False says nothing; a graph may give ids of its own, as one from
    a Butler repository does.
    """
    keys = {record.dataset_id: record.object_key for record in delta.rows.datastore_record}
    for row in delta.rows.dataset:
        kind = kinds.get(row.dataset_type)
        if kind is None or row.data_id.keys() != set(kind.dimensions):
            return False
        if row.dataset_id != derived_id("dataset", delta.run, kind.name, row.data_id):
            return False
        data_id = {dimension: row.data_id[dimension] for dimension in kind.dimensions}
        path = names.dataset_path(delta.run, kind.name, data_id, kind.extension)
        key = names.dataset_key(path, kind.extension, delta.attempt_id)
        # A dataset that was not kept has no key.
        if keys.get(row.dataset_id, key) != key:
            return False
    return True
