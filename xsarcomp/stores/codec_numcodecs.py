"""Codec for Zarr format 2 and other users of numcodecs."""

from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ndarray_copy

from xsarcomp.codec import chunk
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.errors import DimensionError
from xsarcomp.radiometry.pixel_classes import check_unmasked
from xsarcomp.stores.codec_settings import (
    check_guarantees,
    check_model_id,
    check_settings,
    configuration_of,
    settings_of,
    with_advice,
)


class BackscatterCodec(Codec):
    """Lossy codec of backscatter: ``compressors`` of a Zarr format 2 array.

    Parameters
    ----------
    model : str
        Id of the model, 64 hexadecimal digits.
    step_db : float
        Quantization step in dB; ``.sarcomp.encoding(zarr_format=2)`` finds it from a rate.
    scale : {"power", "amplitude", "decibel"}
        Scale of the values.
    nodata : float, optional
        Declared fill value among the values. Format 2 does not tell a codec the array's fill value: name it here.
    max_error_db : float, optional
        No valid pixel is off by more.
    keep_means : bool
        Whether the mean power of each tile of 64 x 64 pixels is kept.

    Raises
    ------
    ConfigurationError, RadiometryError
        If a parameter is wrong.
    """

    codec_id = "xsarcomp.backscatter"

    def __init__(
        self,
        model: str,
        step_db: float,
        scale: str,
        nodata: float | None = None,
        max_error_db: float | None = None,
        keep_means: bool = False,
    ):
        check_model_id(model)
        check_settings(step_db, scale, nodata)
        check_guarantees(max_error_db, keep_means)
        self.model = model
        self.step_db = step_db
        self.scale = scale
        self.nodata = nodata
        self.max_error_db = max_error_db
        self.keep_means = keep_means

    def get_config(self) -> dict[str, Any]:
        """Metadata of the codec."""
        return {"id": self.codec_id, **configuration_of(self)}

    def encode(self, buf: Any) -> bytes:
        """Bytes of a chunk; it must arrive as an array, so the codec comes first in a pipeline."""
        check_unmasked(buf)
        values = np.asarray(buf)
        if values.ndim < 2:
            raise DimensionError(
                f"{self.codec_id} was handed shape {values.shape}, expected chunks of at least 2 dimensions (y, x): it must be "
                "the first codec that sees the array"
            )
        settings = settings_of(self, values.dtype, self.nodata)
        return chunk.encode_backscatter(values, settings, load_coder(self.model))

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The chunk, with the shape, data type and memory order that it was encoded with."""
        with with_advice():
            values = chunk.decode_backscatter(bytes(ensure_bytes(buf)), self.nodata, load_coder(self.model))
        if isinstance(out, np.ndarray) and out.shape == values.shape and out.dtype == values.dtype:
            np.copyto(out, values)  # ndarray_copy flattens each in its own memory order and would mix up the pixels
            return out
        return values if out is None else ndarray_copy(values, out)
