# SPDX-License-Identifier: BSD-3-Clause
"""Graph: the pipeline over the survey, written as a graph file that a person could write."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from executor.demo.survey import Exposure, Survey

RUN = "demo/m13"

_EXPOSURE, _PATCH, _BOTH = ["exposure"], ["patch"], ["exposure", "patch"]
_DATASET_TYPES: dict[str, tuple[list[str], str, str | None]] = {
    "raw": (_EXPOSURE, "Fits", None),
    "bias": ([], "Fits", None),
    "flat": ([], "Fits", None),
    "reference_image": ([], "Fits", None),
    "reference_catalog": ([], "Json", None),
    "postisr": (_EXPOSURE, "Fits", None),
    "characteristics": (_EXPOSURE, "Json", None),
    "sources": (_EXPOSURE, "Json", None),
    "calibration": (_EXPOSURE, "Json", None),
    "warp": (_BOTH, "NumpyArray", None),
    "coadd": (_PATCH, "Fits", None),
    "coadd_png": (_PATCH, "File", ".png"),
    "patch_catalog": (_PATCH, "Fits", None),
    "mosaic": ([], "Fits", None),
    "mosaic_png": ([], "File", ".png"),
    "catalog": ([], "Fits", None),
    "comparison": ([], "Json", None),
    "comparison_png": ([], "File", ".png"),
}
_CONFIGURED = {
    "isr": (),
    "characterize": (),
    "calibrate": ("projection",),
    "warp": ("patches",),
    "coadd": ("projection", "patches"),
    "measure": ("projection", "patches"),
    "assemble": ("projection", "patches"),
}
"""Each task with what it must know of the sky's grid."""

DataIds = list[dict[str, Any]]
_ALONE: DataIds = [{}]


class _Line(dict[str, Any]):
    """A mapping that is written in one line."""


class _Dumper(yaml.SafeDumper):
    """Writes YAML as a person would, and never by reference to what it wrote before."""

    def ignore_aliases(self, _: object) -> bool:
        return True


_Dumper.add_representer(
    _Line, lambda dumper, line: dumper.represent_mapping("tag:yaml.org,2002:map", line, True)
)


def write_graph(survey: Survey, path: Path, run: str = RUN) -> None:
    """Write the graph file of the survey; its outputs go into the RUN."""
    text = yaml.dump(build_graph(survey, run), Dumper=_Dumper, sort_keys=False, width=100)
    path.write_text(f"# Made by executor.demo.graph; told in docs/graph-file.md.\n{text}")


def build_graph(survey: Survey, run: str = RUN) -> dict[str, Any]:
    """Return the graph of the survey in the form of a graph file."""
    known = {"projection": asdict(survey.projection), "patches": asdict(survey.patches)}
    return {
        "quantum_graph": 1,
        "name": "m13-survey",
        "run": run,
        "dimensions": {"exposure": "int", "patch": "int"},
        "dataset_types": dict(_dataset_types()),
        "dimension_records": _dimension_records(survey),
        "tasks": {
            label: {"function": f"executor.demo.tasks:{label}"}
            | ({"config": {name: _Line(known[name]) for name in wanted}} if wanted else {})
            for label, wanted in _CONFIGURED.items()
        },
        "inputs": [_Line(asdict(dataset)) for dataset in survey.datasets],
        "quanta": [*_exposure_quanta(survey), *_patch_quanta(survey), _final_quantum(survey)],
    }


def _dataset_types() -> Iterable[tuple[str, dict[str, Any]]]:
    for name, (dimensions, storage_class, extension) in _DATASET_TYPES.items():
        body: dict[str, Any] = {"dimensions": list(dimensions), "storage_class": storage_class}
        yield name, _Line(body | ({} if extension is None else {"extension": extension}))


def _dimension_records(survey: Survey) -> dict[str, list[_Line]]:
    return {
        "exposure": [_Line(exposure=e.number, **e.record) for e in survey.exposures],
        "patch": [
            _Line(patch=patch, **asdict(survey.patches.inner(patch)))
            for patch in survey.patches.numbers()
        ],
    }


def _covered(survey: Survey, exposure: Exposure) -> list[int]:
    """Patches that own pixels which an exposure covers."""
    patches = survey.patches
    return [p for p in patches.numbers() if exposure.footprint.overlap(patches.inner(p))]


def _exposure_quanta(survey: Survey) -> Iterable[dict[str, Any]]:
    for exposure in survey.exposures:
        data_id = {"exposure": exposure.number}
        here: DataIds = [data_id]
        warps = [{**data_id, "patch": patch} for patch in _covered(survey, exposure)]
        steps: list[tuple[str, dict[str, DataIds], dict[str, DataIds]]] = [
            ("isr", {"raw": here, "bias": _ALONE, "flat": _ALONE}, {"postisr": here}),
            ("characterize", {"postisr": here}, {"characteristics": here, "sources": here}),
            (
                "calibrate",
                {"sources": here, "characteristics": here, "reference_catalog": _ALONE},
                {"calibration": here},
            ),
            (
                "warp",
                {"postisr": here, "characteristics": here, "calibration": here},
                {"warp": warps},
            ),
        ]
        yield from (_quantum(label, data_id, reads, makes) for label, reads, makes in steps)


def _patch_quanta(survey: Survey) -> Iterable[dict[str, Any]]:
    for patch in survey.patches.numbers():
        data_id = {"patch": patch}
        here: DataIds = [data_id]
        covering = [e.number for e in survey.exposures if patch in _covered(survey, e)]
        warps: DataIds = [{"exposure": number, "patch": patch} for number in covering]
        calibrations: DataIds = [{"exposure": number} for number in covering]
        yield _quantum(
            "coadd", data_id, {"warp": warps, "calibration": calibrations}, {"coadd": here}
        )
        outputs = {"patch_catalog": here, "coadd_png": here}
        yield _quantum("measure", data_id, {"coadd": here}, outputs)


def _final_quantum(survey: Survey) -> dict[str, Any]:
    every: DataIds = [{"patch": patch} for patch in survey.patches.numbers()]
    reads = {
        "coadd": every,
        "patch_catalog": every,
        "reference_catalog": _ALONE,
        "reference_image": _ALONE,
    }
    made = ("mosaic", "mosaic_png", "catalog", "comparison", "comparison_png")
    return _quantum("assemble", {}, reads, {name: _ALONE for name in made})


def _quantum(
    label: str, data_id: dict[str, Any], reads: dict[str, DataIds], makes: dict[str, DataIds]
) -> dict[str, Any]:
    lines = {"data_id": _Line(data_id), "inputs": _Line(reads), "outputs": _Line(makes)}
    return {"task": label, **lines}
