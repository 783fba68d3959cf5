# SPDX-License-Identifier: BSD-3-Clause
"""Three quanta in a row, whose middle one reads two datasets, makes two, and can be waited for."""

import sys
from pathlib import Path
from typing import Any

from registry.model import derived_id
from tests.halted_processes import mark
from tests.local_graphs import RUN, GraphRun

EXPOSURE = {"exposure": 1}

JOIN_SCRIPT = """
come_to() {
  [ "$TELL_AT" = "$1" ] || return 0
  echo $$ > "$TELL_IN.new"; mv "$TELL_IN.new" "$TELL_IN"
  if [ -n "$TELL_STOPS" ]; then kill -STOP $$; else exec sleep 600; fi
}
come_to "task running"
(cat "$1" "$2"; echo "$WORD") > "$3"; (echo "$WORD"; cat "$2" "$1") > "$4"; "$5" -c "$6"
come_to "outputs written"
"""
JOIN_ROWS = """
import os, sqlite3
connection = sqlite3.connect(os.environ["QUANTUM_EXEC_REGISTRY"])
attempt = os.environ["QUANTUM_EXEC_ATTEMPT_ID"]
connection.execute("INSERT INTO metric VALUES (?, 'n_lines', 6)", (attempt,))
record = ("visit", '{"visit":1}', '{"n":6}')
connection.execute("INSERT INTO dimension_record VALUES (?, ?, ?)", record)
connection.commit()
"""


def make_document() -> dict[str, Any]:
    """The graph: split, join, show."""
    kind = {"dimensions": ["exposure"], "storage_class": "File", "extension": ".txt"}

    def quantum(label: str, inputs: str, outputs: str) -> dict[str, Any]:
        return {
            **{"task": label, "data_id": EXPOSURE},
            "inputs": {name: EXPOSURE for name in inputs.split()},
            "outputs": {name: EXPOSURE for name in outputs.split()},
        }

    split = ["{input:raw}", "{output:left}", "{output:right}"]
    show = ["{input:sum}", "{input:difference}", "{output:plot}"]
    halves = '(cat "$1"; echo left) > "$2"; (cat "$1"; echo right) > "$3"'
    files = ["{input:left}", "{input:right}", "{output:sum}", "{output:difference}"]
    plot = 'cat "$1" "$2" > "$3"'
    return {
        **{"quantum_graph": 1, "name": "three in a row", "run": RUN},
        "dimensions": {"exposure": "int"},
        "dataset_types": {t: kind for t in "raw left right sum difference plot".split()},
        "tasks": {
            "split": {"command": ["sh", "-ec", halves, "sh", *split]},
            "join": {
                "command": ["sh", "-ec", JOIN_SCRIPT, "sh", *files, sys.executable, JOIN_ROWS]
            },
            "show": {"command": ["sh", "-ec", plot, "sh", *show]},
        },
        "inputs": [
            {"dataset_type": "raw", "data_id": EXPOSURE, "run": "raw/all", "key": "raw.txt"}
        ],
        "quanta": [
            quantum("split", "raw", "left right"),
            quantum("join", "left right", "sum difference"),
            quantum("show", "sum difference", "plot"),
        ],
    }


def quantum_id(label: str) -> str:
    """Id of the quantum of a task: split, join or show."""
    return derived_id("quantum", RUN, label, EXPOSURE)


def make_run(directory: Path, datastore: str | None = None) -> GraphRun:
    """The graph in a directory, whose processes can be found again."""
    made = GraphRun(directory, datastore or (directory / "store").as_uri(), make_document())
    made.environment = {**mark(directory), "TMPDIR": str(directory / "tmp")}
    (directory / "tmp").mkdir()
    return made
