# SPDX-License-Identifier: BSD-3-Clause
"""What a RUN came to, in registry and bucket, apart from which attempts it took."""

import json
from typing import Any

from typer.testing import CliRunner

from merger.cli import app
from registry import names
from registry.attempt import short_attempt
from tests import dumps
from transfer_plugins.object_store import ObjectStore

Content = dict[str, list[tuple[Any, ...]]]

# Every table, with the ids of attempts replaced by what must be true of them.
_STATEMENTS = {
    "run": "SELECT run FROM run",
    "dataset_type": "SELECT dataset_type, dimensions, storage_class FROM dataset_type",
    "dimension_record": "SELECT dimension, data_id, record FROM dimension_record",
    "dataset": """SELECT d.dataset_id, d.run, d.dataset_type, d.data_id, d.quantum_id,
        d.attempt_id IS NOT DISTINCT FROM q.attempt_id FROM dataset d LEFT JOIN quantum q
        USING (quantum_id)""",
    "datastore_record": """SELECT r.dataset_id, r.object_key, d.attempt_id, r.size_bytes,
        r.checksum, r.storage_class FROM datastore_record r JOIN dataset d USING (dataset_id)""",
    "quantum": "SELECT quantum_id, run, graph_id, task_label, data_id, status FROM quantum",
    "attempt": """SELECT a.quantum_id, a.status, a.superseded, a.no_work, a.exit_code, a.signal,
        a.error FROM attempt a JOIN quantum q USING (attempt_id)""",
    "metric": """SELECT q.quantum_id, m.name, m.value FROM metric m
        JOIN quantum q USING (attempt_id)""",
    "quantum_input": """SELECT q.quantum_id, i.dataset_id, i.size_bytes, i.checksum,
        i.input_attempt_id IS NOT DISTINCT FROM d.attempt_id FROM quantum_input i
        JOIN quantum q USING (attempt_id) LEFT JOIN dataset d USING (dataset_id)""",
    "dimension_source": """SELECT q.quantum_id, s.dimension, s.data_id, s.record
        FROM dimension_source s JOIN quantum q USING (attempt_id)""",
    "merged_attempt": """SELECT m.run, m.quantum_id FROM merged_attempt m
        JOIN quantum q USING (attempt_id)""",
    "merge_conflict": "SELECT * FROM merge_conflict",
    "quarantine": "SELECT * FROM quarantine",
}


def registry_content(address: str) -> Content:
    """Return the rows that must not depend on how often a quantum was tried."""
    content = {}
    for table, statement in _STATEMENTS.items():
        rows = dumps.rows(address, statement)
        if table == "datastore_record":
            rows = [(row[0], _without_attempt(row[1], row[2]), *row[3:]) for row in rows]
        content[table] = sorted(rows, key=repr)
    return content


def _without_attempt(key: str, attempt_id: object) -> str:
    short = short_attempt(str(attempt_id))
    assert short in key, f"key {key!r} is not that of attempt {attempt_id}"
    return key.replace(short, "*")


def other_attempts(address: str) -> list[tuple[str, bool]]:
    """Status, and whether superseded, of the attempts that do not count."""
    statement = """SELECT status, superseded FROM attempt WHERE attempt_id NOT IN
        (SELECT attempt_id FROM quantum)"""
    return dumps.rows(address, statement)


def unnamed_objects(address: str, store: ObjectStore, run: str) -> set[str]:
    """Keys of the datasets, logs and deltas in the bucket that the registry does not name."""
    statement = """SELECT object_key FROM datastore_record UNION ALL SELECT log_key FROM attempt
        UNION ALL SELECT %s || quantum_id || '.' || attempt_id || '.json' FROM merged_attempt"""
    named = {key for (key,) in dumps.rows(address, statement, names.delta_prefix(run))}
    listed = {stored.key for stored in store.list_objects(f"{run}/")}
    published = (names.graph_prefix(run), names.job_prefix(run))
    return {key for key in listed - named if not key.startswith(published)}


def registry_merge(command: str, address: str, store: ObjectStore, run: str) -> dict[str, Any]:
    """Run ``registry-merge merge`` or ``verify`` in this process; returns its JSON object."""
    words = [command, store.uri, run, "--database", address, "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def named_by_verify(address: str, store: ObjectStore, run: str) -> dict[str, set[str]]:
    """Keys that ``verify`` says were left, by kind; it must find no difference."""
    report = registry_merge("verify", address, store, run)
    assert report["n_differences"] == 0
    found = {kind: {left["key"] for left in report[kind]} for kind in ("superseded", "orphaned")}
    return {kind: keys for kind, keys in found.items() if keys}
