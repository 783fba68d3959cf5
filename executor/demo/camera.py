# SPDX-License-Identifier: BSD-3-Clause
"""Camera: what a telescope with an imperfect detector would have recorded of the sky.

This is where the survey's truth is. The pipeline sees only frames and headers, and has to undo it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from executor.demo.projection import Array

GAIN_E_PER_ADU = 1.6
READ_NOISE_E = 5.0
SIDE_PX = 180
"""Rows and columns of the detector."""
SATURATION_ADU = 65535
DEAD_COLUMNS = (61, 62, 128)
_CALIBRATION_FRAMES = 30
_BIAS_ADU = 1000.0
_FLAT_ADU = 20000.0


@dataclass(frozen=True, slots=True)
class Camera:
    """A detector: its bias level (ADU) and its response (1 is the median), pixel by pixel."""

    bias: Array
    response: Array

    def bias_frame(self, random: np.random.Generator) -> NDArray[np.float32]:
        """The mean of several frames read without light (ADU)."""
        noise = READ_NOISE_E / GAIN_E_PER_ADU / np.sqrt(_CALIBRATION_FRAMES)
        return (self.bias + random.normal(0.0, noise, self.bias.shape)).astype(np.float32)

    def flat_frame(self, random: np.random.Generator) -> NDArray[np.float32]:
        """The mean of several frames of an evenly lit screen, divided by its median."""
        electrons = self.response * _FLAT_ADU * GAIN_E_PER_ADU * _CALIBRATION_FRAMES
        frame = random.poisson(electrons) / (_FLAT_ADU * GAIN_E_PER_ADU * _CALIBRATION_FRAMES)
        return (frame / np.median(frame)).astype(np.float32)

    def expose(self, light: Array, hits: Array, random: np.random.Generator) -> NDArray[np.uint16]:
        """Record an exposure (ADU).

        Parameters
        ----------
        light
            Electrons that a perfect detector would collect, on average.
        hits
            Electrons freed by cosmic rays, which no response diminishes.
        """
        electrons = random.poisson(self.response * light) + hits
        electrons = electrons + random.normal(0.0, READ_NOISE_E, light.shape)
        adu = np.rint(electrons / GAIN_E_PER_ADU + self.bias)
        return np.clip(adu, 0, SATURATION_ADU).astype(np.uint16)


def build_camera(random: np.random.Generator) -> Camera:
    """Make a camera with vignetting, dust, uneven pixels, dead columns and a patterned bias."""
    row, column = np.indices((SIDE_PX, SIDE_PX), dtype=float)
    bias = _BIAS_ADU + 0.05 * row + random.normal(0.0, 4.0, (1, SIDE_PX))
    middle = (SIDE_PX - 1) / 2
    radius = np.hypot(row - middle, column - middle) / middle
    response = 1.0 - 0.15 * radius**2
    for x, y in random.uniform(20, SIDE_PX - 20, (5, 2)):
        # Dust on a filter is out of focus: a ring, the shadow of the secondary mirror in it.
        response *= 1.0 - 0.08 * np.exp(-0.5 * ((np.hypot(column - x, row - y) - 7.0) / 1.5) ** 2)
    response *= random.normal(1.0, 0.01, response.shape)
    response /= np.median(response)
    response[:, list(DEAD_COLUMNS)] = 0.02
    return Camera(bias + np.zeros_like(response), response)


def cosmic_rays(n_hits: int, random: np.random.Generator) -> Array:
    """Return the electrons that cosmic rays free: short straight tracks."""
    hits = np.zeros((SIDE_PX, SIDE_PX))
    for _ in range(n_hits):
        x, y = random.uniform(0, SIDE_PX, 2)
        angle = random.uniform(0, 2 * np.pi)
        along = np.arange(random.integers(1, 9))
        columns = np.clip(x + along * np.cos(angle), 0, SIDE_PX - 1).astype(int)
        rows = np.clip(y + along * np.sin(angle), 0, SIDE_PX - 1).astype(int)
        hits[rows, columns] += random.uniform(1000.0, 6000.0)
    return hits


def view(sky: Array, x: float, y: float, blur_px: float) -> Array:
    """Return what falls on the detector if its first pixel is at x, y of the sky (pixels).

    Shift and blur (sigma in pixels) are made in Fourier space: exactly, and by other means than
    the pipeline's resampling, so that an error there cannot hide by being made twice.
    """
    margin = 32
    padded = np.pad(sky, margin, mode="reflect")
    whole_x, whole_y = int(np.floor(x)), int(np.floor(y))
    u = np.fft.rfftfreq(padded.shape[1])[None, :]
    v = np.fft.fftfreq(padded.shape[0])[:, None]
    phase = np.exp(2j * np.pi * (u * (x - whole_x) + v * (y - whole_y)))
    transfer = np.exp(-2.0 * (np.pi * blur_px) ** 2 * (u**2 + v**2))
    moved = np.fft.irfft2(np.fft.rfft2(padded) * phase * transfer, padded.shape)
    rows = slice(margin + whole_y, margin + whole_y + SIDE_PX)
    columns = slice(margin + whole_x, margin + whole_x + SIDE_PX)
    return np.clip(moved[rows, columns], 0.0, None)
