# SPDX-License-Identifier: BSD-3-Clause
"""``python -m tests.chaos``: try seeds one after another, and tell what came of each."""

import argparse
import json
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from merger import schema
from tests.chaos.trial import TEMPLATE, Settings, Trial, run_trial
from tests.fix_pgbouncer import find_pgbouncer
from tests.own_postgres import OwnPostgres, embedded_bin_dir

_SETTINGS = """
fsync = on
synchronous_commit = on
max_connections = 60
"""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="number of seeds to try (default 3)")
    add("--first", type=int, default=1, help="first seed (default 1)")
    add("--deltas", type=int, default=2000, help="deltas of a survey (default 2000)")
    add("--mergers", type=int, default=3, help="mergers at once (default 3)")
    add("--connections", type=int, help="connections of each merger (default: 1, 1 and 2)")
    add("--pgbouncer", action="store_true", help="through a pgbouncer in transaction mode")
    add(
        "--datastore",
        choices=("both", "s3", "file"),
        default="both",
        help="an S3 server, a directory, or (default) each for every other seed",
    )
    add(
        "--json",
        action="store_true",
        help="one JSON object per seed; table on stderr",
    )
    return parser.parse_args()


@contextmanager
def running_server() -> Iterator[OwnPostgres]:
    """Give a server with a database to copy, in which there are the tables of a registry."""
    server = OwnPostgres(embedded_bin_dir(), settings=_SETTINGS)
    try:
        server.initialise()
        server.start()
        server.execute("CREATE DATABASE {}", TEMPLATE)
        schema.create(server.address(TEMPLATE))
        yield server
    finally:
        server.remove()


def show(trials: list[Trial], console: Console) -> None:
    """Print a line for each seed, and faults by kind."""
    table = Table(title="chaos")
    for name in ("seed", "store", "hit/faults", "kills", "started", "faults s", "s", "outcome"):
        table.add_column(name, justify="right")
    for trial in trials:
        table.add_row(
            *(str(trial.seed), trial.datastore, f"{trial.n_hit}/{len(trial.struck)}"),
            *(str(trial.n_kills), str(trial.n_started), f"{trial.seconds.get('faults', 0):.0f}"),
            f"{trial.wall_s:.0f}",
            f"WRONG: {trial.directory}" if trial.problems else "equal",
        )
    console.print(table)
    kinds: dict[str, int] = {}
    codes: dict[str, int] = {}
    for trial in trials:
        for kind, number in trial.by_kind().items():
            kinds[kind] = kinds.get(kind, 0) + number
        for code, number in trial.exit_codes.items():
            codes[code] = codes.get(code, 0) + number
    console.print("faults:", ", ".join(f"{n} x {kind}" for kind, n in sorted(kinds.items())))
    console.print("exit codes of mergers:", ", ".join(f"{c}: {n}" for c, n in codes.items()))


def main() -> int:
    """Try the seeds; the exit code is 1 if anything was wrong."""
    arguments = parse_arguments()
    # The embedded PostgreSQL looks for a directory of the session, and does not need it.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    pgbouncer = find_pgbouncer()
    if arguments.pgbouncer and pgbouncer is None:
        print("pgbouncer is not installed (Debian: apt-get install pgbouncer)", file=sys.stderr)
        return 2
    settings = Settings(
        n_deltas=arguments.deltas,
        n_mergers=arguments.mergers,
        connections=arguments.connections,
        pgbouncer=pgbouncer if arguments.pgbouncer else None,
        datastore=arguments.datastore,
    )
    trials = []
    with running_server() as server:
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            trial = run_trial(seed, settings, server)
            trials.append(trial)
            for problem in trial.problems:
                print(f"seed {seed}: {problem}", file=sys.stderr, flush=True)
            line = json.dumps(asdict(trial), default=str) if arguments.json else told(trial)
            print(line, flush=True)
    show(trials, Console(stderr=arguments.json))
    return int(any(trial.problems for trial in trials))


def told(trial: Trial) -> str:
    """One line about a seed."""
    kinds = ", ".join(f"{n} x {kind}" for kind, n in sorted(trial.by_kind().items()))
    outcome = (
        f"{len(trial.problems)} PROBLEMS, see {trial.directory}" if trial.problems else "equal"
    )
    return (
        f"seed {trial.seed} ({trial.datastore}): {outcome}; {trial.n_deltas} deltas, "
        f"{trial.n_hit} of {len(trial.struck)} faults hit ({kinds}), {trial.n_kills} kills, "
        f"{trial.n_started} mergers started, {trial.wall_s:.0f} s {trial.seconds}"
    )


if __name__ == "__main__":
    sys.exit(main())
