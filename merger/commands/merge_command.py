# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge merge``."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merger.commands.options import Config, Database, DryRun, Endpoint, Json, Names, Threads
from merger.commands.session import open_datastore, open_registry, progress_bar, reported
from merger.settings import DEFAULT_BATCH_SIZE

if TYPE_CHECKING:
    from merger.central_registry import CentralRegistry
    from merger.follow import Ending, Merged
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
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="With --follow and no DAG: a quantum has failed after more than N attempts.",
        ),
    ] = 0,
    on_conflict: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLICY",
            help="defer, keep, replace or fail; as DATASET_TYPE=POLICY or dimension:NAME=POLICY "
            "for one of them. May be given again. (defer by default)",
        ),
    ] = None,
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
    from merger import dry_run as rehearsal
    from merger.conflict_policy import parse
    from merger.dag_status import DagStatusFile
    from merger.follow import DEFAULT_POLL_S, Ending
    from merger.leases import DEFAULT_LEASE_S
    from merger.merge import MergeOptions
    from merger.merge_reports import merge_object, show_merge

    with reported(as_json) as report:
        store, run, read = open_datastore(names, config, endpoint_url)
        options = MergeOptions(
            batch_size=batch_size or read.batch_size or DEFAULT_BATCH_SIZE,
            threads=threads or read.threads,
            connections=connections or read.connections or 1,
            lease_s=lease or DEFAULT_LEASE_S,
            policies=parse(on_conflict or read.on_conflict or []),
        )
        ending = Ending(DagStatusFile(dag_status) if dag_status else None, retries)
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
                merging = _Merging(registry, store, run, options, ending, progress)
                poll_s = (poll or DEFAULT_POLL_S) if follow else None
                merged = merging.run_to_end(poll_s, remerge, output_chain or read.output_chain)
        if dry_run:
            report(
                rehearsal.dry_run_object(found),
                lambda console: rehearsal.show_dry_run(console, found),
            )
            raise typer.Exit(found.exit_code)
        merged.datastore, merged.words = store.uri, words_behind(database, config)
        report(merge_object(merged), lambda console: show_merge(console, merged))
        raise typer.Exit(merged.exit_code)


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
    ) -> None:
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
            stop.on_stop = merge.stop
            if remerge:
                let_back(registry, self._run)
            ending = self._ending
            follower = Follower(
                *(registry, store, merge), ending=ending, stop=stop, progress=progress
            )
            merged = follower.merge_once() if poll_s is None else follower.follow(poll_s)
            if chain is not None and merged.stopped_by is None:
                prepend_run(registry, chain, self._run)
            return merged


def words_behind(database: str | None, config: Path | None) -> list[str]:
    """Return the options that lead another command to the same registry, as people type them."""
    words = [] if config is None else ["--config", shlex.quote(str(config))]
    if database is not None and database != os.environ.get("REGISTRY_MERGE_DATABASE"):
        words += ["--database", shlex.quote(database)]
    return words
