# SPDX-License-Identifier: BSD-3-Clause
"""What the tasks of a RUN really used, and what the next run should therefore ask for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import yaml
from psycopg import Cursor
from rich.console import Console
from rich.table import Table

from merger.central_registry import CentralRegistry
from registry.errors import QuantumExecError
from registry.typed_json import canonical

_MIB = 1024 * 1024

WRAPPER_MIB = 40
"""Memory of ``quantum-exec run``, which is not in what is measured of a task."""

STEP_MIB = 64
"""Requests are multiples of it: jobs that ask for the same share slots and match-making."""

_WALL_FACTOR = 2
_WALL_STEP_S = 600

_SHARES = (0.5, 0.95)

# What the attempts of a RUN used, by task label; superseded ones were measured as well.
_READ_USE = """
SELECT q.task_label,
    count(*) FILTER (WHERE a.status = 'successful'),
    count(*),
    count(*) FILTER (WHERE a.status <> 'successful' AND (
        a.signal = 9 OR a.max_rss_bytes > (a.requested->>'memory_mib')::bigint * 1048576)),
    max(a.max_rss_bytes) FILTER (WHERE a.status = 'successful'),
    percentile_disc(%(shares)s::float8[]) WITHIN GROUP (ORDER BY a.max_rss_bytes)
        FILTER (WHERE a.status = 'successful'),
    max(a.scratch_bytes) FILTER (WHERE a.status = 'successful'),
    percentile_disc(%(shares)s::float8[]) WITHIN GROUP (ORDER BY a.scratch_bytes)
        FILTER (WHERE a.status = 'successful'),
    max(a.wall_s) FILTER (WHERE a.status = 'successful'),
    percentile_disc(%(shares)s::float8[]) WITHIN GROUP (ORDER BY a.wall_s)
        FILTER (WHERE a.status = 'successful'),
    max((a.cpu_user_s + a.cpu_system_s) / nullif(a.wall_s, 0))
        FILTER (WHERE a.status = 'successful'),
    percentile_disc(%(shares)s::float8[])
        WITHIN GROUP (ORDER BY (a.cpu_user_s + a.cpu_system_s) / nullif(a.wall_s, 0))
        FILTER (WHERE a.status = 'successful')
