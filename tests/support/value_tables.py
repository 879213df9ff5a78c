"""Values, memory layouts and shapes that arrays come with, and the law that holds for all: what must come back.

``VALUES``, ``LAYOUTS`` and ``SHAPES`` are the tables, :func:`applies` tells which values a data type can hold,
:func:`type_factors` splits a data type for a pairwise sample, :func:`assert_kept` is the law.
"""

import numpy as np

REFERENCE = 0.1
"""Typical power; digital numbers are about a thousand."""
LARGEST_ERROR_STEPS = 16.0
"""Far above what quantizing 64 latents at a step gives a pixel, far below a wrong place, scale or class."""
FACTORS = {"power": 10.0, "amplitude": 20.0}
FLOATS = ("<f4", ">f4", "<f8", ">f8", "<f2", ">f2")
INTEGERS = ("|u1", "<u2", ">u2", "|i1", "<i2", ">i2", "<i4", ">i4", "<u4", ">u4")
SHAPE = (19, 21)


def speckle(shape, dtype, scale, seed=0):
    """Ordinary backscatter without invalid pixels."""
    dtype = np.dtype(dtype)
    decibel = 10 * np.log10(np.random.default_rng(seed).gamma(4.4, REFERENCE / 4.4, shape))
    if dtype.kind != "f":
        decibel += {"power": 40, "amplitude": 50, "decibel": 0}[scale] - (20 if dtype.itemsize == 1 else 0)
    values = decibel if scale == "decibel" else 10 ** (decibel / FACTORS[scale])
    if dtype.kind != "f":
        values = np.rint(values).clip(np.iinfo(dtype).min if scale == "decibel" else 1, np.iinfo(dtype).max)
    return values.astype(dtype)


def filled(value):
    """Nothing but one value."""

    def make(shape, dtype, scale):
        with np.errstate(over="ignore"):
            return np.full(shape, np.float64(value).astype(np.dtype(dtype)), dtype)

    return make


def pixels(value, where=np.s_[..., 1::3, 2::4]):
    """One value at some pixels of ordinary backscatter."""

    def make(shape, dtype, scale):
        values = speckle(shape, dtype, scale)
        with np.errstate(over="ignore"):
            values[where] = np.float64(value).astype(np.dtype(dtype))
        return values

    return make


def one_valid(shape, dtype, scale):
    values = np.full(shape, np.nan, dtype)
    values[(*(0 for _ in shape[:-1]), -1)] = speckle((1,), dtype, scale)[0]
    return values


def all_kinds(shape, dtype, scale):
    """Every kind of invalid value, in runs and alone."""
    values = speckle(shape, dtype, scale)
    with np.errstate(over="ignore"):
        kinds = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -3.0, 1e30, -1e30, 600.0, 1e-45, 5e-324, 1e300]).astype(
            dtype
        )
    flat = values.reshape(-1)
    flat[::3] = np.resize(kinds, flat[::3].shape)
    return values


def dynamic_range(shape, dtype, scale):
    """Noise over 300 dB, or all that the type holds."""
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        return np.random.default_rng(1).integers(1, limits.max, shape, dtype.newbyteorder("=")).astype(dtype)
    reach = 40.0 if dtype.itemsize == 2 and scale != "decibel" else 150.0
    decibel = np.random.default_rng(1).uniform(-reach, reach, shape)
    return (decibel if scale == "decibel" else 10 ** (decibel / FACTORS[scale])).astype(dtype)


def ends(shape, dtype, scale):
    """Smallest and largest numbers of the type, side by side."""
    values = speckle(shape, dtype, scale)
    limits = np.finfo(dtype) if values.dtype.kind == "f" else np.iinfo(dtype)
    small = limits.smallest_subnormal if values.dtype.kind == "f" else limits.min
    values[..., ::2, :] = limits.max
    values[..., 1, :] = small
    return values


