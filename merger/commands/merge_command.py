# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge merge``."""

import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer

from merger.commands.options import (
    Config,
    Database,
    DryRun,
    Endpoint,
    Json,
    Names,
    OnConflict,
    Threads,
)
from merger.commands.session import (
    open_datastore,
    open_registry,
    policies_of,
    progress_bar,
    reported,
)
from merger.reading_start import start_ahead
from merger.settings import DEFAULT_BATCH_SIZE, SettingsError
from registry.errors import QuantumExecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from merger.central_registry import CentralRegistry
    from merger.commands.session import Report
    from merger.follow import Ending, Follower, Merged
    from merger.merge import MergeOptions
    from merger.progress import Progress
    from transfer_plugins.object_store import ObjectStore

Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress on standard error.")]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: registry-merge merge s3://bucket/survey u/night1 "
        "--database service=registry; while the graph runs: registry-merge merge "
        "s3://bucket/survey u/night1 --follow --dag-status node-status.txt"
    )(merge)


def merge(
    names: Names,
    database: Database = None,
    config: Config = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Merge while the graph runs, until no quantum can bring a delta any more.",
        ),
    ] = False,
    poll: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="SECONDS",
            help="With --follow: longest wait between two looks. (10 by default)",
        ),
    ] = None,
    dag_status: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="node-status.txt of the DAG: says what has failed for good, and what must have "
            "a delta (exit code 14 if it has none).",
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="With --follow and no DAG: a quantum has failed after more than N attempts. "
            "(0 by default)",
        ),
    ] = None,
    on_conflict: OnConflict = None,
    connections: Annotated[
        int | None, typer.Option(min=1, help="Connections to the database. (1 by default)")
    ] = None,
    lease: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="How long other mergers leave deltas to this one; renewed. (60 by default)",
        ),
    ] = None,
    remerge: Annotated[
        bool, typer.Option("--remerge", help="Also merge what was taken out by forget.")
    ] = False,
    output_chain: Annotated[
        str | None,
        typer.Option(
            metavar="CHAIN", help="Put the RUN first in this chain, once everything is merged."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help=f"Deltas in one transaction. ({DEFAULT_BATCH_SIZE} by default)"),
    ] = None,
    threads: Threads = None,
    endpoint_url: Endpoint = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Merge every delta of a RUN that was not merged before.

    May be repeated, killed, or run several times at once: the outcome is the same. SIGTERM lets it
    finish what it has begun (exit code 143). Exit code 10: conflicts were recorded; 11: bad deltas
    are in quarantine; 12: deltas of a newer format wait; 14: the DAG says that a quantum was
    successful, and there is no delta of it; 15: deltas were left because of conflicts.
    """
    with reported(as_json) as report:
        _check_options(follow=follow, poll=poll, retries=retries, dag_status=dag_status)
        if dry_run and (follow or dag_status or output_chain):
            option = "--follow" if follow else "--dag-status" if dag_status else "--output-chain"
            raise SettingsError(f"{option}: expected no --dry-run, which only looks at deltas once")
        store, run, read = open_datastore(names, config, endpoint_url)
        if not dry_run:
            start_ahead(store, run)

        from merger import dry_run as rehearsal
        from merger.dag_clusters import RunClusters
        from merger.dag_status import DagStatusFile
        from merger.follow import DEFAULT_POLL_S, Ending
        from merger.leases import DEFAULT_LEASE_S
        from merger.merge import MergeOptions

        options = MergeOptions(
            batch_size=batch_size or read.batch_size or DEFAULT_BATCH_SIZE,
            threads=threads or read.threads,
            connections=connections or read.connections or 1,
            lease_s=lease or DEFAULT_LEASE_S,
            policies=policies_of(on_conflict, read),
        )
        clusters = RunClusters(store, run)
        ending = Ending(DagStatusFile(dag_status, clusters) if dag_status else None, retries or 0)
        with (
            progress_bar(f"merge {run}", quiet=quiet) as progress,
            open_registry(database, config, progress.wait) as registry,
        ):
            if dry_run:
                found = rehearsal.rehearse(
                    *(registry, store, run),
                    threads=options.threads,
                    remerge=remerge,
                    progress=progress,
                )
            else:
                words = words_behind(database, config)
                show = partial(_show, report, store.uri, words)
                merging = _Merging(registry, store, run, options, ending, progress, show)
                poll_s = (poll or DEFAULT_POLL_S) if follow else None
                merged = merging.run_to_end(poll_s, remerge, output_chain or read.output_chain)
        if dry_run:
            report(
                rehearsal.dry_run_object(found),
                lambda console: rehearsal.show_dry_run(console, found),
            )
            raise typer.Exit(found.exit_code)
        show(merged)
        raise typer.Exit(merged.exit_code)


def _check_options(
    *, follow: bool, poll: float | None, retries: int | None, dag_status: Path | None
) -> None:
    """Refuse what would have no effect, and a file that cannot come to be there.

    Raises
    ------
    SettingsError
    """
    if not follow and (poll is not None or retries is not None):
        option = "--retries" if poll is None else "--poll"
        raise SettingsError(f"{option}: expected --follow, found a merge that looks once")
    if retries is not None and dag_status is not None:
        raise SettingsError("--retries: expected no --dag-status; DAGMan knows which are left")
    if dag_status is None:
        return
    found = None
    if dag_status.exists() and not dag_status.is_file():
        found = "something else"
    elif not follow and not dag_status.parent.is_dir():
        found = "no such directory"
    if found is not None:
        raise SettingsError(
            "--dag-status: expected the file that NODE_STATUS_FILE names in the DAG, found "
            f"{found}: {str(dag_status)!r}"
        )


def _show(report: "Report", datastore: str, words: list[str], merged: "Merged") -> None:
    from merger.failures import message_of
    from merger.merge_reports import merge_object, show_merge

    merged.datastore, merged.words = datastore, words
    report(merge_object(merged), lambda console: show_merge(console, merged))
    if merged.error is not None:
        print(f"registry-merge: {message_of(merged.error)}", file=sys.stderr)


class _Merging:
    """One merge as a command does it: signals, one pass or many, the chain in the end."""

    def __init__(
        self,
        registry: "CentralRegistry",
        store: "ObjectStore",
        run: str,
        options: "MergeOptions",
        ending: "Ending",
        progress: "Progress",
        show: "Callable[[Merged], None]",
    ) -> None:
        self._show = show
        self._registry, self._store, self._run = registry, store, run
        self._options, self._ending, self._progress = options, ending, progress

    def run_to_end(self, poll_s: float | None, remerge: bool, chain: str | None) -> "Merged":
        """Merge, following the graph if there is a time between two looks."""
        from merger.collection_chains import prepend_run
        from merger.follow import Follower
        from merger.forgetting import let_back
        from merger.merge import RunMerge
        from merger.stopping import StopRequest

        registry, store, progress = self._registry, self._store, self._progress
        with (
            StopRequest() as stop,
            RunMerge(registry, store, self._run, self._options, progress) as merge,
        ):
            ending = self._ending
            follower = Follower(
                *(registry, store, merge), ending=ending, stop=stop, progress=progress
            )
            stop.on_stop, stop.on_late = merge.stop, lambda: self._end_now(follower)
            if remerge:
                let_back(registry, self._run)
            merged = follower.merge_once() if poll_s is None else follower.follow(poll_s)
            if chain is not None and merged.stopped_by is None:
                try:
                    prepend_run(registry, chain, self._run)
                except (QuantumExecError, psycopg.Error) as error:
                    merged.error = error
            return merged

    def _end_now(self, follower: "Follower") -> None:
        """End the process: what it has begun does not end, and is as if it had not been begun."""
        merged = follower.so_far()
        self._progress.wait("ends in the middle of a pass, which does not come to its end")
        self._show(merged)
        sys.stdout.flush()
        os._exit(merged.exit_code)


def words_behind(database: str | None, config: Path | None) -> list[str]:
    """Return the options that lead another command to the same registry, as people type them."""
    words = [] if config is None else ["--config", shlex.quote(str(config))]
    if database is not None and database != os.environ.get("REGISTRY_MERGE_DATABASE"):
        words += ["--database", shlex.quote(database)]
    return words
