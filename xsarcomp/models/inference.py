"""A trained network behind the NumPy interface of the coder."""

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from xsarcomp.coder import LappedCoder
from xsarcomp.errors import ModelIntegrityError
from xsarcomp.models.autoencoder import AutoencoderConfig, LappedAutoencoder
from xsarcomp.tiling import plane_groups

TILE_LATENTS = 64
"""Largest tile of latents that goes through the network at once; bounds its memory."""


class ResidualCoder(LappedCoder):
    """The coder of architecture "lapped-residual": centroids, then the network."""

    def __init__(self, *, weights: Mapping[str, NDArray[np.float32]], **parts):
        super().__init__(**parts)
        network = self.card.network
        model = LappedAutoencoder(AutoencoderConfig(channels=network["channels"], blocks=network["blocks"]))
        try:
            model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        except RuntimeError as error:
            raise ModelIntegrityError(
                f"the weights of model {self.card.name!r} do not fit its network {network}: {error}"
            ) from error
        if not all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters()):
            raise ModelIntegrityError(f"the weights of model {self.card.name!r} hold numbers that are not finite")
        model.eval().requires_grad_(False)
        object.__setattr__(self, "network", model.to(dtype=torch.float32, memory_format=torch.channels_last))

    @property
    def latent_reach(self) -> int:
        """Latents around a tile that its decoding reads, from the layers of the network and the transform."""
        return 1 + self.network.refiner.reach

    def restore(self, symbols: NDArray[np.int32], step_db: float) -> NDArray[np.float32]:
        """Latents in dB from symbols, tile by tile; consumes the reach of the network."""
        latents = super().restore(symbols, step_db)
        reach = self.network.refiner.reach
        planes, channels, height, width = latents.shape
        restored = np.empty((planes, channels, height - 2 * reach, width - 2 * reach), np.float32)
        jobs = [
            (group, top, left)
            for group in plane_groups(planes, min(TILE_LATENTS, height) * min(TILE_LATENTS, width), TILE_LATENTS**2)
            for top in range(0, restored.shape[2], TILE_LATENTS)
            for left in range(0, restored.shape[3], TILE_LATENTS)
        ]

        def run(job: tuple[slice, int, int]) -> None:
            group, top, left = job
            place = restored[group, :, top : top + TILE_LATENTS, left : left + TILE_LATENTS]
            bottom, right = top + place.shape[2] + 2 * reach, left + place.shape[3] + 2 * reach
            place[...] = self._refine(latents[group, :, top:bottom, left:right], step_db)

        workers = min(len(jobs), torch.get_num_threads())
        if threading.current_thread() is threading.main_thread() and workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(run, jobs))
        else:  # somebody else's pool: the other cores have work of their own
            for job in jobs:
                run(job)
        return restored

    def _refine(self, tile: NDArray[np.float32], step_db: float) -> NDArray[np.float32]:
        """Tiles of one place through the network, whatever autocast or gradient mode the caller is in."""
        # autocast is off because the caller's choice must not change decoded pixels
        with _one_thread(), torch.inference_mode(), torch.autocast("cpu", enabled=False):
            tensor = torch.from_numpy(np.ascontiguousarray(tile)).to(memory_format=torch.channels_last)
            return self.network.refine(tensor, step_db).numpy()


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
