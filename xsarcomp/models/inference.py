"""A trained network behind the NumPy interface of the coder."""

import contextlib
import threading
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

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
        for group in plane_groups(planes, min(TILE_LATENTS, height) * min(TILE_LATENTS, width), TILE_LATENTS**2):
            for top in range(0, restored.shape[2], TILE_LATENTS):
                for left in range(0, restored.shape[3], TILE_LATENTS):
                    bottom = min(top + TILE_LATENTS, restored.shape[2])
                    right = min(left + TILE_LATENTS, restored.shape[3])
                    tile = latents[group, :, top : bottom + 2 * reach, left : right + 2 * reach]
                    restored[group, :, top:bottom, left:right] = self._refine(tile, step_db)
        return restored

    def _refine(self, tile: NDArray[np.float32], step_db: float) -> NDArray[np.float32]:
        """Tiles of one place through the network, whatever autocast or gradient mode the caller is in."""
        # autocast is off because the caller's choice must not change decoded pixels
        with _threads(), torch.inference_mode(), torch.autocast("cpu", enabled=False):
            tensor = torch.from_numpy(np.ascontiguousarray(tile)).to(memory_format=torch.channels_last)
            return self.network.refine(tensor, step_db).numpy()


@contextlib.contextmanager
def _threads() -> Iterator[None]:
    """All threads of torch for the main thread, one for a thread of somebody's pool.

    Dask and Zarr call from as many threads as there are cores. If each call forked into as many again, they would wait
    for each other at every layer (20 times slower was seen). The number belongs to the calling thread, so nobody else
    notices.
    """
    if threading.current_thread() is threading.main_thread():
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
