# SPDX-License-Identifier: BSD-3-Clause
"""How far a merge or verify is, told to whoever wants to show it."""


class Progress:
    """Shows nothing; `reports.ProgressBar` shows a bar."""

    def start(self, n_deltas: int) -> None:
        """The number of deltas to read is known."""

    def advance(self, n_deltas: int) -> None:
        """So many more deltas are done."""
