# SPDX-License-Identifier: BSD-3-Clause
"""A graph whose first quanta run until a test opens a gate; some are followed by a quick one."""

from pathlib import Path

import yaml

N_WAITING = 10
"""Two more than the pool of the tests runs at once."""

N_AT_ONCE = 8

N_COPIES = 3

N_QUANTA = N_WAITING + N_COPIES

_WAIT = 'while [ ! -e "$1" ]; do sleep 0.1; done; echo waited > "$2"'


def write_gated_tasks(path: Path, gate: Path, run: str) -> Path:
    """Write the graph file; the gate is open while the file is there."""
    numbers = [{"exposure": n} for n in range(N_WAITING)]
    file = {"dimensions": ["exposure"], "storage_class": "File", "extension": ".txt"}
    graph = {
        "quantum_graph": 1,
        "name": "gated",
        "run": run,
        "dimensions": {"exposure": "int"},
        "dataset_types": {"waited": file, "copied": file},
        "tasks": {
            "wait": {"command": ["sh", "-c", _WAIT, "sh", str(gate), "{output:waited}"]},
            "copy": {"command": ["cp", "{input:waited}", "{output:copied}"]},
        },
        "inputs": [],
        "quanta": [
            *({"task": "wait", "data_id": n, "outputs": {"waited": n}} for n in map(dict, numbers)),
            *(
                {"task": "copy", "data_id": n, "inputs": {"waited": n}, "outputs": {"copied": n}}
                for n in map(dict, numbers[:N_COPIES])
            ),
        ],
    }
    # Without aliases: the graph file is read by a safe reader that may refuse them.
    dumper = yaml.SafeDumper
    dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]
    path.write_text(yaml.dump(graph, Dumper=dumper, sort_keys=False))
    return path
