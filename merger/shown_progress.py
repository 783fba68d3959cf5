# SPDX-License-Identifier: BSD-3-Clause
"""Progress on stderr: a bar on a terminal, a line now and then in the log of a DAG."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich import progress as rich_progress
from rich.console import Console, RenderableType
from rich.text import Text

from merger.progress import Progress

LINE_EVERY_S = 30.0
"""Seconds between two lines in a log."""


class CountedProgress(Progress):
    """Counts what it is told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self.n_deltas = 0
        self.n_done = 0
        self.n_rows = 0
        self.quanta: tuple[int, int, int] | None = None

    def start(self, n_deltas: int) -> None:
        """Count deltas to be read; a pass without any leaves what is shown."""
        if n_deltas and self.n_done == self.n_deltas:
            # The rate is that of the work, not of the waiting before it.
            self._began = self._clock()
            self.n_deltas = self.n_done = 0
        self.n_deltas += n_deltas

    def advance(self, n_deltas: int, n_rows: int = 0) -> None:
        """Count deltas and rows that are done."""
        self.n_done += n_deltas
        self.n_rows += n_rows

    def count_quanta(self, n_predicted: int, n_merged: int, n_failed: int) -> None:
        """Keep the numbers of quanta."""
        self.quanta = (n_predicted, n_merged, n_failed)

    @property
    def rate(self) -> float:
        """Deltas done per second."""
        seconds = self._clock() - self._began
        return self.n_done / seconds if seconds > 0 else 0.0

    def describe_quanta(self) -> str:
        """Return how many quanta are merged and failed; empty if nobody counts them."""
        if self.quanta is None:
            return ""
        n_predicted, n_merged, n_failed = self.quanta
        failed = f", {n_failed:,} failed" if n_failed else ""
        return f"{n_merged:,} of {n_predicted:,} quanta merged{failed}"


class _TitledBar(rich_progress.Progress):
    """A bar below what it is about, which may need all of a narrow terminal."""

    title = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Give the lines from above."""
        yield Text(self.title, overflow="fold")
        yield from super().get_renderables()


class ProgressBar(CountedProgress):
    """A bar with deltas, rows, rate and remaining time."""

    def __init__(self, console: Console, title: str) -> None:
        super().__init__()
        self._title = title
        self._bar = _TitledBar(
            rich_progress.BarColumn(bar_width=None),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TextColumn("{task.fields[told]}"),
            rich_progress.TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._bar.title = title
        self._task = self._bar.add_task("", total=None, told="")

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, n_deltas: int) -> None:
        """Make the bar longer."""
        super().start(n_deltas)
        self._show()

    def advance(self, n_deltas: int, n_rows: int = 0) -> None:
        """Move the bar on."""
        super().advance(n_deltas, n_rows)
        self._show()

    def count_quanta(self, n_predicted: int, n_merged: int, n_failed: int) -> None:
        """Show how many quanta are merged and failed."""
        super().count_quanta(n_predicted, n_merged, n_failed)
        self._show()

    def wait(self, reason: str) -> None:
        """Show the reason in place of the title, until something goes on."""
        self._bar.title = reason

    def _show(self) -> None:
        self._bar.title = f"{self._title}  {self.describe_quanta()}".rstrip()
        told = f"{self.n_rows:,} rows  {self.rate:,.0f}/s" if self.n_done else ""
        self._bar.update(
            self._task,
            total=self.n_deltas,
            completed=self.n_done,
            told=told,
        )


class ProgressLines(CountedProgress):
    """A line when some time has passed since the one before; none if all is done before that."""

    def __init__(
        self,
        stream: TextIO,
        title: str,
        *,
        every_s: float = LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock)
        self._stream = stream
        self._title = title
        self._every_s = every_s
        self._last = clock()
        self._reason = ""

    def start(self, n_deltas: int) -> None:
        """Tell, if it is time."""
        super().start(n_deltas)
        self._tell()

    def advance(self, n_deltas: int, n_rows: int = 0) -> None:
        """Tell, if it is time."""
        super().advance(n_deltas, n_rows)
        self._reason = ""
        self._tell()

    def count_quanta(self, n_predicted: int, n_merged: int, n_failed: int) -> None:
        """Tell, if it is time."""
        super().count_quanta(n_predicted, n_merged, n_failed)
        self._tell()

    def wait(self, reason: str) -> None:
        """Tell a new reason at once, the same one again if it is time."""
        if reason != self._reason or self._clock() - self._last >= self._every_s:
            self._write(reason)
        self._reason = reason

    def _tell(self) -> None:
        if self._clock() - self._last < self._every_s:
            return
        told = [self._describe_deltas(), self.describe_quanta()]
        if any(told):
            self._write("; ".join(filter(None, told)))

    def _describe_deltas(self) -> str:
        """Return how far the deltas are; empty as long as there was none to be read."""
        if not self.n_deltas:
            return ""
        left = self.n_deltas - self.n_done
        parts = [f"{self.n_done:,} of {self.n_deltas:,} deltas", f"{self.n_rows:,} rows"]
        if left and self.n_done:
            parts.append(f"{self.rate:,.0f} deltas/s")
            parts.append(f"{left / self.rate:,.0f} s remaining")
        return ", ".join(parts)

    def _write(self, text: str) -> None:
        self._last = self._clock()
        print(f"{self._title}: {text}", file=self._stream, flush=True)


@contextmanager
def shown_progress(stream: TextIO, title: str, *, quiet: bool = False) -> Iterator[Progress]:
    """Give the progress that suits a stream."""
    if quiet:
        yield Progress()
    elif stream.isatty():
        with ProgressBar(Console(file=stream), title) as bar:
            yield bar
    else:
        yield ProgressLines(stream, title)
