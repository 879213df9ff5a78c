"""The lapped transform: orthogonal, 16 taps, one block every 8 pixels.

The transform is a fast lapped orthogonal transform: across each border of two 8-pixel blocks the difference between
the pixels and their mirror images is rotated (an orthogonal 4x4 matrix), then each block goes through a DCT-II. It was
chosen for two properties (``docs/decisions/0001-lapped-transform.md``):

* a constant signal fills only the lowest channel, and a signal mirrored at its edge passes the edge unchanged, so a
  scene of n blocks has exactly n latents an axis: there are no latents for the border, and cutting a scene into chunks
  adds none;
* its basis is rounded to multiples of 2**-15. The signal is a multiple of 2**-9 dB, so every product and sum of the
  analysis fits the 53 bits of a float64 up to +-1024 dB: **the analysis has no rounding at all** and gives the same
  latents on every machine, for every chunking, thread count and BLAS.

Channel ``8 * v + h`` holds the vertical frequency v and the horizontal frequency h.
"""

import numpy as np
from numpy.typing import NDArray

BLOCK = 8
"""Pixels of a block along an axis."""
CHANNELS = BLOCK * BLOCK
"""Latents of a block."""
OVERLAP = BLOCK // 2
"""Pixels that the basis of a block reaches beyond it on each side."""
BASIS_STEPS = 2**15
"""Steps of the basis in 1."""
STRIP = 16
"""Rows of blocks that are transformed together: intermediate values stay in the processor's cache."""

_PAIRS = ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3))  # axes of the plane rotations
SENTINEL1_ANGLES = (-0.65326175, -0.41699, -0.18220733, 0.13693676, 0.02139754, -0.02695493)
"""Rotations in radians that minimize the mean log variance of the channels on the training split (10 m GRD, dB)."""


