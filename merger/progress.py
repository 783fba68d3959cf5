# SPDX-License-Identifier: BSD-3-Clause
"""How far a merge or verify is, told to whoever wants to show it."""


class Progress:
    """Shows nothing; `shown_progress` has a bar for terminals and lines for logs."""

    def start(self, n_deltas: int) -> None:
        """So many deltas are to be read; called again, they are added to those before."""

    def advance(self, n_deltas: int, n_rows: int = 0) -> None:
        """So many more deltas are done, with so many rows of the central registry."""

    def count_quanta(self, n_predicted: int, n_merged: int, n_failed: int) -> None:
        """So many quanta of all that are predicted are merged, or failed for good."""

    def wait(self, reason: str) -> None:
        """Nothing goes on for a while; the reason is one line for people."""
