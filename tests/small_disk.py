# SPDX-License-Identifier: BSD-3-Clause
"""A disk of a few megabytes, made by an ordinary user: a tmpfs in a mount namespace of its own."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.own_postgres import server_user


class SmallDisk:
    """A directory on a file system of its own, seen through the process that holds it."""

    def __init__(self, size: str) -> None:
        user = server_user()
        self._seen_as = Path(tempfile.mkdtemp(prefix="qe-small-", dir="/tmp"))
        if user is not None:
            shutil.chown(self._seen_as, user)
        self._seen_as.chmod(0o755)
        mount = f"mount -t tmpfs -o mode=755,size={size} tmpfs {self._seen_as}"
        self._holder = subprocess.Popen(
            [
                *("unshare", "--user", "--map-root-user", "--mount"),
                *("sh", "-c", f"{mount} && echo ready && exec sleep infinity"),
            ],
            user=user,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._holder.stdout is not None
        told = self._holder.stdout.readline()
        if told != "ready\n":
            self.remove()
            pytest.skip(f"this system lets no user mount a disk: {told.strip()}")
        self.path = Path(f"/proc/{self._holder.pid}/root{self._seen_as}")
        self._ballast = self.path / "ballast"

    def fill(self) -> None:
        """Leave no free byte."""
        self._as_owner(f"cat /dev/zero >{self._ballast}")
        assert os.statvfs(self.path).f_bavail == 0

    def make_room(self) -> None:
        """Remove what filled it."""
        self._as_owner(f"rm {self._ballast}")

    def _as_owner(self, command: str) -> None:
        # The file system knows no other user, root included.
        subprocess.run(["sh", "-c", command], user=server_user(), stderr=subprocess.DEVNULL)

    def remove(self) -> None:
        """End the process that holds it; what is on it is gone."""
        self._holder.kill()
        self._holder.communicate()
        shutil.rmtree(self._seen_as, ignore_errors=True)
