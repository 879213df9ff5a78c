"""The classic autoencoder applied to planes of any size: dB to symbols and back, NumPy in and out.

Normalization over space and attention make a latent depend on its whole tile of 256 x 256 pixels, so tiles overlap by 64
pixels when they are encoded and when they are decoded, and raised cosines blend them. All tiles share *one grid of latents*:
where tiles overlap, the encoder blends their latents and keeps each once. If every tile kept latents of its own, there would
be 1.78 for each place, (256 / 192)^2; the price of the one grid is that the decoder gets latents that are compromises of two
tiles.

Invalid pixels are filled as for the default codec and are not marked in the symbols. Symbols come out of floating point, and
pixels too: both are the same on another machine only up to rounding. That is why no store uses this codec yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from xsarcomp.errors import ConfigurationError, DimensionError, ModelIntegrityError, RateError
from xsarcomp.models.classic.network import STRIDE, ClassicAutoencoder, ClassicConfig
from xsarcomp.radiometry.decibel import to_signal
from xsarcomp.radiometry.filling import fill_invalid
from xsarcomp.radiometry.pixel_classes import classify
from xsarcomp.tiling import blended, reflect_indices, round_up

TILE_LATENTS = 16
"""Side of a tile in latents: 256 pixels."""
OVERLAP_LATENTS = 4
"""Latents that neighboring tiles share along an axis: 64 pixels."""
SMALLEST_STEP, LARGEST_STEP = 2.0**-11, 4.0
"""Range of quantization steps. Latents of a tile have variance 1, so that none of at most 2**16 exceeds 2**8, and symbols stay
below 2**20, the limit of `xsarcomp.codec.residual_coding.encode_integers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicCodec:
    """A trained classic autoencoder, ready to encode and decode."""

    name: str
    """Name of the model."""
    model_id: str
    """SHA-256 of the model file, 64 hexadecimal digits."""
    model: ClassicAutoencoder
    """In evaluation mode; never changed."""
    offset_db: float
    """Mean of the training split, dB: the value of planes without a valid pixel."""

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
        """Build the codec from the content of a model file.

        Parameters
        ----------
        weights : mapping of str to ndarray of float32
            State of the network.
        network : mapping
            Fields of `ClassicConfig`.
        levels_db : tuple of three float
            Level that becomes 0, mean, and level that becomes 1, dB.
        name, model_id : str

        Returns
        -------
        ClassicCodec

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

    def latent_shape(self, shape: tuple[int, int]) -> tuple[int, int, int]:
        """Return the shape (latent, ceil(y / 16), ceil(x / 16)) of the latents of a plane of shape (y, x)."""
        rows, columns = shape
        return self.model.config.latents, round_up(rows, STRIDE) // STRIDE, round_up(columns, STRIDE) // STRIDE

    def encode_planes(self, planes_db: ArrayLike, step: float) -> NDArray[np.int32]:
        """Compute the symbols of planes.

        Parameters
        ----------
        planes_db : array_like of float, shape (plane, y, x), dB
            Backscatter; NaN, infinite or beyond 500 dB where invalid. Any size of at least one pixel.
        step : float
            Quantization step of the latents, which have variance 1; larger is coarser.

        Returns
        -------
        ndarray of int32, shape (plane, latent, ceil(y / 16), ceil(x / 16))
            Magnitudes below 2**20.

        Raises
        ------
        DimensionError
            If there are not three dimensions, or no pixel.
        RateError
            If the step is outside `SMALLEST_STEP` to `LARGEST_STEP`.
        """
        planes_db, step32 = np.asarray(planes_db), _checked_step(step)
        if planes_db.ndim != 3 or 0 in planes_db.shape:
            raise DimensionError(
                f"planes have shape {planes_db.shape}, expected (plane, y, x) with at least one pixel."
            )
        symbols = [np.rint(self.analyze(plane) / step32) for plane in self._filled(planes_db)]
        return np.stack(symbols).astype(np.int32)

    def decode_planes(self, symbols: NDArray[np.int32], step: float, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Compute planes from their symbols.

        Parameters
        ----------
        symbols : ndarray of int32, shape (plane, latent, ceil(y / 16), ceil(x / 16))
            From :meth:`encode_planes` of the same model.
        step : float
            The same as for encoding.
        shape : tuple of two int
            Rows and columns of the planes, (y, x).

        Returns
        -------
        ndarray of float32, shape (plane, y, x), dB
            Finite, also where the original was invalid.

        Raises
        ------
        DimensionError
            If the symbols are not those of planes of this shape.
        RateError
            If the step is outside `SMALLEST_STEP` to `LARGEST_STEP`.
        """
        step32, expected = _checked_step(step), self.latent_shape(shape)
        if symbols.ndim != 4 or not len(symbols) or symbols.shape[1:] != expected:
            raise DimensionError(
                f"symbols have shape {symbols.shape}, expected (plane, {', '.join(map(str, expected))}) for planes of "
                f"{shape[0]} x {shape[1]} pixels."
            )
        rows, columns = shape
        latents = symbols.astype(np.float32) * step32
        return np.stack([self.synthesize(plane)[:rows, :columns] for plane in latents])

    def analyze(self, plane_db: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the latents of a plane.

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
        tile, overlap = TILE_LATENTS * STRIDE, OVERLAP_LATENTS * STRIDE
        return blended(encode, padded, tile=tile, overlap=overlap, stride=STRIDE)

    def synthesize(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute a plane from its latents.

        Parameters
        ----------
        latents : ndarray of float32, shape (latent, y_latent, x_latent)

        Returns
        -------
        ndarray of float32, shape (16 y_latent, 16 x_latent), dB
        """

        @torch.inference_mode()
        def decode(tile: NDArray[np.float32]) -> NDArray[np.float32]:
            return self.model.decibel(self.model.decode(torch.from_numpy(tile[None]))).numpy()

        return blended(decode, latents, tile=TILE_LATENTS, overlap=OVERLAP_LATENTS, scale=STRIDE)[0]

    def _filled(self, planes_db: NDArray) -> NDArray[np.float32]:
        """Fill the invalid pixels of planes in dB."""
        classes = classify(planes_db, "decibel")
        signal = to_signal(planes_db, classes, "decibel", self.offset_db)
        return (fill_invalid(signal, classes) + self.offset_db).astype(np.float32)


def _checked_step(step: float) -> np.float32:
    """Convert a quantization step to float32, in which symbols are computed, and check its range."""
    step32 = np.float32(step)
    if not SMALLEST_STEP <= step32 <= LARGEST_STEP:
        raise RateError(f"step is {step}, expected {SMALLEST_STEP:.2g} to {LARGEST_STEP:g}.")
    return step32
