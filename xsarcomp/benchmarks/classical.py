"""Classical codecs on decibel planes: what the learned codec has to beat.

Each codec is a frozen dataclass with a name, a grid of settings that spans the rates of interest, and a
pair ``encode(plane_db, setting) -> bytes`` and ``decode(data, shape) -> plane_db``. The bytes are the whole
stream with its headers. JPEG 2000 and JPEG XL take integers, so decibels from -60 to +40 are scaled to uint16
(steps of 0.0015 dB, far below any error of interest); the other codecs take float32 as it is.

The codecs come from the optional package imagecodecs. They are measured here, never used to store data, and
they trust their input: do not decode bytes of unknown origin with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xsarcomp.errors import DimensionError, MissingDependencyError, RadiometryError

LOWEST_DB, HIGHEST_DB = -60.0, 40.0
"""Range of the uint16 scaling; values outside are clipped."""


class Codec(Protocol):
    """What a codec must offer to be measured by `xsarcomp.metrics.rate_distortion`."""

    name: str
    """Name for tables and figures."""
    settings: Sequence[float]
    """Settings that together span the rates of interest."""

    def encode(self, plane_db, setting):
        """Compress a finite plane of decibel values, float32 of shape (y, x), to bytes."""

    def decode(self, data, shape):
        """Decompress what `encode` wrote to float32 of the given shape (y, x), in dB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jpeg2000:
    """JPEG 2000 with the irreversible wavelet (OpenJPEG), on decibels scaled to uint16."""

    name: str = "JPEG 2000"
    settings: tuple[float, ...] = tuple(np.arange(26.0, 64.0, 2.0).tolist())
    """Peak signal-to-noise ratio over the range of uint16, dB."""

    def encode(self, plane_db, setting):
        """Compress to the quality `setting`; see `Codec.encode`."""
        integers = integers_from_decibel(checked_plane(plane_db))
        return bytes(imagecodecs_module().jpeg2k_encode(integers, level=setting, reversible=False))

    def decode(self, data, shape):
        """Decompress; see `Codec.decode`."""
        return fitted_plane(decibel_from_integers(imagecodecs_module().jpeg2k_decode(data)), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegXl:
    """JPEG XL with variable-size DCT (libjxl, effort 7), on decibels scaled to uint16."""

    name: str = "JPEG XL"
    settings: tuple[float, ...] = tuple(np.geomspace(0.08, 20.0, 17).tolist())
    """Butteraugli distance; larger is coarser."""
    effort: int = 7
    """Effort of the encoder, 1..9."""

    def encode(self, plane_db, setting):
        """Compress to the distance `setting`; see `Codec.encode`."""
        integers = integers_from_decibel(checked_plane(plane_db))
        return bytes(imagecodecs_module().jpegxl_encode(integers, distance=setting, effort=self.effort))

    def decode(self, data, shape):
        """Decompress; see `Codec.decode`."""
        return fitted_plane(decibel_from_integers(imagecodecs_module().jpegxl_decode(data)), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sperr:
    """SPERR, a wavelet codec for scientific data, controlled by its signal-to-noise ratio."""

    name: str = "SPERR"
    settings: tuple[float, ...] = tuple(np.arange(12.0, 57.0, 3.0).tolist())
    """Peak signal-to-noise ratio over the range of the plane, dB."""

    def encode(self, plane_db, setting):
        """Compress to the quality `setting`; see `Codec.encode`."""
        return bytes(imagecodecs_module().sperr_encode(checked_plane(plane_db), level=setting, mode="psnr"))

    def decode(self, data, shape):
        """Decompress; see `Codec.decode`."""
        return fitted_plane(imagecodecs_module().sperr_decode(data), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sz3:
    """SZ3, a predictive codec for scientific data with an absolute error bound."""

    name: str = "SZ3"
    settings: tuple[float, ...] = tuple(np.geomspace(0.05, 20.0, 13).tolist())
    """Largest error of a pixel, dB."""

    def encode(self, plane_db, setting):
        """Compress with errors of at most `setting`; see `Codec.encode`."""
        return bytes(imagecodecs_module().sz3_encode(checked_plane(plane_db), mode="abs", abs=setting))

    def decode(self, data, shape):
        """Decompress; see `Codec.decode`."""
        return fitted_plane(imagecodecs_module().sz3_decode(data, shape, np.float32), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zfp:
    """zfp, a block transform codec for scientific data, with an absolute tolerance."""

    name: str = "zfp"
    settings: tuple[float, ...] = tuple(2.0**exponent for exponent in range(-1, 7))
    """Tolerance, dB; zfp rounds it down to a power of two, and the errors stay well below it."""

    def encode(self, plane_db, setting):
        """Compress with errors of at most `setting`; see `Codec.encode`."""
        library = imagecodecs_module()
        # the number, because newer versions no longer take the letter
        mode = int(library.ZFP.MODE.FIXED_ACCURACY)
        return bytes(library.zfp_encode(checked_plane(plane_db), level=setting, mode=mode))

    def decode(self, data, shape):
        """Decompress; see `Codec.decode`."""
        return fitted_plane(imagecodecs_module().zfp_decode(data), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lerc:
    """LERC, limited error raster compression, with an absolute error bound."""

    name: str = "LERC"
    settings: tuple[float, ...] = tuple(np.geomspace(0.25, 16.0, 10).tolist())
    """Largest error of a pixel, dB."""

    def encode(self, plane_db, setting):
        """Compress with errors of at most `setting`; see `Codec.encode`."""
        return bytes(imagecodecs_module().lerc_encode(checked_plane(plane_db), level=setting))

    def decode(self, data, shape):
        """Decompress; see `Codec.decode`."""
        return fitted_plane(imagecodecs_module().lerc_decode(data), shape)


CLASSICAL_CODECS = (Jpeg2000(), JpegXl(), Sperr(), Sz3(), Zfp(), Lerc())
"""All classical codecs with their usual grids."""


def imagecodecs_module():
    """The library of the classical codecs.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingDependencyError(
            "the classical codecs need imagecodecs, which is not installed. "
            'Install it with: pip install "xsarcomp[benchmark]".'
        ) from error
    return imagecodecs


def checked_plane(plane_db):
    """Return the plane as contiguous float32, as the C libraries expect it."""
    plane_db = np.ascontiguousarray(plane_db, dtype=np.float32)
    if plane_db.ndim != 2 or plane_db.size == 0:
        raise DimensionError(
            f"found shape {plane_db.shape}, expected a plane (y, x) with pixels. Encode one polarization at a time."
        )
    if not np.isfinite(plane_db).all():
        raise RadiometryError(
            f"found {np.count_nonzero(~np.isfinite(plane_db))} pixels that are not finite, expected none: "
            "these codecs have no nodata. Fill them first, as measurement.filled_with_median does."
        )
    return plane_db


def fitted_plane(plane_db, shape):
    """Return a decoded plane as float32 after checking that it has the shape that was encoded."""
    if plane_db.shape != tuple(shape):
        raise DimensionError(
            f"found a stream of shape {plane_db.shape}, expected {tuple(shape)}. Pass the shape that was encoded."
        )
    return np.asarray(plane_db, dtype=np.float32)


def integers_from_decibel(plane_db, largest=65535):
    """Scale decibels from `LOWEST_DB` to `HIGHEST_DB` to uint16 of 0..`largest`; values outside are clipped."""
    scaled = (plane_db - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB) * largest
    return np.clip(np.round(scaled), 0, largest).astype(np.uint16)


def decibel_from_integers(integers, largest=65535):
    """Undo `integers_from_decibel`: float32, dB."""
    return integers.astype(np.float32) / largest * (HIGHEST_DB - LOWEST_DB) + LOWEST_DB
