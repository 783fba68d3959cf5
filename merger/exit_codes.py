# SPDX-License-Identifier: BSD-3-Clause
"""What the exit code of ``registry-merge`` says."""

import enum


class ExitCode(enum.IntEnum):
    """If several of 10, 11 and 12 apply, the lowest is returned; ``--json`` has all counts."""

    OK = 0
    """Everything that could be merged is merged; or verify found nothing but notes."""
    ERROR = 1
    """The command could not do its work; the message says why. It may be run again."""
    USAGE = 2
    """The command line or the configuration file is wrong; nothing was tried."""
    CONFLICTS = 10
    """The merge is complete, and recorded conflicts that were not known before."""
    QUARANTINED = 11
    """The rest is merged; bad deltas of this RUN are in the quarantine."""
    NEWER_FORMAT = 12
    """The rest is merged; deltas of a newer format wait for an upgrade of this command."""
    DIFFERENCES = 13
    """Verify found that registry, deltas and bucket do not agree."""
