"""Intra coding of HEVC and AV1 on decibel planes: the strongest classical codecs, through the program ffmpeg.

Both code one monochrome picture of 12 bits. Decibels from -60 to +40, the range that JPEG 2000 and JPEG XL get too,
are scaled to 0..4095: steps of 0.024 dB, an error of 0.007 dB, against 0.3 dB and more at the rates of interest.
Whatever serves the eye and not the mean square error is switched off: psychovisual weights, adaptive quantization,
the filters that smooth speckle away.

The program is looked for when it is used, so that the benchmark can tell what is missing on a machine.
"""

import functools
import shutil
import subprocess
from dataclasses import dataclass

import numpy as np

from xsarcomp.benchmarks.classical import checked_plane, decibel_from_integers, fitted_plane, integers_from_decibel
from xsarcomp.errors import ConfigurationError, CorruptStreamError, MissingDependencyError

_LARGEST = 4095
_RAW = ("-f", "rawvideo", "-pix_fmt", "gray12le")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hevc:
    """HEVC intra of 12 bits (x265), tuned for the mean square error."""

    name: str = "HEVC"
    settings: tuple[float, ...] = (6.0, 10.0, 14.0, 18.0, 22.0, 26.0, 30.0, 34.0, 38.0, 42.0)
    """Quantization parameter; 6 more double the step."""

    encoder = "libx265"
    """Name of the encoder in ffmpeg."""

    def encode(self, plane_db, setting):
        """Compress with the quantization parameter `setting`; see `_encoded`. The stream is raw HEVC (Annex B)."""
        options = f"qp={setting:g}:keyint=1:no-sao=1:deblock=-6,-6:no-info=1:aq-mode=0:psy-rd=0:psy-rdoq=0:rdoq-level=2"
        command = ("-c:v", self.encoder, "-preset", "medium", "-tune", "psnr")
        return _encoded(plane_db, (*command, "-x265-params", f"{options}:log-level=none", "-f", "hevc"))

    def decode(self, data, shape):
        """Decompress; see `Codec.decode`."""
        return _decoded(data, shape, "hevc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Av1:
    """AV1 still picture of 12 bits (libaom), tuned for the mean square error."""

    name: str = "AV1"
    settings: tuple[float, ...] = (2.0, 4.0, 6.0, 9.0, 13.0, 18.0, 24.0, 29.0, 34.0, 39.0, 45.0, 52.0)
    """Constant rate factor, 0..63."""

    encoder = "libaom-av1"
    """Name of the encoder in ffmpeg."""

    def encode(self, plane_db, setting):
        """Compress with the rate factor `setting`; see `_encoded`. The stream is a sequence of AV1 units (OBU)."""
        command = ("-c:v", self.encoder, "-still-picture", "1", "-crf", f"{setting:g}", "-b:v", "0", "-cpu-used", "4")
        options = "tune=psnr:enable-cdef=0:enable-restoration=0"
        return _encoded(plane_db, (*command, "-aom-params", options, "-f", "obu"))

    def decode(self, data, shape):
        """Decompress; see `Codec.decode`."""
        return _decoded(data, shape, "obu")


VIDEO_CODECS = (Hevc(), Av1())
"""Both with grids of settings for 0.05 to 2.6 bits per pixel on data of 10 m, in ground range or resampled to a map."""


def why_missing(codec):
    """Say why a codec of this file cannot be used on this machine.

    Parameters
    ----------
    codec : Hevc or Av1
        Codec to be used.

    Returns
    -------
    str
        One sentence; empty where the codec can be used.
    """
    if shutil.which("ffmpeg") is None:
        return "the program ffmpeg is not installed"
    if codec.encoder not in _encoders():
        return f"the installed ffmpeg has no encoder {codec.encoder}"
    return ""


@functools.cache
def _encoders():
    """Names of the encoders that the installed ffmpeg was built with."""
    listed = _run(("-encoders",), b"").decode("utf-8", "replace").splitlines()
    return {line.split()[1] for line in listed if len(line.split()) > 1}


def _encoded(plane_db, arguments):
    """Compress a finite plane in dB, float32 of shape (y, x), to the elementary stream, all of whose bytes count.

    The stream holds the parameter sets that a decoder needs and no container around them.
    """
    plane_db = checked_plane(plane_db)
    rows, columns = plane_db.shape
    picture = integers_from_decibel(plane_db, _LARGEST).astype("<u2").tobytes()
    return _run(
        (*_RAW, "-s", f"{columns}x{rows}", "-i", "pipe:0", *arguments, "-pix_fmt", "gray12le", "pipe:1"), picture
    )


def _decoded(data, shape, container):
    rows, columns = shape
    arguments = ("-f", container, "-i", "pipe:0", *_RAW, "pipe:1")
    picture = np.frombuffer(_run(arguments, data, CorruptStreamError), dtype="<u2")
    if picture.size != rows * columns:
        raise CorruptStreamError(
            f"found {picture.size} pixels in the stream, expected {rows} x {columns}. Pass the shape that was encoded."
        )
    return fitted_plane(decibel_from_integers(picture.reshape(rows, columns), _LARGEST), shape)


def _run(arguments, data, error=ConfigurationError):
    """Run ffmpeg on bytes from a pipe and return what it writes to another; raise `error` with what it complains of."""
    if (program := shutil.which("ffmpeg")) is None:
        raise MissingDependencyError(
            "HEVC and AV1 need the program ffmpeg, which is not installed. Install it with the packages of your system."
        )
    done = subprocess.run((program, "-hide_banner", "-loglevel", "error", *arguments), input=data, capture_output=True)
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-500:]
        raise error(
            f"found ffmpeg failing with status {done.returncode}: {said} Expected one picture of 12 bits. Check the stream, "
            "and the version of ffmpeg."
        )
    return done.stdout
