# SPDX-License-Identifier: BSD-3-Clause
"""The reading process is killed, or the merge that started it: nothing half, nothing left."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from merger.delta_listing import list_deltas
from merger.findings import FindingKind
from merger.merge import MergeOptions, RunMerge
from merger.predictions import read_predictions
from merger.prepared import DeltaReader
from merger.reading_client import ReadingProcessError
from merger.writers import ReadingSilentError
from tests import factories
from tests.fix_merge import MergeSite
from tests.processes import has_ended, wait_until

N_QUANTA = 340
"""More than are read without a process."""


@pytest.fixture
def filled(site: MergeSite) -> MergeSite:
    site.graph = factories.make_graph(N_QUANTA, name="many")
    factories.publish(site.store, site.graph)
    for number in range(N_QUANTA):
        factories.put_delta(site.store, site.delta(number, number))
    return site


@contextmanager
def reading(site: MergeSite) -> Iterator[tuple[DeltaReader, list[str]]]:
    predictions = read_predictions(site.store, site.graph.run)
    with DeltaReader(site.store, predictions, few=-1) as reader:
        yield reader, list_deltas(site.store, site.graph.run).keys()


def kill(reader: DeltaReader) -> None:
    pid = reader.reading_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: reader.reading_pid != pid or has_ended(pid), "the reading process to end")


def test_killed_process_is_started_again(filled: MergeSite) -> None:
    with reading(filled) as (reader, keys):
        expected = [good.key for good in reader.load(keys)]
        for _ in range(2):
            waiting = [reader.prepare(keys) for _ in range(3)]
            waiting[0].result()
            kill(reader)
            assert [future.result().keys for future in waiting] == [expected] * 3


def test_process_that_is_killed_again_and_again(filled: MergeSite) -> None:
    with reading(filled) as (reader, keys):
        for _ in range(2):
            reader.prepare([]).result()
            kill(reader)
        reader.prepare([]).result()
        waiting = [reader.prepare(keys * 20) for _ in range(3)]
        kill(reader)
        with pytest.raises(ReadingProcessError, match=r"ended with SIGKILL, 3 times; .* again"):
            waiting[-1].result()
        with pytest.raises(ReadingProcessError, match="3 times"):
            reader.prepare(keys).result()


def start_merge(site: MergeSite) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "merger.cli", "merge", site.uri, site.graph.run]
    command += ["--database", site.address, "--batch-size", "20", "--lease", "2"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def reading_processes(parent: int) -> list[psutil.Process]:
    """Reading processes that a process has started."""
    found = []
    for child in psutil.Process(parent).children() if psutil.pid_exists(parent) else []:
        with suppress(psutil.Error):  # it has ended, or nobody has waited for it yet
            if "merger.reading_process" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_for_reading(merge: "subprocess.Popen[str]") -> psutil.Process:
    wait_until(
        lambda: reading_processes(merge.pid) or merge.poll() is not None, "the reading process"
    )
    (child,) = reading_processes(merge.pid)
    return child


@pytest.mark.parametrize("victim", ["merge", "reading"])
def test_killed_in_mid_flight(filled: MergeSite, victim: str) -> None:
    merge = start_merge(filled)
    child = wait_for_reading(merge)
    os.kill(merge.pid if victim == "merge" else child.pid, signal.SIGKILL)
    _, errors = merge.communicate(timeout=60)
    wait_until(lambda: has_ended(child.pid), "the reading process to end")
    assert "Traceback" not in errors
    assert merge.returncode == (-signal.SIGKILL if victim == "merge" else 0)
    filled.merge()
    assert filled.rows("SELECT count(*) FROM merged_attempt") == [(N_QUANTA,)]
    assert filled.rows("SELECT count(*) FROM dataset") == [(2 * N_QUANTA,)]
    # Only deltas were written, and not what they name.
    assert {found.kind for found in filled.differences()} == {FindingKind.OBJECT_MISSING}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_group(filled: MergeSite, number: signal.Signals) -> None:
    merge = start_merge(filled)
    child = wait_for_reading(merge)
    os.killpg(merge.pid, number)
    _, errors = merge.communicate(timeout=60)
    wait_until(lambda: has_ended(child.pid), "the reading process to end")
    assert "merger/reading_process.py" not in errors


def stop_reading(stopped: list[psutil.Process]) -> None:
    """Stop the reading process while it starts, from outside."""
    wait_until(lambda: reading_processes(os.getpid()), "the reading process")
    stopped += reading_processes(os.getpid())
    stopped[0].suspend()


def test_process_that_is_stopped_is_not_waited_for_without_end(filled: MergeSite) -> None:
    stopped: list[psutil.Process] = []
    stopper = threading.Thread(target=stop_reading, args=(stopped,))
    stopper.start()
    options = MergeOptions(batch_size=N_QUANTA // 2, silent_s=2.0)
    with RunMerge(filled.registry, filled.store, filled.graph.run, options) as merge:
        with pytest.raises(ReadingSilentError, match="no progress for 2 s; the datastore hangs"):
            merge.merge_pass()
        stopper.join()
        assert has_ended(stopped[0].pid)
        assert filled.rows("SELECT count(*) FROM merge_lease") == [(0,)]
        n_before = filled.rows("SELECT count(*) FROM merged_attempt")[0][0]
        assert merge.merge_pass().counts.n_deltas == N_QUANTA - n_before
