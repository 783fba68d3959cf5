# SPDX-License-Identifier: BSD-3-Clause
"""An attempt that is stopped, overtaken by a newer one, and goes on: the newer one counts."""

import shutil
import signal

import pytest

from registry.attempt import AttemptStatus
from registry.delta import Delta
from tests import dumps
from tests.chain_attempt import HaltedAttempt
from tests.chain_graph import quantum_id
from tests.local_graphs import RUN, GraphRun
from tests.run_outcome import (
    named_by_verify,
    other_attempts,
    registry_content,
    registry_merge,
    unnamed_objects,
)
from transfer_plugins.object_store import DirectoryObjectStore

OLD, NEW = {"WORD": "of the old attempt"}, {"WORD": "of the new attempt"}


def overtake(graph_run: GraphRun, step: str, is_by_uri: bool) -> HaltedAttempt:
    """Stop an attempt, and let a newer one and its consumer run to their ends."""
    zombie = HaltedAttempt(
        graph_run, step, is_by_uri=is_by_uri, settings={**OLD, "TELL_STOPS": "yes"}
    )
    zombie.started.send_signal(signal.SIGSTOP)
    graph_run.environment.update(NEW)
    report = graph_run.run("-j", "1")
    assert report.code == 0, report
    return zombie


def joins(graph_run: GraphRun) -> list[Delta]:
    """The deltas of the quantum that was attempted twice, oldest first."""
    found = [d for d in graph_run.deltas() if d.quantum_id == quantum_id("join")]
    return sorted(found, key=lambda delta: delta.attempt_id)


def keys_of(delta: Delta) -> set[str]:
    """Keys of the outputs of an attempt."""
    return {record.object_key for record in delta.rows.datastore_record}


@pytest.mark.parametrize(
    ("step", "is_by_uri"),
    [
        ("half of the inputs there", True),
        ("task running", True),
        ("outputs recorded", False),
        ("half uploaded", True),
        ("half uploaded", False),
        ("delta uploading", True),
        ("delta uploading", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "wrapper" if value else "runner",
)
def test_newer_attempt_counts_though_the_older_one_ends_last(
    chain_run: GraphRun, database: str, other_database: str, step: str, is_by_uri: bool
) -> None:
    zombie = overtake(chain_run, step, is_by_uri)
    before = chain_run.result()
    registry_merge("merge", database, chain_run.store, RUN)
    content = registry_content(database)
    code, stderr = zombie.go_on()
    assert code == 0, stderr
    old, new = joins(chain_run)
    assert (old.status, new.status) == (AttemptStatus.SUCCESSFUL,) * 2
    assert chain_run.counting()[old.quantum_id] == new
    assert chain_run.result() == before
    assert not any(b"old attempt" in text for text in chain_run.content("plot"))
    registry_merge("merge", database, chain_run.store, RUN)
    assert registry_content(database) == content
    assert other_attempts(database) == [("successful", True)]
    assert unnamed_objects(database, chain_run.store, RUN) == keys_of(old)
    assert named_by_verify(database, chain_run.store, RUN) == {"superseded": keys_of(old)}
    merge_oldest_first(chain_run, other_database, new)
    assert dumps.dump(other_database) == dumps.dump(database)


def merge_oldest_first(graph_run: GraphRun, address: str, newest: Delta) -> None:
    """Merge from a datastore that does not have the newest attempt yet, then from all."""
    earlier = graph_run.directory / "earlier"
    shutil.copytree(graph_run.directory / "store", earlier)
    for path in (earlier / RUN).rglob(f"*{newest.attempt_id}*"):
        path.unlink()
    registry_merge("merge", address, DirectoryObjectStore(earlier), RUN)
    assert ("join",) in dumps.rows(address, "SELECT task_label FROM quantum")
    registry_merge("merge", address, graph_run.store, RUN)


def test_attempt_stopped_after_its_delta_has_counted_already(chain_run: GraphRun) -> None:
    zombie = HaltedAttempt(chain_run, "delta uploaded", is_by_uri=True, settings=OLD)
    chain_run.environment.update(NEW)
    report = chain_run.run("-j", "1")
    assert report.code == 0, report
    code, stderr = zombie.go_on()
    assert (code, len(joins(chain_run))) == (0, 1), stderr
    (old,) = joins(chain_run)
    plot = chain_run.counting()[quantum_id("show")]
    assert {i.attempt_id for i in plot.inputs} == {old.attempt_id}
