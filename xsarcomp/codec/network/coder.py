"""A trained network behind the NumPy interface of the coder.

Symbols go in, latents in dB come out, and these are the same bits for every number of threads, tile, batch, mode of torch
and machine (``docs/format.md``, section 6.3).
"""

import contextlib
import functools
import itertools
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from xsarcomp.codec.coder import LappedCoder
from xsarcomp.codec.network.arithmetic import input_levels
from xsarcomp.codec.network.config import RefinerConfig
from xsarcomp.codec.network.gpu import AcceleratedNetwork, accelerated, most_tiles
from xsarcomp.codec.network.network import IntegerNetwork
from xsarcomp.errors import ModelIntegrityError
from xsarcomp.tiling import equal_spans

TILE_LATENTS = 68
"""Largest tile of latents that goes through the network at once; bounds its memory. A little more than half of what a block
of 128 latents and the synthesis around it ask for: a thin rest would cost its surroundings over again."""

BATCHED_LATENTS = 256
"""Largest tile on another device: a block of 2048 pixels."""

Span = tuple[int, int]


class ResidualCoder(LappedCoder):
    """The coder of architecture "lapped-residual": reconstruction points, then the network in integers."""

    def __init__(self, *, weights: Mapping[str, NDArray], **parts):
        super().__init__(**parts)
        network = self.card.network
        config = RefinerConfig(channels=network["channels"], blocks=network["blocks"])
        try:
            object.__setattr__(self, "network", IntegerNetwork(weights, config))
        except ModelIntegrityError as error:
            raise ModelIntegrityError(
                f"the weights of model {self.card.name!r} do not fit its network {network}: {error}. Install it again."
            ) from error

    @property
    def latent_reach(self) -> int:
        """Latents around a tile that its decoding reads, from the layers of the network and the transform."""
        return 1 + self.network.reach

    def reconstruct(self, points: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Latents in dB from points, tile by tile; consumes the reach of the network."""
        network = accelerated(self.network)
        if network is not None:
            return self._restore_in_batches(network, points, step_db)
        reach = self.network.reach
        planes, channels, height, width = points.shape
        restored = np.empty((planes, channels, height - 2 * reach, width - 2 * reach), np.float32)
        jobs = [
            (plane, rows, columns)
            for plane in range(planes)
            for rows in equal_spans(restored.shape[2], TILE_LATENTS)
            for columns in equal_spans(restored.shape[3], TILE_LATENTS)
        ]

        def run(job: tuple[int, Span, Span]) -> None:
            plane, (top, bottom), (left, right) = job
            tile = points[plane, :, top : bottom + 2 * reach, left : right + 2 * reach]
            restored[plane, :, top:bottom, left:right] = self._refine(tile, step_db)

        workers = min(len(jobs), torch.get_num_threads())
        if threading.current_thread() is threading.main_thread() and workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(run, jobs))
        else:  # somebody else's pool: the other cores have work of their own
            for job in jobs:
                run(job)
        return restored

    def _restore_in_batches(
        self, network: AcceleratedNetwork, points: NDArray[np.int32], step_db: float
    ) -> NDArray[np.float32]:
        """The same on another device, in batches of tiles of one size."""
        reach = self.network.reach
        restored = super().reconstruct(np.ascontiguousarray(points[:, :, reach:-reach, reach:-reach]), step_db)
        levels = input_levels(points, step_db, self.channels_with_trellis(step_db))
        by_shape: dict[Span, list[tuple[int, Span, Span]]] = {}
        for plane, rows, columns in itertools.product(
            range(len(points)), *(equal_spans(size, BATCHED_LATENTS) for size in restored.shape[2:])
        ):
            by_shape.setdefault((rows[1] - rows[0], columns[1] - columns[0]), []).append((plane, rows, columns))
        margin = 2 * reach - 2  # the levels have lost one latent on each side already
        for (height, width), jobs in by_shape.items():
            count = most_tiles(self.network, (height + margin) * (width + margin))
            for some in (jobs[start : start + count] for start in range(0, len(jobs), count)):
                tiles = [levels[p, r[0] : r[1] + margin, c[0] : c[1] + margin] for p, r, c in some]
                offsets = network(np.stack(tiles), step_db).transpose(0, 3, 1, 2)
                for (plane, rows, columns), offset in zip(some, offsets, strict=True):
                    restored[plane, :, slice(*rows), slice(*columns)] += offset * np.float32(step_db)
        return restored

    def _refine(self, tile: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Latents of the inside of a tile (latent=64, y, x), whatever autocast or gradient mode the caller is in."""
        reach = self.network.reach
        inside = super().reconstruct(tile[None, :, reach:-reach, reach:-reach], step_db)[0]
        with _one_thread():
            levels = torch.from_numpy(input_levels(tile[None], step_db, self.channels_with_trellis(step_db))[0])
            offsets = self.network(levels, step_db).permute(2, 0, 1).numpy()
        # two operations of float32, each rounded
        return inside + offsets * np.float32(step_db)


@functools.cache
def _openmp() -> ThreadpoolController:
    """The OpenMP runtimes of this process; torch's is loaded by now."""
    return ThreadpoolController()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One OpenMP thread for the calls of this thread of Python.

    Work is shared out by tiles, not inside a layer. If each call forked into as many threads as there are cores, calls
    from the pools of Dask and Zarr, or other programs, would make them wait for each other at every layer (20 times
    slower was seen). OpenMP keeps the number for each calling thread, so nobody else notices; torch.set_num_threads
    would change what threads that start later are given.
    """
    torch.get_num_threads()  # torch sets its own number when a thread first calls it: let that happen before
    with _openmp().limit(limits=1, user_api="openmp"):
        yield
