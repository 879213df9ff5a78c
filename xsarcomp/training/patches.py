"""Patches of scenes: random ones to train on, fixed ones to validate on.

Random patches start at any *pixel*. On a fixed grid of blocks a network of stride 8 sees each block in one
phase only and overfits within minutes.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsarcomp.errors import ConfigurationError
from xsarcomp.training.augmentation import AugmentationConfig, augment
from xsarcomp.training.planes import Plane

MINIMUM_OFFSETS = 16
"""Fewest offsets of patches per axis of a plane: all phases of a stride of 16."""

INVALID_LIMIT = 0.05
"""Largest fraction of filled pixels in a patch."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchConfig:
    """Size, seed, limits and augmentation of random patches."""

    patch: int = 128
    """Rows and columns of a patch in pixels."""

    batch: int = 16
    """Patches in a batch."""

    seed: int = 0
    """Seed of places and augmentations."""

    invalid_limit: float = INVALID_LIMIT
    """Largest fraction of invalid pixels in a patch."""

    augmentation: AugmentationConfig = field(default_factory=lambda: AugmentationConfig(gain_db=2.0))
    """Random changes of each patch."""

    def __post_init__(self) -> None:
        if self.patch < 1 or self.batch < 1 or not 0 <= self.invalid_limit < 1:
            raise ConfigurationError(
                f"patch is {self.patch}, batch {self.batch}, invalid_limit {self.invalid_limit}; "
                "expected at least 1, at least 1, and 0 to below 1. Correct the PatchConfig."
            )


class PatchSampler:
    """Endless, seeded iterator over batches of random patches.

    A plane is drawn with a probability proportional to its valid area, then a place in it uniformly from all
    pixel offsets where the patch has few enough invalid pixels. Planes that are too small for a patch, or for
    `MINIMUM_OFFSETS` different ones, are continued by reflection.

    Parameters
    ----------
    planes : sequence of Plane
        Backscatter in dB.
    config : PatchConfig
        Size, seed, limits and augmentation.

    Raises
    ------
    ConfigurationError
        If no plane has room for a patch.

    Notes
    -----
    Each batch is an ndarray of float32, shape (batch, y, x), in dB, finite. Planes in which no place
    qualifies are left out; how many is logged as a warning.
    """

    def __init__(self, planes: Sequence[Plane], config: PatchConfig) -> None:
        self.config = config
        offsets = [_PatchOffsets(plane, config.patch, config.invalid_limit) for plane in planes]
        self._offsets = [of_plane for of_plane in offsets if of_plane.count]
        if not self._offsets:
            raise ConfigurationError(
                f"none of {len(planes)} planes has a patch of {config.patch} pixels with at most "
                f"{config.invalid_limit:.0%} invalid; expected at least one. "
                "Use smaller patches or other scenes."
            )
        if len(self._offsets) < len(planes):
            _log.warning("%d of %d planes have no usable patch", len(planes) - len(self._offsets), len(planes))
        areas = np.array([of_plane.plane.valid.sum() for of_plane in self._offsets], np.float64)
        self._cumulative = np.cumsum(areas) / areas.sum()
        self._generator = np.random.default_rng(config.seed)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self

    def __next__(self) -> NDArray[np.float32]:
        return np.stack([self._draw_patch() for _ in range(self.config.batch)])  # (batch, y, x)

    def _draw_patch(self) -> NDArray[np.float32]:
        """Draw one augmented patch."""
        # The last entry is one only up to rounding: never run past the end.
        chosen = np.searchsorted(self._cumulative[:-1], self._generator.random(), side="right")
        patch = self._offsets[chosen].draw(self._generator)
        return augment(patch, self.config.augmentation, self._generator)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the random generator as JSON values."""
        return {"generator": self._generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned, with the same planes and configuration."""
        self._generator.bit_generator.state = state["generator"]


class _PatchOffsets:
    """Offsets in one plane at which a patch may start."""

    def __init__(self, plane: Plane, patch: int, invalid_limit: float) -> None:
        self.plane = plane
        self.patch = patch
        starts = [_first_and_count(size, patch) for size in plane.decibel.shape]
        self._first = tuple(first for first, _ in starts)
        self._shape = tuple(count for _, count in starts)
        # Planes without gaps, nearly all, need no list of offsets.
        self._allowed: NDArray[np.int32] | None = None
        self.count = self._shape[0] * self._shape[1]
        if not plane.valid.all():
            rows, columns = (
                _mirrored_indices(first, count + patch - 1, size)
                for (first, count), size in zip(starts, plane.valid.shape, strict=True)
            )
            invalid = _window_sums(~plane.valid[np.ix_(rows, columns)], patch)
            self._allowed = np.flatnonzero(invalid <= invalid_limit * patch**2).astype(np.int32)
            self.count = len(self._allowed)

    def draw(self, generator: np.random.Generator) -> NDArray[np.float32]:
        """Cut a patch at a random allowed offset."""
        index = int(generator.integers(self.count))
        if self._allowed is not None:
            index = int(self._allowed[index])
        row, column = divmod(index, self._shape[1])
        return cut_patch(self.plane.decibel, self._first[0] + row, self._first[1] + column, self.patch)


