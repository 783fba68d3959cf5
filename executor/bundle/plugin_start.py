# SPDX-License-Identifier: BSD-3-Clause
"""``__main__`` of ``quantum_exec_plugin``, the transfer plugin in one file.

Read by any Python 3.6: where Python is too old, HTCondor is told so in result ads, and shows it as
the reason of the hold.
"""

import os
import re
import sys

_NEEDED = (3, 11)
_TEXT = r'"((?:[^"\\]|\\.)*)"'


def main() -> int:
    """Be the plugin; 1 if this Python cannot."""
    if sys.version_info[:2] < _NEEDED:
        return _refuse(sys.argv[1:])
    archive = os.path.abspath(sys.path[0])
    sys.path[:1] = [archive, os.path.join(archive, "packages")]
    from transfer_plugins import htcondor_plugin

    htcondor_plugin.main()


def _refuse(arguments) -> int:  # type: ignore[no-untyped-def]
    machine, found = os.uname()[1], ".".join(str(part) for part in sys.version_info[:2])
    message = (
        f"quantum_exec_plugin: expected Python 3.11 or later as python3 on {machine}, found "
        f"{found} ({sys.executable}); require other machines, or make the bundle with --python"
    )
    sys.stderr.write(message + "\n")
    # Neither itertools.pairwise nor zip(strict=) before 3.10.
    options = dict(zip(arguments, arguments[1:]))  # noqa: B905, RUF007
    if "-infile" in options and "-outfile" in options:
        with open(options["-infile"], encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        urls = re.findall(r"\bUrl\s*=\s*" + _TEXT, text)
        paths = re.findall(r"\bLocalFileName\s*=\s*" + _TEXT, text)
        with open(options["-outfile"], "r+", encoding="utf-8", errors="surrogateescape") as file:
            for url, path in zip(urls, paths):  # noqa: B905
                file.write(f'[ TransferUrl = "{url}"; TransferFileName = "{path}"; ')
                file.write(f'TransferSuccess = false; TransferError = "{message}" ]\n')
    return 1


if __name__ == "__main__":
    sys.exit(main())
