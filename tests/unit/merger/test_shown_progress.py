# SPDX-License-Identifier: BSD-3-Clause
"""Progress for logs and for terminals."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from merger.progress import Progress
from merger.shown_progress import ProgressBar, ProgressLines, shown_progress


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Log:
    """Lines in a stream, and the clock that they go by."""

    def __init__(self) -> None:
        self.stream, self.clock = io.StringIO(), Clock()
        self.progress = ProgressLines(self.stream, "merge u/night1", clock=self.clock)

    def after(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.seconds += seconds

    def lines(self) -> list[str]:
        """What was told."""
        return self.stream.getvalue().splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    """A log."""
    yield Log()


def test_nothing_is_told_of_short_work(log: Log) -> None:
    log.progress.start(1000)
    log.after(29)
    log.progress.advance(1000, 4000)
    assert log.lines() == []


def test_a_line_now_and_then(log: Log) -> None:
    log.progress.start(1000)
    for _ in range(10):
        log.after(10)
        log.progress.advance(50, 200)
    assert log.lines() == [
        "merge u/night1: 150 of 1,000 deltas, 600 rows, 5 deltas/s, 170 s remaining",
        "merge u/night1: 300 of 1,000 deltas, 1,200 rows, 5 deltas/s, 140 s remaining",
        "merge u/night1: 450 of 1,000 deltas, 1,800 rows, 5 deltas/s, 110 s remaining",
    ]


def test_quanta_are_told_while_following(log: Log) -> None:
    log.progress.start(10)
    log.after(5)
    log.progress.advance(10, 40)
    log.after(25)
    log.progress.count_quanta(100, 9, 1)
    assert log.lines()[0].endswith("; 9 of 100 quanta merged, 1 failed")


def test_the_rate_of_a_pass_is_its_own(log: Log) -> None:
    """Hours of waiting between two passes do not count."""
    log.progress.start(10)
    log.after(1)
    log.progress.advance(10, 40)
    log.after(3600)
    log.progress.start(10)
    log.after(2)
    log.progress.advance(4, 16)
    assert log.progress.rate == 2
    assert log.progress.n_rows == 56


def test_a_reason_to_wait_is_told_once(log: Log) -> None:
    for _ in range(3):
        log.progress.wait("waits for a graph of the RUN")
    log.progress.wait("waits for the datastore: away")
    assert log.lines() == [
        "merge u/night1: waits for a graph of the RUN",
        "merge u/night1: waits for the datastore: away",
    ]
    log.after(30)
    log.progress.wait("waits for the datastore: away")
    assert len(log.lines()) == 3


def test_bar() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with ProgressBar(console, "merge u/night1") as bar:
        bar.start(10)
        bar.advance(5, 1234)
        bar.count_quanta(20, 5, 1)
        bar._bar.refresh()
        assert "5 of 20 quanta merged, 1 failed" in stream.getvalue()
        assert "5/10" in stream.getvalue()
        assert "1,234 rows" in stream.getvalue()
        bar.wait("waits for the central registry: too many connections")
        bar._bar.refresh()
    assert "waits for the central registry" in stream.getvalue()


def test_bar_fits_a_narrow_terminal() -> None:
    """Names are broken, numbers are whole."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    title = "merge u/somebody/DRP/2026-11-22/a-long-name-of-a-run-with-much-in-it"
    with ProgressBar(console, title) as bar:
        bar.start(270_000)
        bar.advance(123_456, 1_234_567)
        bar.count_quanta(270_000, 123_456, 12)
        bar._bar.refresh()
    assert "…" not in stream.getvalue()
    assert "1,234,567 rows" in stream.getvalue()
    assert "123,456 of 270,000 quanta merged, 12 failed" in " ".join(stream.getvalue().split())


def test_what_suits_a_stream() -> None:
    with shown_progress(io.StringIO(), "merge") as progress:
        assert isinstance(progress, ProgressLines)
    with shown_progress(io.StringIO(), "merge", quiet=True) as progress:
        assert type(progress) is Progress
