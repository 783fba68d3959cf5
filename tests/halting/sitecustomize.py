# SPDX-License-Identifier: BSD-3-Clause
"""Stops its own process with SIGSTOP at one audit event that the environment names.

Found by Python through PYTHONPATH before anything else is imported, so that no product code has
to know of it. ``tests/halted_processes.py`` sets the variables.
"""

import itertools
import os
import re
import signal
import sys
import threading


def _install() -> None:
    wanted, text = os.environ["HALT_EVENT"], re.compile(os.environ["HALT_PATTERN"])
    last, marker = int(os.environ["HALT_NUMBER"]), os.environ["HALT_MARKER"]
    numbers = itertools.count(1)

    def halt(event: str, arguments: tuple[object, ...]) -> None:
        if event != wanted or not text.search(" ".join(map(str, arguments[:2]))):
            return
        if next(numbers) == last and not os.path.exists(marker):
            descriptor = os.open(f"{marker}.new", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(descriptor, str(os.getpid()).encode())
            os.close(descriptor)
            os.rename(f"{marker}.new", marker)
            # To this thread, which then stops before anything else; of the process any could.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    sys.addaudithook(halt)


if os.environ.get("HALT_COMMAND") in sys.orig_argv:
    _install()
