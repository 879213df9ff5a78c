"""Mean levels in tests: settings that ask for them, frames with other levels, and the errors of the means of tiles."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.frame import read_frame, write_frame
from xsarcomp.codec.mean_levels import pack_levels
from xsarcomp.codec.settings import Guarantees, Settings

LEVELED = 32
"""Flag of frames with mean levels."""
TILE = 64


def leveled_settings(step_db: float, scale: str, nodata: float | None = None) -> Settings:
    """Settings that keep the means of tiles by levels."""
    guarantees = Guarantees.from_request(None, True, np.dtype(np.float32))
    assert guarantees.mean_levels
    return Settings(step_db=step_db, scale=scale, nodata=nodata, guarantees=guarantees)


def releveled(content: bytes, levels: NDArray[np.int32]) -> bytes:
    """The frame with other levels and right checksums."""
    return write_frame(dataclasses.replace(read_frame(content), mean_levels=pack_levels(levels)))


def tile_errors_db(found: NDArray, expected: NDArray, scale: str, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Error of the mean power over the valid pixels of each tile that has one, dB; arrays (..., y, x)."""
    if not valid.any():
        return np.zeros(0)
    sums = []
    for values in (found, expected):
        decibel = np.where(valid, values, 1.0).astype(np.float64)
        if scale != "decibel":
            decibel = {"power": 10, "amplitude": 20}[scale] * np.log10(decibel)
        # relative to the brightest, so that no power leaves float64
        brightest = decibel[valid].max()
        power = np.where(valid, 10 ** ((np.where(valid, decibel, brightest) - brightest) / 10), 0.0)
        rows, columns = (np.arange(0, size, TILE) for size in power.shape[-2:])
        tiles = np.add.reduceat(np.add.reduceat(power, rows, axis=-2), columns, axis=-1)
        with np.errstate(divide="ignore"):
            sums.append(10 * np.log10(tiles) + brightest)
    filled = np.isfinite(sums[1])
    return sums[0][filled] - sums[1][filled]
