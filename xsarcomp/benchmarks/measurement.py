"""Measurements of a codec: plane by plane at each setting, over a range of rates.

A `Measurement` keeps sums, so that planes can be pooled to scenes and scenes to a benchmark in any combination
without coding them again.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsarcomp.benchmarks.classical import Codec
from xsarcomp.benchmarks.planes import Scene, fill_with_median
from xsarcomp.errors import RateError
from xsarcomp.evaluation.compare import compare_array_errors
from xsarcomp.metrics.rate_distortion import RatePoint

MEASURED_RATES = (0.05, 2.6)
"""Range of rates to measure, bits per pixel: wider than the range in which codecs are compared, because a codec that needs
half or 1.3 times the bits of another must reach the same errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One plane through a codec at one setting."""

    coded_bits: float
    """All bits of the stream."""
    pixels: int
    """Pixels of the plane, valid or not."""
    valid_pixels: int
    squared_error: float
    """Sum over the valid pixels, dB2."""
    original_power: float = math.nan
    """Sum of the linear power of the valid pixels, m2 m-2."""
    restored_power: float = math.nan
    """The same sum after the codec."""
    enl_ratio: float = math.nan
    """See `xsarcomp.metrics.speckle.enl_ratio`."""
    edge_preservation: float = math.nan
    """See `xsarcomp.metrics.fidelity.edge_preservation`."""


Sweep = dict[float, list[list[Measurement]]]
"""Setting to the measurements of each plane of each scene."""


def measure(codec: Codec, setting: float, plane_db: NDArray[np.float32]) -> Measurement:
    """Send a plane through a codec and compare the result with the original.

    Parameters
    ----------
    codec : Codec
    setting : float
        Setting of the codec.
    plane_db : ndarray of float32, shape (y, x)
        Backscatter in dB, NaN where invalid. Invalid pixels are filled for the codec and left out of the comparison; no
        codec is asked to keep their mask.

    Returns
    -------
    Measurement
    """
    data = codec.encode(fill_with_median(plane_db), setting)
    restored_db = codec.decode(data, plane_db.shape)
    metrics = compare_array_errors(plane_db, restored_db, scale="decibel")
    valid_pixels = int(metrics["valid_pixels"])
    original_power = float(np.sum(10.0 ** (plane_db[np.isfinite(plane_db)].astype(np.float64) / 10.0)))
    return Measurement(
        coded_bits=8.0 * len(data),
        pixels=plane_db.size,
        valid_pixels=valid_pixels,
        squared_error=metrics["rmse_db"] ** 2 * valid_pixels if valid_pixels else 0.0,
        original_power=original_power,
        restored_power=original_power * 10.0 ** (metrics["bias_db"] / 10.0) if valid_pixels else 0.0,
        enl_ratio=metrics["enl_ratio"],
        edge_preservation=metrics["edge_preservation"],
    )


def sweep(codec: Codec, scenes: Sequence[Scene], *, rates: tuple[float, float] = MEASURED_RATES) -> Sweep:
    """Measure a codec at those of its settings that a range of rates needs.

    The walk starts in the middle of the grid of settings and goes outward on both sides, until *every* scene has left
    the range there. Settings beyond tell nothing about the range and are not measured.

    Parameters
    ----------
    codec : Codec
        Its settings are ordered, fine to coarse or coarse to fine.
    scenes : sequence of Scene
    rates : tuple of two float
        Lowest and highest bits per pixel that must be covered.

    Returns
    -------
    dict of float to list of list of Measurement
        In the order of the settings.
    """
    settings = [float(setting) for setting in codec.settings]
    middle = len(settings) // 2
    measurements: Sweep = {}

    def measure_scenes(index: int) -> list[float]:
        setting = settings[index]
        measurements[setting] = [[measure(codec, setting, plane) for plane in scene.planes] for scene in scenes]
        return [bits_per_pixel(planes) for planes in measurements[setting]]

    middle_rates = measure_scenes(middle)
    for indices in (range(middle + 1, len(settings)), range(middle - 1, -1, -1)):
        previous_rates = middle_rates
        for index in indices:
            scene_rates = measure_scenes(index)
            rising = sum(scene_rates) > sum(previous_rates)
            if (min(scene_rates) > rates[1]) if rising else (max(scene_rates) < rates[0]):
                break
            previous_rates = scene_rates
    return {setting: measurements[setting] for setting in settings if setting in measurements}


def bits_per_pixel(measurements: Iterable[Measurement]) -> float:
    """Rate of planes together."""
    planes = list(measurements)
    return sum(plane.coded_bits for plane in planes) / sum(plane.pixels for plane in planes)


def pooled_point(setting: float, measurements: Iterable[Measurement]) -> RatePoint:
    """Pool planes to one point; bits and squared errors are summed, so that a large plane counts for more.

    Parameters
    ----------
    setting : float
        Setting that all planes were measured at.
    measurements : iterable of Measurement
        One for each plane.

    Returns
    -------
    RatePoint

    Raises
    ------
    RateError
        If there is no plane with a valid pixel.
    """
    planes = list(measurements)
    valid_pixels = sum(plane.valid_pixels for plane in planes)
    if not valid_pixels:
        raise _no_valid_pixel(len(planes))
    original = sum(plane.original_power for plane in planes)
    restored = sum(plane.restored_power for plane in planes)
    looks = [plane.enl_ratio for plane in planes if not math.isnan(plane.enl_ratio)]
    with_edges = [plane for plane in planes if not math.isnan(plane.edge_preservation)]
    edge_preservation = math.nan
    if with_edges:
        weighted = sum(plane.edge_preservation * plane.valid_pixels for plane in with_edges)
        edge_preservation = weighted / sum(plane.valid_pixels for plane in with_edges)
    return RatePoint(
        setting=float(setting),
        bits_per_pixel=bits_per_pixel(planes),
        rmse_db=math.sqrt(sum(plane.squared_error for plane in planes) / valid_pixels),
        enl_ratio=float(np.median(looks)) if looks else math.nan,
        edge_preservation=edge_preservation,
        bias_db=10.0 * math.log10(restored / original) if original > 0 and restored > 0 else math.nan,
    )


def pooled_curve(measurements: Sweep, scenes: Sequence[int]) -> list[RatePoint]:
    """Pool some scenes of a sweep.

    Parameters
    ----------
    measurements : Sweep
    scenes : sequence of int
        Numbers of the scenes; a scene that is named twice counts twice.

    Returns
    -------
    list of RatePoint
        One for each setting.
    """
    return [
        pooled_point(setting, [plane for scene in scenes for plane in by_scene[scene]])
        for setting, by_scene in measurements.items()
    ]


def measured_curve(codec: Codec, planes: Sequence[ArrayLike]) -> list[RatePoint]:
    """Measure a codec at all of its settings.

    Parameters
    ----------
    codec : Codec
        Codec with its grid of settings.
    planes : sequence of array_like of float, shape (y, x)
        Backscatter in dB, not finite where invalid; see `measure`.

    Returns
    -------
    list of RatePoint
        One for each setting, by ascending rate.

    Raises
    ------
    RateError
        If there is no plane with a valid pixel.
    """
    originals = [np.asarray(plane, dtype=np.float32) for plane in planes]
    if not any(np.isfinite(plane).any() for plane in originals):
        raise _no_valid_pixel(len(originals))
    points = [
        pooled_point(setting, [measure(codec, setting, plane) for plane in originals]) for setting in codec.settings
    ]
    return sorted(points, key=lambda point: (point.bits_per_pixel, -point.rmse_db))


def _no_valid_pixel(planes: int) -> RateError:
    return RateError(f"found no valid pixel in {planes} planes, expected some to measure a rate. Choose other scenes.")
