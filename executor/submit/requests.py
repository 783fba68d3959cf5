# SPDX-License-Identifier: BSD-3-Clause
"""What a job asks of a pool, as every level of a submit configuration may say it."""

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Requests(msgspec.Struct, forbid_unknown_fields=True, rename="camel", frozen=True):
    """What a job asks of a pool; a field that is not set is taken from the level above."""

    request_memory: Positive | None = None
    """MiB."""
    request_cpus: Positive | None = None
    request_disk: Positive | None = None
    """MiB."""
    number_of_retries: Count | None = None
    """DAGMan's retries of a job that failed; evictions are not counted."""
    retry_unless_exit: int | None = None
    """Exit code after which a retry is of no use."""
