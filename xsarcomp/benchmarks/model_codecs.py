"""Installed models as codecs of the benchmark: one stream a plane, with all its headers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xsarcomp.benchmarks.classical import Codec
from xsarcomp.codec.chunk import decode_backscatter, encode_backscatter
from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.frame import read_frame
from xsarcomp.codec.installed_models import load_coder
from xsarcomp.codec.residual_coding import decode_integers, encode_integers
from xsarcomp.codec.settings import Settings
from xsarcomp.models.classic.model_file import is_classic, load_classic

if TYPE_CHECKING:
    from xsarcomp.models.classic.codec import ClassicCodec

STEPS_DB = tuple(np.geomspace(0.15, 40.0, 19).tolist())
"""Quantization steps, dB: wide enough for any product. `xsarcomp.benchmarks.measurement.sweep` leaves out those that the
rates do not need."""
CLASSIC_STEPS = tuple(np.geomspace(1 / 64, 2.0, 8).tolist())
"""The same for classic autoencoders, whose latents have variance 1."""
MEAN_OF_DECIBEL = "mean of dB"
"""Suffix in tables of a model that keeps the mean in dB instead of the mean power."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCodec:
    """A model of xsarcomp as a codec: one frame a plane."""

    name: str
    coder: LappedCoder
    settings: tuple[float, ...] = STEPS_DB
    """Quantization steps, dB."""
    keeps_power: bool = True
    """Whether decoding keeps the mean power, as it does for users; else the mean in dB, as it is for the other codecs."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode with the quantization step `setting`; see `Codec.encode`."""
        return encode_backscatter(plane_db, Settings(step_db=setting, scale="decibel"), self.coder)

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        plane_db = decode_backscatter(data, None, self.coder)
        if self.keeps_power:
            return plane_db
        return plane_db - np.float32(self.coder.mean_correction_db(read_frame(data).step_db))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicModelCodec:
    """A classic autoencoder as a codec: the step and the coded symbols of each plane."""

    name: str
    codec: "ClassicCodec"
    settings: tuple[float, ...] = CLASSIC_STEPS
    """Quantization steps of the latents."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode with the quantization step `setting`; see `Codec.encode`."""
        (symbols,) = self.codec.encode_planes(plane_db[None], setting)
        return np.float32(setting).tobytes() + encode_integers(symbols)

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        step = np.frombuffer(data, np.float32, count=1).item()
        symbols = decode_integers(data[np.float32().nbytes :], self.codec.latent_shape(shape))
        return self.codec.decode_planes(symbols[None], step, shape)[0]


def model_codecs(name: str) -> list[Codec]:
    """Codecs of a model.

    Parameters
    ----------
    name : str
        Name or id of an installed model.

    Returns
    -------
    list of Codec
        The model as users get it, and the same with the mean in dB, as the other codecs and the classic autoencoders keep it.
        A classic autoencoder gives one codec.

    Raises
    ------
    ModelNotFoundError
        If no such model is installed.
    """
    if is_classic(name):
        return [ClassicModelCodec(name=name, codec=load_classic(name))]
    coder = load_coder(name)
    return [
        ModelCodec(name=name, coder=coder),
        ModelCodec(name=f"{name}, {MEAN_OF_DECIBEL}", coder=coder, keeps_power=False),
    ]
