# SPDX-License-Identifier: BSD-3-Clause
"""``submit --dry-run``: every file that would be written, into a directory, and a report.

Nothing is asked of the bucket, so no quantum counts as done. Cluster files, which would go into the
bucket, are written beside the DAG; job files are only counted.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.submit.arrangement import Arrangement, requests_by_label
from executor.submit.checks import Finding
from executor.submit.configuration_error import ConfigurationError
from executor.submit.dag import InitJob, write_dag
from executor.submit.requests import Requests
from registry.job import ResourceRequest
from registry.quantum_cluster import write_quantum_cluster

_SHOWN = {
    "request_memory": "memory (MiB)",
    "request_memory_max": "at most (MiB)",
    "request_cpus": "CPUs",
    "request_disk": "disk (MiB)",
    "request_walltime": "time (s)",
    "number_of_retries": "retries",
}


@dataclass(frozen=True)
class DryRun:
    """What a submission would have written and queued."""

    run: str
    directory: Path
    n_quanta: int
    jobs: Mapping[str, int]
    requests: Mapping[str, Requests]
    n_files: int
    n_bytes: int
    n_clusters: int
    findings: list[Finding]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        labels = {
            label: {
                "n_jobs": n_jobs,
                **{name: getattr(self.requests[label], name) for name in _SHOWN},
            }
            for label, n_jobs in self.jobs.items()
        }
        return {
            "run": self.run,
            "directory": str(self.directory),
            "n_jobs": sum(self.jobs.values()),
            "n_quanta": self.n_quanta,
            "n_files": self.n_files,
            "n_bytes": self.n_bytes,
            "n_objects": self.n_quanta + self.n_clusters + 2,
            "labels": labels,
            "errors": [f.message for f in self.findings if f.is_error],
            "warnings": [f.message for f in self.findings if not f.is_error],
        }

    def lines(self) -> Iterator[str]:
        """For people, beside the table."""
        yield (
            f"RUN {self.run}: {self.n_quanta} quanta in {sum(self.jobs.values())} jobs; nothing "
            "was queued, nothing written into the bucket"
        )
        yield f"would write {self.n_quanta} job files and {self.n_clusters} cluster files into it"
        yield f"{self.n_files} files, {self.n_bytes / 1e6:.1f} MB: {self.directory}"
        for finding in self.findings:
            yield f"{'error' if finding.is_error else 'warning'}: {finding.message}"

    def table(self) -> Any:
        """Requests by label, for `rich`."""
        from rich.table import Table

        table = Table()
        table.add_column("label", no_wrap=True)
        for title in ("jobs", *_SHOWN.values()):
            table.add_column(title, justify="right")
        for label, n_jobs in self.jobs.items():
            values = (getattr(self.requests[label], name) for name in _SHOWN)
            shown = ("-" if value is None else f"{value}" for value in values)
            table.add_row(label, str(n_jobs), *shown)
        return table


def write_dry_run(
    arrangement: Arrangement,
    datastore: str,
    resources: Mapping[str, ResourceRequest],
    output: Path | None,
    findings: list[Finding],
    init: InitJob | None = None,
) -> DryRun:
    """Write all files of a submission into an empty directory, or one of its own.

    Parameters
    ----------
    init
        The init job; one that is to be run, if it is not given.

    Raises
    ------
    ConfigurationError
        If the directory is not empty, or something cannot stand in a submit file.
    """
    directory = _empty_directory(output)
    configuration, nodes = arrangement.configuration, arrangement.nodes
    plan, place = arrangement.plan, datastore.rstrip("/")
    run, first = plan.run, next(iter(plan.quanta), None)
    if init is None and first is not None:
        init = InitJob(plan.graph_id_of(first))
    write_dag(directory, nodes, run, place, configuration, resources=resources, init=init)
    if arrangement.clusters:
        (directory / "clusters").mkdir()
    for cluster in arrangement.clusters:
        path = directory / "clusters" / f"{cluster.cluster_id}.json"
        path.write_bytes(write_quantum_cluster(cluster))
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    return DryRun(
        run,
        directory,
        len(arrangement.plan.quanta),
        dict(Counter(node.label for node in nodes)),
        requests_by_label(arrangement, resources),
        len(sizes),
        sum(sizes),
        len(arrangement.clusters),
        findings,
    )


def _empty_directory(output: Path | None) -> Path:
    if output is None:
        return Path(tempfile.mkdtemp(prefix="quantum-exec-dry-run-"))
    try:
        output.mkdir(parents=True, exist_ok=True)
        is_empty = next(output.iterdir(), None) is None
    except OSError as error:
        raise ConfigurationError(f"--output: expected a directory to write in: {error}") from error
    if not is_empty:
        raise ConfigurationError(f"--output: expected an empty directory, found files in {output}")
    return output.resolve()
