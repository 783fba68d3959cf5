# SPDX-License-Identifier: BSD-3-Clause
"""A RUN of gated tasks on a pool, steered and looked at."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.submit.bucket_run import read_bucket_run
from registry import names
from tests.fix_pool import Ad
from tests.pool.gated_tasks import N_AT_ONCE, N_QUANTA, N_WAITING, write_gated_tasks
from tests.pool.submission import Site
from transfer_plugins.object_store import open_store


@dataclass
class GatedRun:
    """A RUN whose first quanta wait; ``cluster`` is that of its newest DAG."""

    site: Site
    run: str
    cluster: int = 0

    @property
    def gate(self) -> Path:
        """The file that lets them end."""
        return self.site.directory / "gate"

    def order(self, *words: str, code: int = 0) -> dict[str, Any]:
        """One of the steering commands, with its report, as JSON."""
        done = self.site.command(*self._words(*words, "--json"), codes=(code,))
        found: dict[str, Any] = json.loads(done.stdout)
        self.cluster = found.get("cluster") or self.cluster
        return found

    def refused(self, *words: str, code: int) -> str:
        """One that is refused with an exit code; returns what it says."""
        return self.site.command(*self._words(*words), codes=(code,)).stderr

    def _words(self, command: str, *options: str) -> tuple[str | Path, ...]:
        where: tuple[str | Path, ...] = ("--datastore", self.site.datastore)
        if command == "restart":
            where = (*where, "--config", "submit.yaml")
        return "quantum-exec", command, self.run, *options, *where

    def submit(self) -> None:
        """Submit and come back when as many jobs run as can."""
        graph = write_gated_tasks(self.site.directory / "graph.yaml", self.gate, self.run)
        where = ("--datastore", self.site.datastore, "--config", "submit.yaml", "--json")
        done = self.site.command("quantum-exec", "submit", graph, *where)
        self.cluster = int(json.loads(done.stdout)["cluster"])
        self.wait_until_full()

    def wait_until_full(self, running: int = N_AT_ONCE, idle: int = N_WAITING - N_AT_ONCE) -> None:
        """Wait until as many jobs run as can, and every other one is in the queue."""
        self.site.pool.wait_until(
            lambda: (len(self.jobs(2)), len(self.jobs(1))) == (running, idle), timeout_s=60
        )

    def wait_until_left(self, n_running: int) -> int:
        """Wait until all that is left runs, or waits for what runs; returns how many are done."""
        quanta = read_bucket_run(open_store(self.site.datastore), self.run).quanta.values()

        def n_done() -> int:
            running = {str(job["QuantumExecQuantumId"]) for job in self.jobs(2)}
            waiting = sum(not running.isdisjoint(quantum.parents) for quantum in quanta)
            n_done = self.n_deltas()
            is_left = n_done + len(running) + waiting == N_QUANTA
            return n_done if is_left and len(running) == n_running else 0

        return self.site.pool.wait_until(n_done, timeout_s=60)

    def jobs(self, status: int) -> list[Ad]:
        """Jobs of the DAG's quanta with a status."""
        return self.site.pool.queue(
            f"DAGManJobId == {self.cluster} && JobUniverse == 5 && JobStatus == {status}"
        )

    def n_deltas(self) -> int:
        """How many attempts are on record in the datastore."""
        prefix = names.delta_prefix(self.run)
        return sum(1 for _ in open_store(self.site.datastore).list_objects(prefix))

    def n_successful(self) -> int:
        """How many quanta succeeded, as the central registry has it."""
        [[found]] = self.site.psql("SELECT count(*) FROM attempt WHERE status = 'successful'")
        return int(found)

    def check_exact(self) -> None:
        """Every quantum succeeded in exactly one attempt, and the registry is right."""
        found = self.site.psql(
            "SELECT count(DISTINCT quantum_id), count(*) FROM attempt JOIN quantum q USING"
            f" (quantum_id) WHERE q.run = '{self.run}' AND attempt.status = 'successful'"
        )
        assert found == [[str(N_QUANTA), str(N_QUANTA)]]
        self.site.verify(self.run)

    def remove_dagman_alone(self) -> None:
        """Remove the DAGMan job in such a way that its jobs stay."""
        cluster, pool = str(self.cluster), self.site.pool
        pool.tool("condor_hold", cluster)
        pool.tool("condor_qedit", cluster, "OtherJobRemoveRequirements", "False")
        pool.tool("condor_rm", cluster)
        pool.wait_until(lambda: not pool.queue(f"ClusterId == {cluster}"), timeout_s=30)
