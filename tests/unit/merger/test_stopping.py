# SPDX-License-Identifier: BSD-3-Clause
"""The first signal is noted, the second ends the process."""

import os
import signal
import subprocess
import sys

import pytest

from merger.stopping import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_noted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop
        assert not stop.wait(0)
        os.kill(os.getpid(), number)
        assert stop.wait(30)
        assert stop.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_no_signal() -> None:
    with StopRequest() as stop:
        pass
    assert not stop
    assert stop.exit_code == 0


TWO_SIGNALS = """
import os, signal
from merger.stopping import StopRequest
with StopRequest() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    print(stop.received, flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)
"""


def test_second_signal_ends_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", TWO_SIGNALS], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert (done.stdout, done.stderr) == (f"{int(signal.SIGTERM)}\n", "")
