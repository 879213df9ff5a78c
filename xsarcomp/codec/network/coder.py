"""The network behind the NumPy interface of the coder.

Points go in and latents in dB come out, the same bits for every number of threads, tile, batch, mode of torch and machine
(``docs/format.md``, section 6.3).
"""

import contextlib
import ctypes
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.network.arithmetic import input_levels
from xsarcomp.codec.network.config import RefinerConfig
from xsarcomp.codec.network.gpu import DeviceNetwork, network_on_device, tiles_per_batch
from xsarcomp.codec.network.network import IntegerNetwork
from xsarcomp.errors import ModelIntegrityError
from xsarcomp.tiling import equal_spans

TILE_LATENTS = 68
"""Largest tile of latents that goes through the network at once on the processor; bounds its memory. It is a little more than
half of a window of 128 latents with the surroundings that the synthesis reads: two equal tiles cost less than a large one and
a thin rest, whose surroundings would be computed again."""

DEVICE_TILE_LATENTS = 256
"""Largest tile on another device: a window of 2048 pixels."""

Span = tuple[int, int]


class Tile(NamedTuple):
    """A part of the latents that goes through the network at once, without its surroundings."""

    plane: int
    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def slices(self, margin: int = 0) -> tuple[slice, slice]:
        """Rows and columns of the tile in an array that is larger by ``margin`` in all, half of it on each side."""
        return slice(self.rows[0], self.rows[1] + margin), slice(self.columns[0], self.columns[1] + margin)


def tiles_of(shape: tuple[int, ...], largest: int) -> list[Tile]:
    """Divide latents into tiles of about equal size.

    Parameters
    ----------
    shape : tuple of int
        (plane, latent=64, y_latent, x_latent).
    largest : int
        Largest number of rows and columns of a tile.

    Returns
    -------
    list of Tile
    """
    planes, _, height, width = shape
    spans = (equal_spans(height, largest), equal_spans(width, largest))
    return [Tile(plane, rows, columns) for plane, rows, columns in itertools.product(range(planes), *spans)]


