# SPDX-License-Identifier: BSD-3-Clause
"""What a job asks of a pool, as every level of a submit configuration may say it."""

from collections.abc import Iterable
from typing import Annotated

import msgspec

_MOST = 2**31 - 1
Positive = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]
Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
LinkLifetime = Annotated[int, msgspec.Meta(ge=0, le=7 * 86_400)]
Multiplier = Annotated[float, msgspec.Meta(ge=1, le=1000)]
AttributeValue = str | int | float | bool

# Fields whose values are joined over the levels, name by name.
_MAPS = frozenset({"environment", "attributes", "submit_lines"})


class Requests(msgspec.Struct, forbid_unknown_fields=True, rename="camel", frozen=True):
    """What a job asks of a pool; a field that is not set is taken from the level above."""

    request_memory: Positive | None = None
    """MiB, for the first attempt."""
    request_cpus: Positive | None = None
    request_disk: Positive | None = None
    """MiB."""
    number_of_retries: Count | None = None
    """DAGMan's retries of a job that failed; evictions and holds are not counted."""
    retry_unless_exit: int | list[int] | None = None
    """Exit codes after which a retry is of no use."""
    request_walltime: Positive | None = None
    """Seconds after which a job is given up; in a file also H:M:S."""
    memory_multiplier: Multiplier | None = None
    """Each attempt after one that went over its memory asks for so much more; 1 is no growth."""
    request_memory_max: Positive | None = None
    """MiB beyond which a request does not grow."""
    preemptible: bool | None = None
    """False: a job that runs is not to be pushed out by another user's."""
    environment: dict[str, str] = {}
    """Variables of the job; joined over the levels. Never a secret."""
    container_image: str | None = None
    """Image in which ``quantum-exec run`` runs: docker://, oras://, a .sif file or a directory."""
    accounting_group: str | None = None
    accounting_user: str | None = None
    concurrency_limit: str | None = None
    """Names of limits that the pool configures, with commas."""
    max_jobs: Positive | None = None
    """Jobs of this label that are in the queue at once."""
    priority: Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)] | None = None
    """Among one's own jobs; higher runs first."""
    attributes: dict[str, AttributeValue] = {}
    """Attributes of the job; joined over the levels. Text becomes a string, never an expression."""
    submit_lines: dict[str, str] = {}
    """``profile.condor`` of a file: lines of the submit description, names in lower case."""

    def final_exit_codes(self) -> list[int]:
        """Exit codes after which a retry is of no use, in order."""
        found = self.retry_unless_exit
        if found is None:
            return []
        return [found] if isinstance(found, int) else sorted(set(found))


def merged(levels: Iterable[Requests]) -> Requests:
    """Join levels: of each field the last value that is set, of maps the last of each name."""
    found: dict[str, object] = {}
    maps: dict[str, dict[str, object]] = {name: {} for name in _MAPS}
    for level in levels:
        for name in Requests.__struct_fields__:
            value = getattr(level, name)
            if name in _MAPS:
                maps[name].update(value)
            elif value is not None:
                found[name] = value
    return msgspec.structs.replace(Requests(), **found, **maps)
