# SPDX-License-Identifier: BSD-3-Clause
"""The demo's pipeline over its whole survey, in this process: are its stars those of the sky?"""

import hashlib
import importlib
import json
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from astropy.io import fits

from executor.demo.graph import build_graph
from executor.demo.survey import Survey, make_survey
from executor.repo import Repo
from executor.storage_classes import storage_class
from registry.model import DataId, DatasetRef, derived_id
from registry.typed_json import canonical
from transfer_plugins.object_store import DirectoryObjectStore

Graph = dict[str, Any]


@dataclass
class FakeRepo:
    """The repo object of one quantum, over a directory that all quanta share."""

    graph: Graph
    quantum: Graph
    root: Path
    metrics: dict[str, float] = field(default_factory=dict)
    written: list[DatasetRef] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data_id: DataId = self.quantum["data_id"]
        self.config = self.graph["tasks"][self.quantum["task"]].get("config", {})
        self.log = logging.getLogger(self.quantum["task"])
        self.registry_path = self.root / "registry.sqlite3"

    def _refs(self, which: str, dataset_type: str) -> list[DatasetRef]:
        return [
            DatasetRef(derived_id(dataset_type, data_id), dataset_type, data_id, "")
            for data_id in self.quantum[which][dataset_type]
        ]

    def input_refs(self, dataset_type: str) -> list[DatasetRef]:
        return self._refs("inputs", dataset_type)

    def output_refs(self, dataset_type: str) -> list[DatasetRef]:
        return self._refs("outputs", dataset_type)

    def path(self, ref: DatasetRef) -> Path:
        return self.root / ref.dataset_type / canonical(ref.data_id)

    def get(self, ref: DatasetRef | str) -> Any:
        [found] = self.input_refs(ref) if isinstance(ref, str) else [ref]
        assert found in self.input_refs(found.dataset_type)
        kind = self.graph["dataset_types"][found.dataset_type]["storage_class"]
        return storage_class(kind).read(self.path(found))

    def put(self, value: object, ref: DatasetRef | str) -> None:
        [found] = self.output_refs(ref) if isinstance(ref, str) else [ref]
        assert found in self.output_refs(found.dataset_type)
        self.path(found).parent.mkdir(exist_ok=True)
        kind = self.graph["dataset_types"][found.dataset_type]["storage_class"]
        storage_class(kind).write(value, self.path(found))
        self.written.append(found)

    def metric(self, name: str, value: float) -> None:
        self.metrics[name] = float(value)

    def dimension_record(self, dimension: str) -> dict[str, Any]:
        for record in self.graph["dimension_records"][dimension]:
            if record[dimension] == self.data_id[dimension]:
                return cast("dict[str, Any]", record)
        raise LookupError(dimension)


@dataclass
class Executed:
    """The survey after all its quanta."""

    survey: Survey
    graph: Graph
    root: Path
    repos: list[FakeRepo]

    def value(self, dataset_type: str, **data_id: int) -> Any:
        kind = self.graph["dataset_types"][dataset_type]["storage_class"]
        return storage_class(kind).read(self.root / dataset_type / canonical(data_id))

    def metrics(self, task: str) -> list[dict[str, float]]:
        return [repo.metrics for repo in self.repos if repo.quantum["task"] == task]


