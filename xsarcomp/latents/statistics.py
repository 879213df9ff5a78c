"""Statistics of the latents in a store: the energy of a scene by frequency band, and the share that was kept."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.latents.decode import align_parts, read_latents_metadata
from xsarcomp.latents.plane_steps import runs_of_parts
from xsarcomp.tiling import aligned_spans

PIECE_LATENTS = 256
"""Edge of the pieces that are read, in latents; bounds the memory."""
CHANNEL_BANDS = np.add.outer(np.arange(BLOCK), np.arange(BLOCK)).ravel()
"""Band of each channel: vertical plus horizontal frequency, 0 to 14."""
BANDS = 2 * BLOCK - 1
"""Number of bands."""


def latent_statistics(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Compute statistics of the latents of each variable, read piece by piece.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of ``encode``, or an opened latents store.

    Returns
    -------
    dict of str to dict
        By the name of the variable. ``latents``, their number; ``zero_share``, the share that is 0; ``empty_share``, the share
        of blocks in which all but the lowest are 0; and lists of 15 by frequency band (vertical plus horizontal frequency, 0
        to 14; band 0 is only the lowest latent): ``zero_share_by_band``; ``mean_magnitude_by_band``, of the symbols;
        ``variance_by_band``, dB2, of the dequantized latents of a channel around their mean, averaged over the band. NaN
        without latents.

    Raises
    ------
    NotEncodedError
        If the dataset holds no latents.
    """
    statistics = {}
    for metadata in read_latents_metadata(dataset).values():
        parts, _ = align_parts(dataset, metadata)
        coding: dict[str, Any] = {part: parts[part].values for part in ("coding", "plane_coding") if part in parts}
        planes = int(np.prod(parts["latents"].shape[:-3]))
        steps = [
            run.settings.step_db for run in runs_of_parts(coding, metadata, planes) for _ in range(planes)[run.planes]
        ]
        statistics[str(metadata.name)] = _statistics(parts["latents"], load_coder(metadata.model_id), steps)
    return statistics


def _statistics(latents: xr.Variable, coder: LappedCoder, steps_db: list[float]) -> dict[str, Any]:
    """Statistics of the latents of a variable; ``steps_db`` has the quantization step of each plane."""
    count = empty = 0
    zeros, magnitudes, sums, squares = np.zeros((4, CHANNELS))
    for symbols, step_db in _pieces(latents, steps_db):
        # dequantized without the network, so that the statistics describe the stored numbers only
        values = LappedCoder.reconstruct(coder, coder.points(symbols, step_db), step_db).astype(np.float64)
        axes = (0, 2, 3)
        zeros += (symbols == 0).sum(axes)
        magnitudes += np.abs(symbols).sum(axes, dtype=np.float64)
        sums += values.sum(axes)
        squares += (values**2).sum(axes)
        count += symbols[:, 0].size
        empty += int((~symbols[:, 1:].any(axis=1)).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        variances = np.maximum(squares / count - (sums / count) ** 2, 0) if count else np.full(CHANNELS, np.nan)
        return {
            "latents": count * CHANNELS,
            "zero_share": float(zeros.sum() / np.float64(count * CHANNELS)),
            "empty_share": float(empty / np.float64(count)),
            "zero_share_by_band": _by_band(zeros / np.float64(count)),
            "mean_magnitude_by_band": _by_band(magnitudes / np.float64(count)),
            "variance_by_band": _by_band(variances),
        }


def _pieces(latents: xr.Variable, steps_db: list[float]) -> Iterator[tuple[NDArray[np.int32], float]]:
    """Symbols (plane, latent=64, y_latent, x_latent) of pieces that bound the memory, and their steps."""
    planes = itertools.product(*(range(size) for size in latents.shape[:-3]))
    row_spans, column_spans = (aligned_spans(0, size, PIECE_LATENTS) for size in latents.shape[-2:])
    planes_and_steps = zip(planes, steps_db, strict=True)
    for (plane, step_db), rows, columns in itertools.product(planes_and_steps, row_spans, column_spans):
        place = (*plane, slice(CHANNELS), slice(*rows), slice(*columns))
        yield np.asarray(latents[place].values, np.int32)[None], step_db


def _by_band(by_channel: NDArray[np.float64]) -> list[float]:
    """Means over the channels of each band."""
    return [float(by_channel[band == CHANNEL_BANDS].mean()) for band in range(BANDS)]
