"""Residuals and gains of a latents store: which windows a block needs, and the block itself.

They are made from the latents as the decoder will see them, so their blocks come after those of the latents.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.chunk import ABSENT, check_present
from xsarcomp.codec.entropy_tables import CHANNELS
from xsarcomp.codec.guarantees import GuaranteeData
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.lapped import BLOCK
from xsarcomp.codec.speckle import Speckle
from xsarcomp.codec.tile_means import TILE, tile_count
from xsarcomp.codec.window import classes_of, decode_window, guarantee_data_for, latent_count, latent_span
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.tiling import plane_groups

GAIN = "gain"
"""Dimension of a gain and its level."""
Block = tuple[tuple[int, int], ...]


def latent_range(start: int, stop: int) -> tuple[int, int]:
    """Latents whose blocks hold the pixels of a range."""
    return start // BLOCK, latent_count(stop)


def latents_window(block: Block, record: LatentsMetadata) -> Block:
    """Latents that decoding a block of pixels (..., y, x) reads."""
    coder = load_coder(record.model_id)
    spans = (
        latent_span(*latent_range(*span), latent_count(size), coder)
        for span, size in zip(block[-2:], record.pixels, strict=True)
    )
    return (*block[:-2], (0, CHANNELS), *spans)


def gains_window(block: Block) -> Block:
    """Tiles that a block of pixels (..., y, x) touches."""
    return (*block[:-2], (0, 2), *((start // TILE, tile_count(stop)) for start, stop in block[-2:]))


def pixels_of_gains(block: Block, record: LatentsMetadata) -> Block:
    """Pixels of a block of gains (..., gain, y_tile, x_tile)."""
    spans = zip(block[-2:], record.pixels, strict=True)
    return (*block[:-3], *((start * TILE, min(stop * TILE, size)) for (start, stop), size in spans))


def decode_signal(
    block: Block,
    latents: NDArray[np.int32],
    record: LatentsMetadata,
    planes: slice = slice(None),
    speckle: Speckle | None = None,
) -> NDArray[np.float32]:
    """Signal of a block of pixels, shape (plane, y, x), for some of the planes.

    ``latents`` are those of :func:`latents_window`, (plane, 64, ...); ``speckle`` is that of the planes, to restore it.
    """
    coder = load_coder(record.model_id)
    axes, cuts = [], []
    for (start, stop), size in zip(block[-2:], record.pixels, strict=True):
        first, last = latent_range(start, stop)
        count = latent_count(size)
        axes.append((first, last, count, latent_span(first, last, count, coder)[0]))
        cuts.append(slice(start - first * BLOCK, stop - first * BLOCK))
    return decode_window(latents[planes], coder, record.step_db, *axes, speckle)[:, *cuts]


def _corrections_block(
    block: Block, latents: NDArray[np.int32], values: NDArray, record: LatentsMetadata
) -> list[GuaranteeData]:
    """GuaranteeData of a block of pixels that begins at a tile, by groups of planes."""
    coder, settings = load_coder(record.model_id), record.settings
    planes = values.reshape(-1, *values.shape[-2:])
    latents = latents.reshape(-1, *latents.shape[-3:])
    made = []
    for group in plane_groups(len(planes), planes[0].size):
        signal = decode_signal(block, latents, record, group)
        classes = classes_of(planes[group], settings)
        made.append(guarantee_data_for(planes[group], signal, classes, settings, coder))
    return made


def residual_block(
    block: Block, latents: NDArray[np.int32], values: NDArray, record: LatentsMetadata
) -> NDArray[np.int32]:
    """Residuals of a block of pixels, shape (..., y, x)."""
    made = _corrections_block(block, latents, values, record)
    return np.concatenate([added.residuals for added in made]).reshape(values.shape)


def gains_block(
    block: Block, latents: NDArray[np.int32], values: NDArray, record: LatentsMetadata
) -> NDArray[np.int32]:
    """Gains and levels of a block of tiles, shape (..., gain=2, y_tile, x_tile)."""
    made = _corrections_block(pixels_of_gains(block, record), latents, values, record)
    return np.concatenate([added.gains for added in made]).reshape([stop - start for start, stop in block])


def guarantee_data_in_store(
    block: Block, residual: NDArray[np.int32] | None, gains: NDArray[np.int32] | None, record: LatentsMetadata
) -> GuaranteeData | None:
    """GuaranteeData of a block of pixels from what a store holds; None where nothing was promised.

    Parameters
    ----------
    block : tuple of (start, stop)
        On each axis of (..., y, x).
    residual : ndarray of int32, shape (..., y, x), or None
    gains : ndarray of int32, shape (..., gain=2, y_tile, x_tile), or None
        See :func:`gains_window`.
    record : LatentsMetadata

    Raises
    ------
    CorruptStreamError
        If a chunk of them is missing.
    """
    if residual is None and gains is None:
        return None
    for what, integers in (("residuals", residual), ("gains", gains)):
        if integers is not None:
            check_present(integers, f"{what} of {record.name!r}")
    return GuaranteeData(
        spacing_db=record.residual_spacing_db,
        residuals=None if residual is None else residual.reshape(-1, *residual.shape[-2:]),
        gains=None if gains is None else gains.reshape(-1, *gains.shape[-3:]),
        origin=tuple(start % TILE for start, _ in block[-2:]),
    )


def storage_of(part: str, name: str | None, chunks: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes and encoding of the variable that holds residuals or gains."""
    long_name = {
        "residual": f"residuals of {name}, in units of residual_spacing_db",
        "gains": f"gains of the tiles of {name}, and their levels",
    }[part]
    codec = {"name": "xsarcomp.integers", "configuration": {}}
    encoding = {"serializer": codec, "compressors": None, "chunks": chunks, "_FillValue": None, "fill_value": ABSENT}
    return {"long_name": long_name, "units": "1"}, encoding
