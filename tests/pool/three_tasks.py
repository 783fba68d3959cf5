# SPDX-License-Identifier: BSD-3-Clause
"""A graph of three dependent tasks whose commands look around on the worker."""

from pathlib import Path

import yaml

from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import ObjectStore

EXPOSURES = (1, 2, 3)

# Reads the seeded rows with plain sqlite3 and tells what the processes above it hold.
_DETECT = """
import json, os, sqlite3, sys
raw, catalog, surroundings = sys.argv[1:]
registry = sqlite3.connect(os.environ["QUANTUM_EXEC_REGISTRY"])
seeded = registry.execute(
    "SELECT d.dataset_type, d.run, r.object_key, r.size_bytes, r.checksum, e.record"
    " FROM dataset d JOIN datastore_record r USING (dataset_id), dimension_record e"
).fetchall()
assert len(seeded) == 1, seeded
assert seeded[0][3] == os.path.getsize(raw), seeded
json.dump(seeded, open(catalog, "w"))
found, pid = [], os.getpid()
while pid > 1:
    entry = f"/proc/{pid}"
    words = open(f"{entry}/environ", "rb").read().decode(errors="replace").split("\\0")
    files = []
    for name in os.listdir(f"{entry}/fd"):
        try:
            files.append(os.readlink(f"{entry}/fd/{name}"))
        except OSError:
            pass
    line = open(f"{entry}/cmdline", "rb").read().decode(errors="replace").split("\\0")
    name = open(f"{entry}/comm").read().strip()
    found.append({"name": name, "environ": words, "files": files, "cmdline": line})
    if name == "condor_starter":
        break
    pid = int(open(f"{entry}/stat").read().rpartition(")")[2].split()[1])
json.dump(found, open(surroundings, "w"))
print("looked at", [process["name"] for process in found])
"""

# Adds a dimension record with plain sqlite3, in a form of JSON that is not canonical.
_CALIBRATE = """
import json, os, sqlite3, sys
catalog, calibrated, exposure = sys.argv[1:]
registry = sqlite3.connect(os.environ["QUANTUM_EXEC_REGISTRY"])
with registry:
    registry.execute(
        "INSERT INTO dimension_record VALUES ('calibration', ?, ?)",
        ('{ "exposure" :  ' + exposure + "}", json.dumps({"zero_point": 27.0 + int(exposure)})),
    )
open(calibrated, "w").write(open(catalog).read() + exposure)
if exposure == os.environ.get("FAILING_EXPOSURE"):
    sys.exit("calibration of exposure %s does not converge" % exposure)
"""

_COADD = """
import sys
coadd, *calibrated = sys.argv[1:]
open(coadd, "w").write("".join(open(path).read() for path in calibrated))
"""


def write_raws(store: ObjectStore) -> list[dict[str, object]]:
    """Put the raw exposures where they exist before the graph runs; returns the graph's inputs."""
    inputs: list[dict[str, object]] = []
    for exposure in EXPOSURES:
        content = f"pixels of exposure {exposure}\n".encode() * 1000
        key = f"raw/all/raw/{exposure}.raw"
        store.put(key, content)
        inputs.append(
            {
                "dataset_type": "raw",
                "data_id": {"exposure": exposure},
                "run": "raw/all",
                "key": key,
                "size_bytes": len(content),
                "checksum": checksum_of_bytes(content),
            }
        )
    return inputs


def write_three_tasks(path: Path, store: ObjectStore, run: str, failing: str = "") -> Path:
    """Write raws and graph file; calibration fails for the exposure named by ``failing``."""
    file = {"dimensions": ["exposure"], "storage_class": "File"}
    calibrate = ["python3", "-c", _CALIBRATE, "{input:catalog}", "{output:calibrated}"]
    graph = {
        "quantum_graph": 1,
        "name": "three-tasks",
        "run": run,
        "dimensions": {"exposure": "int"},
        "dataset_types": {
            "raw": {**file, "extension": ".raw"},
            "catalog": {"dimensions": ["exposure"], "storage_class": "Json"},
            "surroundings": {"dimensions": ["exposure"], "storage_class": "Json"},
            "calibrated": {**file, "extension": ".txt"},
            "coadd": {"dimensions": [], "storage_class": "File", "extension": ".txt"},
        },
        "dimension_records": {
            "exposure": [{"exposure": e, "airmass": 1.0 + e / 4} for e in EXPOSURES]
        },
        "tasks": {
            "detect": {
                "command": [
                    *("python3", "-c", _DETECT, "{input:raw}", "{output:catalog}"),
                    "{output:surroundings}",
                ]
            },
            "calibrate": {
                "command": [*calibrate, "{data_id:exposure}"],
                "environment": {"FAILING_EXPOSURE": failing or "none"},
            },
            "coadd": {
                "command": ["python3", "-c", _COADD, "{output:coadd}", "{inputs:calibrated}"]
            },
        },
        "inputs": write_raws(store),
        "quanta": [*_quanta_of_exposures(), _coadd_quantum()],
    }
    path.write_text(yaml.safe_dump(graph, sort_keys=False))
    return path


def _quanta_of_exposures() -> list[dict[str, object]]:
    quanta: list[dict[str, object]] = []
    for exposure in EXPOSURES:
        data_id = {"exposure": exposure}
        outputs = {"catalog": dict(data_id), "surroundings": dict(data_id)}
        quanta += [
            {
                "task": "detect",
                "data_id": dict(data_id),
                "inputs": {"raw": dict(data_id)},
                "outputs": outputs,
            },
            {
                "task": "calibrate",
                "data_id": dict(data_id),
                "inputs": {"catalog": dict(data_id)},
                "outputs": {"calibrated": dict(data_id)},
            },
        ]
    return quanta


def _coadd_quantum() -> dict[str, object]:
    return {
        "task": "coadd",
        "data_id": {},
        "inputs": {"calibrated": [{"exposure": e} for e in EXPOSURES]},
        "outputs": {"coadd": {}},
    }
