# SPDX-License-Identifier: BSD-3-Clause
"""A merge that is told to stop drains; one that is killed goes on where it was."""

import json
import signal
import threading
from collections.abc import Iterator

import pytest

from merger.central_registry import CentralRegistry
from merger.exit_codes import ExitCode
from tests import factories
from tests.fix_merge import MergeSite
from tests.merge_process import MergeProcess
from tests.processes import wait_until
from tests.s3_proxy import Fault, S3Proxy
from transfer_plugins.object_store import open_store

N_DELTAS = 12


class SlowSite:
    """Deltas in an S3 server; those beyond the first few are handed out when a test says so."""

    def __init__(self, site: MergeSite, datastore: str, endpoint: str) -> None:
        self.site, self.datastore = site, datastore
        self.graph = factories.make_graph(N_DELTAS)
        self.store = open_store(datastore)
        factories.publish(self.store, self.graph)
        self.go_on = threading.Event()
        self.n_free = 4
        self.proxy = S3Proxy(endpoint, self._rule)
        for quantum in range(N_DELTAS):
            factories.put_delta(self.store, factories.make_delta(self.graph, quantum, quantum + 1))

    def _rule(self, method: str, key: str) -> Fault | None:
        if method == "GET" and key.endswith(".json") and "/deltas/" in key:
            self.n_free -= 1
            if self.n_free < 0:
                self.go_on.wait(60)
        return None

    def merge(self, *options: str, slow: bool = True) -> MergeProcess:
        """Start a merge with two deltas in a transaction, one after the other."""
        return MergeProcess(
            *("merge", self.datastore, self.graph.run, "--database", self.site.address),
            *("--batch-size", "2", "--threads", "1", "--json", *options),
            **({"AWS_ENDPOINT_URL": self.proxy.endpoint} if slow else {}),
            AWS_MAX_ATTEMPTS="3",
        )

    def n_merged(self) -> int:
        """Attempts in the ledger."""
        ((number,),) = self.site.rows("SELECT count(*) FROM merged_attempt")
        return int(number)

    def wait_until_slow(self) -> None:
        """Wait until a delta is asked for that is not handed out."""
        wait_until(lambda: self.n_free < 0, "it reads a delta that does not come")
        wait_until(lambda: self.n_merged() > 0, "the first batch is merged")


@pytest.fixture
def slow(
    site: MergeSite, datastore: str, s3_environment: dict[str, str], s3_endpoint: str
) -> Iterator[SlowSite]:
    """A site whose datastore gets stuck."""
    made = SlowSite(site, datastore, s3_endpoint)
    with made.proxy:
        yield made
        made.go_on.set()


def same_as_one_clean_merge(slow: SlowSite, address: str) -> bool:
    """Compare the registry with that of one undisturbed merge."""
    with CentralRegistry(address) as registry:
        alone = MergeSite(address, slow.store, registry, slow.graph)  # type: ignore[arg-type]
        alone.merge()
        return slow.site.dump() == alone.dump()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("options", [[], ["--follow", "--poll", "0.1"]], ids=["once", "follow"])
def test_it_finishes_what_it_has_begun(
    slow: SlowSite, other_database: str, number: signal.Signals, options: list[str]
) -> None:
    with slow.merge(*options) as merging:
        slow.wait_until_slow()
        merging.send(number)
        slow.go_on.set()
        report = merging.report()
    assert (report["exit_code"], report["stopped_by"]) == (128 + number, number.name)
    assert 0 < report["n_deltas_merged"] == slow.n_merged() < N_DELTAS
    assert slow.site.rows("SELECT count(*) FROM merge_lease") == [(0,)]
    with slow.merge(*options, slow=False) as merging:
        assert merging.report()["exit_code"] == ExitCode.OK
    assert same_as_one_clean_merge(slow, other_database)


def test_it_does_not_wait_for_what_does_not_come(slow: SlowSite, other_database: str) -> None:
    """A datastore that hangs keeps it for some seconds, not for minutes."""
    with slow.merge("--lease", "1") as merging:
        slow.wait_until_slow()
        merging.send(signal.SIGTERM)
        code, stdout, stderr = merging.end(timeout_s=30)
    assert (code, json.loads(stdout)["stopped_by"]) == (ExitCode.STOPPED, "SIGTERM")
    assert "ends in the middle of a pass" in stderr
    slow.go_on.set()
    with slow.merge("--lease", "1", slow=False) as merging:
        assert merging.report()["exit_code"] == ExitCode.OK
    assert same_as_one_clean_merge(slow, other_database)


def test_all_done_is_no_stop(slow: SlowSite) -> None:
    """The signal came during the last batch."""
    slow.n_free = N_DELTAS - 1
    with slow.merge() as merging:
        wait_until(lambda: slow.n_free < 0, "it reads the last delta")
        merging.send(signal.SIGTERM)
        slow.go_on.set()
        report = merging.report()
    assert (report["exit_code"], report["stopped_by"]) == (ExitCode.OK, None)
    assert slow.n_merged() == N_DELTAS


def test_second_signal_ends_at_once(slow: SlowSite, other_database: str) -> None:
    with slow.merge("--follow", "--lease", "1") as merging:
        slow.wait_until_slow()
        wait_until(lambda: _ends_by(merging, signal.SIGTERM), "a second signal ends it")
        assert merging.end()[0] == -signal.SIGTERM
    with slow.merge("--lease", "1", slow=False) as merging:
        assert merging.report()["exit_code"] == ExitCode.OK
    assert same_as_one_clean_merge(slow, other_database)


def _ends_by(merging: MergeProcess, number: signal.Signals) -> bool:
    """Send a signal once more; two that come at once are one."""
    merging.send(number)
    return merging.process.poll() is not None


def test_killed_and_started_again(slow: SlowSite, other_database: str) -> None:
    with slow.merge("--follow", "--lease", "1") as merging:
        slow.wait_until_slow()
        merging.send(signal.SIGKILL)
        assert merging.end()[0] == -signal.SIGKILL
    n_before = slow.n_merged()
    with slow.merge("--follow", "--poll", "0.1", "--lease", "1", slow=False) as merging:
        report = merging.report()
    assert report["n_deltas_merged"] == N_DELTAS - n_before
    assert report["n_quanta_merged"] == N_DELTAS
    assert same_as_one_clean_merge(slow, other_database)


def test_datastore_that_is_away_for_a_while(slow: SlowSite) -> None:
    """A follower waits for it; nothing is lost."""
    slow.proxy.rule = lambda method, key: Fault(503, "SlowDown") if "/deltas/" in key else None
    with slow.merge("--follow", "--poll", "0.1") as merging:
        merging.wait_for_message("waits for the datastore")
        slow.proxy.rule = lambda method, key: None
        assert merging.report()["n_deltas_merged"] == N_DELTAS
