"""Planes: one polarization of a scene in dB, and the file that carries planes to the training machine."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from xsarcomp.errors import ConfigurationError, ModelIntegrityError, RadiometryError
from xsarcomp.whole_files import write_atomically

STORED_STEP_DB = 0.01
"""Rounding of stored planes in dB; its error of 0.003 dB is far below that of any codec setting."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One polarization of one scene, free of gaps."""

    name: str
    """Name of the scene, the same for its polarizations: the unit by which data is split."""

    polarization: str
    """vv, vh, hh or hv."""

    decibel: NDArray[np.float32]
    """Backscatter in dB, shape (y, x), finite: invalid pixels hold the value of the nearest valid one."""

    valid: NDArray[np.bool_]
    """True where `decibel` was measured, shape (y, x)."""


def assert_disjoint(train_planes: Sequence[Plane], validation_planes: Sequence[Plane]) -> None:
    """Refuse a split in which a scene is on both sides.

    Patches of one scene share place and date: validation on them would measure memory, not generalization.

    Parameters
    ----------
    train_planes, validation_planes : sequence of Plane
        Polarizations of one scene belong to the same side.

    Raises
    ------
    ConfigurationError
        If scenes are shared, or a side is empty.
    """
    names = [{plane.name for plane in planes} for planes in (train_planes, validation_planes)]
    shared = sorted(names[0] & names[1])
    if shared or not names[0] or not names[1]:
        raise ConfigurationError(
            f"training has {len(names[0])} scenes, validation {len(names[1])}, and {len(shared)} are in both "
            f"({', '.join(shared[:5])}); expected two sides without a common scene. Split by scene or region."
        )


def save_planes(path: str | os.PathLike[str], planes: Sequence[Plane]) -> None:
    """Store planes in one safetensors file: 2 bytes a pixel, one bit more for planes with gaps.

    Parameters
    ----------
    path : path
        File to write.
    planes : sequence of Plane
        In the order in which `load_planes_file` returns them. Values are rounded to `STORED_STEP_DB`.

    Raises
    ------
    RadiometryError
        If a value is not finite or beyond ±327 dB.
    """
    tensors: dict[str, NDArray] = {}
    for index, plane in enumerate(planes):
        steps = np.rint(plane.decibel.astype(np.float64) / STORED_STEP_DB)
        if not np.all(np.abs(steps) <= np.iinfo(np.int16).max):
            raise RadiometryError(
                f"scene {plane.name!r} ({plane.polarization}) is not finite or beyond ±327 dB, "
                "expected backscatter in dB without gaps. Load it with load_planes and the right scale."
            )
        tensors[f"{index:06d}.decibel"] = steps.astype(np.int16)
        if not plane.valid.all():
            tensors[f"{index:06d}.valid"] = np.packbits(plane.valid)
    listing = json.dumps([[plane.name, plane.polarization] for plane in planes])
    write_atomically(Path(path), safetensors.numpy.save(tensors, metadata={"planes": listing}))


def load_planes_file(path: str | os.PathLike[str]) -> list[Plane]:
    """Read planes that `save_planes` stored, with NumPy and safetensors only.

    Parameters
    ----------
    path : path
        File to read.

    Returns
    -------
    list of Plane
        With values rounded to `STORED_STEP_DB`.

    Raises
    ------
    ModelIntegrityError
        If the file is damaged or was not written by `save_planes`.
    """
    planes = []
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            names = set(file.keys())
            for index, (name, polarization) in enumerate(json.loads(file.metadata()["planes"])):
                steps = file.get_tensor(f"{index:06d}.decibel")
                valid = np.ones(steps.shape, bool)
                if f"{index:06d}.valid" in names:
                    packed = file.get_tensor(f"{index:06d}.valid")
                    valid = np.unpackbits(packed, count=steps.size).reshape(steps.shape).astype(bool)
                decibel = steps.astype(np.float32) * np.float32(STORED_STEP_DB)
                planes.append(Plane(name, polarization, decibel, valid))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelIntegrityError(
            f"{path} is not a complete file of planes ({error}), expected a file that save_planes wrote. Write it again."
        ) from error
    return planes
