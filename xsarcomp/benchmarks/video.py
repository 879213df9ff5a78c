"""HEVC and AV1 intra coding of planes in decibels through the program ffmpeg: the strongest classical codecs.

Both code one monochrome picture of 12 bits. Decibels from -60 to +40, the range that JPEG 2000 and JPEG XL get too,
are scaled to 0..4095: steps of 0.024 dB, an error of 0.007 dB, against 0.3 dB and more at the rates of interest.
Tools that serve the eye and not the mean square error are switched off: psychovisual weights, adaptive quantization,
the filters that smooth speckle away.

The program is looked up when it is used, so that the benchmark can report what is missing on a machine.
"""

import functools
import shutil
import subprocess
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xsarcomp.benchmarks.classical import decibel_from_integers, decoded_plane, encodable_plane, integers_from_decibel
from xsarcomp.errors import ConfigurationError, CorruptStreamError, MissingDependencyError, SarcompError

_LARGEST_INTEGER = 4095
_RAW = ("-f", "rawvideo", "-pix_fmt", "gray12le")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hevc:
    """HEVC intra of 12 bits (x265), tuned for the mean square error."""

    name: str = "HEVC"
    settings: tuple[float, ...] = (6.0, 10.0, 14.0, 18.0, 22.0, 26.0, 30.0, 34.0, 38.0, 42.0)
    """Quantization parameter; 6 more double the step."""

    encoder: ClassVar[str] = "libx265"
    """Name of the encoder in ffmpeg."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode with the quantization parameter `setting`; see `_encode_picture`. The stream is raw HEVC (Annex B)."""
        options = f"qp={setting:g}:keyint=1:no-sao=1:deblock=-6,-6:no-info=1:aq-mode=0:psy-rd=0:psy-rdoq=0:rdoq-level=2"
        command = ("-c:v", self.encoder, "-preset", "medium", "-tune", "psnr")
        return _encode_picture(plane_db, (*command, "-x265-params", f"{options}:log-level=none", "-f", "hevc"))

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        return _decode_picture(data, shape, "hevc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Av1:
    """AV1 still picture of 12 bits (libaom), tuned for the mean square error."""

    name: str = "AV1"
    settings: tuple[float, ...] = (2.0, 4.0, 6.0, 9.0, 13.0, 18.0, 24.0, 29.0, 34.0, 39.0, 45.0, 52.0)
    """Constant rate factor, 0..63."""

    encoder: ClassVar[str] = "libaom-av1"
    """Name of the encoder in ffmpeg."""

    def encode(self, plane_db: NDArray[np.float32], setting: float) -> bytes:
        """Encode with the rate factor `setting`; see `_encode_picture`. The stream is a sequence of AV1 units (OBU)."""
        command = ("-c:v", self.encoder, "-still-picture", "1", "-crf", f"{setting:g}", "-b:v", "0", "-cpu-used", "4")
        options = "tune=psnr:enable-cdef=0:enable-restoration=0"
        return _encode_picture(plane_db, (*command, "-aom-params", options, "-f", "obu"))

    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Decode; see `Codec.decode`."""
        return _decode_picture(data, shape, "obu")


VideoCodec = Hevc | Av1

VIDEO_CODECS: tuple[VideoCodec, ...] = (Hevc(), Av1())
"""Both with grids of settings for 0.05 to 2.6 bits per pixel on data of 10 m, in ground range or resampled to a map."""


def missing_reason(codec: VideoCodec) -> str:
    """Reason why a codec of this file cannot be used on this machine.

    Parameters
    ----------
    codec : Hevc or Av1

    Returns
    -------
    str
        A clause; empty where the codec can be used.
    """
    if shutil.which("ffmpeg") is None:
        return "the program ffmpeg is not installed"
    if codec.encoder not in _available_encoders():
        return f"the installed ffmpeg has no encoder {codec.encoder}"
    return ""


@functools.cache
def _available_encoders() -> frozenset[str]:
    """Names of the encoders that the installed ffmpeg was built with."""
    lines = _run_ffmpeg(("-encoders",), b"").decode("utf-8", "replace").splitlines()
    return frozenset(line.split()[1] for line in lines if len(line.split()) > 1)


def _encode_picture(plane_db: NDArray[np.float32], arguments: tuple[str, ...]) -> bytes:
    """Encode a finite plane in dB, shape (y, x), to the elementary stream, all of whose bytes count.

    The stream holds the parameter sets that a decoder needs and no container around them.
    """
    plane_db = encodable_plane(plane_db)
    rows, columns = plane_db.shape
    picture = integers_from_decibel(plane_db, _LARGEST_INTEGER).astype("<u2").tobytes()
    return _run_ffmpeg(
        (*_RAW, "-s", f"{columns}x{rows}", "-i", "pipe:0", *arguments, "-pix_fmt", "gray12le", "pipe:1"), picture
    )


def _decode_picture(data: bytes, shape: tuple[int, int], container: str) -> NDArray[np.float32]:
    rows, columns = shape
    arguments = ("-f", container, "-i", "pipe:0", *_RAW, "pipe:1")
    picture = np.frombuffer(_run_ffmpeg(arguments, data, CorruptStreamError), dtype="<u2")
    if picture.size != rows * columns:
        raise CorruptStreamError(
            f"found {picture.size} pixels in the stream, expected {rows} x {columns}. Pass the shape that was encoded."
        )
    return decoded_plane(decibel_from_integers(picture.reshape(rows, columns), _LARGEST_INTEGER), shape)


def _run_ffmpeg(arguments: tuple[str, ...], data: bytes, error: type[SarcompError] = ConfigurationError) -> bytes:
    """Run ffmpeg on bytes from a pipe and return its output from another; raise `error` with its messages if it fails."""
    if (program := shutil.which("ffmpeg")) is None:
        raise MissingDependencyError(
            "HEVC and AV1 need the program ffmpeg, which is not installed. Install it with the packages of your system."
        )
    finished = subprocess.run(
        (program, "-hide_banner", "-loglevel", "error", *arguments), input=data, capture_output=True
    )
    if finished.returncode:
        message = " ".join(finished.stderr.decode("utf-8", "replace").split())[-500:]
        raise error(
            f"found ffmpeg failing with status {finished.returncode}: {message} Expected one picture of 12 bits. Check the "
            "stream, and the version of ffmpeg."
        )
    return finished.stdout
