# SPDX-License-Identifier: BSD-3-Clause
"""A large graph made, checked and read in parts, against plain Parquet and against YAML.

The graph has the shape of a run of HSC-RC2: four steps per exposure and detector, warps of whole
exposures (fan-in of all detectors), coadds per patch and band, and merges over bands: diamonds and
wide fan-in. The peer writes and reads the same rows with pyarrow alone, none of our checks; YAML
is timed at a size that can be borne. Each step is a process of its own, so that its peak memory
is its own.
"""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import run_command

_RUN = "benchmark/graph"
_DETECTORS = 104
_PATCHES = 81
_BANDS = ("g", "r", "i", "z", "y")

_FILE = {"storage_class": "Fits"}
_CCD, _WARP, _COADD = ["exposure", "detector"], ["exposure", "patch"], ["patch", "band"]
_TYPES: dict[str, list[str]] = {
    "raw": _CCD,
    "bias": ["detector"],
    "flat": ["detector"],
    "postisr": _CCD,
    "icexp": _CCD,
    "icsrc": _CCD,
    "background": _CCD,
    "calexp": _CCD,
    "src": _CCD,
    "source_table": _CCD,
    "ccd_summary": _CCD,
    "visit_table": ["exposure"],
    "warp": _WARP,
    "psf_matched_warp": _WARP,
    "coadd": _COADD,
    "detections": _COADD,
    "merged": ["patch"],
    "measured": _COADD,
    "object_table": ["patch"],
}

Quantum = tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]


def header() -> dict[str, Any]:
    """What all quanta share."""
    labels = ("isr", "characterize", "calibrate", "table", "visit", "warp", "coadd", "detect")
    return {
        "name": "benchmark",
        "run": _RUN,
        "dimensions": {"exposure": "int", "detector": "int", "patch": "int", "band": "str"},
        "dataset_types": {name: {"dimensions": d, **_FILE} for name, d in _TYPES.items()},
        "tasks": {
            label: {"function": f"benchmark:{label}"}
            for label in (*labels, "merge", "measure", "objects")
        },
    }


