# SPDX-License-Identifier: BSD-3-Clause
"""What the exit code of ``registry-merge`` says."""

import enum
from collections.abc import Mapping


class ExitCode(enum.IntEnum):
    """If several of 10 to 15 apply, the lowest is returned; ``--json`` has all counts."""

    OK = 0
    """Everything that could be merged is merged; or verify found nothing but notes."""
    ERROR = 1
    """The command could not do its work; the message says why. It may be run again."""
    USAGE = 2
    """The command line or the configuration file is wrong; nothing was tried."""
    UNAVAILABLE = 3
    """Database or datastore is away, full, read-only or has no connection left; later may help."""
    SCHEMA = 4
    """The central registry has no tables, or those of another release: init, migrate or upgrade."""
    NOT_PERMITTED = 5
    """Database or datastore refuses: a right or a credential is missing."""
    CONFLICTS = 10
    """The merge is complete, and the RUN has open conflicts, whichever merge recorded them."""
    QUARANTINED = 11
    """The rest is merged; bad deltas of this RUN are in the quarantine."""
    NEWER_FORMAT = 12
    """The rest is merged; deltas of a newer format wait for an upgrade of this command."""
    DIFFERENCES = 13
    """Verify found that registry, deltas and bucket do not agree, archive a damaged archive, import
    that rows or chains are not there as in its file."""
    DELTAS_MISSING = 14
    """The DAG says that a quantum was successful, and the datastore has no delta of it."""
    CONFLICTS_REFUSED = 15
    """Policy ``fail``: deltas whose rows conflict were left unmerged, the rest is merged."""
    ADVICE = 16
    """Doctor found something that has to be changed."""
    STOPPED = 143
    """Told to stop (SIGTERM): what was begun is merged, the rest is left to the next merge."""


def lowest(applying: Mapping[ExitCode, object]) -> ExitCode:
    """Return the lowest code other than 0 of those whose value counts something, is some or true.

    Parameters
    ----------
    applying
        Codes, and what would be a reason for each: a number, a list, a truth.
    """
    codes = (code for code, reason in applying.items() if code and reason)
    return min(codes, default=ExitCode.OK)
