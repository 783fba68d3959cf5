# SPDX-License-Identifier: BSD-3-Clause
"""Merge time against the size of the registry: samples, the name of the growth, table and plot.

Into a registry with so many datasets (`registry_fill`) one RUN after the other is merged and
COPYed, in turns, so each sample meets a registry of that size and rows of its own; what the
samples before it brought is little beside a million datasets.
"""

import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks.merge_peers import Encoded, encode_rows, time_copy
from benchmarks.merge_place import REPETITIONS, Place
from benchmarks.merge_process import time_merge
from benchmarks.merge_workload import N_DATASETS, N_QUANTA, TYPES, Workload
from benchmarks.registry_fill import fill
from registry.typed_json import canonical

_FLAT = 1.1


@dataclass
class Point:
    """Seconds of merges (of their processes) and COPYs into a registry of one size."""

    n_datasets: int
    merge_s: list[float] = field(default_factory=list)
    copy_s: list[float] = field(default_factory=list)


def measure_growth(place: Place, sizes: Sequence[int], directory: Path | None) -> None:
    """Merge and COPY into registries that have so many datasets already.

    Parameters
    ----------
    directory
        Where ``merge-growth.md`` and ``merge-growth.svg`` are written, if at all.
    """
    datastore = place.directory / "growth"
    runs = [f"HSC/runs/growth/{number}" for number in range(2 * REPETITIONS)]
    for run in runs:
        Workload(place.n_quanta, run).write(datastore)
    uri = f"file://{datastore}"
    copied = [(run, *_encode(place, uri, run)) for run in runs[1::2]]
    points = [_measure(place, size, uri, runs[::2], copied) for size in sizes]
    shutil.rmtree(datastore)
    for point in points:
        name = f"registry_{point.n_datasets / 1e6:g}m"
        merge_s, copy_s = statistics.median(point.merge_s), statistics.median(point.copy_s)
        place.figures |= {
            f"{name}_merge_process_s": round(merge_s, 3),
            f"{name}_merge_process_spread_s": round(_spread(point.merge_s), 3),
            f"{name}_copy_s": round(copy_s, 3),
            f"{name}_copy_spread_s": round(_spread(point.copy_s), 3),
            f"{name}_process_ratio_of_copy": round(copy_s / merge_s, 3),
        }
    growths = [_growth([(p.n_datasets, getattr(p, of)) for p in points]) for of in _COLUMNS]
    for of, (ratio, name) in zip(_COLUMNS, growths, strict=True):
        place.figures[f"growth_{of.removesuffix('_s')}_ratio"] = round(ratio, 3)
        place.figures[f"growth_{of.removesuffix('_s')}"] = name
    if directory is not None:
        (directory / "merge-growth.md").write_text(_table(place.n_quanta, points, growths))
        (directory / "merge-growth.svg").write_text(_plot(points))


_COLUMNS = ("merge_s", "copy_s")


def _encode(place: Place, uri: str, run: str) -> tuple[Encoded, list[Encoded]]:
    source = place.server.fresh_database()
    time_merge(source, uri, run)
    first, parts = encode_rows(source, "binary")
    place.server.drop(source)
    kept = {name: rows for name, rows in first.items() if name not in ("run", "dataset_type")}
    return kept, parts


def _measure(
    place: Place,
    size: int,
    uri: str,
    merged: Sequence[str],
    copied: Sequence[tuple[str, Encoded, list[Encoded]]],
) -> Point:
    point = Point(size)
    address = place.server.fresh_database()
    fill(address, size)
    for run, (copied_run, first, parts) in zip(merged, copied, strict=True):
        point.merge_s.append(time_merge(address, uri, run).process_s)
        place.server.checkpoint()
        _ensure_parents(address, copied_run)
        point.copy_s.append(time_copy(address, first, parts, "binary"))
        place.server.checkpoint()
    place.server.drop(address)
    return point


def _ensure_parents(address: str, run: str) -> None:
    """What the rows refer to; some of it may be there."""
    with psycopg.connect(address) as connection:
        connection.execute("INSERT INTO run VALUES (%s) ON CONFLICT DO NOTHING", (run,))
        for each in TYPES:
            connection.execute(
                "INSERT INTO dataset_type VALUES (%s, %s::jsonb, %s) ON CONFLICT DO NOTHING",
                (each.name, canonical(each.dimensions), each.storage_class),
            )


