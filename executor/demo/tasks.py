# SPDX-License-Identifier: BSD-3-Clause
"""Tasks: what each quantum of the survey reads, computes and writes.

Every function is one task of the graph. It is given the repo object of its quantum, gets its
inputs and puts its outputs by dataset type; the computing is in the modules beside this one.
"""

import json
import math
import sqlite3
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from executor.demo.calibration import calibrate_stars
from executor.demo.coaddition import coadd_warps, warp_exposure
from executor.demo.comparison import compare
from executor.demo.detection import sky_level
from executor.demo.instrument_signature import remove_signature
from executor.demo.patches import PatchGrid
from executor.demo.photometry import measure_stars, star_width, with_isolation
from executor.demo.picture import side_by_side, stretch, write_png
from executor.demo.projection import Array, Projection
from executor.demo.star_list import StarList, join

if TYPE_CHECKING:
    from astropy.io import fits

    from executor.repo import Repo

_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


def isr(repo: "Repo") -> None:
    """Remove the instrument's signature and cosmic rays: counts become electrons."""
    raw = repo.get("raw")[0]
    corrected = remove_signature(
        raw.data,
        repo.get("bias")[0].data,
        repo.get("flat")[0].data,
        gain_e_per_adu=raw.header["GAIN"],
        read_noise_e=raw.header["RDNOISE"],
        saturation_adu=raw.header["SATURATE"],
    )
    repo.metric("n_bad_pixels", int(corrected.is_bad.sum()))
    repo.metric("n_cosmic_ray_pixels", corrected.n_cosmic_ray_pixels)
    header = {key: raw.header[key] for key in ("EXPID", "OBJECT", "EXPTIME", "AIRMASS")}
    header |= Projection.from_header(raw.header).header()
    planes = {
        "IMAGE": corrected.image,
        "VARIANCE": corrected.variance,
        "MASK": corrected.is_bad.astype(np.uint8),
    }
    repo.put(_image_hdus(planes, header), "postisr")


def characterize(repo: "Repo") -> None:
    """Find the level of the sky, the stars, and their width."""
    hdus = repo.get("postisr")
    image, variance, mask = (_plane(hdus, name) for name in ("IMAGE", "VARIANCE", "MASK"))
    sky = sky_level(image)
    stars = measure_stars(image - sky, np.where(mask > 0, np.inf, variance))
    width = star_width(image - sky, stars)
    repo.log.info("%d stars above a sky of %.1f electrons", len(stars), sky)
    repo.metric("sky_electrons", sky)
    repo.metric("n_stars", len(stars))
    repo.put(
        {
            "sky_electrons": round(sky, 4),
            "sky_sigma_electrons": round(float(np.sqrt(np.percentile(variance, 10))), 4),
            "star_sigma_px": round(width, 4),
        },
        "characteristics",
    )
    projection = Projection.from_header(hdus[0].header)
    repo.put({"projection": asdict(projection), "stars": stars.to_json()}, "sources")


def calibrate(repo: "Repo") -> None:
    """Find zero point and pointing error by comparison with the reference catalogue."""
    sky_grid = Projection(**repo.config["projection"])
    sources, characteristics = repo.get("sources"), repo.get("characteristics")
    found = calibrate_stars(
        StarList.from_json(sources["stars"]),
        StarList.from_json(repo.get("reference_catalog")["stars"]),
        Projection(**sources["projection"]).origin_in(sky_grid),
    )
    calibration = found.as_dict()
    for name in ("zero_point_mag", "zero_point_scatter_mag", "position_scatter_px", "n_stars"):
        repo.metric(name, calibration[name])
    fwhm_px = _FWHM_PER_SIGMA * characteristics["star_sigma_px"]
    summary = {
        "airmass": repo.dimension_record("exposure")["airmass"],
        "n_stars": found.n_stars,
        "seeing_arcsec": round(fwhm_px * 3600.0 * sky_grid.y_scale_deg, 3),
        "zero_point_mag": round(found.zero_point_mag, 4),
    }
    _add_exposure_summary(repo, summary)
    sky_sigma = characteristics["sky_sigma_electrons"] * found.counts_per_electron
    repo.put(calibration | {"sky_sigma_counts": round(sky_sigma, 5)}, "calibration")


def _add_exposure_summary(repo: "Repo", summary: dict[str, Any]) -> None:
    """Add a row to the private registry by plain SQL; it reaches the central one as it is.

    `Repo.add_dimension_record` does the same. A task may use any SQLite client, or be no Python.
    """
    row = ("exposure_summary", json.dumps(repo.data_id), json.dumps(summary, sort_keys=True))
    with closing(sqlite3.connect(repo.registry_path)) as connection, connection:
        connection.execute("INSERT INTO dimension_record VALUES (?, ?, ?)", row)


