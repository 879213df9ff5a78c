"""Statistics of the latents in a store: where a scene has its energy, and how much of it was kept."""

import itertools
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.latents.decode import aligned_parts, encoded_variables
from xsarcomp.latents.plane_steps import plane_runs
from xsarcomp.tiling import aligned_spans

PIECE_LATENTS = 256
"""Edge of the pieces that are in memory at the same time."""
BAND = np.add.outer(np.arange(BLOCK), np.arange(BLOCK)).ravel()
"""Band of each channel: vertical plus horizontal frequency, 0 to 14."""
BANDS = 2 * BLOCK - 1


def latent_statistics(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Statistics of the latents of each variable, read piece by piece.

    Parameters
    ----------
    dataset : Dataset
        As ``encode`` made it, or as it was opened from a latents store.

    Returns
    -------
    dict
        Name of the variable to a dict. ``latents``, their number; ``zero_share``, the share that is 0; ``empty_share``, the
        share of blocks in which all but the lowest are 0; and by band of frequency (vertical plus horizontal, 0 to 14, of
        which 0 is the lowest latent alone) lists of 15: ``zero_share_by_band``; ``mean_magnitude_by_band``, of the symbols;
        ``variance_by_band``, dB2, of the dequantized latents of a channel around their mean, averaged over the band. NaN
        where there are no latents.

    Raises
    ------
    NotEncodedError
        If the dataset holds no latents.
    """
    found = {}
    for metadata in encoded_variables(dataset).values():
        parts, _ = aligned_parts(dataset, metadata)
        coding = parts["coding"].values if "coding" in parts else None
        planes = int(np.prod(parts["latents"].shape[:-3]))
        steps = [
            run.settings.step_db for run in plane_runs(coding, metadata, planes) for _ in range(planes)[run.planes]
        ]
        found[str(metadata.name)] = _statistics(parts["latents"], load_coder(metadata.model_id), steps)
    return found


def _statistics(latents: xr.Variable, coder: LappedCoder, steps_db: list[float]) -> dict[str, Any]:
    """Statistics of latents; ``steps_db`` are those of the planes."""
    count = empty = 0
    zeros, magnitudes, sums, squares = np.zeros((4, CHANNELS))
    for symbols, step_db in _pieces(latents, steps_db):
        # dequantized as the profile without a network does it: what the stored numbers say by themselves
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


def _pieces(latents: xr.Variable, steps_db: list[float]):
    """Symbols (plane, latent=64, y_latent, x_latent) of pieces that bound what is in memory, and their steps."""
    lead = itertools.product(*(range(size) for size in latents.shape[:-3]))
    spans = [aligned_spans(0, size, PIECE_LATENTS) for size in latents.shape[-2:]]
    for (position, step_db), rows, columns in itertools.product(zip(lead, steps_db, strict=True), *spans):
        place = (*position, slice(None), slice(*rows), slice(*columns))
        yield np.asarray(latents[place].values, np.int32)[None], step_db


def _by_band(by_channel: NDArray[np.float64]) -> list[float]:
    """Means over the channels of each band."""
    return [float(by_channel[band == BAND].mean()) for band in range(BANDS)]
