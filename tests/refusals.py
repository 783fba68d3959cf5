# SPDX-License-Identifier: BSD-3-Clause
"""Commands that are given something wrong: one message, its exit code, nothing left behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

# click and argparse put their usage above the message.
_USAGE = re.compile(r"^(Error: |quantum-exec run: error: |╭─ Error ─)", re.MULTILINE)

NO_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Nothing of AWS that this machine may have set up."""


def call(
    cwd: Path, *words: str, module: str = "executor", **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run ``quantum-exec``, or the program of another module, with no terminal."""
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=cwd,
        env={**os.environ, **NO_AWS, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def check_refused(
    done: "subprocess.CompletedProcess[str]",
    code: int,
    *texts: str,
    program: str = "quantum-exec",
) -> None:
    """Look at the exit code, and that there is exactly one message, with these texts in it."""
    told = done.stderr
    assert done.returncode == code, told
    assert done.stdout == ""
    assert "Traceback" not in told
    if _USAGE.search(told):
        assert len(_USAGE.findall(told)) == 1
    else:
        assert told.startswith(f"{program}: ")
        assert told.count("\n") == 1
    for text in texts:
        assert text in told


def files_below(directory: Path) -> set[str]:
    """Everything below a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def start(
    cwd: Path, *words: str, module: str = "executor", **environment: str
) -> "subprocess.Popen[str]":
    """Start what `call` runs, and leave it running."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=cwd,
        env={**os.environ, **NO_AWS, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
