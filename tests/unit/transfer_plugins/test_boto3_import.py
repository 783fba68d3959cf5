# SPDX-License-Identifier: BSD-3-Clause
"""Threads that begin with different modules of boto3 at the same moment."""

import subprocess
import sys

# One thread is in the middle of boto3/__init__.py when the other begins.
_TWO_THREADS = """
import builtins, sys, threading
from transfer_plugins.object_store import open_store

is_within, tries = threading.Event(), [0]
plain = builtins.__import__

def slow(name, *args, **kwargs):
    found = plain(name, *args, **kwargs)
    importer = sys._getframe(1).f_globals.get("__name__")
    if importer == "boto3" and not is_within.is_set():
        is_within.set()
        threading.Event().wait(0.5)
    return found

builtins.__import__ = slow
stores = [open_store("s3://b/x", endpoint_url="http://127.0.0.1:1") for _ in range(2)]
errors = []

def read_names():
    with stores[0]._naming("x"):
        pass

def make_client():
    is_within.wait(10)
    stores[1].client

def noted(call):
    try:
        call()
    except Exception as error:
        errors.append(error)

threads = [threading.Thread(target=noted, args=[call]) for call in (read_names, make_client)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert is_within.is_set()
assert not errors, errors
"""


def test_no_thread_sees_half_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TWO_THREADS],
        env={
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
