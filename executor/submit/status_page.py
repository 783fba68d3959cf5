# SPDX-License-Identifier: BSD-3-Clause
"""The status of a RUN as one static page: plots over time and the tables, nothing loaded."""

import datetime
import html
from collections.abc import Iterable, Sequence

from executor.submit.run_status import RunStatus
from executor.submit.state_series import JobState, Sample
from executor.submit.status_tables import head_lines

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 900, 240, 60, 20
_PLOTTED = {
    JobState.SUCCEEDED: "#2a7f3f",
    JobState.RUNNING: "#1f6fb2",
    JobState.PENDING: "#999999",
    JobState.HELD: "#d08a00",
    JobState.FAILED: "#c0392b",
}
_HEAD = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{font:14px sans-serif;margin:2em}}td,th{{padding:2px 10px;text-align:right}}
td:first-child,th:first-child{{text-align:left}}svg{{display:block;margin:1em 0}}</style>
<h1>{title}</h1>
"""


def status_page(status: RunStatus, samples: Sequence[Sample]) -> str:
    """Return the page; every text of a task in it is escaped."""
    now = datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds")
    parts = [_HEAD.format(title=html.escape(f"RUN {status.run}"))]
    parts += [f"<p>{html.escape(line)}</p>\n" for line in head_lines(status)]
    if samples:
        parts += ["<h2>Jobs over time</h2>\n", _plot(samples, list(_PLOTTED))]
        parts += ["<h2>Running jobs</h2>\n", _plot(samples, [JobState.RUNNING])]
    states = list(JobState)
    rows = [[t.label, *(str(t.quanta[s]) for s in states)] for t in status.tasks if t.quanta]
    parts.append(_table("Quanta", ["task", *states], rows))
    with_jobs = [task for task in status.tasks if task.jobs]
    memory = [[t.label, t.requested_mib or "-", t.used_mib or "-", t.n_grown] for t in with_jobs]
    parts.append(_table("Memory", ["task", "MiB asked", "MiB used", "jobs grown"], memory))
    holds = [[g.cause, g.n_held, g.n_holds, g.advice, g.example] for g in status.holds]
    headings = ["cause", "held now", "ever", "what to do", "for example"]
    parts.append(_table("Holds", headings, holds))
    failures = [[g.label, len(g.failures), g.error] for g in status.failure_groups]
    parts.append(_table("Failures", ["task", "number", "error"], failures))
    return "".join([*parts, f"<p>{now}</p>\n"])


def _table(title: str, headings: Iterable[object], rows: Sequence[Iterable[object]]) -> str:
    def row(cells: Iterable[object], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)

    if not rows:
        return ""
    body = "".join(f"<tr>{row(cells, 'td')}</tr>\n" for cells in rows)
    head = f"<tr>{row(headings, 'th')}</tr>\n"
    return f"<h2>{title}</h2>\n<table>\n{head}{body}</table>\n"


def _plot(samples: Sequence[Sample], states: Sequence[JobState]) -> str:
    """Steps: a number stays as it is until the next sample."""
    first, last = samples[0].time_s, samples[-1].time_s
    span = max(1.0, last - first)
    most = max(1, *(s.counts.get(state, 0) for s in samples for state in states))

    def place(time_s: float, number: int) -> str:
        x = _LEFT + (time_s - first) / span * (_WIDTH - _LEFT)
        return f"{x:.1f},{_HEIGHT - number / most * (_HEIGHT - 10):.1f}"

    lines = []
    for n, state in enumerate(states):
        points, number = [], 0
        for sample in samples:
            points.append(place(sample.time_s, number))
            number = sample.counts.get(state, 0)
            points.append(place(sample.time_s, number))
        colour = _PLOTTED[state]
        lines.append(f'<polyline fill="none" stroke="{colour}" points="{" ".join(points)}"/>')
        lines.append(f'<text x="{_LEFT + 10 + 110 * n}" y="12" fill="{colour}">{state}</text>')
    begin, end = (
        datetime.datetime.fromtimestamp(t, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        for t in (first, last)
    )
    base = _HEIGHT + _BOTTOM - 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT + _BOTTOM}" '
        f'font-size="12">{"".join(lines)}<text x="0" y="20">{most}</text>'
        f'<text x="0" y="{_HEIGHT}">0</text><text x="{_LEFT}" y="{base}">{begin}</text>'
        f'<text x="{_WIDTH}" y="{base}" text-anchor="end">{end}</text></svg>\n'
    )
