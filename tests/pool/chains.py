# SPDX-License-Identifier: BSD-3-Clause
"""Chains of three short tasks, one of which fails once."""

from pathlib import Path

import yaml

TASKS = ("isr", "fit", "flag")
CLUSTER = {
    "pipetasks": ",".join(TASKS),
    "partitionDimensions": "exposure",
    "keepIntermediates": False,
}


def write_chains(path: Path, run: str, n_exposures: int, *, failing: int = 0) -> Path:
    """Write a graph of isr, fit and flag for each exposure; ``flag`` of one fails once."""
    exposures = [{"exposure": number} for number in range(1, n_exposures + 1)]
    graph = {
        "quantum_graph": 1,
        "name": "chains",
        "run": run,
        "dimensions": {"exposure": "int"},
        "dataset_types": {
            label: {"dimensions": ["exposure"], "storage_class": "File", "extension": ".txt"}
            for label in TASKS
        },
        "tasks": {label: _task(label, path.parent, failing) for label in TASKS},
        "quanta": [
            {
                "task": label,
                "data_id": exposure,
                "inputs": {source: exposure} if source else {},
                "outputs": {label: exposure},
            }
            for label, source in zip(TASKS, (None, *TASKS), strict=False)
            for exposure in exposures
        ],
    }
    path.write_text(yaml.safe_dump(graph, sort_keys=False))
    return path


def _task(label: str, directory: Path, failing: int) -> dict[str, object]:
    source = {"fit": "{input:isr}", "flag": "{input:fit}"}.get(label, "/dev/null")
    script = f'cp "$1" part; echo {label} of $3 >> part; mv part "$2"'
    if label == "flag":
        script = (
            'if [ "$3" = "$FAILING_EXPOSURE" ] && mkdir "$TRIED" 2> /dev/null; then exit 3; fi; '
            + script
        )
    return {
        "command": ["sh", "-c", script, "sh", source, f"{{output:{label}}}", "{data_id:exposure}"],
        # The second try finds that there was a first one.
        "environment": {"FAILING_EXPOSURE": str(failing), "TRIED": str(directory / "tried")},
    }
