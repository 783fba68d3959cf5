# SPDX-License-Identifier: BSD-3-Clause
"""A follower that makes one pass at a time, in this process."""

from merger.follow import Ending, Follower, Merged
from merger.merge import MergeOptions, RunMerge
from merger.progress import Progress
from merger.stopping import StopRequest
from merger.unfinished import UnfinishedReason
from tests.fix_merge import MergeSite


class Steps:
    """To be entered; as the command does it, but for the waiting."""

    def __init__(
        self, site: MergeSite, ending: Ending, options: MergeOptions | None = None
    ) -> None:
        self.stop = StopRequest()
        self._merge = RunMerge(site.registry, site.store, site.graph.run, options)
        self.follower = Follower(
            *(site.registry, site.store, self._merge),
            ending=ending,
            stop=self.stop,
            progress=Progress(),
        )

    def __enter__(self) -> "Steps":
        self.stop.__enter__()
        self._merge.__enter__()
        return self

    def __exit__(self, *_: None) -> None:
        self._merge.__exit__(None, None, None)
        self.stop.__exit__(None, None, None)

    def look(self) -> bool:
        """Make a pass; tells whether it was the last."""
        return self.follower._look()

    def merged(self) -> Merged:
        """What it would report now."""
        return self.follower._merged(self.follower._unfinished(), is_stopped=False)

    def reasons(self) -> dict[UnfinishedReason, int]:
        """How many quanta are unfinished now, by reason."""
        unfinished = self.merged().unfinished
        return dict(unfinished.counts) if unfinished else {}