def _execute(root: Path, task_labels: set[str] | None = None) -> Executed:
    store = DirectoryObjectStore(root / "store")
    survey = make_survey(store)
    graph = build_graph(survey)
    for known in survey.datasets:
        path = root / known.dataset_type / canonical(known.data_id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(store.get(known.key))
    with closing(sqlite3.connect(root / "registry.sqlite3")) as connection, connection:
        connection.execute("CREATE TABLE dimension_record (dimension, data_id, record)")
    repos = []
    for quantum in graph["quanta"]:
        if task_labels is None or quantum["task"] in task_labels:
            repo = FakeRepo(graph, quantum, root)
            _function(graph, quantum)(cast(Repo, repo))
            repos.append(repo)
    return Executed(survey, graph, root, repos)


def _function(graph: Graph, quantum: Graph) -> Callable[[Repo], None]:
    module, _, name = graph["tasks"][quantum["task"]]["function"].partition(":")
    return cast("Callable[[Repo], None]", getattr(importlib.import_module(module), name))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Executed:
    return _execute(tmp_path_factory.mktemp("survey"))


def test_every_predicted_output_is_written_once(executed: Executed) -> None:
    for repo in executed.repos:
        predicted = [
            (name, canonical(data_id))
            for name, data_ids in repo.quantum["outputs"].items()
            for data_id in data_ids
        ]
        written = [(ref.dataset_type, canonical(ref.data_id)) for ref in repo.written]
        assert sorted(written) == sorted(predicted)


def test_stars_are_where_and_as_bright_as_in_the_original_image(executed: Executed) -> None:
    found = executed.value("comparison")
    assert found["n_matched"] >= 0.95 * found["n_reference"] > 50
    assert found["position_error_median_px"] < 0.03
    assert found["position_error_95_percent_px"] < 0.1
    assert abs(found["position_offset_x_px"]) < 0.01
    assert abs(found["position_offset_y_px"]) < 0.01
    assert abs(found["flux_ratio_median"] - 1.0) < 0.005
    assert found["flux_scatter"] < 0.015
    [metrics] = executed.metrics("assemble")
    assert metrics == found


def test_mosaic_has_the_light_of_the_original_image(executed: Executed) -> None:
    whole = executed.survey.patches.whole()
    mosaic = executed.value("mosaic")["IMAGE"].data.astype(float)
    original = executed.value("reference_image")[0].data[whole.slices()].astype(float)
    blocks = [image.reshape(22, 12, 22, 12).mean(axis=(1, 3)) for image in (mosaic, original)]
    difference = blocks[0] - blocks[1]
    # Sky is subtracted by exposure: what is left of that differs by less than its noise per pixel.
    assert abs(np.median(difference)) < 2.0
    assert np.percentile(np.abs(difference), 90) < 4.0


def test_mosaic_has_no_seams(executed: Executed) -> None:
    mosaic = executed.value("mosaic")["IMAGE"].data.astype(float)
    size = executed.survey.patches.size
    steps = np.abs(np.median(np.diff(mosaic, axis=1), axis=0))
    at_seams = steps[[size - 1, 2 * size - 1]]
    assert at_seams.max() < np.percentile(steps, 99) + 1.0


def test_weather_is_found_by_calibration(executed: Executed) -> None:
    zero_points = [m["zero_point_mag"] for m in executed.metrics("calibrate")]
    # 8 electrons for a count, less extinction and clouds of at most 0.12 x 1.53 + 0.2 mag.
    best = 25.0 + 2.5 * np.log10(8.0)
    assert best - 0.45 < min(zero_points) < max(zero_points) < best - 0.05
    assert max(zero_points) - min(zero_points) > 0.1


def test_exposure_summaries_are_in_the_private_registry(executed: Executed) -> None:
    with closing(sqlite3.connect(executed.root / "registry.sqlite3")) as connection:
        rows = connection.execute("SELECT * FROM dimension_record ORDER BY rowid").fetchall()
    assert [json.loads(data_id)["exposure"] for _, data_id, _ in rows] == list(range(1, 13))
    for dimension, data_id, text in rows:
        record = json.loads(text)
        assert dimension == "exposure_summary"
        assert 3.0 < record["seeing_arcsec"] < 5.0
        seeded = executed.graph["dimension_records"]["exposure"]
        assert record["airmass"] == seeded[json.loads(data_id)["exposure"] - 1]["airmass"]


def test_catalog_is_on_the_sky(executed: Executed) -> None:
    catalog = executed.value("catalog")["STARS"].data
    assert len(catalog) > 250
    # M13 is at 16h41m41s +36°28' (Harris 1996); the image is 5 arc minutes wide.
    assert np.all(np.abs(catalog["ra"] - 250.42) < 0.06)
    assert np.all(np.abs(catalog["dec"] - 36.46) < 0.05)
    # Patches own their stars: none is there twice.
    distance = np.hypot(*(catalog[k][:, None] - catalog[k] for k in ("x", "y")))
    np.fill_diagonal(distance, 99.0)
    assert distance.min() > 1.0


def test_cosmic_rays_are_gone_before_stars_are_measured(executed: Executed) -> None:
    assert all(30 < m["n_cosmic_ray_pixels"] < 200 for m in executed.metrics("isr"))
    assert all(m["n_clipped_pixels"] < 100 for m in executed.metrics("coadd"))


def test_noise_between_exposures_is_as_their_variances_say(executed: Executed) -> None:
    warps = [executed.value("warp", exposure=e, patch=5).astype(float) for e in range(1, 13)]
    pulls = []
    for one, other in zip(warps[::2], warps[1::2], strict=True):
        variance = one[1] + other[1]
        faint = np.isfinite(variance) & (one[0] + other[0] < 200.0)
        pulls.append((one[0] - other[0])[faint] / np.sqrt(variance[faint]))
    spread = np.concatenate(pulls)
    width = (np.percentile(spread, 84) - np.percentile(spread, 16)) / 2.0
    assert 0.9 < width < 1.25


def test_same_seed_gives_the_same_bytes(executed: Executed, tmp_path: Path) -> None:
    again = _execute(tmp_path, {"isr", "characterize", "calibrate", "warp"})
    assert again.survey == executed.survey
    for repo in again.repos:
        for ref in repo.written:
            path = repo.path(ref)
            first = executed.root / path.relative_to(tmp_path)
            assert _sha256(path) == _sha256(first), path


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_file_carries_a_date_or_a_release(executed: Executed) -> None:
    for repo in executed.repos:
        for ref in repo.written:
            if executed.graph["dataset_types"][ref.dataset_type]["storage_class"] == "Fits":
                with fits.open(repo.path(ref)) as hdus:
                    keys = {key for hdu in hdus for key in hdu.header}
                assert not keys & {"DATE", "CREATOR", "HISTORY"}
