# SPDX-License-Identifier: BSD-3-Clause
"""The versions that a task reports: JSON, name to version, in a file that any program may write."""

import json
import sys
from pathlib import Path

from executor.versions import MAX_REPORTED_VERSIONS
from registry.delta import MAX_TEXT_LENGTH

_MOST_MODULES = 50


def is_reportable(text: object) -> bool:
    """Tell whether a name or a version can be kept."""
    return isinstance(text, str) and 0 < len(text) <= MAX_TEXT_LENGTH and text.isprintable()


def report(path: Path, name: str, version: str) -> None:
    """Add a version to the file; raises `OSError`."""
    _write(path, {**_read(path), name: version})


def report_modules(path: Path) -> None:
    """Add the versions of the modules that this process has imported; raises `OSError`.

    Only those of other packages, because Python's own have its version, and only those that the
    task did not report itself.
    """
    reported = _read(path)
    found = [(n, v) for n, v in _module_versions() if n not in reported]
    room = min(_MOST_MODULES, MAX_REPORTED_VERSIONS - len(reported))
    if found and room > 0:
        _write(path, {**dict(found[:room]), **reported})


def _module_versions() -> list[tuple[str, str]]:
    found = []
    for name, module in sorted(sys.modules.items()):
        if "." not in name and not name.startswith("_") and name not in sys.stdlib_module_names:
            # Not getattr: a module may compute the attribute, or warn of it.
            version = getattr(module, "__dict__", {}).get("__version__")
            if is_reportable(version):
                found.append((name, str(version)))
    return found


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, versions: dict[str, str]) -> None:
    """Replace the file as a whole, so that nobody reads half of it."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(versions))
    part.replace(path)
