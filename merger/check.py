# SPDX-License-Identifier: BSD-3-Clause
"""One thing that the doctor looked at."""

import enum
from dataclasses import dataclass


class Standing(enum.StrEnum):
    """How a thing stands."""

    OK = "ok"
    """Nothing to do."""
    WARNING = "warn"
    """A merge works; somebody should know, or it could not be looked at."""
    BAD = "bad"
    """A merge will fail, or already did."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was expected, what was found, and what to change if they differ.

    ``remedy`` is SQL or a setting to type, or what to do.
    """

    subject: str
    standing: Standing
    expected: str
    found: str
    remedy: str | None = None


def judged(
    subject: str,
    is_fit: bool,
    expected: str,
    found: str,
    remedy: str,
    *,
    otherwise: Standing = Standing.BAD,
) -> Check:
    """Make a check whose remedy is told only if it is needed."""
    standing = Standing.OK if is_fit else otherwise
    return Check(subject, standing, expected, found, None if is_fit else remedy)
