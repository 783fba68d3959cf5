# SPDX-License-Identifier: BSD-3-Clause
"""Survey: dithered exposures of M13, calibration frames and a reference catalogue, in a store."""

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from executor.demo import camera
from executor.demo.detection import sky_level
from executor.demo.original_image import OriginalImage, read_original_image
from executor.demo.patches import Box, PatchGrid
from executor.demo.photometry import measure_stars
from executor.demo.projection import Array, Projection
from registry.model import EXTENSIONS, DataId
from registry.names import dataset_path
from registry.typed_json import canonical
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import ObjectStore

if TYPE_CHECKING:
    from astropy.io import fits

SEED = 20130713
RAW_RUN = "raw/all"
CALIB_RUN = "calib"
PATCHES = PatchGrid(x=18, y=18, size=88, border=16, columns=3, rows=3)

_N_EXPOSURES = 12
_SKY_COUNTS = 110.0
"""Sky in the original image: what is above it is light of the cluster."""
_ELECTRONS_PER_COUNT = 8.0
_DITHER_PX = 52.0
"""Exposures point at the four corners in turn, so that every place is seen at least three times."""
_STEP_PX = 6.0
"""From round to round they move by this, so that no place is always on a dead column."""
_N_COSMIC_RAYS = 20
_EXTINCTION_MAG = 0.12


@dataclass(frozen=True, slots=True)
class ExistingDataset:
    """A dataset that is there before the graph runs, as the graph names it among its inputs."""

    dataset_type: str
    data_id: DataId
    run: str
    key: str
    size_bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the observer knows of an exposure: its record, and the sky it should cover."""

    number: int
    record: dict[str, Any]
    footprint: Box


@dataclass(frozen=True, slots=True)
class Survey:
    """A survey in a store; ``projection`` and ``patches`` are those of the sky's grid."""

    projection: Projection
    patches: PatchGrid
    datasets: list[ExistingDataset] = field(default_factory=list)
    exposures: list[Exposure] = field(default_factory=list)


def make_survey(store: ObjectStore, seed: int = SEED) -> Survey:
    """Write the survey into a store, and return what its graph needs to know.

    The same seed gives the same bytes.

    Raises
    ------
    OriginalImageError
        If astropy does not carry the image of M13.
    TransferError
        If the store cannot be written.
    """
    random = np.random.default_rng(seed)
    original = read_original_image()
    detector = camera.build_camera(random)
    survey = Survey(original.projection, PATCHES)
    _put_fits(survey, store, "bias", {}, _image(detector.bias_frame(random), {"BUNIT": "adu"}))
    _put_fits(survey, store, "flat", {}, _image(detector.flat_frame(random), {}))
    _put_reference(survey, store, original)
    sky = np.clip(original.pixels - _SKY_COUNTS, 0.0, None)
    for number in range(1, _N_EXPOSURES + 1):
        _put_exposure(survey, store, number, _observe(number, sky, detector, random))
    return survey


@dataclass(frozen=True, slots=True)
class _Observation:
    """One exposure as the camera gives it, with what its header says."""

    pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint16]]"
    record: dict[str, Any]
    origin: tuple[float, float]


def _observe(
    number: int, sky: Array, detector: camera.Camera, random: np.random.Generator
) -> _Observation:
    """Point, wait for the weather, expose: all that the pipeline has to find out is drawn here."""
    airmass = round(float(1.05 + 0.04 * number), 3)
    clouds_mag = random.uniform(0.0, 0.2)
    transparency = 10.0 ** (-0.4 * (_EXTINCTION_MAG * airmass + clouds_mag))
    blur_px = random.uniform(0.2, 0.9)
    sky_electrons = random.uniform(400.0, 800.0)
    round_of_four, turn = divmod(number - 1, 4)
    corner = np.array(((-1, -1), (1, -1), (-1, 1), (1, 1))[turn])
    middle = (np.array(sky.shape[::-1]) - camera.SIDE_PX) / 2.0
    dither = _DITHER_PX * corner + _STEP_PX * (round_of_four - 1)
    truth = middle + dither + random.uniform(-1.0, 1.0, 2)
    told = truth + np.clip(random.normal(0.0, 0.7, 2), -1.5, 1.5)
    cluster = camera.view(sky, float(truth[0]), float(truth[1]), blur_px)
    light = _ELECTRONS_PER_COUNT * transparency * cluster + sky_electrons
    hits = camera.cosmic_rays(_N_COSMIC_RAYS, random)
    record = {"airmass": airmass, "exposure_s": 60.0, "target": "M13"}
    return _Observation(
        detector.expose(light, hits, random), record, (round(told[0], 3), round(told[1], 3))
    )


def _put_exposure(survey: Survey, store: ObjectStore, number: int, seen: _Observation) -> None:
    x, y = seen.origin
    header = {
        "EXPID": number,
        "OBJECT": seen.record["target"],
        "EXPTIME": (seen.record["exposure_s"], "s"),
        "AIRMASS": seen.record["airmass"],
        "GAIN": (camera.GAIN_E_PER_ADU, "electrons per adu"),
        "RDNOISE": (camera.READ_NOISE_E, "electrons"),
        "SATURATE": (camera.SATURATION_ADU, "adu"),
        "BUNIT": "adu",
        **survey.projection.moved(-x, -y).header(),
    }
    _put_fits(survey, store, "raw", {"exposure": number}, _image(seen.pixels, header))
    first_x, first_y = round(x), round(y)
    footprint = Box(first_x, first_y, first_x + camera.SIDE_PX, first_y + camera.SIDE_PX)
    survey.exposures.append(Exposure(number, seen.record, footprint))


def _put_reference(survey: Survey, store: ObjectStore, original: OriginalImage) -> None:
    """The original image, and the stars detected in it as the catalogue to calibrate against."""
    counts = original.pixels - sky_level(original.pixels)
    hdus = _image(counts.astype(np.float32), {"BUNIT": "count", **survey.projection.header()})
    _put_fits(survey, store, "reference_image", {}, hdus)
    # Nobody knows the noise of a scanned plate; this is what its empty corners show.
    variance = 4.0 + np.clip(counts, 0.0, None) / _ELECTRONS_PER_COUNT
    stars = measure_stars(counts, variance)
    content = canonical({"stars": stars.to_json()}).encode() + b"\n"
    _put(survey, store, "reference_catalog", {}, content, EXTENSIONS["Json"])


def _image(pixels: Any, header: dict[str, Any]) -> "fits.HDUList":
    from astropy.io import fits

    hdu = fits.PrimaryHDU(pixels)
    hdu.header.update(header)
    return fits.HDUList([hdu])


def _put_fits(
    survey: Survey, store: ObjectStore, dataset_type: str, data_id: DataId, hdus: "fits.HDUList"
) -> None:
    written = io.BytesIO()
    hdus.writeto(written)
    _put(survey, store, dataset_type, data_id, written.getvalue(), EXTENSIONS["Fits"])


def _put(
    survey: Survey,
    store: ObjectStore,
    dataset_type: str,
    data_id: DataId,
    content: bytes,
    extension: str,
) -> None:
    run = RAW_RUN if dataset_type == "raw" else CALIB_RUN
    key = dataset_path(run, dataset_type, data_id, extension)
    store.put(key, content)
    survey.datasets.append(
        ExistingDataset(dataset_type, data_id, run, key, len(content), checksum_of_bytes(content))
    )
