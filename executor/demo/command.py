# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec demo``: the whole path of a small survey, every part started and stopped here."""

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from executor.demo.graph import write_graph
from executor.demo.report import agreement_lines
from executor.demo.services import CommandFailedError, postgres_server, registry_merge, s3_server
from executor.demo.survey import make_survey
from executor.graph.graph_file import read_graph
from executor.submit import progress
from executor.submit.local_runner import LocalRun, run_locally
from executor.submit.plan import Plan, plan_of_graph
from executor.submit.publish import publish_graph
from transfer_plugins.object_store import ObjectStore, open_store

_KEPT = {
    "mosaic_png": "m13.png",
    "comparison_png": "m13-and-original.png",
    "catalog": "catalog.fits",
    "comparison": "comparison.json",
}
"""Datasets that are fetched for people to look at, and their names."""


def run_demo(output: Path, jobs: int, console: Console) -> dict[str, Any]:
    """Make a survey, run its pipeline, merge, verify, and fetch the results.

    Parameters
    ----------
    output
        Directory for graph file, picture, catalogue and comparison; made if need be.
    jobs
        Quanta under way at once.

    Returns
    -------
    dict
        What was done, for ``--json``: per task label, merge and verify reports, seconds.

    Raises
    ------
    CommandFailedError
        If a quantum, the merge or verify failed.
    """
    output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with s3_server() as (datastore, settings), postgres_server() as database:
        store = open_store(datastore)
        graph_path = output / "graph.yaml"
        write_graph(make_survey(store), graph_path)
        graph = read_graph(graph_path)
        console.print(
            f"survey of M13: {len(graph.quanta)} quanta, datastore {datastore} at "
            f"{settings['AWS_ENDPOINT_URL']}, PostgreSQL embedded"
        )
        publish_graph(graph, store)
        plan = plan_of_graph(graph, store)
        run = _run(plan, store, jobs, console)
        merged = _merge(datastore, graph.run, database, settings)
        kept = {name: _fetch(run, store, name, output / path) for name, path in _KEPT.items()}
    comparison = json.loads(kept["comparison"].read_text())
    _tell(console, merged, kept, comparison, time.monotonic() - began)
    return {
        "run": graph.run,
        "tasks": [summary.as_dict() for summary in progress.summarize(plan, run)],
        **merged,
        "comparison": comparison,
        "files": {name: str(path) for name, path in kept.items()},
        "wall_s": round(time.monotonic() - began, 3),
    }


def _run(plan: Plan, store: ObjectStore, jobs: int, console: Console) -> LocalRun:
    with progress.progress_bar(console, "quanta", len(plan.quanta)) as bar:
        run = run_locally(
            plan, store, jobs=jobs, on_end=lambda quantum_id, end: bar.advance(bar.task_ids[0])
        )
    console.print(progress.task_table(progress.summarize(plan, run)))
    if run.failed() or run.blocked:
        lines = "\n".join(progress.failure_lines(plan, run))
        raise CommandFailedError(f"expected all quanta to succeed, found\n{lines}")
    return run


def _merge(datastore: str, run: str, database: str, settings: dict[str, str]) -> dict[str, Any]:
    def report(*words: str) -> Any:
        return json.loads(registry_merge(*words, "--json", database=database, settings=settings))

    report("init")
    return {
        "merge": report("merge", datastore, run),
        "verify": report("verify", datastore, run, "--checksums"),
    }


def _fetch(run: LocalRun, store: ObjectStore, dataset_type: str, path: Path) -> Path:
    """Fetch the only dataset of a type, by the delta that names it."""
    for delta in run.deltas().values():
        wanted = {r.dataset_id for r in delta.rows.dataset if r.dataset_type == dataset_type}
        for record in delta.rows.datastore_record:
            if record.dataset_id in wanted:
                store.download(record.object_key, path, checksum=record.checksum)
                return path
    raise CommandFailedError(f"expected a dataset of type {dataset_type!r}, found none")


def _tell(
    console: Console,
    merged: dict[str, Any],
    kept: dict[str, Path],
    comparison: dict[str, float],
    wall_s: float,
) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    merge, verify = merged["merge"], merged["verify"]
    say(
        f"merged: {merge['n_deltas_merged']} deltas, {merge['n_datasets_merged']} datasets, "
        f"{merge['n_conflicts']} conflicts, {merge['n_quarantined']} in quarantine"
    )
    say(
        f"verify: {'equal' if verify['n_differences'] == 0 else 'NOT equal'}: registry "
        f"({verify['n_datasets']} datasets), deltas ({verify['n_deltas']}) and bucket "
        f"({verify['n_objects']} objects)"
    )
    for line in agreement_lines(comparison):
        say(line)
    say(f"coadd: {kept['mosaic_png']} (beside the original: {kept['comparison_png']})")
    say(f"catalogue: {kept['catalog']}")
    say(f"{wall_s:.1f} s")
