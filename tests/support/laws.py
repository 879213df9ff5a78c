"""Laws that codecs of several rooms obey: what is encoded comes back, near, in its shape and type.

:func:`check_round_trip` sends a plane through a codec of the benchmark, :func:`check_near` compares backscatter with what a
store or codec gave back.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST_DB = 6.0
"""Far above the errors of the steps that these tests ask for, far below a wrong place, scale or class."""


def check_round_trip(codec: Any, plane_db: NDArray[np.float32], setting: float) -> tuple[float, float]:
    """Encode and decode a plane; bits per pixel and root mean squared error, dB."""
    data = codec.encode(plane_db, setting)
    assert type(data) is bytes
    decoded = codec.decode(data, plane_db.shape)
    assert decoded.dtype == np.float32
    assert decoded.shape == plane_db.shape
    return 8 * len(data) / plane_db.size, float(np.sqrt(np.mean((decoded - plane_db) ** 2)))


def check_near(found: ArrayLike, expected: ArrayLike) -> None:
    """Shape and type are equal, NaN lies at the same places, and power elsewhere is near."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    assert np.nanmax(np.abs(10 * np.log10(found / expected)), initial=0) < LARGEST_DB