def n_exposures(n_quanta: int) -> int:
    """The number of exposures that make about this many quanta."""
    return max(1, n_quanta // (4 * _DETECTORS + 1 + _PATCHES))


def quanta(exposures: int) -> Iterator[Quantum]:
    """The quanta, step by step."""
    for exposure in range(exposures):
        for detector in range(_DETECTORS):
            yield from _ccd_quanta({"exposure": exposure, "detector": detector})
        of_visit = [{"exposure": exposure, "detector": n} for n in range(_DETECTORS)]
        here = {"exposure": exposure}
        yield "visit", here, {"source_table": of_visit}, {"visit_table": here}
        for patch in range(_PATCHES):
            near = of_visit[patch : patch + 9]
            warp = {"exposure": exposure, "patch": patch}
            made = {"warp": warp, "psf_matched_warp": warp}
            yield "warp", warp, {"calexp": near, "background": near, "visit_table": here}, made
    for patch in range(_PATCHES):
        yield from _patch_quanta(patch, exposures)


def _ccd_quanta(ccd: dict[str, Any]) -> Iterator[Quantum]:
    detector = {"detector": ccd["detector"]}
    yield "isr", ccd, {"raw": ccd, "bias": detector, "flat": detector}, {"postisr": ccd}
    characterized = {"icexp": ccd, "icsrc": ccd, "background": ccd}
    yield "characterize", ccd, {"postisr": ccd}, characterized
    yield (
        "calibrate",
        ccd,
        {"icexp": ccd, "icsrc": ccd, "background": ccd},
        {"calexp": ccd, "src": ccd, "ccd_summary": ccd},
    )
    yield "table", ccd, {"src": ccd, "calexp": ccd}, {"source_table": ccd}


def _patch_quanta(patch: int, exposures: int) -> Iterator[Quantum]:
    here = {"patch": patch}
    every = [{"patch": patch, "band": band} for band in _BANDS]
    for number, coadd in enumerate(every):
        warps = [{"exposure": e, "patch": patch} for e in range(number, exposures, len(_BANDS))]
        yield "coadd", coadd, {"warp": warps, "psf_matched_warp": warps}, {"coadd": coadd}
        yield "detect", coadd, {"coadd": coadd}, {"detections": coadd}
        yield "measure", coadd, {"coadd": coadd, "merged": here}, {"measured": coadd}
    yield "merge", here, {"detections": every}, {"merged": here}
    yield "objects", here, {"measured": every}, {"object_table": here}


def inputs(exposures: int) -> Iterator[tuple[str, dict[str, int], str]]:
    """Datasets from outside: type, data ID, key."""
    for detector in range(_DETECTORS):
        for kind in ("bias", "flat"):
            yield kind, {"detector": detector}, f"calibration/{kind}/{detector}.fits"
        for exposure in range(exposures):
            ccd = {"exposure": exposure, "detector": detector}
            yield "raw", ccd, f"raw/2026/{exposure:06d}/{exposure:06d}_{detector:03d}.fits"


def make(path: Path, exposures: int) -> dict[str, Any]:
    """Make the graph, quantum by quantum."""
    from executor.graph.graph_writer import GraphWriter

    with GraphWriter(path, header()) as writer:
        for kind, data_id, key in inputs(exposures):
            writer.add_input(kind, data_id, run="raw/all", key=key)
        for task, data_id, reads, makes in quanta(exposures):
            writer.add_quantum(task, data_id, reads, makes)
    return {}


def check(path: Path) -> dict[str, Any]:
    """Check everything, as ``graph check`` does."""
    from executor.graph.columnar_check import check_file
    from executor.graph.columnar_file import open_columnar

    graph = open_columnar(path)
    check_file(graph.in_memory())
    return {"n_quanta": len(graph), "n_datasets": graph.datasets_rows.n_rows}


def read_one(path: Path) -> dict[str, Any]:
    """Read the quantum in the middle, by its id."""
    from executor.graph.columnar_file import open_columnar
    from registry.model import derived_id

    data_id = {"exposure": 0, "detector": _DETECTORS // 2}
    graph = open_columnar(path)
    found = graph.quantum(derived_id("quantum", _RUN, "calibrate", data_id))
    assert len(found.inputs) == 3 and len(found.outputs) == 3
    return {}


def read_task(path: Path) -> dict[str, Any]:
    """Read all quanta of one task label as objects."""
    from executor.graph.columnar_file import open_columnar

    return {"n_quanta": sum(1 for _ in open_columnar(path).quanta(task_label="warp"))}


def make_plainly(source: Path, path: Path) -> dict[str, Any]:
    """The peer: write the rows of the graph's tables with pyarrow alone, from memory."""
    import pyarrow.parquet as pq

    from executor.graph.columnar_file import open_columnar

    graph = open_columnar(source)
    tables = {"quanta": graph.quanta_rows.whole(), "datasets": graph.datasets_rows.whole()}
    started = time.perf_counter()
    for name, table in tables.items():
        pq.write_table(table, f"{path}.{name}", compression="zstd")
    return {"wall_s": time.perf_counter() - started}


def read_plainly(path: Path) -> dict[str, Any]:
    """The peer: read all rows with pyarrow alone."""
    import pyarrow.parquet as pq

    tables = [pq.read_table(f"{path}.{name}") for name in ("quanta", "datasets")]
    return {"n_rows": sum(table.num_rows for table in tables)}


def make_yaml(source: Path, path: Path) -> dict[str, Any]:
    """YAML of a small graph, written."""
    from executor.graph.graph_forms import open_graph, write_graph

    write_graph(open_graph(source), path)
    return {}


def read_yaml(path: Path) -> dict[str, Any]:
    """YAML of a small graph, read."""
    from executor.graph.yaml_graph import read_graph_file

    return {"n_quanta": len(read_graph_file(path).quanta)}


def measured(step: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Run a step in a process of its own: seconds, peak memory in MiB, and what it tells."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_timed, (step, *arguments))


def _timed(step: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    started = time.perf_counter()
    told = step(*arguments)
    wall_s = time.perf_counter() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"wall_s": wall_s, "peak_mib": peak_mib, **told}


def run_benchmark(n_quanta: int, n_yaml: int) -> dict[str, float]:
    """All steps, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        path, small = Path(name, "graph.qgraph"), Path(name, "small.qgraph")
        plain, yaml = Path(name, "plain"), Path(name, "small.yaml")
        made = measured(make, path, n_exposures(n_quanta))
        checked = measured(check, path)
        one, task = measured(read_one, path), measured(read_task, path)
        peer_made = measured(make_plainly, path, plain)
        peer_read = measured(read_plainly, plain)
        made_small = measured(make, small, n_exposures(n_yaml))
        yaml_made, yaml_read = measured(make_yaml, small, yaml), measured(read_yaml, yaml)
        checked_small = measured(check, small)
        plain_bytes = sum(file.stat().st_size for file in Path(name).glob("plain.*"))
        n_found, n_small = checked["n_quanta"], yaml_read["n_quanta"]
        figures = {
            "n_quanta": n_found,
            "n_datasets": checked["n_datasets"],
            "make_s": made["wall_s"],
            "make_peak_mib": made["peak_mib"],
            "make_us_per_quantum": made["wall_s"] / n_found * 1e6,
            "check_s": checked["wall_s"],
            "check_peak_mib": checked["peak_mib"],
            "read_one_quantum_s": one["wall_s"],
            "read_one_quantum_peak_mib": one["peak_mib"],
            "read_task_label_s": task["wall_s"],
            "read_task_label_quanta": task["n_quanta"],
            "read_task_label_peak_mib": task["peak_mib"],
            "file_mb": path.stat().st_size / 1e6,
            "bytes_per_quantum": path.stat().st_size / n_found,
            "plain_parquet_write_s": peer_made["wall_s"],
            "plain_parquet_read_s": peer_read["wall_s"],
            "make_ratio_of_plain_parquet": made["wall_s"] / peer_made["wall_s"],
            "check_ratio_of_plain_parquet": checked["wall_s"] / peer_read["wall_s"],
            "size_ratio_of_plain_parquet": path.stat().st_size / plain_bytes,
            "yaml_quanta": n_small,
            "yaml_write_s": yaml_made["wall_s"],
            "yaml_read_s": yaml_read["wall_s"],
            "yaml_bytes_per_quantum": yaml.stat().st_size / n_small,
            "make_ratio_of_yaml": made_small["wall_s"] / yaml_made["wall_s"],
            "check_ratio_of_yaml": checked_small["wall_s"] / yaml_read["wall_s"],
        }
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    """Measure, show a table, and with ``--json`` one line."""
    run_command(
        __doc__ or "",
        "a large graph, against plain Parquet and YAML",
        "1,000,000 quanta instead of 100,000",
        lambda full: run_benchmark(1_000_000 if full else 100_000, 2_000),
    )


if __name__ == "__main__":
    main()