class ResidualCoder(LappedCoder):
    """The coder of architecture "lapped-residual": reconstruction points, refined by the network in integers.

    Parameters
    ----------
    weights : mapping of str to ndarray
        Arrays of the network, see :func:`xsarcomp.codec.network.network.expected_shapes`.
    **fields
        Fields of :class:`~xsarcomp.codec.coder.LappedCoder`. The card holds the sizes of the network.

    Raises
    ------
    ModelIntegrityError
        If the weights do not fit the sizes in the card.
    """

    network: IntegerNetwork

    def __init__(self, *, weights: Mapping[str, NDArray], **fields: Any):
        super().__init__(**fields)
        sizes = self.card.network
        assert sizes is not None, "the card of architecture lapped-residual has the sizes of its network"
        config = RefinerConfig(channels=sizes["channels"], blocks=sizes["blocks"])
        try:
            # the dataclass is frozen
            object.__setattr__(self, "network", IntegerNetwork(weights, config))
        except ModelIntegrityError as error:
            raise ModelIntegrityError(
                f"the weights of model {self.card.name!r} do not fit its network {sizes}: {error}. Install it again."
            ) from error

    @property
    def latent_reach(self) -> int:
        """Latents around a tile that its decoding reads, for the layers of the network and the overlap of the transform."""
        return 1 + self.network.config.reach

    def reconstruct(self, points: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Compute latents from points, tile by tile.

        Parameters
        ----------
        points : ndarray of int32, shape (plane, latent=64, y_latent, x_latent)
            With the reach of the network on each side.
        step_db : float
            Quantization step in dB.

        Returns
        -------
        ndarray of float32, shape (plane, latent=64, y_latent - 2 * reach, x_latent - 2 * reach), dB
        """
        device_network = network_on_device(self.network)
        if device_network is not None:
            return self._restore_in_batches(device_network, points, step_db)
        margin = 2 * self.network.config.reach
        planes, channels, height, width = points.shape
        latents = np.empty((planes, channels, height - margin, width - margin), np.float32)
        tiles = tiles_of(latents.shape, TILE_LATENTS)

        def restore_tile(tile: Tile) -> None:
            around = points[tile.plane][:, *tile.slices(margin)]
            latents[tile.plane][:, *tile.slices()] = self._refine(around, step_db)

        workers = min(len(tiles), torch.get_num_threads())
        if threading.current_thread() is threading.main_thread() and workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(restore_tile, tiles))
        else:  # a pool of the caller runs this thread, and the other cores have work of their own
            for tile in tiles:
                restore_tile(tile)
        return latents

    def _restore_in_batches(
        self, network: DeviceNetwork, points: NDArray[np.int32], step_db: float
    ) -> NDArray[np.float32]:
        """Compute latents from points on another device, in batches of tiles of one size."""
        reach = self.network.config.reach
        latents = super().reconstruct(np.ascontiguousarray(points[:, :, reach:-reach, reach:-reach]), step_db)
        levels = input_levels(points, step_db, self.channels_with_trellis(step_db), self.trellis.spacing)
        tiles_by_shape: dict[tuple[int, int], list[Tile]] = {}
        for tile in tiles_of(latents.shape, DEVICE_TILE_LATENTS):
            tiles_by_shape.setdefault(tile.shape, []).append(tile)
        margin = 2 * reach - 2  # the levels have lost one latent on each side already
        for (height, width), tiles in tiles_by_shape.items():
            count = tiles_per_batch(self.network, (height + margin) * (width + margin))
            for batch in (tiles[start : start + count] for start in range(0, len(tiles), count)):
                offsets = network(np.stack([levels[tile.plane][tile.slices(margin)] for tile in batch]), step_db)
                for tile, offset in zip(batch, offsets.transpose(0, 3, 1, 2), strict=True):
                    latents[tile.plane][:, *tile.slices()] += offset * np.float32(step_db)
        return latents

    def _refine(self, points: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Compute the latents inside a tile (latent=64, y, x), whatever autocast or gradient mode the caller is in."""
        reach = self.network.config.reach
        latents = super().reconstruct(points[None, :, reach:-reach, reach:-reach], step_db)[0]
        with _one_thread():
            levels = torch.from_numpy(
                input_levels(points[None], step_db, self.channels_with_trellis(step_db), self.trellis.spacing)[0]
            )
            offsets = self.network(levels, step_db).permute(2, 0, 1).numpy()
        # two operations of float32, each rounded
        return latents + offsets * np.float32(step_db)


@functools.cache
def _openmp() -> ThreadpoolController:
    """The OpenMP runtimes of this process; torch's is loaded by now."""
    return ThreadpoolController()


@functools.cache
def _limit_mkl() -> Callable[[int], int]:
    """Function that sets the MKL threads of the calling thread, 0 for the usual number, and returns the earlier number.

    Builds of torch with MKL carry it inside, where threadpoolctl does not see it. Its matrix products in float32, which
    processors without 8-bit instructions run, would fork however many threads OpenMP is allowed.
    """
    library = Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"
    try:
        function = ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError):  # a build without MKL, or for another system
        return lambda threads: 0
    return function


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Limit the calls of this Python thread to one OpenMP and one MKL thread.

    Work is shared out by tiles, not inside a layer. If each call forked into as many threads as there are cores, calls
    from the pools of Dask and Zarr, or other programs, would make them wait for each other at every layer (20 times
    slower was seen). OpenMP keeps the number for each calling thread, so no other thread is affected; torch.set_num_threads
    would change the number of threads that start later.
    """
    torch.get_num_threads()  # torch sets its own number when a thread first calls it: let that happen before
    with _openmp().limit(limits=1, user_api="openmp"):
        before = _limit_mkl()(1)
        try:
            yield
        finally:
            _limit_mkl()(before)