FROM quantum q JOIN attempt a USING (quantum_id)
WHERE q.run = %(run)s
GROUP BY 1 ORDER BY 1
"""


class NotMeasuredError(QuantumExecError):
    """The central registry has no successful attempt of a RUN."""

    error_type = "not_measured"


@dataclass(frozen=True, slots=True)
class Spread:
    """Largest, middle and 95th percentile of something over the successful attempts of a task.

    ``cover`` is what the share of attempts that was asked for stays within. All are None if it was
    not measured.
    """

    max: float | None
    median: float | None
    p95: float | None
    cover: float | None


@dataclass(frozen=True, slots=True)
class MeasuredTask:
    """What a task used: bytes, seconds, and cores as CPU time over wall time.

    ``n_over_memory`` are attempts without success that the kernel killed (SIGKILL), or that went
    over what they had asked for.
    """

    label: str
    n_successful: int
    n_attempts: int
    n_over_memory: int
    max_rss_bytes: Spread
    scratch_bytes: Spread
    wall_s: Spread
    cpus: Spread

    def requests(self, margin: float) -> dict[str, int]:
        """Return keys of a submit configuration; none for what was not measured.

        Only memory grows from attempt to attempt, so only memory is sized for a share of the
        quanta; what ends in a failure for good, disk and wall time, is sized for all.
        """
        memory, disk, wall = self.max_rss_bytes.cover, self.scratch_bytes.max, self.wall_s.max
        found: dict[str, int] = {}
        if memory is not None:
            found["requestMemory"] = _round_up(memory / _MIB * margin + WRAPPER_MIB, STEP_MIB)
        if disk is not None:
            found["requestDisk"] = _round_up(disk / _MIB * margin, STEP_MIB)
        if wall is not None:
            found["requestWalltime"] = _round_up(wall * _WALL_FACTOR, _WALL_STEP_S)
        return found


def _round_up(value: float, step: int) -> int:
    return max(1, math.ceil(value / step)) * step


def read_measured(registry: CentralRegistry, run: str, cover: float) -> list[MeasuredTask]:
    """Return what the tasks of a RUN used, by label.

    Parameters
    ----------
    cover
        Share of the successful attempts, at most 1, that `Spread.cover` holds for.

    Raises
    ------
    NotMeasuredError
        If no attempt of the RUN was successful.
    merger.central_registry.CentralRegistryError, psycopg.Error
        If the registry cannot be read.
    """

    def read(cursor: Cursor) -> list[MeasuredTask]:
        values: Mapping[str, object] = {"run": run, "shares": [*_SHARES, cover]}
        return [_measured(row) for row in cursor.execute(_READ_USE.encode(), values).fetchall()]

    found = registry.read_snapshot(read)
    if not any(task.n_successful for task in found):
        raise NotMeasuredError(
            f"RUN {run!r}: expected successful attempts in the central registry, found none; "
            "merge its deltas first"
        )
    return found


def _measured(row: Sequence[object]) -> MeasuredTask:
    label, n_successful, n_attempts, n_over, *spreads = row
    pairs = zip(spreads[::2], spreads[1::2], strict=True)
    return MeasuredTask(
        *(label, n_successful, n_attempts, n_over),  # type: ignore[arg-type]
        *(_spread(largest, shares) for largest, shares in pairs),
    )


def _spread(largest: object, shares: object) -> Spread:
    if largest is None:
        return Spread(None, None, None, None)
    return Spread(largest, *shares)  # type: ignore[arg-type, misc]


def requests_yaml(run: str, tasks: Sequence[MeasuredTask], margin: float) -> str:
    """Return the piece of a submit configuration that asks for what was measured."""
    asked = {task.label: task.requests(margin) for task in tasks if task.n_successful}
    text: str = yaml.safe_dump({"pipetask": asked}, sort_keys=False, allow_unicode=True)
    return f"# As RUN {canonical(run)} was measured; margin {margin:g}.\n{text}"


def requests_object(
    run: str, tasks: Sequence[MeasuredTask], margin: float, cover: float
) -> dict[str, object]:
    """Return the same as ``--json`` prints it, with what was measured."""
    return {
        "run": run,
        "margin": margin,
        "cover": cover,
        "tasks": [
            asdict(task) | {"requests": task.requests(margin) if task.n_successful else {}}
            for task in tasks
        ],
    }


def show_requests(
    console: Console, run: str, tasks: Sequence[MeasuredTask], margin: float, cover: float
) -> None:
    """Print a table: what was measured as median/95 %/maximum, and what to ask for."""
    table = Table("task", "successful", "attempts", "over memory", title=None)
    for name in ("memory MiB", "disk MiB", "wall s", "cores", "ask memory", "ask disk", "ask wall"):
        table.add_column(name, justify="right")
    for task in tasks:
        asked = task.requests(margin) if task.n_successful else {}
        table.add_row(
            *(task.label, str(task.n_successful), str(task.n_attempts), str(task.n_over_memory)),
            _shown(task.max_rss_bytes, 1 / _MIB),
            _shown(task.scratch_bytes, 1 / _MIB),
            _shown(task.wall_s),
            _shown(task.cpus),
            *(str(asked.get(f"request{n}", "")) for n in ("Memory", "Disk", "Walltime")),
        )
    console.print(table)
    console.print(
        f"RUN {run}: median/95 %/maximum of successful attempts; memory for {cover:.0%} of them, "
        f"margin {margin:g}. --yaml prints it for a submit configuration.",
        markup=False,
        soft_wrap=True,
    )


def _shown(spread: Spread, unit: float = 1) -> str:
    if spread.max is None:
        return "-"
    return "/".join(f"{(v or 0) * unit:.3g}" for v in (spread.median, spread.p95, spread.max))
