"""Warning of areas without data that the sample of a plan did not show: window by window, while they are encoded."""

import warnings

import numpy as np
from numpy.typing import NDArray

from xsarcomp.codec.settings import Settings
from xsarcomp.errors import caller_stacklevel
from xsarcomp.radiometry.fill_values import find_fill_values
from xsarcomp.radiometry.pixel_classes import VALID, classify

CONSTANT_PIXELS = 2**14
"""Pixels of a plane of one valid value that make it an area without data, though no other value is beside it."""


def warn_of_missed_fill(backscatter: NDArray, settings: Settings, name: str | None = None) -> None:
    """Warn if a window has areas of one exact number that will be coded as backscatter.

    The settings were chosen on a sample. They hold for all of a variable, so a window cannot change them, but it can say so. The
    same number gives the same text, which Python shows once.

    Parameters
    ----------
    backscatter : ndarray of a real dtype, shape (..., y, x)
        Any byte order.
    settings : Settings
        Scale and nodata.
    name : str, optional
        Name of the variable.
    """
    planes = backscatter.reshape(-1, *backscatter.shape[-2:])
    values = [fill.value for fill in find_fill_values([planes], scale=settings.scale, nodata=settings.nodata)]
    values += [float(plane[0, 0]) for plane in planes if plane.size >= CONSTANT_PIXELS and (plane == plane[0, 0]).all()]
    for value in dict.fromkeys(values):
        if classify(np.array([value], planes.dtype), settings.scale, settings.nodata)[0] == VALID:
            warnings.warn(
                f"areas of {'a chunk' if name is None else repr(name)} are exactly {value:g}, which is not known as "
                "nodata: they are compressed as backscatter and change. If they hold no data, declare the number first: "
                f"array.attrs['nodata'] = {value:g}",
                stacklevel=caller_stacklevel(),
            )
