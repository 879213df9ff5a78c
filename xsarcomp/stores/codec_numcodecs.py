"""Codec of backscatter for Zarr format 2 and other users of numcodecs."""

from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ndarray_copy

from xsarcomp.codec import chunk
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.errors import DimensionError
from xsarcomp.radiometry.pixel_classes import check_unmasked
from xsarcomp.stores.codec_settings import BackscatterSettings, advice_on_damage


class BackscatterCodec(BackscatterSettings, Codec):
    """Lossy codec of backscatter: ``compressors`` of a Zarr format 2 array.

    Parameters are those of :class:`xsarcomp.stores.codec_settings.BackscatterSettings`. Format 2 does not tell a codec the
    fill value of the array: pass it as ``nodata``.
    """

    codec_id = "xsarcomp.backscatter"

    def get_config(self) -> dict[str, Any]:
        """Metadata of the codec."""
        return {"id": self.codec_id, **self.configuration}

    def encode(self, buf: Any) -> bytes:
        """Encode a chunk.

        Parameters
        ----------
        buf : ndarray, shape (..., y, x)
            Backscatter on the scale of the codec. It must arrive as an array: this codec comes first in a pipeline.

        Returns
        -------
        bytes
            A frame.

        Raises
        ------
        DimensionError
            If it has fewer than two dimensions.
        RadiometryError
            If it has masked pixels, or the data type is wrong.
        """
        check_unmasked(buf)
        values = np.asarray(buf)
        if values.ndim < 2:
            raise DimensionError(
                f"{self.codec_id} was handed shape {values.shape}, expected chunks of at least 2 dimensions (y, x): it must be "
                "the first codec that sees the array"
            )
        settings = self.encoder_settings(values.dtype, self.nodata)
        return chunk.encode_backscatter(values, settings, load_coder(self.model))

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a chunk, with the shape, data type and memory order that it was encoded with.

        Parameters
        ----------
        buf : bytes-like
            A frame.
        out : buffer, optional
            Memory to write to.

        Returns
        -------
        ndarray, shape (..., y, x), or ``out``

        Raises
        ------
        BitstreamError
            If the frame is damaged.
        """
        with advice_on_damage():
            values = chunk.decode_backscatter(bytes(ensure_bytes(buf)), self.nodata, load_coder(self.model))
        if isinstance(out, np.ndarray) and out.shape == values.shape and out.dtype == values.dtype:
            np.copyto(out, values)  # ndarray_copy flattens each in its own memory order and would mix up the pixels
            return out
        return values if out is None else ndarray_copy(values, out)
