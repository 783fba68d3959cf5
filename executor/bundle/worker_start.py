# SPDX-License-Identifier: BSD-3-Clause
"""``__main__`` of ``worker.pyz``: ``quantum-exec run`` in one file.

Read by any Python 3.6, so that one that is too old says so.
"""

import os
import sys

_NEEDED = (3, 11)
_USAGE = "usage: python3 worker.pyz run [...], as 'quantum-exec run'; see run --help"


def main() -> int:
    """Be ``quantum-exec run``, or the process of a task that is a function."""
    if sys.version_info[:2] < _NEEDED:
        found = ".".join(str(part) for part in sys.version_info[:2])
        sys.stderr.write(
            f"quantum-exec: expected Python 3.11 or later on {os.uname()[1]}, found {found} "
            f"({sys.executable})\n"
        )
        return 37
    archive = os.path.abspath(sys.path[0])
    packages = os.path.join(archive, "packages")
    sys.path[0] = archive
    if sys.argv[1:2] == ["function-task"]:
        # Behind all others: a task that brings a boto3 of its own needs more than S3.
        sys.path.append(packages)
        from executor import function_task

        return function_task.main()
    sys.path.insert(1, packages)
    if sys.argv[1:2] in (["run"], ["init"]):
        from executor import __main__ as program

        program.main()
    sys.stderr.write(_USAGE + "\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
