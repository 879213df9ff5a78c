"""Classical codecs on planes in decibels, the competitors of the learned codec.

Each codec is a frozen dataclass with a name, a grid of settings that spans the rates of interest, and the methods
``encode(plane_db, setting) -> bytes`` and ``decode(data, shape) -> plane_db``. The bytes are the whole
stream with its headers. JPEG 2000 and JPEG XL take integers, so decibels from -60 to +40 are scaled to uint16
(steps of 0.0015 dB, far below any error of interest); the other codecs take float32 as it is.

The codecs come from the optional package imagecodecs. They are measured here, never used to store data, and
they trust their input: do not decode bytes of unknown origin with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import DimensionError, MissingDependencyError, RadiometryError

LOWEST_DB, HIGHEST_DB = -60.0, 40.0
"""Range of the uint16 scaling; values outside are clipped."""


class Codec(Protocol):
    """Interface of a codec that `xsarcomp.benchmarks.measurement` can measure."""

    @property
    def name(self) -> str:
        """Name in tables and plots."""

    @property
    def settings(self) -> Sequence[float]:
        """Settings, fine to coarse or coarse to fine, that together span the rates of interest."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode a plane.

        Parameters
        ----------
        plane_db : ndarray of float32, shape (y, x)
            Backscatter in dB, finite everywhere.
        setting : float
            Usually one of `settings`.

        Returns
        -------
        bytes
            The whole stream, headers included: all of it counts as rate.
        """

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode a stream of `encode`.

        Parameters
        ----------
        data : bytes
        shape : tuple of two int
            Rows and columns of the plane that was encoded.

        Returns
        -------
        ndarray of float32, shape (y, x)
            Backscatter in dB.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Jpeg2000:
    """JPEG 2000 with the irreversible wavelet (OpenJPEG), on decibels scaled to uint16."""

    name: str = "JPEG 2000"
    settings: tuple[float, ...] = tuple(np.arange(26.0, 64.0, 2.0).tolist())
    """Peak signal-to-noise ratio over the range of uint16, dB."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode to the quality `setting`; see `Codec.encode`."""
        integers = integers_from_decibel(encodable_plane(plane_db))
        return bytes(import_imagecodecs().jpeg2k_encode(integers, level=setting, reversible=False))

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        return decoded_plane(decibel_from_integers(import_imagecodecs().jpeg2k_decode(data)), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegXl:
    """JPEG XL with variable-size DCT (libjxl, effort 7), on decibels scaled to uint16."""

    name: str = "JPEG XL"
    settings: tuple[float, ...] = tuple(np.geomspace(0.08, 20.0, 17).tolist())
    """Butteraugli distance; larger is coarser."""
    effort: int = 7
    """Effort of the encoder, 1..9."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode to the distance `setting`; see `Codec.encode`."""
        integers = integers_from_decibel(encodable_plane(plane_db))
        return bytes(import_imagecodecs().jpegxl_encode(integers, distance=setting, effort=self.effort))

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        return decoded_plane(decibel_from_integers(import_imagecodecs().jpegxl_decode(data)), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sperr:
    """SPERR, a wavelet codec for scientific data, controlled by its signal-to-noise ratio."""

    name: str = "SPERR"
    settings: tuple[float, ...] = tuple(np.arange(12.0, 57.0, 3.0).tolist())
    """Peak signal-to-noise ratio over the range of the plane, dB."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode to the quality `setting`; see `Codec.encode`."""
        return bytes(import_imagecodecs().sperr_encode(encodable_plane(plane_db), level=setting, mode="psnr"))

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        return decoded_plane(import_imagecodecs().sperr_decode(data), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sz3:
    """SZ3, a predictive codec for scientific data with an absolute error bound."""

    name: str = "SZ3"
    settings: tuple[float, ...] = tuple(np.geomspace(0.05, 20.0, 13).tolist())
    """Largest error of a pixel, dB."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode with errors of at most `setting`; see `Codec.encode`."""
        return bytes(import_imagecodecs().sz3_encode(encodable_plane(plane_db), mode="abs", abs=setting))

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        return decoded_plane(import_imagecodecs().sz3_decode(data, shape, np.float32), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zfp:
    """zfp, a block transform codec for scientific data, with an absolute tolerance."""

    name: str = "zfp"
    settings: tuple[float, ...] = tuple(2.0**exponent for exponent in range(-1, 7))
    """Tolerance, dB; zfp rounds it down to a power of two, and the errors stay well below it."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode with errors of at most `setting`; see `Codec.encode`."""
        library = import_imagecodecs()
        # the number, because newer versions no longer take the letter
        mode = int(library.ZFP.MODE.FIXED_ACCURACY)
        return bytes(library.zfp_encode(encodable_plane(plane_db), level=setting, mode=mode))

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        return decoded_plane(import_imagecodecs().zfp_decode(data), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lerc:
    """LERC, limited error raster compression, with an absolute error bound."""

    name: str = "LERC"
    settings: tuple[float, ...] = tuple(np.geomspace(0.25, 16.0, 10).tolist())
    """Largest error of a pixel, dB."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode with errors of at most `setting`; see `Codec.encode`."""
        return bytes(import_imagecodecs().lerc_encode(encodable_plane(plane_db), level=setting))

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        return decoded_plane(import_imagecodecs().lerc_decode(data), shape)


CLASSICAL_CODECS: tuple[Codec, ...] = (Jpeg2000(), JpegXl(), Sperr(), Sz3(), Zfp(), Lerc())
"""All classical codecs with their usual grids of settings."""


def import_imagecodecs() -> ModuleType:
    """Import the library of the classical codecs.

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


def encodable_plane(plane_db: ArrayLike) -> NDArray[np.float32]:
    """Check a plane and return it as contiguous float32, as the C libraries expect it.

    Raises
    ------
    DimensionError
        If it is not two-dimensional, or empty.
    RadiometryError
        If a pixel is not finite.
    """
    values = np.ascontiguousarray(plane_db, dtype=np.float32)
    if values.ndim != 2 or values.size == 0:
        raise DimensionError(
            f"found plane_db of shape {values.shape}, expected a plane (y, x) with pixels. Encode one polarization at a time."
        )
    if not np.isfinite(values).all():
        raise RadiometryError(
            f"found {np.count_nonzero(~np.isfinite(values))} pixels of plane_db that are not finite, expected none: "
            "these codecs have no nodata. Fill them first: xsarcomp.benchmarks.planes.fill_with_median(plane_db)."
        )
    return values


def decoded_plane(plane_db: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Check that a decoded plane has the shape that was encoded, and return it as float32.

    Raises
    ------
    DimensionError
        If it has another shape.
    """
    if plane_db.shape != tuple(shape):
        raise DimensionError(
            f"found a stream of shape {plane_db.shape}, expected {tuple(shape)}. Pass the shape that was encoded."
        )
    return np.asarray(plane_db, dtype=np.float32)


def integers_from_decibel(plane_db: NDArray[np.floating], largest: int = 65535) -> NDArray[np.uint16]:
    """Scale decibels from `LOWEST_DB` to `HIGHEST_DB` to uint16 of 0..`largest`; values outside are clipped."""
    scaled = (plane_db - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB) * largest
    return np.clip(np.round(scaled), 0, largest).astype(np.uint16)


def decibel_from_integers(integers: NDArray[np.uint16], largest: int = 65535) -> NDArray[np.float32]:
    """Undo `integers_from_decibel`: float32, dB."""
    scale, offset = np.float32(HIGHEST_DB - LOWEST_DB), np.float32(LOWEST_DB)
    return integers.astype(np.float32) / np.float32(largest) * scale + offset
