# SPDX-License-Identifier: BSD-3-Clause
"""Submitting a graph the way an operator does, and looking at the outcome with other software."""

import configparser
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.fix_pool import PersonalPool

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Site:
    """An access point with its pool, S3 service and database."""

    pool: PersonalPool
    directory: Path
    database: str
    datastore: str
    s3_settings: Mapping[str, str]

    def prepare(self, **submit_settings: object) -> None:
        """Write the files of the access point: credentials, merge and submit configuration."""
        credentials = configparser.ConfigParser()
        credentials["default"] = {
            name.lower(): self.s3_settings[name]
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        }
        with (self.directory / "credentials").open("w") as file:
            credentials.write(file)
        self._write_yaml("registry-merge.yaml", {"database": self.database})
        submit = {
            "submitPath": str(self.directory / "submit"),
            "mergeConfig": str(self.directory / "registry-merge.yaml"),
            "requestMemory": 64,
            "requestDisk": 10,
            **submit_settings,
        }
        self._write_yaml("submit.yaml", submit)

    def change_settings(self, **submit_settings: object) -> None:
        """Change the submit configuration."""
        before = yaml.safe_load((self.directory / "submit.yaml").read_text())
        self._write_yaml("submit.yaml", {**before, **submit_settings})

    def _write_yaml(self, name: str, content: object) -> None:
        path = self.directory / name
        path.write_text(yaml.safe_dump(content))
        path.chmod(0o600)

    def environment(self) -> dict[str, str]:
        """The environment of an operator: secrets in files, addresses in variables."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.directory / "credentials"),
            "AWS_DEFAULT_REGION": self.s3_settings["AWS_DEFAULT_REGION"],
            "AWS_ENDPOINT_URL": self.s3_settings["AWS_ENDPOINT_URL"],
            **self.pool.environment,
        }

    def command(
        self, *words: str | Path, codes: tuple[int, ...] = (0,), timeout_s: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run one of our commands as the operator and look at its exit code."""
        done = subprocess.run(
            [BIN / str(words[0]), *words[1:]],
            env=self.environment(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode in codes, f"{words}: {done.returncode}\n{self.explain(done)}"
        return done

    def explain(self, done: subprocess.CompletedProcess[str]) -> str:
        """All that may tell why a command went wrong."""
        texts = [done.stdout, done.stderr, self.pool.report()]
        for pattern in ("merge.out", "merge.err", "*.dagman.out"):
            texts += [p.read_text()[-3000:] for p in (self.directory / "submit").rglob(pattern)]
        return "\n".join(texts)

    def submit(
        self, graph: Path, *options: str, codes: tuple[int, ...] = (0,), timeout_s: float = 240
    ) -> dict[str, object]:
        """``quantum-exec submit --wait``; returns its JSON report."""
        store = ("--datastore", self.datastore, "--config", self.directory / "submit.yaml")
        words: list[str | Path] = [
            "quantum-exec",
            "submit",
            graph,
            *store,
            "--wait",
            "--json",
            *options,
        ]
        done = self.command(*words, codes=codes, timeout_s=timeout_s)
        report: dict[str, object] = json.loads(done.stdout)
        return report

    def verify(self, run: str) -> None:
        """``registry-merge verify --checksums`` says equal, or the test fails."""
        self.command(
            *("registry-merge", "verify", self.datastore, run, "--checksums"),
            *("--config", self.directory / "registry-merge.yaml"),
        )

    def psql(self, query: str) -> list[list[str]]:
        """Ask the central registry with PostgreSQL's own client."""
        done = subprocess.run(
            ["psql", "--no-psqlrc", "--csv", "--tuples-only", "--command", query, self.database],
            capture_output=True,
            text=True,
            check=True,
        )
        return [line.split(",") for line in done.stdout.splitlines()]

    def sha256(self, key: str) -> str:
        """Fetch an object with s3cmd and sum it with sha256sum."""
        bucket_and_root = self.datastore.removeprefix("s3://")
        place = self.s3_settings["AWS_ENDPOINT_URL"].removeprefix("http://")
        path = self.directory / "fetched"
        subprocess.run(
            [
                *("s3cmd", "--config", "/dev/null", "--no-ssl", "--force", "--quiet"),
                *("--access_key", self.s3_settings["AWS_ACCESS_KEY_ID"]),
                *("--secret_key", self.s3_settings["AWS_SECRET_ACCESS_KEY"]),
                *("--host", place, "--host-bucket", place),
                *("get", f"s3://{bucket_and_root}/{key}", str(path)),
            ],
            check=True,
            capture_output=True,
        )
        done = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == done.stdout.split()[0]
        return done.stdout.split()[0]


def need(program: str) -> None:
    """Skip, or in CI fail, where a program that the tests look with is missing."""
    if shutil.which(program) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not on PATH")
