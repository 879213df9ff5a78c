"""Codecs for Zarr format 3.

All are serializers (array to bytes). ``xsarcomp.backscatter`` compresses chunks of backscatter with loss, and any reader
that has xsarcomp installed sees an ordinary array; ``xsarcomp.latents`` codes the integer latents of a latents store
without loss, ``xsarcomp.integers`` its residuals and gains. Metadata holds a model id, never a path and never weights.
"""

import asyncio
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin

from xsarcomp.codec import chunk, integer_chunk
from xsarcomp.codec.frame import check_stored_dtype, read_frame
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.errors import ConfigurationError, CorruptStreamError, DimensionError
from xsarcomp.radiometry.scales import check_dtype
from xsarcomp.stores.codec_settings import BackscatterSettings, advice_on_damage, check_model_id

if TYPE_CHECKING:
    from zarr.abc.store import ByteGetter
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer


class _ChunkCodec(ArrayBytesCodec):
    """Common parts of the codecs: strict metadata, checked chunks, and work in a thread beside the event loop."""

    codec_name: ClassVar[str]
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Create a codec from its metadata.

        Unknown or missing keys are refused, because they could change the meaning of the chunks.

        Raises
        ------
        ConfigurationError
            If the name is another, or keys are unknown or missing.
        """
        if data.get("name") != cls.codec_name:
            raise ConfigurationError(f"expected codec {cls.codec_name!r}, got {data.get('name')!r}")
        try:
            return cls(**(data.get("configuration") or {}))
        except TypeError as error:
            raise ConfigurationError(
                f"the configuration of codec {cls.codec_name!r} has missing or unknown keys ({error}): the store was written by "
                "another version, update xsarcomp"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Metadata of the codec."""
        return {"name": self.codec_name, "configuration": asdict(self)}

    def evolve_from_array_spec(self, array_spec: "ArraySpec") -> Self:
        """Return the codec itself: nothing in it depends on the array."""
        return self

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: "ArraySpec") -> int:
        """Refuse: the size of a chunk is not known before coding."""
        raise NotImplementedError(f"the size of a chunk of {self.codec_name} is not known before coding")

    async def _encode_single(self, chunk_data: "NDBuffer", chunk_spec: "ArraySpec") -> "Buffer | None":
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: "Buffer", chunk_spec: "ArraySpec") -> "NDBuffer":
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    def _encode(self, values: NDArray, chunk_spec: "ArraySpec") -> bytes:
        """Frame of a chunk."""
        raise NotImplementedError

    def _decode(self, content: bytes, chunk_spec: "ArraySpec") -> NDArray:
        """Values of a frame."""
        raise NotImplementedError

    def _encode_sync(self, chunk_data: "NDBuffer", chunk_spec: "ArraySpec") -> "Buffer | None":
        content = self._encode(np.asarray(chunk_data.as_numpy_array()), chunk_spec)
        return chunk_spec.prototype.buffer.from_bytes(content)

    @advice_on_damage()
    def _decode_sync(self, chunk_data: "Buffer", chunk_spec: "ArraySpec") -> "NDBuffer":
        content = chunk_data.to_bytes()
        claimed = read_frame(content).shape
        if math.prod(claimed) > math.prod(chunk_spec.shape):  # a few bytes may claim 2^26 values: seconds of work
            raise CorruptStreamError(
                f"the chunk claims shape {claimed}, the array's metadata says {tuple(chunk_spec.shape)}"
            )
        values = self._decode(content, chunk_spec)
        if values.shape != tuple(chunk_spec.shape):
            raise CorruptStreamError(
                f"the chunk decodes to shape {values.shape}, the array's metadata says {tuple(chunk_spec.shape)}"
            )
        native = chunk_spec.dtype.to_native_dtype()
        if values.dtype.newbyteorder("=") != native.newbyteorder("="):
            raise CorruptStreamError(f"the chunk decodes to {values.dtype}, the array's metadata says {native}")
        # Zarr format 3 has no memory order on disk; the byte order is the array's
        values = np.ascontiguousarray(values, native)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(values)


