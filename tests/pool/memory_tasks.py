# SPDX-License-Identifier: BSD-3-Clause
"""A graph of quanta without inputs, each a piece of Python, one of each task label."""

from collections.abc import Mapping
from pathlib import Path

import yaml

# Holds 300 MiB until somebody ends it, unless the slot that it was given has room for them.
NEEDS_300_MIB = """
import os, re, signal, sys
ad = os.environ.get("SLOT_AD") or os.environ["_CONDOR_MACHINE_AD"]
granted = int(re.search(r"(?m)^Memory = (\\d+)$", open(ad).read())[1])
held = bytearray(300 * 1024 * 1024)
for start in range(0, len(held), 4096):
    held[start] = 1
if granted < 300:
    signal.pause()
open(sys.argv[1], "w").write(f"granted {granted} MiB")
"""
WRITES = "import sys; open(sys.argv[1], 'w').write('done')"


def write_graph(path: Path, run: str, tasks: Mapping[str, str]) -> Path:
    """Write a graph with one quantum for each task label; the task writes its one output."""
    kind = {"dimensions": ["number"], "storage_class": "File", "extension": ".txt"}
    graph = {
        "quantum_graph": 1,
        "name": "pieces",
        "run": run,
        "dimensions": {"number": "int"},
        "dataset_types": {f"{label}_out": dict(kind) for label in tasks},
        "tasks": {
            label: {"command": ["python3", "-c", code, f"{{output:{label}_out}}"]}
            for label, code in tasks.items()
        },
        "inputs": [],
        "quanta": [
            {
                "task": label,
                "data_id": {"number": 1},
                "inputs": {},
                "outputs": {f"{label}_out": {"number": 1}},
            }
            for label in tasks
        ],
    }
    path.write_text(yaml.safe_dump(graph, sort_keys=False))
    return path
