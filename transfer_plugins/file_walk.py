# SPDX-License-Identifier: BSD-3-Clause
"""Walking a directory in the order in which S3 lists keys."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def walk_files(root: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    """Give every file whose path below the root begins with a prefix, ordered by that path.

    Keeps the names of one directory for each level, so it may be walked however many there are.
    Links to directories are not followed. What goes away meanwhile is left out.

    Raises
    ------
    OSError
        If a directory is there and cannot be read: an empty listing would say that nothing is.
    """
    for path in walk_paths(root, prefix):
        with suppress(FileNotFoundError):
            yield path, os.stat(f"{root}/{path}")


def walk_paths(root: Path, prefix: str) -> Iterator[str]:
    """Give the same paths, and look at no file; raises as `walk_files`."""
    directory, _, start = prefix.rpartition("/")
    waiting = [_names(root, f"{directory}/" if directory else "", start)]
    while waiting:
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
        elif name.endswith("/"):
            waiting.append(_names(root, name))
        else:
            yield name


def paths_in_any_order(root: Path, prefix: str) -> Iterator[str]:
    """Give the same paths as they come: nothing is kept, and no name is looked at twice."""
    directory, _, start = prefix.rpartition("/")
    waiting = [(f"{directory}/" if directory else "", start)]
    while waiting:
        above, start = waiting.pop()
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / above) as entries:
            for entry in entries:
                name = entry.name
                if not name.startswith(start):
                    continue
                if not entry.is_dir():
                    yield above + name
                elif not entry.is_symlink():
                    waiting.append((f"{above}{name}/", ""))


def _names(root: Path, above: str, start: str = "") -> Iterator[str]:
    """Give names in a directory, each behind the path of the directory; directories with a slash.

    So they sort as the paths below them do. Only the names are kept: there may be a million.
    """
    found = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(f"{root}/{above}") as entries:
        found = sorted(
            entry.name + "/" * entry.is_dir(follow_symlinks=False)
            for entry in entries
            if entry.name.startswith(start) and not (entry.is_symlink() and entry.is_dir())
        )
    return (above + name for name in found)