@dataclass(frozen=True)
class BackscatterCodec(BackscatterSettings, _ChunkCodec):
    """Lossy codec of backscatter: ``serializer`` of a Zarr format 3 array.

    Parameters are those of :class:`xsarcomp.stores.codec_settings.BackscatterSettings`. Without ``nodata``, the fill value of
    the array is taken for it.
    """

    codec_name: ClassVar[str] = "xsarcomp.backscatter"

    def to_dict(self) -> dict[str, Any]:
        """Metadata of the codec."""
        return {"name": self.codec_name, "configuration": self.configuration}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse an array that cannot hold backscatter; Zarr asks when it creates or opens one.

        Raises
        ------
        RadiometryError, DimensionError, RateError
            If data type, shape or bound are wrong.
        """
        check_dtype(dtype.to_native_dtype())
        check_stored_dtype(dtype.to_native_dtype())
        self.encoder_settings(dtype.to_native_dtype(), self.nodata)  # refuses a bound that the rounding exceeds
        if len(shape) < 2:
            raise DimensionError(f"{self.codec_name} needs at least 2 dimensions (y, x), got shape {shape}")

    def nodata_of(self, fill_value: Any) -> float | None:
        """Nodata value of an array; None without one.

        Chunks at the edge arrive padded with the fill value of the array: it is no backscatter either.

        Parameters
        ----------
        fill_value : scalar or None
            Fill value of the array.
        """
        value = fill_value if self.nodata is None else self.nodata
        return float(value) if value is not None and np.isfinite(value) else None

    def _encode(self, values: NDArray, chunk_spec: "ArraySpec") -> bytes:
        settings = self.encoder_settings(values.dtype, self.nodata_of(chunk_spec.fill_value))
        return chunk.encode_backscatter(np.ascontiguousarray(values), settings, load_coder(self.model))

    def _decode(self, content: bytes, chunk_spec: "ArraySpec") -> NDArray:
        return chunk.decode_backscatter(content, self.nodata_of(chunk_spec.fill_value), load_coder(self.model))


@dataclass(frozen=True)
class LatentsCodec(_ChunkCodec, ArrayBytesCodecPartialDecodeMixin):
    """Lossless entropy codec of integer latents: ``serializer`` in a latents store.

    Where a selection asks only for the lowest latent of each block, only that is decoded: it is coded first.

    Parameters
    ----------
    model : str
        Id of the model, 64 hexadecimal digits.
    anchor : int
        Number of the set of entropy tables of the model, 0 to 255; it follows from the quantization step.

    Raises
    ------
    ConfigurationError
        If a parameter is wrong.
    """

    codec_name: ClassVar[str] = "xsarcomp.latents"
    model: str
    anchor: int

    def __post_init__(self) -> None:
        check_model_id(self.model)
        if isinstance(self.anchor, bool) or not isinstance(self.anchor, int) or not 0 <= self.anchor < 256:
            raise ConfigurationError(f"anchor is {self.anchor!r}, expected an integer from 0 to 255")

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse an array that cannot hold latents; Zarr asks when it creates or opens one.

        Raises
        ------
        DimensionError
            If data type or shape are wrong.
        """
        if dtype.to_native_dtype() != np.int32 or len(shape) < 3:
            raise DimensionError(
                f"{self.codec_name} codes int32 arrays (..., latent, y_latent, x_latent), got {dtype.to_native_dtype()} of shape {shape}"
            )

    def _encode(self, values: NDArray, chunk_spec: "ArraySpec") -> bytes:
        return chunk.encode_latents(values, self.anchor, load_coder(self.model))

    def _decode(self, content: bytes, chunk_spec: "ArraySpec") -> NDArray:
        return chunk.decode_latents(content, load_coder(self.model))

    async def _decode_partial_single(
        self, byte_getter: "ByteGetter", selection: Any, chunk_spec: "ArraySpec"
    ) -> "NDBuffer | None":
        chunk_data = await byte_getter.get(prototype=chunk_spec.prototype)
        if chunk_data is None:
            return None
        return await asyncio.to_thread(self._decode_part, chunk_data, selection, chunk_spec)

    def _decode_partial_sync(self, byte_getter: Any, selection: Any, chunk_spec: "ArraySpec") -> "NDBuffer | None":
        # called by the fused pipeline of zarr 3.4
        chunk_data = byte_getter.get_sync(prototype=chunk_spec.prototype)
        return None if chunk_data is None else self._decode_part(chunk_data, selection, chunk_spec)

    def _decode_part(self, chunk_data: "Buffer", selection: Any, chunk_spec: "ArraySpec") -> "NDBuffer":
        if not _selects_lowest(selection, len(chunk_spec.shape)):
            return self._decode_sync(chunk_data, chunk_spec)[selection]
        lowest = np.expand_dims(chunk.decode_lowest_latents(chunk_data.to_bytes(), load_coder(self.model)), -3)
        expected = (*chunk_spec.shape[:-3], 1, *chunk_spec.shape[-2:])
        if lowest.shape != expected:
            raise CorruptStreamError(f"the chunk decodes to shape {lowest.shape}, the array's metadata says {expected}")
        values = np.asarray(lowest[selection], chunk_spec.dtype.to_native_dtype(), order="C")
        return chunk_spec.prototype.nd_buffer.from_numpy_array(values)


def _without_padding(integers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Replace the fill value with which Zarr pads chunks at the edge by 0: no chunk holds it."""
    is_padding = integers == chunk.ABSENT
    return np.where(is_padding, np.int32(0), integers) if is_padding.any() else integers


def _selects_lowest(selection: Any, dimensions: int) -> bool:
    """Return whether a selection from a chunk (..., latent, y, x) takes only the lowest latent, so that it fits an array of one."""
    if not isinstance(selection, tuple) or len(selection) != dimensions:
        return False
    latent = selection[-3]
    if isinstance(latent, slice):
        return latent.start in (0, None) and latent.stop == 1 and latent.step in (1, None)
    return isinstance(latent, int | np.integer) and latent == 0


@dataclass(frozen=True)
class IntegersCodec(_ChunkCodec):
    """Lossless entropy codec of small integers: ``serializer`` of residuals and gains in a latents store."""

    codec_name: ClassVar[str] = "xsarcomp.integers"

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse an array that cannot hold small integers; Zarr asks when it creates or opens one.

        Raises
        ------
        DimensionError
            If data type or shape are wrong.
        """
        if dtype.to_native_dtype() != np.int32 or len(shape) < 2:
            raise DimensionError(
                f"{self.codec_name} codes int32 arrays (..., y, x), got {dtype.to_native_dtype()} of shape {shape}"
            )

    def _encode(self, values: NDArray, chunk_spec: "ArraySpec") -> bytes:
        return integer_chunk.encode_integer_chunk(_without_padding(values))

    def _decode(self, content: bytes, chunk_spec: "ArraySpec") -> NDArray:
        return integer_chunk.decode_integer_chunk(content)