def cut_patch(values: NDArray, row: int, column: int, patch: int) -> NDArray:
    """Cut a square patch, reflecting the plane where the patch reaches beyond it.

    Parameters
    ----------
    values : ndarray, shape (y, x)
        Plane.
    row, column : int
        First row and column of the patch; may be negative.
    patch : int
        Rows and columns of the patch.

    Returns
    -------
    ndarray, shape (patch, patch)
        A view where the patch lies inside, else a copy.
    """
    rows, columns = values.shape
    if row >= 0 and column >= 0 and row + patch <= rows and column + patch <= columns:
        return values[row : row + patch, column : column + patch]
    return values[np.ix_(_mirrored_indices(row, patch, rows), _mirrored_indices(column, patch, columns))]


def fixed_batches(
    planes: Sequence[Plane],
    patch: int,
    *,
    batch: int = 8,
    limit: int | None = None,
    invalid_limit: float = INVALID_LIMIT,
) -> list[NDArray[np.float32]]:
    """Cut the same patches every time, for validation.

    The patches of a plane are spread evenly over it without overlap. A plane smaller than a patch gives one patch,
    continued by reflection on all sides.

    Parameters
    ----------
    planes : sequence of Plane
        Backscatter in dB.
    patch : int
        Rows and columns of a patch in pixels.
    batch : int
        Patches in a batch; the last batch may hold fewer.
    limit : int, optional
        Largest number of patches, taken evenly from all.
    invalid_limit : float
        Largest fraction of invalid pixels in a patch.

    Returns
    -------
    list of ndarray of float32, shape (batch, y, x)
        Backscatter in dB, finite.

    Raises
    ------
    ConfigurationError
        If no patch qualifies.
    """
    patches = []
    for plane in planes:
        rows, columns = (_even_offsets(size, patch) for size in plane.decibel.shape)
        for row in rows:
            for column in columns:
                if (~cut_patch(plane.valid, row, column, patch)).mean() <= invalid_limit:
                    patches.append(cut_patch(plane.decibel, row, column, patch))
    if not patches:
        raise ConfigurationError(
            f"{len(planes)} planes hold no patch of {patch} pixels with at most {invalid_limit:.0%} invalid; "
            "expected at least one. Use smaller patches or other scenes."
        )
    if limit is not None and limit < len(patches):
        patches = [patches[index] for index in np.linspace(0, len(patches) - 1, limit).round().astype(int)]
    return [np.stack(patches[start : start + batch]) for start in range(0, len(patches), batch)]


def _first_and_count(size: int, patch: int) -> tuple[int, int]:
    """First offset and number of offsets along an axis; both ends are reflected where there would be too few."""
    count = max(size - patch + 1, MINIMUM_OFFSETS)
    return -((count - (size - patch + 1)) // 2), count


def _mirrored_indices(start: int, length: int, size: int) -> NDArray[np.intp]:
    """Indices of a part of an axis that is continued by reflection without repeating the edge pixel.

    `xsarcomp.tiling.reflect_indices` repeats it, as the transform needs. The shipped models were trained on patches that do
    not, and a run resumed with the other extension would not end in the same bits.
    """
    period = max(1, 2 * (size - 1))
    position = np.arange(start, start + length) % period
    return np.minimum(position, period - position)


def _window_sums(values: NDArray[np.bool_], window: int) -> NDArray[np.int64]:
    """Sums over all square windows of an array, indexed by the first row and column of the window."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(values, axis=0, dtype=np.int64), axis=1, out=table[1:, 1:])
    return table[window:, window:] - table[:-window, window:] - table[window:, :-window] + table[:-window, :-window]


def _even_offsets(size: int, patch: int) -> list[int]:
    """Offsets of patches spread over an axis without overlap."""
    count = max(1, size // patch)
    if count == 1:
        return [(size - patch) // 2]
    return np.linspace(0, size - patch, count).round().astype(int).tolist()
