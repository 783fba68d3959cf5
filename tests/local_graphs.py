# SPDX-License-Identifier: BSD-3-Clause
"""A graph of shell commands, run by ``quantum-exec run-local`` as a process."""

import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from executor.submit.standings import counting_deltas
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import Delta, read_delta
from transfer_plugins.object_store import DirectoryObjectStore, ObjectStore, open_store
from transfer_plugins.s3_object_store import S3ObjectStore

Document = dict[str, Any]

RUN = "u/tester/survey"


def make_survey(n_exposures: int) -> Document:
    """A graph that corrects and fits each exposure, and coadds all."""
    exposures = [{"exposure": number} for number in range(n_exposures)]
    of_exposure = {"dimensions": ["exposure"], "storage_class": "File", "extension": ".txt"}
    return {
        "quantum_graph": 1,
        "name": "survey",
        "run": RUN,
        "dimensions": {"exposure": "int"},
        "dataset_types": {
            **{name: dict(of_exposure) for name in ("raw", "isr", "fit")},
            "coadd": {"dimensions": [], "storage_class": "File", "extension": ".txt"},
        },
        "tasks": {
            "isr": {"command": append("isr", "{input:raw}", "{output:isr}")},
            "fit": {"command": append("fit", "{input:isr}", "{output:fit}")},
            "coadd": {
                "command": [
                    *("sh", "-c", 'o=$1; shift; cat "$@" < /dev/null > $o', "sh"),
                    *("{output:coadd}", "{inputs:fit}"),
                ]
            },
        },
        "inputs": [
            {
                "dataset_type": "raw",
                "data_id": e,
                "run": "raw/all",
                "key": key_of_raw(e["exposure"]),
            }
            for e in exposures
        ],
        # The last first: order is that of the data, not that of the file.
        "quanta": [
            {
                "task": "coadd",
                "data_id": {},
                "inputs": {"fit": exposures},
                "outputs": {"coadd": {}},
            },
            *(quantum("fit", "isr", e) for e in exposures),
            *(quantum("isr", "raw", e) for e in exposures),
        ],
    }


def append(word: str, source: str, target: str) -> list[str]:
    """A command that copies a file and adds a line."""
    return [
        "sh",
        "-c",
        f'cp "$1" part && echo {word} >> part && mv part "$2"',
        "sh",
        source,
        target,
    ]


def quantum(label: str, source: str, data_id: dict[str, int]) -> Document:
    """A quantum that makes a dataset of the name of its task."""
    return {
        **{"task": label, "data_id": data_id},
        **{"inputs": {source: data_id}, "outputs": {label: data_id}},
    }


def key_of_raw(exposure: int) -> str:
    """The key of a raw exposure."""
    return f"raw/{exposure}.txt"


@dataclass(frozen=True, slots=True)
class Report:
    """What ``run-local --json`` said; counts are all, successful, failed, blocked."""

    code: int
    counts: dict[str, tuple[int, int, int, int]]
    failures: list[str]
    stderr: str


