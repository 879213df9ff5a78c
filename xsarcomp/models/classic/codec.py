"""The classic autoencoder as a codec of scenes of any size: planes in dB to bytes and back, NumPy in and out.

Normalization over space and attention make a latent depend on its whole tile of 256 x 256 pixels, so tiles overlap by 64
pixels on both ways, and raised cosines blend them. All tiles share *one grid of latents*: where tiles overlap, the encoder
blends their latents and stores each once. Storing every tile by itself would store 1.78 latents for each place,
(256 / 192)^2; the price of the one grid is that the decoder meets latents which two tiles agreed upon.

Invalid pixels are filled as for the default codec and are not marked in the stream: who decodes keeps the mask elsewhere.
The same bytes give the same integers everywhere, but pixels only up to the rounding of floating point. That is why no
store uses this codec.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.errors import (
    ConfigurationError,
    CorruptStreamError,
    DimensionError,
    LimitExceededError,
    ModelError,
    ModelIntegrityError,
    UnsupportedFormatError,
)
from xsarcomp.models.classic.network import STRIDE, ClassicAutoencoder, ClassicConfig
from xsarcomp.radiometry.decibel import to_signal
from xsarcomp.radiometry.filling import fill_invalid
from xsarcomp.radiometry.pixel_classes import classify
from xsarcomp.tiling import blended, reflect_indices, round_up

TILE_LATENTS = 16
"""Side of a tile in latents: 256 pixels."""
OVERLAP_LATENTS = 4
"""Latents that neighboring tiles share: 64 pixels."""
SMALLEST_STEP, LARGEST_STEP = 2.0**-11, 4.0
"""Range of quantization steps. Latents of a tile have variance 1, so that none of at most 2**16 exceeds 2**8, and the
entropy coder holds magnitudes below 2**20."""
LARGEST_SCENE = 2**28
"""Values of a stream that is decoded, over all planes."""

MAGIC = b"XSCA"
VERSION = 1
_HEADER = struct.Struct("<4sBxHIIf8sI")
"""Magic, version, planes, rows, columns, step, first bytes of the model's id, CRC-32 of what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicCodec:
    """A trained classic autoencoder, ready to code."""

    name: str
    """Name of the model."""
    model_id: str
    """SHA-256 of the model file, 64 hexadecimal digits."""
    model: ClassicAutoencoder
    """In evaluation mode; never changed."""
    offset_db: float
    """Mean of the training split, which fills what has no valid neighbor."""

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, NDArray[np.float32]],
        *,
        network: Mapping[str, Any],
        levels_db: tuple[float, float, float],
        name: str,
        model_id: str,
    ) -> "ClassicCodec":
        """Codec from the content of a model file.

        Parameters
        ----------
        weights : mapping of str to ndarray of float32
            State of the network.
        network : mapping
            Fields of `ClassicConfig`.
        levels_db : tuple of three float
            What becomes 0, the mean, and what becomes 1, dB.
        name, model_id : str

        Raises
        ------
        ModelIntegrityError
            If the weights do not fit the network.
        """
        lowest_db, offset_db, highest_db = levels_db
        try:
            model = ClassicAutoencoder(ClassicConfig(**network), lowest_db, highest_db)
            if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in weights.values()):
                raise ValueError("weights are not all finite float32")
            model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()})
        except (ConfigurationError, TypeError, ValueError, RuntimeError) as error:
            raise ModelIntegrityError(
                f"the weights of model {name!r} do not fit its network {dict(network)}: {error}. Install it again."
            ) from error
        return cls(name=name, model_id=model_id, model=model.requires_grad_(False).eval(), offset_db=offset_db)

    def compress(self, planes_db: ArrayLike, step: float) -> bytes:
        """Code planes.

        Parameters
        ----------
        planes_db : array_like of float, shape (plane, y, x), dB
            Backscatter; NaN, infinite or beyond 500 dB where invalid. Any size of at least one pixel.
        step : float
            Quantization step of the latents, which have variance 1; larger is coarser.

        Returns
        -------
        bytes
            A header of 32 bytes and the entropy-coded integers.

        Raises
        ------
        DimensionError
            If there are not three dimensions, or no pixel.
        LimitExceededError
            If the step or the number of planes is beyond what the format holds.
        """
        planes_db = np.asarray(planes_db)
        if planes_db.ndim != 3 or 0 in planes_db.shape:
            raise DimensionError(
                f"planes have shape {planes_db.shape}, expected (plane, y, x) with at least one pixel."
            )
        step = float(np.float32(step))
        if not SMALLEST_STEP <= step <= LARGEST_STEP or len(planes_db) > 65535:
            raise LimitExceededError(
                f"step {step} and {len(planes_db)} planes: expected a step from {SMALLEST_STEP:.2g} to {LARGEST_STEP:g} and "
                "at most 65535 planes"
            )
        integers = np.concatenate([np.rint(self.latents(plane) / step) for plane in self._filled(planes_db)])
        payload = encode_integers(integers.astype(np.int32))
        checksum = zlib.crc32(payload)
        return _HEADER.pack(MAGIC, VERSION, *planes_db.shape, step, self._short_id, checksum) + payload

    def decompress(self, content: bytes) -> NDArray[np.float32]:
        """Restore planes.

        Parameters
        ----------
        content : bytes
            What :meth:`compress` of the same model wrote.

        Returns
        -------
        ndarray of float32, shape (plane, y, x), dB
            Finite, also where the original was invalid.

        Raises
        ------
        UnsupportedFormatError
            If the bytes are no such stream.
        CorruptStreamError
            If they were changed or cut off.
        LimitExceededError
            If the stream is for more than `LARGEST_SCENE` values.
        ModelError
            If another model wrote them.
        """
        shape, step = self._read_header(content)
        planes, rows, columns = shape
        channels = self.model.config.latents
        grid = round_up(rows, STRIDE) // STRIDE, round_up(columns, STRIDE) // STRIDE
        integers = decode_integers(content[_HEADER.size :], (planes * channels, *grid))
        latents = integers.reshape(planes, channels, *grid).astype(np.float32) * np.float32(step)
        return np.stack([self.restore(plane)[:rows, :columns] for plane in latents])

    def latents(self, plane_db: NDArray[np.float32]) -> NDArray[np.float32]:
        """Grid of latents of a plane.

        Parameters
        ----------
        plane_db : ndarray of float32, shape (y, x), dB
            Finite.

        Returns
        -------
        ndarray of float32, shape (latent, ceil(y / 16), ceil(x / 16))
            Mean 0 and variance 1 over a tile, before tiles are blended.
        """

        @torch.inference_mode()
        def encode(tile: NDArray[np.float32]) -> NDArray[np.float32]:
            return self.model.encode(torch.from_numpy(tile))[0].numpy()

        rows, columns = (reflect_indices(0, round_up(size, STRIDE), size)[0] for size in plane_db.shape)
        padded = plane_db[np.ix_(rows, columns)][None]
        sizes = {"tile": TILE_LATENTS * STRIDE, "overlap": OVERLAP_LATENTS * STRIDE}
        return blended(encode, padded, **sizes, stride=STRIDE)

    def restore(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Plane in dB, float32 of shape (16 y, 16 x), from a grid of latents of shape (latent, y, x)."""

        @torch.inference_mode()
        def decode(tile: NDArray[np.float32]) -> NDArray[np.float32]:
            return self.model.decibel(self.model.decode(torch.from_numpy(tile[None]))).numpy()

        return blended(decode, latents, tile=TILE_LATENTS, overlap=OVERLAP_LATENTS, scale=STRIDE)[0]

    @property
    def _short_id(self) -> bytes:
        return bytes.fromhex(self.model_id[:16])

    def _filled(self, planes_db: NDArray) -> NDArray[np.float32]:
        """Planes in dB without invalid pixels."""
        classes = classify(planes_db, "decibel")
        signal = to_signal(planes_db, classes, "decibel", self.offset_db)
        return (fill_invalid(signal, classes) + self.offset_db).astype(np.float32)

    def _read_header(self, content: bytes) -> tuple[tuple[int, int, int], float]:
        """Shape and step of a stream that is whole and of this model."""
        if len(content) < _HEADER.size or content[:4] != MAGIC:
            raise UnsupportedFormatError(
                f"found {len(content)} bytes that begin with {content[:4]!r}, expected a stream of a classic autoencoder"
            )
        _, version, planes, rows, columns, step, short_id, checksum = _HEADER.unpack_from(content)
        if version != VERSION:
            raise UnsupportedFormatError(
                f"the stream has version {version}, this xsarcomp reads {VERSION}: update xsarcomp"
            )
        if zlib.crc32(content[_HEADER.size :]) != checksum:
            raise CorruptStreamError("the checksum of the stream disagrees: it was changed or cut off. Read it again.")
        if short_id != self._short_id:
            raise ModelError(
                f"the stream was written with the model {short_id.hex()}..., not with {self.name!r} "
                f"({self.model_id[:16]}...): load that model"
            )
        if not (planes and rows and columns) or planes * rows * columns > LARGEST_SCENE:
            raise LimitExceededError(
                f"the stream is for {planes} planes of {rows} x {columns} pixels, expected 1 to {LARGEST_SCENE} values"
            )
        if not SMALLEST_STEP <= step <= LARGEST_STEP:
            raise CorruptStreamError(
                f"the stream has the step {step}, expected {SMALLEST_STEP:.2g} to {LARGEST_STEP:g}"
            )
        return (planes, rows, columns), step