def warp(repo: "Repo") -> None:
    """Resample an exposure, in counts above the sky, to each patch that it covers."""
    patches = PatchGrid(**repo.config["patches"])
    hdus, calibration = repo.get("postisr"), repo.get("calibration")
    scale = calibration["counts_per_electron"]
    sky = repo.get("characteristics")["sky_electrons"]
    warped = warp_exposure(
        (_plane(hdus, "IMAGE") - sky) * scale,
        _plane(hdus, "VARIANCE") * scale**2,
        _plane(hdus, "MASK") > 0,
        (calibration["origin_x_px"], calibration["origin_y_px"]),
    )
    for ref in repo.output_refs("warp"):
        repo.put(warped.cut(patches.outer(int(ref.data_id["patch"]))), ref)


def coadd(repo: "Repo") -> None:
    """Average the exposures of a patch, without cosmic rays and dead columns."""
    patches, sky_grid = PatchGrid(**repo.config["patches"]), Projection(**repo.config["projection"])
    refs = repo.input_refs("warp")
    sigmas = {
        ref.data_id["exposure"]: repo.get(ref)["sky_sigma_counts"]
        for ref in repo.input_refs("calibration")
    }
    result = coadd_warps(
        np.stack([repo.get(ref) for ref in refs]).astype(float),
        np.array([sigmas[ref.data_id["exposure"]] for ref in refs]),
    )
    repo.log.info("%d exposures, %d pixels clipped", len(refs), result.n_clipped)
    repo.metric("n_clipped_pixels", result.n_clipped)
    repo.metric("mean_n_exposures", float(result.n_exposures.mean()))
    outer = patches.outer(int(repo.data_id["patch"]))
    planes = {
        "IMAGE": result.image,
        "VARIANCE": result.variance,
        "NEXPOSED": result.n_exposures,
    }
    repo.put(_image_hdus(planes, sky_grid.moved(-outer.x, -outer.y).header()), "coadd")


def measure(repo: "Repo") -> None:
    """Detect and measure the stars of a patch; those in its border belong to a neighbour."""
    patches, sky_grid = PatchGrid(**repo.config["patches"]), Projection(**repo.config["projection"])
    inner, outer = (box(int(repo.data_id["patch"])) for box in (patches.inner, patches.outer))
    hdus = repo.get("coadd")
    image = _plane(hdus, "IMAGE")
    stars = measure_stars(image, _plane(hdus, "VARIANCE")).moved(outer.x, outer.y)
    stars = stars.select(inner.contains(stars.x, stars.y))
    repo.metric("n_stars", len(stars))
    repo.put(_table_hdus(stars, sky_grid), "patch_catalog")
    pixels = image[inner.slices(outer.x, outer.y)]
    repo.put(write_png(stretch(pixels), zoom=4), "coadd_png")


def assemble(repo: "Repo") -> None:
    """Put the patches together, and compare them with the original image."""
    patches, sky_grid = PatchGrid(**repo.config["patches"]), Projection(**repo.config["projection"])
    whole = patches.whole()
    catalogs = [StarList.from_table(repo.get(ref)[1]) for ref in repo.input_refs("patch_catalog")]
    stars = with_isolation(join(catalogs))
    reference = StarList.from_json(repo.get("reference_catalog")["stars"])
    comparison = compare(stars, reference, whole).as_dict()
    for name, value in comparison.items():
        repo.metric(name, value)
    repo.put(comparison, "comparison")
    repo.put(_table_hdus(stars, sky_grid), "catalog")
    mosaic = _mosaic(repo, patches)
    header = sky_grid.moved(-whole.x, -whole.y).header()
    repo.put(_image_hdus({"IMAGE": mosaic}, header), "mosaic")
    repo.put(write_png(stretch(mosaic), zoom=3), "mosaic_png")
    original = _plane(repo.get("reference_image"), "PRIMARY")[whole.slices()]
    repo.put(
        write_png(side_by_side([stretch(mosaic), stretch(original)]), zoom=2), "comparison_png"
    )


def _mosaic(repo: "Repo", patches: PatchGrid) -> Array:
    """Return the patches side by side, each without its border."""
    whole = patches.whole()
    mosaic = np.zeros(whole.shape)
    for ref in repo.input_refs("coadd"):
        patch = int(ref.data_id["patch"])
        inner, outer = patches.inner(patch), patches.outer(patch)
        pixels = _plane(repo.get(ref), "IMAGE")[inner.slices(outer.x, outer.y)]
        mosaic[inner.slices(whole.x, whole.y)] = pixels
    return mosaic


def _image_hdus(planes: dict[str, Any], header: dict[str, Any]) -> "fits.HDUList":
    """Return images as extensions; the header, with the place on the sky, in each of them."""
    from astropy.io import fits

    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header.update(header)
    for name, pixels in planes.items():
        stored = pixels.astype(np.float32) if pixels.dtype.kind == "f" else pixels
        hdu = fits.ImageHDU(stored, name=name)
        hdu.header.update(header)
        hdus.append(hdu)
    return hdus


def _table_hdus(stars: StarList, projection: Projection) -> "fits.HDUList":
    from astropy.io import fits

    return fits.HDUList([fits.PrimaryHDU(), stars.to_table(projection)])


def _plane(hdus: "fits.HDUList", name: str) -> Array:
    return np.asarray(hdus[name].data, dtype=float)