class GraphRun:
    """A graph file, a datastore and a scratch directory below one directory."""

    def __init__(self, directory: Path, datastore: str, document: Document) -> None:
        self.directory = directory
        self.datastore = datastore
        self.document = document
        self.graph_file = directory / "graph.yaml"
        self.scratch = directory / "scratch"
        self.environment: dict[str, str] = {}
        self._commands: dict[str, list[str]] = {}
        self._has_raws = False

    @property
    def store(self) -> ObjectStore:
        """The datastore."""
        return open_store(self.datastore)

    def copy(self, directory: Path, datastore: str) -> "GraphRun":
        """Return the same graph, run as far, in another directory and datastore of the same kind.

        What a datastore holds does not name its place.
        """
        made = GraphRun(directory, datastore, copy.deepcopy(self.document))
        made._commands, made._has_raws = copy.deepcopy(self._commands), self._has_raws
        source, target = self.store, made.store
        if isinstance(source, S3ObjectStore) and isinstance(target, S3ObjectStore):
            for stored in source.list_objects(""):
                place = f"{source.bucket}/{source.prefix}{stored.key}"
                key = target.prefix + stored.key
                target.client.copy_object(Bucket=target.bucket, Key=key, CopySource=place)
        elif isinstance(source, DirectoryObjectStore) and isinstance(target, DirectoryObjectStore):
            shutil.copytree(source.root, target.root)
        made.scratch.mkdir()
        made.prepare()
        return made

    def fail(self, label: str, exposure: int) -> None:
        """Let a task fail for one exposure, until it is mended."""
        self._commands[label] = self.document["tasks"][label]["command"]
        told = f"{label} of exposure {exposure} does not converge"
        script = f'if [ $1 = {exposure} ]; then echo {told} >&2; exit 3; fi; shift; exec "$@"'
        self.document["tasks"][label]["command"] = [
            *("sh", "-c", script, "sh", "{data_id:exposure}"),
            *self._commands[label],
        ]

    def mend(self) -> None:
        """Give all tasks their commands back."""
        for label, command in self._commands.items():
            self.document["tasks"][label]["command"] = command

    def prepare(self) -> None:
        """Write the graph file, and once the raw exposures."""
        self.graph_file.write_text(yaml.safe_dump(self.document, sort_keys=False))
        if not self._has_raws:
            for number, row in enumerate(self.document["inputs"]):
                self.store.put(row["key"], f"raw {number}\n".encode())
            self._has_raws = True

    def command(self, *options: str) -> list[str]:
        """The command line of the runner."""
        words = ["run-local", str(self.graph_file), "--datastore", self.datastore]
        return [sys.executable, "-m", "executor", *words, "--scratch", str(self.scratch), *options]

    def start(self, *options: str) -> "subprocess.Popen[str]":
        """Start the runner in a session of its own."""
        self.prepare()
        return subprocess.Popen(
            self.command(*options),
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, *options: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run the runner to its end."""
        self.prepare()
        words = self.command(*[option for option in options if option != "run-local"])
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            words, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120
        )

    def run(self, *options: str, cwd: Path | None = None) -> Report:
        """Run the runner to its end and read its report."""
        done = self.call("--json", *options, cwd=cwd)
        return self.report_of(done.returncode, done.stdout, done.stderr)

    @staticmethod
    def report_of(code: int, stdout: str, stderr: str) -> Report:
        """Read what ``--json`` printed."""
        read = json.loads(stdout) if stdout.strip() else {"tasks": [], "failures": []}
        names_of_counts = ("n_quanta", "n_successful", "n_failed", "n_blocked")
        counts = {
            t["task_label"]: tuple(t[name] for name in names_of_counts) for t in read["tasks"]
        }
        return Report(code, counts, read["failures"], stderr)

    def keys(self) -> list[str]:
        """Keys of all objects of the RUN."""
        return [stored.key for stored in self.store.list_objects(f"{RUN}/")]

    def counting(self) -> dict[str, Delta]:
        """The deltas that count, by quantum; dataclasses, so that a test may change them."""
        found = counting_deltas(self.store, RUN)
        keys = {q: names.delta_key(RUN, q, delta.attempt_id) for q, delta in found.items()}
        return {q: read_delta(self.store.get(key), key) for q, key in keys.items()}

    def deltas(self) -> list[Delta]:
        """All deltas, verified."""
        keys = [s.key for s in self.store.list_objects(names.delta_prefix(RUN))]
        return [read_delta(self.store.get(key), key) for key in keys]

    def attempts(self) -> list[tuple[str, AttemptStatus]]:
        """Task label and status of every attempt."""
        return [(delta.task_label, delta.status) for delta in self.deltas()]

    def content(self, dataset_type: str) -> list[bytes]:
        """The datasets of a type, of the attempts that count."""
        return [
            self.store.get(record.object_key)
            for delta in self.counting().values()
            for row, record in zip(delta.rows.dataset, delta.rows.datastore_record, strict=True)
            if row.dataset_type == dataset_type
        ]

    def result(self) -> set[tuple[str, str, str]]:
        """What the RUN holds: dataset type, data ID and checksum of what counts."""
        return {
            (row.dataset_type, str(row.data_id), record.checksum)
            for delta in self.counting().values()
            for row, record in zip(delta.rows.dataset, delta.rows.datastore_record, strict=True)
        }
