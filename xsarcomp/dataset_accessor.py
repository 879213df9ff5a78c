"""The ``.sarcomp`` accessor of Dataset."""

from collections.abc import Hashable, Mapping
from typing import Any

import xarray as xr

from xsarcomp.accessor import Accessor


@xr.register_dataset_accessor("sarcomp")
class DatasetAccessor(Accessor):
    """``dataset.sarcomp``: learned compression of the backscatter in a dataset."""

    def decode(self, *, restore: str | None = None, overview: int | None = None) -> xr.Dataset:
        """Decode the latents that :meth:`encode` made, lazily where they are lazy.

        Parameters
        ----------
        restore : {"speckle"}, optional
            Add noise with the statistics of the speckle that was lost. **It is made up**: number of looks, histogram and
            semivariogram come near those of the original, and pixels get further from it.
        overview : {8, 16, 32, 64, 128, 256, 512}, optional
            Pixels of a block along each axis: gives one value for each block, the mean in decibels of its valid and
            filled pixels, from the lowest latents alone and many times as fast. Coordinates are the centres of the blocks.

        Returns
        -------
        xarray.Dataset
            Backscatter with the dimensions, coordinates, attributes, data type, scale and invalid pixels of the original.
            The attribute ``sarcomp_lossy`` says what was lost.

        Raises
        ------
        NotEncodedError
            If there are no latents, or a part of them is missing.
        BitstreamError
            If a chunk is damaged (when it is read).
        ModelNotFoundError
            If the model that encoded is not installed.
        ConfigurationError
            If ``restore`` is unknown, there is no such overview, or both are asked for.
        """
        if overview is not None:
            from xsarcomp.latents.overview import checked_factor, overview_dataset

            return overview_dataset(self._obj, checked_factor(overview, restore=restore))
        from xsarcomp.latents.decode import decode_dataset

        return decode_dataset(self._obj, restore)

    def to_zarr(
        self,
        store: Any,
        *,
        mode: str | None = None,
        group: str | None = None,
        encoding: Mapping[Hashable, Mapping[str, Any]] | None = None,
        zarr_format: int | None = None,
        consolidated: bool | None = None,
        storage_options: dict[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        """Write a whole scene of any size: the store of ``Dataset.to_zarr``, in memory that does not grow with the scene.

        Takes what :meth:`encode` made, a scene with the ``encoding`` of a transparent store, and any other dataset, on every
        scheduler of Dask. A store that is compressed gets its manifest. To append or to write regions call xarray's ``to_zarr``.

        Parameters
        ----------
        store, group, encoding, zarr_format, consolidated, storage_options
            As for :meth:`xarray.Dataset.to_zarr`.
        mode : {"w-", "w"}, optional
            "w" replaces what is there; "w-", the default, refuses to.
        resume : bool
            Go on with a store that was begun with the same dataset and arguments, and begin it if there is none. Finished
            blocks are not made again; chunks of fill value alone, which no store holds, are. Nobody else may write meanwhile.

        Raises
        ------
        ConfigurationError
            If the store that was begun is not the one that would be written, an argument is wrong, or the store cannot list
            what it holds.
        DimensionError
            If Dask blocks end inside a chunk or shard of the store.
        CorruptStreamError
            If a store that was resumed holds damaged chunks.
        """
        from xsarcomp.stores.writing import write_dataset

        form = {"zarr_format": zarr_format, "consolidated": consolidated, "storage_options": storage_options}
        write_dataset(self._obj, store, mode=mode, group=group, encoding=encoding, resume=resume, **form)
