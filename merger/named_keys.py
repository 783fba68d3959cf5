# SPDX-License-Identifier: BSD-3-Clause
"""Which keys below a RUN the text of a datastore record may mean."""

import functools
import os.path
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

# Two slashes, but for those of a scheme; dots as a part of a path; a query or a fragment.
_UNUSUAL = re.compile(r"(?<![:/])//|:////|(?:\A|/)\.{1,2}(?:/|\Z)|[?#]")

_LOCAL = re.compile(r"(?:file:(?://[^/]*)?)?(?=/)", re.IGNORECASE)


def keys_named(text: str, run: str) -> Iterator[str]:
    """Give every key below a RUN that a key or a URI may mean; sweep keeps all of them.

    Keys are relative to the datastore. A file that was registered from outside may have a URI,
    whose root may be written in another way than ours (a link, another address of the service),
    and whose characters may stand behind percent signs. So whatever follows the RUN's name counts,
    wherever that stands in the text.
    """
    below = f"{run}/"
    for form in _forms(text):
        start = form.find(below)
        while start >= 0:
            if start == 0 or form[start - 1] == "/":
                yield form[start:]
            start = form.find(below, start + 1)


def _forms(text: str) -> Iterator[str]:
    """Give a text as it is, without percent signs, query, fragment, needless slashes and dots."""
    for form in {text, unquote(text, errors="surrogateescape")}:
        yield form
        if _UNUSUAL.search(form):
            bare = re.split(r"[?#]", form, maxsplit=1)[0]
            scheme, _, path = bare.rpartition("://")
            yield bare
            yield posixpath.normpath(form)
            yield f"{scheme}/{posixpath.normpath(path)}"


class LinkedPaths:
    """Keys below a RUN in a directory that paths mean through links, as the file system has them.

    Parameters
    ----------
    root
        Directory of the datastore.
    """

    def __init__(self, root: Path, run: str) -> None:
        self._place = f"{os.path.realpath(root / run)}/"
        self._below = f"{run}/"
        self._real_directory = functools.lru_cache(maxsize=10_000)(os.path.realpath)

    def keys_named(self, text: str) -> Iterator[str]:
        """Give the keys that a text means if it is an absolute path or a ``file:`` URI."""
        if found := _LOCAL.match(text):
            path = text[found.end() :]
            bare = re.split(r"[?#]", path, maxsplit=1)[0]
            plain = (unquote(form, errors="surrogateescape") for form in (path, bare))
            for form in {path, bare, *plain}:
                real = "" if "\0" in form else self._real_path(form)
                if real.startswith(self._place):
                    yield self._below + real.removeprefix(self._place)

    def _real_path(self, path: str) -> str:
        directory, name = os.path.split(path)
        if name in ("", ".", ".."):
            return ""
        real = os.path.join(self._real_directory(directory), name)
        return os.path.realpath(real) if os.path.islink(real) else real
