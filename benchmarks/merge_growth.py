# SPDX-License-Identifier: BSD-3-Clause
"""Merge time against the size of the registry: a table, and a plot as SVG.

A registry is filled with rows of earlier RUNs, in the proportions of the workload and with ids
that are spread over their whole range, as those of many graphs are; then one RUN is merged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import LiteralString

import psycopg

N_PER_QUANTUM, N_INPUTS_PER_QUANTUM = 2.75, 8

# A uuid whose place in the order of all is that of its number: indexes are built by appending,
# and what is merged later falls between them.
_SPREAD: LiteralString = """
CREATE OR REPLACE FUNCTION pg_temp.spread(n bigint, total bigint, salt text) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((n::numeric * 4294967295 / total)::bigint), 8, '0')
        || substr(md5(salt || n), 1, 24))::uuid
$$
"""

_FILL: LiteralString = """
INSERT INTO run SELECT 'earlier/' || i FROM generate_series(0, 99) i ON CONFLICT DO NOTHING;
INSERT INTO dataset_type VALUES ('calexp', '["instrument", "visit", "detector"]', 'Fits')
    ON CONFLICT DO NOTHING;
CREATE TEMPORARY TABLE made ON COMMIT DROP AS SELECT i,
    pg_temp.spread(i, {n_quanta}, 'q') AS quantum_id,
    pg_temp.spread(i, {n_quanta}, 'a') AS attempt_id
    FROM generate_series(0, {n_quanta} - 1) i;
INSERT INTO quantum SELECT quantum_id, 'earlier/' || i % 100, quantum_id, 'calibrate',
    jsonb_build_object('visit', i), 'successful', attempt_id FROM made ORDER BY quantum_id;
INSERT INTO attempt (attempt_id, quantum_id, status, superseded, no_work, started, finished, host,
    wall_s, cpu_user_s, cpu_system_s, max_rss_bytes)
    SELECT attempt_id, quantum_id, 'successful', false, false, now(), now(), 'node', 1, 1, 1, 1
    FROM made ORDER BY attempt_id;
INSERT INTO merged_attempt (attempt_id, run, quantum_id, delta_checksum)
    SELECT attempt_id, 'earlier/' || i % 100, quantum_id, 'sha256:' || md5(i::text)
    FROM made ORDER BY attempt_id;
INSERT INTO quantum_input SELECT attempt_id, pg_temp.spread(k, 8, attempt_id::text), attempt_id,
    'HSC/raw/all/' || i || '/' || k, 18000000, 'sha256:' || md5(i::text) || md5(k::text)
    FROM made, generate_series(0, {n_inputs} - 1) k ORDER BY 1, 2;
INSERT INTO dataset SELECT pg_temp.spread(i, {n_datasets}, 'd'), 'earlier/' || i % 100, 'calexp',
    jsonb_build_object('instrument', 'HSC', 'visit', i, 'detector', i % 103), NULL, NULL
    FROM generate_series(0, {n_datasets} - 1) i;
INSERT INTO datastore_record SELECT dataset_id, run || '/calexp/' || dataset_id || '.fits',
    8000000, 'sha256:' || md5(dataset_id::text) || md5(run), 'Fits' FROM dataset
    WHERE run LIKE 'earlier/%'
"""


def fill(address: str, n_datasets: int) -> None:
    """Fill a registry with rows of earlier RUNs, and let PostgreSQL count them."""
    numbers = {
        "n_datasets": n_datasets,
        "n_quanta": int(n_datasets / N_PER_QUANTUM),
        "n_inputs": N_INPUTS_PER_QUANTUM,
    }
    statement = _FILL
    for name, number in numbers.items():
        statement = statement.replace("{" + name + "}", str(number))
    with psycopg.connect(address) as connection:
        # Checked row by row the keys would take longer than all else; they hold by construction.
        connection.execute("SET session_replication_role = replica")
        connection.execute(_SPREAD)
        connection.execute(statement.encode())
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def draw(path: Path, points: Sequence[tuple[int, float, float]]) -> None:
    """Write a plot of merge and COPY seconds against millions of datasets.

    Parameters
    ----------
    points
        Datasets in the registry, seconds of the merge, seconds of COPY.
    """
    width, height, left, top = 560, 300, 60, 20
    most_x = max(n for n, _, _ in points) or 1
    most_y = max(max(m, c) for _, m, c in points) * 1.1

    def place(n: int, seconds: float) -> str:
        x = left + n / most_x * (width - left - 20)
        y = height - 40 - seconds / most_y * (height - 40 - top)
        return f"{x:.1f},{y:.1f}"

    lines = []
    for column, (name, colour) in enumerate((("merge", "#1b6ca8"), ("COPY", "#c25b12")), 1):
        places = [place(point[0], float(point[column])) for point in points]
        lines.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}"/>')
        lines += [
            f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3" fill="{colour}"/>'
            for p in places
        ]
        lines.append(f'<text x="{left + 90 * column - 70}" y="14" fill="{colour}">{name}</text>')
    for point in points:
        x = place(point[0], 0).split(",")[0]
        label = f"{point[0] / 1e6:g}"
        lines.append(f'<text x="{x}" y="{height - 22}" text-anchor="middle">{label}</text>')
    for step in range(5):
        seconds = most_y * step / 4
        y = place(0, seconds).split(",")[1]
        lines.append(f'<text x="{left - 8}" y="{y}" text-anchor="end">{seconds:.1f}</text>')
        lines.append(f'<line x1="{left}" x2="{width - 20}" y1="{y}" y2="{y}" stroke="#ddd"/>')
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        + "".join(lines)
        + f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">'
        "million datasets in the registry before</text>"
        '<text x="12" y="14">s</text></svg>\n'
    )