def lapped_basis(angles: tuple[float, ...] = SENTINEL1_ANGLES) -> NDArray[np.int32]:
    """Compute the basis of the one-dimensional lapped transform as integers.

    Parameters
    ----------
    angles : tuple of 6 floats, radians
        Plane rotations that make up the 4x4 orthogonal matrix of the border filter.

    Returns
    -------
    ndarray of int32, shape (tap=16, frequency=8)
        Columns are orthonormal after division by ``BASIS_STEPS``, up to rounding.

    References
    ----------
    Malvar (1992), *Signal Processing with Lapped Transforms*, chapter 4 (fast lapped orthogonal transform);
    Tran, Liang and Tu (2003), IEEE Trans. Signal Processing 51(6), for its reading as border filters around a DCT.
    """
    rotation = np.eye(4)
    for angle, (i, j) in zip(angles, _PAIRS, strict=True):
        plane = np.eye(4)
        plane[i, i] = plane[j, j] = np.cos(angle)
        plane[i, j], plane[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ plane
    unit, flip, zero = np.eye(4), np.eye(4)[::-1], np.zeros((4, 4))
    butterfly = np.block([[unit, flip], [flip, -unit]]) / np.sqrt(2)
    border = butterfly @ np.block([[unit, zero], [zero, rotation]]) @ butterfly
    filters = np.zeros((8, 16))
    filters[:4, :8], filters[4:, 8:] = border[4:], border[:4]
    return np.ascontiguousarray(np.rint((_cosine_transform() @ filters).T * BASIS_STEPS), np.int32)


def _cosine_transform() -> NDArray[np.float64]:
    """Orthonormal DCT-II, shape (frequency, pixel)."""
    frequency, pixel = np.arange(BLOCK)[:, None], np.arange(BLOCK)[None]
    matrix = np.sqrt(2 / BLOCK) * np.cos(np.pi / BLOCK * frequency * (pixel + 0.5))
    matrix[0] /= np.sqrt(2)
    return matrix


def constant_gain(basis: NDArray[np.int32]) -> float:
    """Compute the ratio of the lowest latent to the signal, where the signal is constant: about 8, without rounding.

    Parameters
    ----------
    basis : ndarray of int32, shape (tap=16, frequency=8)
        See :func:`lapped_basis`.

    Returns
    -------
    float
    """
    return (int(basis[:, 0].sum()) / BASIS_STEPS) ** 2


def analyze(signal: NDArray[np.float64], basis: NDArray[np.int32]) -> NDArray[np.float64]:
    """Transform a signal to latents, without rounding.

    Parameters
    ----------
    signal : ndarray of float64, shape (plane, y, x), dB
        Multiples of 1/512 dB, with ``OVERLAP`` pixels around whole blocks: y and x are ``8 * blocks + 8``.
    basis : ndarray of int32, shape (tap=16, frequency=8)
        See :func:`lapped_basis`.

    Returns
    -------
    ndarray of float64, shape (plane, latent=64, y_latent, x_latent)
        In dB; the lowest channel is about 8 times the mean of its block.
    """
    planes, height, width = signal.shape
    rows, columns = height // BLOCK - 1, width // BLOCK - 1
    matrix = basis.astype(np.float64) / BASIS_STEPS
    latents = np.empty((planes, BLOCK, BLOCK, rows, columns))
    for start in range(0, rows, STRIP):
        stop = min(start + STRIP, rows)
        strip = _analyze_strip(signal[:, start * BLOCK : (stop + 1) * BLOCK], matrix[:BLOCK], matrix[BLOCK:])
        latents[:, :, :, start:stop] = strip.transpose(0, 2, 4, 1, 3)
    return latents.reshape(planes, CHANNELS, rows, columns)


def _analyze_strip(
    signal: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Latents of a strip, shape (plane, y_latent, vertical=8, x_latent, horizontal=8).

    ``first`` and ``second`` are the early and the late taps of the basis, shape (tap=8, frequency=8).
    """
    planes, height, width = signal.shape
    rows, columns = height // BLOCK - 1, width // BLOCK - 1
    blocks = signal.reshape(planes, rows + 1, BLOCK, width)
    vertical = first.T @ blocks[:, :-1] + second.T @ blocks[:, 1:]
    blocks = vertical.reshape(planes, rows * BLOCK, columns + 1, BLOCK)
    latents = blocks[:, :, :-1] @ first + blocks[:, :, 1:] @ second
    return latents.reshape(planes, rows, BLOCK, columns, BLOCK)


def synthesize(latents: NDArray[np.float32], basis: NDArray[np.int32]) -> NDArray[np.float32]:
    """Transform latents to a signal; the transpose of :func:`analyze`.

    Parameters
    ----------
    latents : ndarray of float32, shape (plane, latent=64, y_latent, x_latent)
        With one latent around.
    basis : ndarray of int32, shape (tap=16, frequency=8)
        See :func:`lapped_basis`.

    Returns
    -------
    ndarray of float32, shape (plane, y, x), dB
        y = 8 * (y_latent - 2), x = 8 * (x_latent - 2): without the latents around.
    """
    planes, _, rows, columns = latents.shape
    matrix = (basis / BASIS_STEPS).astype(np.float32)
    image = np.empty((planes, (rows - 1) * BLOCK, (columns - 1) * BLOCK), np.float32)
    for start in range(0, rows - 1, STRIP):
        stop = min(start + STRIP, rows - 1)
        strip = _synthesize_strip(latents[:, :, start : stop + 1], matrix[:BLOCK], matrix[BLOCK:])
        image[:, start * BLOCK : stop * BLOCK] = strip.reshape(planes, (stop - start) * BLOCK, -1)
    return image[:, OVERLAP:-OVERLAP, OVERLAP:-OVERLAP]


def _synthesize_strip(
    latents: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Pixels between the centers of the blocks of a strip, shape (plane, y_latent - 1, 8, 8 * (x_latent - 1))."""
    planes, _, rows, columns = latents.shape
    blocks = latents.reshape(planes, BLOCK, BLOCK, rows, columns).transpose(0, 3, 1, 4, 2)
    blocks = np.ascontiguousarray(blocks).reshape(planes, rows * BLOCK, columns, BLOCK)
    late, early = blocks @ second.T, blocks @ first.T
    # a pixel gets the late taps of one block and the early taps of the next
    horizontal = (late[:, :, :-1] + early[:, :, 1:]).reshape(planes, rows, BLOCK, (columns - 1) * BLOCK)
    return second @ horizontal[:, :-1] + first @ horizontal[:, 1:]


def gather_mirrored(
    latents: NDArray,
    rows: tuple[NDArray[np.intp], NDArray[np.bool_]],
    columns: tuple[NDArray[np.intp], NDArray[np.bool_]],
) -> NDArray:
    """Gather latents at positions that may lie beyond the edge of the scene.

    A scene continues as its mirror image; the latents of a mirrored block are those of the block with the sign of the
    odd frequencies changed.

    Parameters
    ----------
    latents : ndarray, shape (plane, latent=64, y_latent, x_latent)
        Latents or symbols.
    rows, columns : pair of (indices, is_reversed)
        As :func:`xsarcomp.tiling.reflect_indices` returns them.

    Returns
    -------
    ndarray of the same dtype, shape (plane, latent=64, len(rows[0]), len(columns[0]))
    """
    gathered = np.take(np.take(latents, rows[0], axis=2), columns[0], axis=3)  # twice as fast as indexing
    odd = np.arange(BLOCK) % 2 == 1
    if rows[1].any():
        channels = np.repeat(odd, BLOCK)
        gathered[:, channels] *= np.where(rows[1], -1, 1).astype(gathered.dtype)[:, None]
    if columns[1].any():
        channels = np.tile(odd, BLOCK)
        gathered[:, channels] *= np.where(columns[1], -1, 1).astype(gathered.dtype)
    return gathered
