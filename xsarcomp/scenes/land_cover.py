"""Simulated landscape under a radar scene: fields, forest, water, towns and single strong scatterers.

The levels of sigma0 are typical for C band at 35 to 40 degrees of incidence; the patterns are only plausible.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

# name: sigma0 in VV in dB, its spread between parcels in dB, VV over VH in dB
_LAND_COVER = {
    "field": (-11.5, 2.2, 7.5),
    "forest": (-9.0, 0.3, 6.2),
    "water": (-22.0, 0.4, 6.5),
    "town": (-5.5, 1.5, 7.8),
}
FIELD, FOREST, WATER, TOWN = range(4)
"""Classes of land cover."""

_PARCEL_PIXELS = (18.0, 34.0)  # mean size of agricultural parcels, across and along the strips
_BRIGHTEST_TARGET_DB = 15.0


def simulate_landscape(
    shape: tuple[int, int], *, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Simulate the land cover of a landscape and its backscatter without speckle.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, pixels of 10 m.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    reflectivity_db : ndarray of float32, shape (polarization, y, x)
        sigma0 in dB, VV and VH.
    cover : ndarray of int64, shape (y, x)
        Land cover: ``FIELD``, ``FOREST``, ``WATER`` or ``TOWN``.
    """
    cover = _land_cover(shape, rng)
    parcels = _parcels(shape, rng)
    variation = rng.standard_normal((2, int(parcels.max()) + 1)).astype(np.float32)
    level, spread, ratio = (np.array(column, dtype=np.float32) for column in zip(*_LAND_COVER.values(), strict=True))
    vv = level[cover] + spread[cover] * variation[0][parcels]
    vh = vv - ratio[cover] - np.where(cover == FIELD, 0.8, 0.1).astype(np.float32) * variation[1][parcels]
    # slopes that face the sensor are brighter; water is flat
    relief = np.diff(_smooth_field(shape, 40.0, rng), axis=1, append=0.0)
    relief[:, -1] = 0.0
    relief = np.float32(40.0) * relief * (1 + (cover == FOREST)) + 0.5 * _smooth_field(shape, 150.0, rng)
    relief = np.where(cover == WATER, np.float32(0.0), 0.7 * relief)
    crown = 0.6 * _smooth_field(shape, 2.0, rng) * (cover == FOREST)
    return np.stack((vv, vh)) + relief + crown, cover


def simulate_point_targets(
    cover: NDArray[np.integer], *, rng: np.random.Generator, width_pixels: Sequence[float]
) -> NDArray[np.float32]:
    """Simulate single strong scatterers: many in towns, few elsewhere.

    Parameters
    ----------
    cover : ndarray of int, shape (y, x)
        Land cover from :func:`simulate_landscape`.
    rng : numpy.random.Generator
        Source of randomness.
    width_pixels : sequence of two float
        Width of the impulse response at half power in pixels, along y and x.

    Returns
    -------
    ndarray of float32, shape (polarization, y, x)
        Power (sigma0, linear, m2 m-2), to be added to the power of the scene; single peaks reach 15 dB in VV.
    """
    chance = np.where(cover == TOWN, 0.006, np.where(cover == WATER, 2e-5, 1e-4))
    places = np.argwhere(rng.random(cover.shape) < chance)
    peak_db = _BRIGHTEST_TARGET_DB - 18.0 * np.sqrt(rng.random(len(places)))
    ratio_db = rng.normal(8.0, 2.0, size=len(places))
    targets = np.zeros((2, *cover.shape), dtype=np.float32)
    # a Gaussian as wide as the impulse response, scaled to the peak of the target
    deviation = [width / math.sqrt(8 * math.log(2)) for width in width_pixels]
    for plane, decibel in zip(targets, (peak_db, peak_db - ratio_db), strict=True):
        plane[tuple(places.T)] = 10.0 ** (decibel / 10.0)
        spread = ndimage.gaussian_filter(plane, deviation, truncate=6.0)
        plane[:] = spread * np.float32(2 * math.pi * deviation[0] * deviation[1])
    return targets


def _land_cover(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Simulate the class of each pixel, shape (y, x)."""
    cover = np.full(shape, FIELD)
    woods = _smooth_field(shape, 45.0, rng) + 0.15 * _smooth_field(shape, 4.0, rng)
    cover[woods > np.quantile(woods, 0.75)] = FOREST
    density = _smooth_field(shape, 30.0, rng)
    cover[density > np.quantile(density, 0.94)] = TOWN
    # a river follows a contour line of a smooth field; dividing by the slope keeps its width even
    course = _smooth_field(shape, 90.0, rng)
    course -= np.median(course)
    slope_y, slope_x = (np.gradient(course, axis=axis) if shape[axis] > 1 else np.float32(0.0) for axis in (0, 1))
    slope = np.hypot(slope_y, slope_x)
    lake = _smooth_field(shape, 25.0, rng)
    cover[(np.abs(course) < 4.0 * slope) | (lake < np.quantile(lake, 0.03))] = WATER
    return cover


def _parcels(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int32]:
    """Simulate the number of the parcel of each pixel: Voronoi cells of a jittered, rotated grid."""
    angle = rng.uniform(0.0, np.pi)
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    across = (cosine * columns + sine * rows) / np.float32(_PARCEL_PIXELS[0])
    along = (cosine * rows - sine * columns) / np.float32(_PARCEL_PIXELS[1])
    across, along = across - across.min() + 1, along - along.min() + 1
    cells_across, cells_along = int(across.max()) + 3, int(along.max()) + 3
    jitter = rng.uniform(0.1, 0.9, size=(2, cells_across * cells_along)).astype(np.float32)
    first_across, first_along = across.astype(np.int32), along.astype(np.int32)
    nearest = np.full(shape, np.inf, dtype=np.float32)
    parcel = np.zeros(shape, dtype=np.int32)
    for step in np.ndindex(3, 3):
        cell_across, cell_along = first_across + (step[0] - 1), first_along + (step[1] - 1)
        cell = cell_across * cells_along + cell_along
        distance = (cell_across + jitter[0][cell] - across) ** 2 + (cell_along + jitter[1][cell] - along) ** 2
        closer = distance < nearest
        nearest[closer] = distance[closer]
        parcel[closer] = cell[closer]
    return parcel


def _smooth_field(shape: tuple[int, int], scale_pixels: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Simulate a Gaussian random field of float32 with unit variance and Gaussian correlation, shape (y, x)."""
    size = [fft.next_fast_len(length, real=True) for length in shape]
    spectrum = fft.rfft2(rng.standard_normal(size, dtype=np.float32))
    response = [
        np.exp(-2.0 * (np.pi * scale_pixels * frequency) ** 2)
        for frequency in (fft.fftfreq(size[0]), fft.fftfreq(size[1]))
    ]
    energy = math.prod(float(np.mean(axis_response**2)) for axis_response in response)
    filtered = np.outer(response[0], response[1][: spectrum.shape[1]]) / math.sqrt(energy)
    return fft.irfft2(spectrum * filtered.astype(np.float32), s=size)[: shape[0], : shape[1]].copy()
