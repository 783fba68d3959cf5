# SPDX-License-Identifier: BSD-3-Clause
"""``cluster.<label>`` of a submit configuration: which quanta go together into one job.

The keys are those of BPS; ``maxSize`` and ``keepIntermediates`` are ours. Where BPS takes words
with commas, a list is taken as well.
"""

import enum
from typing import Literal

from executor.submit.requests import Positive, Requests

Words = str | list[str]
"""``visit,detector`` or a list of the words."""


class ClusterAlgorithm(enum.StrEnum):
    """``clusterAlgorithm``, with or without the module that BPS writes before it."""

    DIMENSION = "dimension_clustering"
    """As the ``cluster`` section says."""
    SINGLE = "single_quantum_clustering"
    """One quantum in each job, whatever the ``cluster`` section says."""
    NONE = "none"
    """The same."""

    @classmethod
    def _missing_(cls, value: object) -> "ClusterAlgorithm | None":
        last = str(value).removeprefix("lsst.ctrl.bps.quantum_clustering_funcs.")
        return next((member for member in cls if member.value == last), None)


class ClusterRequest(
    Requests, forbid_unknown_fields=True, rename="camel", frozen=True, kw_only=True
):
    """The quanta of some task labels, in jobs that carry several of them.

    Requests that are not stated come from the members: the greatest of CPUs, memory, its maximum
    and multiplier, and retries; the sum of disk and walltime.
    """

    pipetasks: Words
    """Task labels; each is in one cluster at most. Labels that a graph lacks are left out."""
    dimensions: Words = ""
    """Quanta with the same values of these go together; if there are none, all do."""
    equal_dimensions: Words = ""
    """Pairs such as ``visit:exposure``: the one stands for the other where that is missing."""
    partition_dimensions: Words = ""
    """What has the same values of ``dimensions`` is divided by the values of these."""
    partition_max_clusters: Positive | None = None
    """Clusters of this label at most; with ``partitionDimensions``."""
    partition_max_size: Positive | None = None
    """Values of ``partitionDimensions`` in one cluster at most."""
    find_dependency_method: Literal["source", "sink"] | None = None
    """Whole chains: from the first quanta (``source``) or the last (``sink``) along who reads of
    whom; only where the search begins are ``dimensions`` needed."""
    max_size: Positive | None = None
    """Quanta in one job at most. Chains stay whole as long as they fit."""
    keep_intermediates: bool = True
    """If false, what only other members of a cluster read stays in the sandbox."""


def words_of(words: Words) -> list[str]:
    """The words of a value with commas, or of a list."""
    found = words.split(",") if isinstance(words, str) else words
    return [word.strip() for word in found if word.strip()]