VALUES = {
    # name: values, declared nodata, for integers too
    "speckle": (speckle, None, True),
    "constant": (filled(7), None, True),
    "nan": (filled(np.nan), None, False),
    "zero": (filled(0.0), None, True),
    "nodata -9999": (filled(-9999.0), -9999.0, False),
    "nodata -32768": (filled(-32768.0), -32768.0, False),
    "nodata 0": (filled(0.0), 0.0, True),
    "nodata -0": (filled(0.0), -0.0, False),
    "infinity": (filled(np.inf), None, False),
    "negative infinity": (filled(-np.inf), None, False),
    "negative zero": (filled(-0.0), None, False),
    "negative": (filled(-0.5), None, False),
    "subnormal": (filled(1e-45), None, False),
    "one valid pixel": (one_valid, None, False),
    "some nan": (pixels(np.nan), None, False),
    "some zero": (pixels(0.0), None, True),
    "some nodata": (pixels(-9999.0), -9999.0, False),
    "some nodata 1": (pixels(1), 1, True),
    "nodata that no pixel has": (speckle, 2.5, True),
    "some negative": (pixels(-1e-3), None, False),
    "a pixel of 1e30": (pixels(1e30, np.s_[..., 0, 0]), None, False),
    "a pixel of 1e-45": (pixels(1e-45, np.s_[..., 0, 0]), None, False),
    "300 dB": (dynamic_range, None, True),
    "ends": (ends, None, True),
    "all kinds": (all_kinds, None, False),
    "all kinds, nodata": (all_kinds, 600.0, False),
}


def _unaligned(values):
    content = bytearray(values.nbytes + 1)
    view = np.frombuffer(content, values.dtype, offset=1, count=values.size).reshape(values.shape)
    view[...] = values
    return view


LAYOUTS = {
    "C": lambda values: values,
    "Fortran": np.asfortranarray,
    "read-only": lambda values: np.frombuffer(values.tobytes(), values.dtype).reshape(values.shape),
    "other byte order": lambda values: values.astype(values.dtype.newbyteorder()),
    "backwards": lambda values: np.ascontiguousarray(values[..., ::-1, ::-1])[..., ::-1, ::-1],
    "every third": lambda values: np.repeat(values, 3, axis=-1)[..., 1::3],
    "turned": lambda values: np.ascontiguousarray(values.swapaxes(-1, -2)).swapaxes(-1, -2),
    "first axis last": lambda values: np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 0, -1)), -1, 0),
    "unaligned": _unaligned,
}
SHAPES = (
    (1, 1), (1, 2), (2, 1), (1, 40), (40, 1), (3, 3), (7, 9), (8, 8), (17, 16), (1, 1, 1), (3, 1, 5), (5, 3, 1), (2, 9, 17),
    (2, 3, 4, 5), (1, 2, 1, 2, 9, 10), (1, 1, 1, 1, 2, 1, 3, 4),
)  # fmt: skip


def applies(name, dtype, scale):
    """Whether a data type can hold the values of a name, in a scale that it can have."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return True
    return VALUES[name][2] and (scale != "decibel" or dtype.kind == "i")


def type_factors(dtype):
    """Kind, width in bytes and byte order of a data type: factors that matter each by itself."""
    dtype = np.dtype(dtype)
    return dtype.kind, dtype.itemsize, dtype.str[0]


def native(values):
    """C order and the byte order of this machine."""
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def is_invalid(values, scale, nodata):
    """Which pixels are no backscatter, from the definition and not from the library."""
    values = native(values)
    with np.errstate(all="ignore"):
        wide = values.astype(np.float64)
        invalid = ~np.isfinite(wide)
        if nodata is not None:
            invalid |= values == (np.float64(nodata).astype(values.dtype) if values.dtype.kind == "f" else nodata)
        if scale == "decibel":
            return invalid | (np.abs(wide) > 500)
        reach = 500 / FACTORS[scale]
        return invalid | (wide <= 0) | (wide > 10**reach) | (wide < 10**-reach)


def assert_kept(original, found, scale, nodata, largest_error_db):
    """Shape and type; what is no backscatter to the bit (NaN as NaN); all else near, and still backscatter."""
    assert found.shape == original.shape
    assert found.dtype.newbyteorder("=") == original.dtype.newbyteorder("=")
    invalid = is_invalid(original, scale, nodata)
    original, found = native(original), native(found)
    np.testing.assert_array_equal(is_invalid(found, scale, nodata), invalid)
    wrong = invalid & ~(np.isnan(original) & np.isnan(found)) if original.dtype.kind == "f" else invalid
    assert original[wrong].tobytes() == found[wrong].tobytes()
    before, after = (values[~invalid].astype(np.float64) for values in (original, found))
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.abs(after - before)
        if scale == "decibel":
            near = apart <= largest_error_db
        else:
            near = FACTORS[scale] * np.abs(np.log10(after) - np.log10(before)) <= largest_error_db
        # rounding to the type, where its steps are coarse
        near |= apart <= (
            1 if original.dtype.kind != "f" else np.spacing(np.abs(original[~invalid])).astype(np.float64)
        )
    assert near.all()
