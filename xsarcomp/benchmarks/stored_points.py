"""Points that were measured elsewhere, as a codec of a benchmark: for encoders that no package brings, such as VVC.

A file of points is JSON: scene, polarization, then a list of points ``[setting, bytes, valid pixels, squared error, bias]``.
The squared error is the sum over valid pixels in dB2, the bias that of the mean power in dB. Scenes are named by the stems
of their files, polarizations in lower case.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xsarcomp.benchmarks.measurement import Measurement, Sweep
from xsarcomp.benchmarks.planes import Scene
from xsarcomp.errors import ConfigurationError


def read_points(path: str | Path, scenes: Sequence[Scene]) -> tuple[Sweep | None, str]:
    """Read the points of some scenes.

    Parameters
    ----------
    path : str or Path
        File of points.
    scenes : sequence of Scene

    Returns
    -------
    sweep : Sweep or None
        None if a scene or a polarization has no points: a curve over other scenes could not be compared.
    left_out : str
        The reason; empty if there is none.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, or its points were measured on other pixels.
    """
    try:
        points = json.loads(Path(path).read_text(encoding="utf-8"))
        missing = [
            f"{scene.name} {polarization or 'of unknown polarization'}"
            for scene in scenes
            for polarization in scene.polarizations
            if not points.get(scene.name, {}).get(polarization)
        ]
        if missing:
            return None, f"{path} has no points of {', '.join(missing)}"
        measured = [
            [
                {float(point[0]): _measurement(scene, number, point) for point in points[scene.name][polarization]}
                for number, polarization in enumerate(scene.polarizations)
            ]
            for scene in scenes
        ]
    except (OSError, ValueError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"found no points in {path} ({error}), expected JSON: scene, polarization, then [setting, bytes, valid pixels, squared "
            "error, bias] for each point"
        ) from error
    settings = sorted(set.intersection(*(set(plane) for scene in measured for plane in scene)))
    return {setting: [[plane[setting] for plane in scene] for scene in measured] for setting in settings}, ""


def _measurement(scene: Scene, number: int, point: Sequence[Any]) -> Measurement:
    """One point of one plane; its valid pixels must be those of the plane."""
    _, size, valid_pixels, squared_error, bias_db = point
    plane = scene.planes[number]
    valid = np.isfinite(plane)
    if valid.sum() != valid_pixels:
        raise ConfigurationError(
            f"the points of {scene.name!r} were measured on {valid_pixels} valid pixels, and {scene.polarizations[number]} has "
            f"{valid.sum()}: give the file that belongs to these scenes"
        )
    power = float(np.sum(10.0 ** (plane[valid].astype(np.float64) / 10.0)))
    return Measurement(
        coded_bits=8.0 * size,
        pixels=plane.size,
        valid_pixels=int(valid_pixels),
        squared_error=float(squared_error),
        original_power=power,
        restored_power=power * 10.0 ** (bias_db / 10.0),
    )
