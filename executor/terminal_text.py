# SPDX-License-Identifier: BSD-3-Clause
"""Text of tasks as a terminal may show it."""

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Text without control characters, but for tabs and ends of lines."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
