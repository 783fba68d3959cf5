# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec rerun``: quanta of a RUN again, here or on the pool, beside or in place of what
they made before.
"""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from executor.command_options import (
    ConfigOption,
    DataIdsOption,
    DatastoreOption,
    EndpointOption,
    JsonOption,
    QuantaOption,
    TasksOption,
    WaitOption,
)

if TYPE_CHECKING:
    from executor.submit.bucket_run import BucketRun
    from executor.submit.configuration import SubmitConfiguration
    from executor.submit.rerun import JobOf, Rerun, Wanted
    from executor.submit.rerun_report import RerunReport


@dataclass(frozen=True)
class _Options:
    """How the quanta are to be run."""

    datastore: str
    configuration: "SubmitConfiguration"
    into: str | None
    compares: bool
    replaces: bool
    is_dry: bool
    on_pool: bool
    ignore_slots: bool
    wait: bool
    jobs: int
    scratch: Path | None
    graph: Path | None


def rerun(
    run: Annotated[str, typer.Argument(help="RUN of the quanta")],
    datastore: DatastoreOption,
    quantum: QuantaOption = None,
    data_id: DataIdsOption = None,
    task: TasksOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="only quanta that were tried without success")
    ] = False,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="and all quanta that depend on these")
    ] = False,
    graph: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="graph file with the mended task; default: as published"),
    ] = None,
    into: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--into", help="scratch RUN: also successful quanta, inputs as they were"),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="say which outputs differ (in a scratch RUN)")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="also successful quanta; the new attempts count")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be run, write nothing")
    ] = False,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="quanta at once")] = (
        os.cpu_count() or 1
    ),
    scratch: Annotated[Optional[Path], typer.Option(help="directory for sandboxes")] = None,  # noqa: UP045
    pool: Annotated[
        bool, typer.Option("--pool", help="on the HTCondor pool, not on this machine")
    ] = False,
    config: ConfigOption = None,
    ignore_slots: Annotated[
        bool,
        typer.Option("--ignore-slots", help="queue also what no slot of the pool can run now"),
    ] = False,
    wait: WaitOption = False,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run quanta of a RUN again, from what is in the datastore.

    Several criteria narrow the selection, several values of one widen it. Quanta that were
    successful are run with --into, --compare or --replace only.

    Exit code: that of the quantum, or 1 if one of several failed; with --pool 2 if the pool can
    never run it, 33 if a DAG of the RUN is queued; 40 if --compare found differences.

    Example: quantum-exec rerun u/me/night1 --failed --downstream --datastore s3://bucket/repo
    """
    from rich.console import Console

    from executor.graph.selection import Selection
    from executor.submit.configuration import read_submit_configuration
    from executor.submit.progress import error_console
    from executor.submit.rerun import Wanted

    if not (quantum or data_id or task or failed):
        raise typer.BadParameter("expected --quantum, --data-id, --task or --failed, found none")
    if replace and (into or compare):
        raise typer.BadParameter("expected --replace, or --into and --compare, found both")
    if compare and pool and not wait:
        raise typer.BadParameter("expected --wait with --compare and --pool, found none")
    selection = Selection.of(quantum or (), task or (), data_id or ())
    options = _Options(
        datastore,
        read_submit_configuration(config).with_endpoint(endpoint_url),
        into or (_default_scratch_run(run) if compare else None),
        *(compare, replace, dry_run, pool, ignore_slots, wait, jobs, scratch, graph),
    )
    report = _rerun(run, Wanted(selection, failed, downstream), options)
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        report.tell(Console(), error_console())
    raise typer.Exit(report.exit_code)


def _default_scratch_run(run: str) -> str:
    from executor.submit.scratch_run import default_scratch_run

    return default_scratch_run(run)


def _rerun(run: str, wanted: "Wanted", options: _Options) -> "RerunReport":
    """Select, plan, publish, run, and look at what came of it."""
    from executor.graph.graph_file import read_graph
    from executor.submit.bucket_run import read_bucket_run
    from executor.submit.dag import control_url_prefix
    from executor.submit.pool_queue import refuse_queued
    from executor.submit.rerun import job_source, select
    from executor.submit.rerun_report import RerunReport
    from transfer_plugins.object_store import open_store

    mended = None if options.graph is None else read_graph(options.graph, run=run)
    endpoint_url = options.configuration.s3_endpoint_url or None
    store = open_store(options.datastore, endpoint_url=endpoint_url)
    bucket = read_bucket_run(store, run)
    job_of = job_source(bucket, mended)
    planned = _plan(bucket, select(bucket, wanted), job_of, options)
    report = RerunReport(run, planned, is_dry=options.is_dry)
    if options.on_pool:
        control_url_prefix(options.datastore, planned.plan.run)
        if not options.is_dry:
            refuse_queued(planned.plan.run, options.datastore)
        if planned.plan.quanta:
            _check_pool(bucket, planned, job_of, options)
    if not options.is_dry and planned.plan.quanta:
        report.rerun = _publish(bucket, planned, job_of, options)
        (_run_on_pool if options.on_pool else _run_here)(bucket, report, options)
    _look(bucket, report, options)
    return report


