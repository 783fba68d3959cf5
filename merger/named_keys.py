# SPDX-License-Identifier: BSD-3-Clause
"""Which keys below a RUN the text of a datastore record may mean."""

import posixpath
import re
from collections.abc import Iterator
from urllib.parse import unquote

_UNUSUAL = re.compile(r"//|/\.{1,2}(?:/|\Z)|[?#]")


def keys_named(text: str, run: str) -> Iterator[str]:
    """Give every key below a RUN that a key or a URI may mean; sweep keeps all of them.

    Keys are relative to the datastore. A file that was registered from outside may have a URI,
    whose root may be written in another way than ours (a link, another address of the service),
    and whose characters may stand behind percent signs. So whatever follows the RUN's name counts,
    wherever that stands in the text.
    """
    below = f"{run}/"
    for form in {text, unquote(text, errors="surrogateescape")}:
        for plain in _spellings(form):
            start = plain.find(below)
            while start >= 0:
                if start == 0 or plain[start - 1] == "/":
                    yield plain[start:]
                start = plain.find(below, start + 1)


def _spellings(text: str) -> set[str]:
    """Return a text as it is, without query and fragment, and without needless slashes and dots."""
    found = {text}
    if _UNUSUAL.search(text):
        bare = re.split(r"[?#]", text, maxsplit=1)[0]
        scheme, _, path = bare.rpartition("://")
        found |= {bare, posixpath.normpath(text), f"{scheme}/{posixpath.normpath(path)}"}
    return found
