# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge quarantine``: bad deltas and what becomes of them."""

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from merger.commands.options import (
    Config,
    Database,
    DryRun,
    Endpoint,
    Json,
    Names,
    OnConflict,
    Run,
    Threads,
    quantum_id,
)
from merger.commands.session import (
    open_datastore,
    open_registry,
    policies_of,
    progress_bar,
    reported,
)
from merger.exit_codes import ExitCode, lowest

if TYPE_CHECKING:
    from rich.console import Console

    from merger.quarantine import Quarantined
    from merger.quarantine_retry import Retried

_SHOWN = 200
"""Deltas that are listed; ``--json`` has all."""

quarantine = typer.Typer(
    help="List bad deltas with their reasons, look at them again, or give them up.",
    no_args_is_help=True,
)

Reasons = Annotated[
    list[str] | None,
    typer.Option(
        "--reason", metavar="REASON", help="Only deltas with this reason; may be given again."
    ),
]

Keys = Annotated[
    list[str] | None, typer.Option("--key", help="One delta, by its key; may be given again.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(quarantine, name="quarantine")


@quarantine.command("list", epilog="Example: registry-merge quarantine list u/night1")
def list_(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Only this RUN.")] = None,
    key: Keys = None,
    reason: Reasons = None,
    database: Database = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the deltas in quarantine; exit code 0 whether there are any or not.

    Each merge looks at them again, so a delta that is mended, or whose graph is published, leaves
    by itself. Those that were given up stay and are not looked at.
    """
    from merger.quarantine import list_quarantine
    from merger.quarantine_retry import Selection

    with reported(as_json) as report, open_registry(database, config) as registry:
        found = Selection(key or (), reason or ()).of(list_quarantine(registry, run))
        report(
            {
                "exit_code": int(ExitCode.OK),
                "n_quarantined": sum(not one.dropped for one in found),
                "n_dropped": sum(one.dropped for one in found),
                "quarantined": [dataclasses.asdict(one) for one in found],
            },
            lambda console: _show_list(console, found),
        )


@quarantine.command(
    epilog="Example: registry-merge quarantine retry s3://bucket/survey u/night1 --reason checksum"
)
def retry(
    names: Names,
    key: Keys = None,
    reason: Reasons = None,
    quantum: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Only deltas of this quantum; may be given again."),
    ] = None,
    on_conflict: OnConflict = None,
    database: Database = None,
    config: Config = None,
    threads: Threads = None,
    endpoint_url: Endpoint = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Look at bad deltas again now, those too that were given up, and merge what is good by now.

    Exit code 11 if some are still bad.
    """
    from merger.merge import MergeOptions, RunMerge
    from merger.quarantine import list_quarantine
    from merger.quarantine_retry import Selection, rehearse_retry
    from merger.quarantine_retry import retry as look_again
    from merger.settings import DEFAULT_BATCH_SIZE

    with reported(as_json) as report:
        quanta = [quantum_id(text) for text in quantum or ()]
        store, run, read = open_datastore(names, config, endpoint_url)
        options = MergeOptions(
            read.batch_size or DEFAULT_BATCH_SIZE,
            threads or read.threads,
            policies=policies_of(on_conflict, read),
        )
        with (
            progress_bar(f"retry {run}") as progress,
            open_registry(database, config, progress.wait) as registry,
        ):
            found = list_quarantine(registry, run)
            selected = Selection(key or (), reason or (), quanta).of(found)
            if dry_run:
                retried = rehearse_retry(
                    store, run, selected, threads=options.threads, progress=progress
                )
            else:
                with RunMerge(registry, store, run, options, progress) as merge:
                    retried = look_again(merge, registry, selected)
        code = _exit_code(retried)
        report(
            _retried_object(run, retried, dry_run, code),
            lambda console: _show_retried(console, retried, dry_run),
        )
        raise typer.Exit(code)


@quarantine.command(epilog="Example: registry-merge quarantine drop u/night1 --reason truncated")
def drop(
    run: Run,
    key: Keys = None,
    reason: Reasons = None,
    all_of_them: Annotated[
        bool, typer.Option("--all", help="Every delta of the RUN that is in quarantine.")
    ] = False,
    database: Database = None,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Give bad deltas up: no merge reads them or counts them any more. Retry takes that back.

    Their objects stay, and sweep protects the datasets that they may name.
    """
    from merger.quarantine import list_quarantine
    from merger.quarantine_retry import Selection
    from merger.quarantine_retry import drop as give_up
    from merger.settings import SettingsError

    with reported(as_json) as report:
        if not (key or reason or all_of_them):
            raise SettingsError("quarantine drop: expected --key, --reason or --all, found none")
        if all_of_them and (key or reason):
            raise SettingsError("quarantine drop: expected --all alone, found --key or --reason")
        with open_registry(database, config) as registry:
            selected = Selection(key or (), reason or ()).of(list_quarantine(registry, run))
            keys = give_up(registry, run, selected, is_dry=dry_run)
        would = "would be " if dry_run else ""
        report(
            {
                **{"run": run, "exit_code": int(ExitCode.OK), "dry_run": dry_run},
                **{"n_dropped": len(keys), "dropped": keys},
            },
            lambda console: console.print(
                f"RUN {run}: {len(keys)} deltas {would}given up", soft_wrap=True
            ),
        )


def _exit_code(retried: "Retried") -> ExitCode:
    if retried.report is not None:
        return retried.report.exit_code
    return lowest({ExitCode.QUARANTINED: retried.bad, ExitCode.NEWER_FORMAT: retried.newer})


def _retried_object(
    run: str, retried: "Retried", is_dry: bool, code: ExitCode
) -> dict[str, object]:
    return {
        **{"run": run, "exit_code": int(code), "dry_run": is_dry},
        "n_selected": retried.n_selected,
        "n_deltas_merged": 0 if is_dry else retried.n_good,
        "n_deltas_to_merge": retried.n_good if is_dry else 0,
        "n_quarantined": len(retried.bad),
        "n_newer_format": len(retried.newer),
        "n_gone": retried.n_gone,
        "quarantined": [dataclasses.asdict(bad) for bad in retried.bad],
    }


def _show_list(console: "Console", found: "list[Quarantined]") -> None:
    from rich.table import Table

    table = Table()
    for name in ("reason", "deltas", "given up"):
        table.add_column(name, justify="left" if name == "reason" else "right")
    counts = Counter((one.reason, one.dropped) for one in found)
    for reason in sorted({one.reason for one in found}):
        table.add_row(reason, str(counts[reason, False]), str(counts[reason, True]))
    console.print(table if found else "no delta is in quarantine")
    for one in found[:_SHOWN]:
        state = ", given up" if one.dropped else ""
        line = f"{one.reason}{state}: {one.key}\n  {one.message}"
        console.print(line, markup=False, soft_wrap=True)
    if len(found) > _SHOWN:
        console.print(f"… and {len(found) - _SHOWN} more; --json has all")


def _show_retried(console: "Console", retried: "Retried", is_dry: bool) -> None:
    would = "would be merged" if is_dry else "merged"
    console.print(
        f"{retried.n_selected} deltas looked at: {retried.n_good} {would}, {len(retried.bad)} "
        f"still bad, {len(retried.newer)} of a newer format, {retried.n_gone} gone",
        soft_wrap=True,
    )
    for bad in retried.bad[:_SHOWN]:
        console.print(f"quarantined ({bad.reason}): {bad.message}", markup=False, soft_wrap=True)