def _plan(
    bucket: "BucketRun", quantum_ids: list[str], job_of: "JobOf", options: _Options
) -> "Rerun":
    from executor.submit.replacement import plan_replacement
    from executor.submit.rerun import plan_unsuccessful
    from executor.submit.scratch_run import plan_scratch

    if options.into is not None:
        return plan_scratch(bucket, quantum_ids, options.into, job_of)
    if options.replaces:
        return plan_replacement(bucket, quantum_ids, job_of)
    return plan_unsuccessful(bucket, quantum_ids, job_of)


def _publish(bucket: "BucketRun", planned: "Rerun", job_of: "JobOf", options: _Options) -> "Rerun":
    from executor.submit.replacement import begin_replacement
    from executor.submit.rerun import publish_jobs
    from executor.submit.scratch_run import publish_scratch

    if options.into is not None:
        return publish_scratch(bucket, planned, job_of)
    if options.replaces:
        begin_replacement(bucket.store, planned)
    if options.replaces or options.graph is not None:
        publish_jobs(bucket.store, planned.plan)
    elif planned.again:
        publish_jobs(bucket.store, planned.plan, planned.again)
    return planned


def _run_here(bucket: "BucketRun", report: "RerunReport", options: _Options) -> None:
    from executor.submit.local_runner import run_locally
    from executor.submit.progress import error_console, progress_bar

    plan = report.rerun.plan
    python_path = Path.cwd() if options.graph is None else options.graph.parent.resolve()
    with progress_bar(error_console(), plan.run, len(plan.quanta)) as bar:
        report.local = run_locally(
            plan,
            bucket.store,
            jobs=options.jobs,
            replaced=report.rerun.replaced,
            scratch=options.scratch,
            python_path=python_path,
            on_end=lambda quantum_id, end: bar.advance(bar.task_ids[0]),
        )
    report.deltas = report.local.deltas()


def _check_pool(bucket: "BucketRun", planned: "Rerun", job_of: "JobOf", options: _Options) -> None:
    from executor.submit.pool_checks import check_rerun

    is_dry, is_elastic = options.is_dry, options.ignore_slots
    asked = (bucket, planned, job_of, options.configuration)
    for warning in check_rerun(*asked, is_dry=is_dry, is_elastic=is_elastic):
        print(f"warning: {warning}", file=sys.stderr)


def _run_on_pool(bucket: "BucketRun", report: "RerunReport", options: _Options) -> None:
    from executor.submit.arrangement import arrange
    from executor.submit.dag_report import resources_of, submit_arrangement
    from executor.submit.earlier_memory import earlier_memory, with_earlier_memory
    from executor.submit.pool_slots import suited_to_pool
    from executor.submit.standings import counting_deltas

    plan, replaced = report.rerun.plan, report.rerun.replaced
    counting = counting_deltas(bucket.store, plan.run, plan.quanta, plan.rule_of)
    done = {q: d for q, d in counting.items() if d.attempt_id > replaced.get(q, "")}
    resources = resources_of(plan, done)
    # In a scratch RUN the quanta have other ids, and no earlier attempts.
    tried = [] if report.rerun.originals else [q for q in plan.quanta if q not in done]
    earlier = earlier_memory(bucket, tried, options.configuration)
    found = arrange(plan, done, options.configuration, resources)
    found, _ = suited_to_pool(found, resources, is_elastic=options.ignore_slots)
    nodes = with_earlier_memory(found.nodes, earlier, found.configuration, resources)
    report.dag = submit_arrangement(
        *(dataclasses.replace(found, nodes=nodes), bucket.store, options.datastore, resources),
        wait=options.wait,
    )
    if options.wait:
        report.deltas = counting_deltas(bucket.store, plan.run, plan.quanta, plan.rule_of)


def _look(bucket: "BucketRun", report: "RerunReport", options: _Options) -> None:
    """Compare what is to be compared; find who read what is replaced now, or would be."""
    from executor.submit.bucket_run import read_bucket_run
    from executor.submit.output_comparison import compare_outputs
    from executor.submit.replacement import consumers, end_replacement
    from registry.attempt import AttemptStatus

    if options.compares and not options.is_dry:
        report.compared = []
        standings = bucket.standings(report.rerun.originals.values())
        for quantum_id, original in report.rerun.originals.items():
            new = report.deltas.get(quantum_id)
            if new is not None and new.status is AttemptStatus.SUCCESSFUL:
                old = standings[original].counting
                report.compared += compare_outputs(bucket.store, old, new)
    if options.replaces:
        kept = report.not_replaced()
        replaced = {q: a for q, a in report.rerun.replaced.items() if q not in kept}
        report.consumers = consumers(read_bucket_run(bucket.store, bucket.run), replaced)
        if report.is_finished and not report.exit_code:
            end_replacement(bucket.store, report.rerun)
