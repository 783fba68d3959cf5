# SPDX-License-Identifier: BSD-3-Clause
"""A real S3 server (moto's) in a process of its own, filled before it begins to answer.

``python -m tests.chaos.bucket DIRECTORY BUCKET`` puts every file of a directory into a bucket,
prints its port, and ends when stdin does.
"""

import subprocess
import sys
from pathlib import Path

from tests.chaos.places import ROOT

BUCKET = "chaos"


class BucketServer:
    """The process, as the one sees it who started it."""

    def __init__(self, directory: Path, log: Path) -> None:
        with log.open("w") as errors:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.bucket", str(directory), BUCKET],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
            )
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError(f"the S3 server did not start: {log.read_text()}")
        self.port = int(line)

    def stop(self) -> None:
        """End it, and all that it has."""
        self._server.kill()
        self._server.communicate()


def serve(directory: Path, bucket: str) -> None:
    """Fill a bucket and serve it until stdin ends."""
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket(bucket, "us-east-1")
    for path in directory.rglob("*"):
        if path.is_file():
            backend.put_object(bucket, path.relative_to(directory).as_posix(), path.read_bytes())
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
