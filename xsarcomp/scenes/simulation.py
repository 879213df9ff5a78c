"""Simulated Sentinel-1 IW GRD scenes in sigma0: land cover, correlated speckle, point targets, slanted border.

They serve tests with known truth and demonstrations without data. The speckle follows the physics of the product: each
look is the intensity of a circular Gaussian field, filtered to the resolution of IW GRD High (22.5 m along, 20.4 m across
the track) and sampled at 10 m, and the looks are summed with weights. The equivalent number of looks and the correlation
of neighbors are therefore the ones of the real product. The land cover (:mod:`xsarcomp.scenes.land_cover`) is only
plausible: results are confirmed on real scenes.

All values follow from shape and seed, with separate random streams for land cover, speckle and targets.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import fft

from xsarcomp.errors import DimensionError, RadiometryError
from xsarcomp.scenes.land_cover import simulate_landscape, simulate_point_targets

POLARIZATIONS = ("vv", "vh")
"""Names of the variables, in the order of the polarizations."""
SPACING_M = 10.0
"""Pixel spacing, along y and x."""
RESOLUTION_M = (22.5, 20.4)
"""Width of the impulse response at -3 dB in meters, azimuth (y) and range (x)."""

_HAMMING = (0.75, 0.70)  # spectral weights of the IW processor, azimuth and range
_FROM_POWER: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "power": lambda power: power,
    "amplitude": np.sqrt,
    "decibel": lambda power: np.float32(10.0) * np.log10(power),
}
_SCENE_CORNER_M = (5_400_000.0, 600_000.0)  # northing and easting in UTM zone 32 north, in southern Germany


def simulate_scene(
    shape: Sequence[int], *, seed: int, looks: float = 4.4, nodata_border: bool = True
) -> NDArray[np.float32]:
    """Simulate sigma0 of one scene in VV and VH.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, pixels of 10 m.
    seed : int
        Seed; the same seed and shape give the same scene.
    looks : float
        Equivalent number of looks of the speckle, above 1.
    nodata_border : bool
        Add the slanted NaN edges of a real scene in a map projection.

    Returns
    -------
    ndarray of float32, shape (polarization, y, x)
        Power of sigma0 (linear, m2 m-2) in VV and VH, positive; NaN in the border.

    Raises
    ------
    DimensionError
        If ``shape`` is not two positive numbers.
    RadiometryError
        If ``looks`` is not above 1.
    """
    size = checked_shape(shape)
    cover_seed, vv_seed, vh_seed, target_seed = np.random.SeedSequence(seed).spawn(4)
    reflectivity_db, cover = simulate_landscape(size, rng=np.random.default_rng(cover_seed))
    targets = simulate_point_targets(
        cover,
        rng=np.random.default_rng(target_seed),
        width_pixels=[width / SPACING_M for width in RESOLUTION_M],
    )
    scene = np.empty((2, *size), dtype=np.float32)
    for index, speckle_seed in enumerate((vv_seed, vh_seed)):
        speckle = simulate_speckle(size, rng=np.random.default_rng(speckle_seed), looks=looks)
        # targets are added without speckle: a single strong scatterer does not fluctuate
        scene[index] = 10.0 ** (reflectivity_db[index] / 10.0) * speckle + targets[index]
    if nodata_border:
        scene[:, slanted_border(size)] = np.nan
    return scene


def simulated_dataset(shape: Sequence[int], seed: int, scale: str = "power") -> xr.Dataset:
    """Simulate sigma0 of one scene as the dataset that a reader of Sentinel-1 products gives.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, pixels of 10 m.
    seed : int
        Seed of :func:`simulate_scene`.
    scale : {"power", "amplitude", "decibel"}
        Scale of the values.

    Returns
    -------
    xarray.Dataset
        Variables ``vv`` and ``vh`` of float32 with dimensions (y, x) and attributes ``units`` ("1" or "dB")
        and ``long_name``; pixel centers ``y`` (descending) and ``x`` in meters; ``spatial_ref`` (EPSG:32632).

    Raises
    ------
    DimensionError
        If ``shape`` is not two positive numbers.
    RadiometryError
        If ``scale`` is unknown.
    """
    import rioxarray  # noqa: F401  (registers the accessor that writes the reference system)

    if scale not in _FROM_POWER:
        raise RadiometryError(f"found scale {scale!r}, expected one of {tuple(_FROM_POWER)}. Choose one of them.")
    values = _FROM_POWER[scale](simulate_scene(shape, seed=seed))
    long_name = "sigma nought amplitude" if scale == "amplitude" else "sigma nought"
    attributes = {"units": "dB" if scale == "decibel" else "1", "long_name": long_name}
    if scale == "amplitude":
        attributes["scale"] = scale  # "1" is the unit of power as well
    meters = {"units": "metre"}  # the spelling of CF and UDUNITS
    north, east = _SCENE_CORNER_M
    rows, columns = values.shape[1:]
    scene = xr.Dataset(
        {
            name: (("y", "x"), plane, {**attributes, "polarization": name.upper()})
            for name, plane in zip(POLARIZATIONS, values, strict=True)
        },
        coords={
            "y": ("y", north - SPACING_M * (np.arange(rows) + 0.5), meters),
            "x": ("x", east + SPACING_M * (np.arange(columns) + 0.5), meters),
        },
        attrs={"title": "simulated Sentinel-1 IW GRD scene"},
    )
    return scene.rio.write_crs("EPSG:32632")


def simulate_speckle(shape: Sequence[int], *, rng: np.random.Generator, looks: float = 4.4) -> NDArray[np.float32]:
    """Simulate the speckle of IW GRD High over a flat scene.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns, pixels of 10 m.
    rng : numpy.random.Generator
        Source of randomness.
    looks : float
        Equivalent number of looks, above 1.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Factor of the reflectivity: positive, expected value 1, variance 1 / ``looks``; the decibel values of
        neighbors are correlated by about 0.6.

    Raises
    ------
    DimensionError
        If ``shape`` is not two positive numbers.
    RadiometryError
        If ``looks`` is not above 1.

    References
    ----------
    Oliver and Quegan (2004), *Understanding Synthetic Aperture Radar Images*, chapter 4.
    """
    rows, columns = checked_shape(shape)
    # the FFT makes opposite edges neighbors: a few more rows and columns are simulated and cut off
    size = [fft.next_fast_len(length + 8) for length in (rows, columns)]
    (band_y, window_y), (band_x, window_x) = (
        _spectral_window(length, resolution / SPACING_M, hamming)
        for length, resolution, hamming in zip(size, RESOLUTION_M, _HAMMING, strict=True)
    )
    weights = np.outer(window_y, window_x).astype(np.float32)
    weights *= math.sqrt(0.5 / np.sum(weights.astype(np.float64) ** 2)) * size[0] * size[1]
    total = np.zeros((rows, columns), dtype=np.float32)
    for look_weight in _look_weights(looks):
        spectrum = np.zeros(size, dtype=np.complex64)
        parts = rng.standard_normal((2, *weights.shape), dtype=np.float32) * weights
        spectrum[np.ix_(band_y, band_x)] = parts[0] + 1j * parts[1]
        field = fft.ifft2(spectrum, overwrite_x=True)[:rows, :columns]
        total += np.float32(look_weight) * (field.real**2 + field.imag**2)
    return np.maximum(total, np.finfo(np.float32).tiny)


def slanted_border(
    shape: tuple[int, int], window: tuple[tuple[int, int], tuple[int, int]] | None = None
) -> NDArray[np.bool_]:
    """Mark the pixels outside a scene that is rotated against the map grid.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the scene.
    window : two of (start, stop), optional
        Rows and columns of the result; all if not given.

    Returns
    -------
    ndarray of bool, shape (y, x) of the window
        True in the wedge along the left edge and in the flatter one along the top: a tenth of the scene.
    """
    rows, columns = shape
    y_span, x_span = window or ((0, rows), (0, columns))
    y = (np.arange(*y_span)[:, None] + 0.5) / rows
    x = (np.arange(*x_span)[None, :] + 0.5) / columns
    return (x < 0.15 - 0.14 * (1 - y)) | (y < 0.05 * x)


def _spectral_window(
    length: int, resolution_pixels: float, hamming: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the frequencies in the band (as indices) and their amplitude weights.

    The width of the band follows from the -3 dB resolution: the half-power width of the impulse response of a
    Hamming-weighted band is measured on a fine grid for width 1, and scales with 1 / width.
    """
    lag = np.linspace(0.0, 1.5, 3001)
    response = hamming * np.sinc(lag) + (1 - hamming) / 2 * (np.sinc(lag - 1) + np.sinc(lag + 1))
    half_width = lag[np.argmax(response < response[0] * math.sqrt(0.5))]
    bandwidth = 2 * half_width / resolution_pixels
    frequency = fft.fftfreq(length)
    band = np.flatnonzero(np.abs(frequency) <= bandwidth / 2)
    return band, hamming + (1 - hamming) * np.cos(2 * np.pi * frequency[band] / bandwidth)


def _look_weights(looks: float) -> NDArray[np.float64]:
    """Compute weights that sum to one and whose squares sum to 1 / looks."""
    if not looks > 1:
        raise RadiometryError(f"found looks={looks}, expected a number above 1. IW GRD High has 4.4.")
    count = math.ceil(looks)
    ramp = np.arange(count) - (count - 1) / 2
    slope = math.sqrt(max(0.0, count**2 / looks - count) / np.sum(ramp**2))
    return (1 + slope * ramp) / count


def checked_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Convert rows and columns to two positive numbers, or refuse them.

    Raises
    ------
    DimensionError
        If there are not two, or one is below 1.
    """
    lengths = tuple(int(length) for length in shape)
    if len(lengths) != 2 or min(lengths) < 1:
        raise DimensionError(f"found shape {lengths}, expected (rows, columns), both at least 1. Pass two numbers.")
    return lengths[0], lengths[1]