def _spread(seconds: Sequence[float]) -> float:
    return max(seconds) - min(seconds)


def _growth(samples: Sequence[tuple[int, Sequence[float]]]) -> tuple[float, str]:
    """Return last over first, and what the growth is called.

    It is called flat below a tenth; otherwise by the law that leaves less: ``a + b log n`` or
    ``a + b n``.
    """
    n = [float(size) for size, _ in samples]
    medians = [statistics.median(seconds) for _, seconds in samples]
    ratio = medians[-1] / medians[0]
    if len(n) < 3:
        return ratio, "two sizes have no law"
    if ratio < _FLAT:
        return ratio, "flat"
    left = {
        law: _residual([function(each) for each in n], medians)
        for law, function in (("log n", math.log), ("n", float))
    }
    return ratio, min(left, key=lambda law: left[law])


def _residual(x: Sequence[float], y: Sequence[float]) -> float:
    slope, intercept = statistics.linear_regression(x, y)
    return sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))


def _table(n_quanta: int, points: Sequence[Point], growths: Sequence[tuple[float, str]]) -> str:
    """Write the table for people."""
    lines = [
        "# Merge time against the size of the registry",
        "",
        f"A RUN of {n_quanta:,} quanta and {N_DATASETS * n_quanta // N_QUANTA:,} datasets into a "
        "registry that has",
        "so many datasets of other RUNs: the whole process `registry-merge merge` from a local "
        "directory,",
        f"and COPY of the same rows. Median of {REPETITIONS} (lowest to highest), in turns. "
        "Made by",
        "`python -m benchmarks.merge --full`.",
        "",
        "| datasets in the registry | merge, s | COPY, s | merge as ratio of COPY |",
        "|---|---|---|---|",
    ]
    for point in points:
        ratio = statistics.median(point.copy_s) / statistics.median(point.merge_s)
        cells = [f"{point.n_datasets:,}", *map(_cell, (point.merge_s, point.copy_s))]
        lines.append(f"| {' | '.join(cells)} | {ratio:.2f} |")
    (merge_ratio, merge_law), (copy_ratio, copy_law) = growths
    lines += [
        "",
        f"Growth from the first to the last size: merge {merge_ratio:.2f} times, {merge_law}; "
        f"COPY {copy_ratio:.2f} times, {copy_law}.",
        "",
        "![merge time against registry size](merge-growth.svg)",
    ]
    return "\n".join(lines) + "\n"


def _cell(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def _plot(points: Sequence[Point]) -> str:
    """Draw medians with their spread against millions of datasets, as SVG."""
    width, height, left, top = 560, 300, 60, 20
    most_x = max(point.n_datasets for point in points)
    most_y = max(max(point.merge_s + point.copy_s) for point in points) * 1.1

    def across(n: int) -> float:
        return round(left + n / most_x * (width - left - 20), 1)

    def down(seconds: float) -> float:
        return round(height - 40 - seconds / most_y * (height - 40 - top), 1)

    drawn = []
    for step in range(5):
        y = down(most_y * step / 4)
        text = f"{most_y * step / 4:.1f}"
        drawn.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{text}</text>')
        drawn.append(f'<line x1="{left}" x2="{width - 20}" y1="{y}" y2="{y}" stroke="#ddd"/>')
    for place, (of, colour) in enumerate(zip(_COLUMNS, ("#1b6ca8", "#c25b12"), strict=True)):
        named = [(across(p.n_datasets), getattr(p, of)) for p in points]
        line = " ".join(f"{x},{down(statistics.median(seconds))}" for x, seconds in named)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        for x, seconds in named:
            ends = f'y1="{down(min(seconds))}" y2="{down(max(seconds))}"'
            y = down(statistics.median(seconds))
            drawn.append(f'<line x1="{x}" x2="{x}" {ends} stroke="{colour}"/>')
            drawn.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        name = ("merge", "COPY")[place]
        drawn.append(f'<text x="{left + 20 + 90 * place}" y="14" fill="{colour}">{name}</text>')
    for point in points:
        x, label = across(point.n_datasets), f"{point.n_datasets / 1e6:g}"
        drawn.append(f'<text x="{x}" y="{height - 22}" text-anchor="middle">{label}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        + "\n".join(drawn)
        + f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">'
        'million datasets in the registry before</text><text x="12" y="14">s</text></svg>\n'
    )
