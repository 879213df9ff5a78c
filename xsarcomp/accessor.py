"""The ``.sarcomp`` accessors of Dataset and DataArray: each method is one call into the rooms below."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import xarray as xr

from xsarcomp.accessor_base import Accessor
from xsarcomp.errors import ConfigurationError, DimensionError, NotEncodedError
from xsarcomp.scenes.choice import check_quantity


@xr.register_dataset_accessor("sarcomp")
class DatasetAccessor(Accessor):
    """Learned compression of the sigma0 or gamma0 backscatter in a dataset: ``dataset.sarcomp``."""

    def decode(self, *, restore: str | None = None, overview: int | None = None, quality: str = "best") -> xr.Dataset:
        """Decode latents of :meth:`encode` to sigma0 or gamma0 backscatter, lazily where the latents are lazy.

        Parameters
        ----------
        restore : {"speckle"}, optional
            Add synthetic speckle: random noise with the statistics of the speckle that compression removed. **It does not
            bring back the lost values**: number of looks, histogram and semivariogram come closer to those of the original,
            and the errors of single pixels grow.
        overview : {8, 16, 32, 64, 128, 256, 512}, optional
            Edge of a block in pixels: returns one value for each block, the mean in decibels of its valid and filled pixels.
            It needs only the lowest latents, and is many times as fast. Coordinates are the centers of the blocks.
        quality : {"best", "fast"}
            "fast" leaves the network of the model out: decoding takes about half of the time, and the error grows by 1 to 6 %.
            Kept means stay kept; variables with ``max_error_db`` refuse it. An overview needs no network anyway.

        Returns
        -------
        xarray.Dataset
            Backscatter with the dimensions, coordinates, attributes, data type, scale and invalid pixels of the original.
            The attribute ``sarcomp_lossy`` describes the loss.

        Raises
        ------
        NotEncodedError
            If there are no latents, or a part of them is missing.
        BitstreamError
            If a chunk is damaged; raised when the chunk is read.
        ModelNotFoundError
            If the model of the latents is not installed.
        ConfigurationError
            If ``restore`` or ``overview`` has another value, or both are given.
        """
        if overview is not None:
            from xsarcomp.latents.overview import check_factor, overview_dataset

            return overview_dataset(self._obj, check_factor(overview, restore=restore))
        from xsarcomp.latents.decode import decode_dataset

        return decode_dataset(self._obj, restore, quality)

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
        """Write a scene of any size: a store as of ``Dataset.to_zarr``, in memory that does not grow with the scene.

        A compressed scene of 4 Mpixel or more that takes over 2 % more, or 5 % fewer, bytes than were asked for is warned of.
        Accepts latents of :meth:`encode`, a scene with the ``encoding`` of a transparent store, and any other dataset, on every
        scheduler of Dask. Dask blocks that end inside a chunk or shard are joined with their neighbors. A compressed store gets a
        manifest. To append dates, call :meth:`append`; to write regions, xarray's ``to_zarr``.

        Parameters
        ----------
        store, group, encoding, zarr_format, consolidated, storage_options
            As for :meth:`xarray.Dataset.to_zarr`.
        mode : {"w-", "w"}, optional
            "w" replaces an existing store; "w-", the default, refuses to. A store from which the dataset will still be read is
            never replaced: load the dataset first.
        resume : bool
            Continue a partial store that was begun with the same dataset and arguments; begin one if there is none. Finished
            blocks are not computed again, except those of nothing but fill value, which no store holds.

        Raises
        ------
        ConfigurationError
            If the dataset will be read from the store, another process is writing it, the partial store is of another dataset or
            other arguments, an argument is wrong, or the store cannot list its objects.
        CorruptStreamError
            If a resumed store holds damaged chunks, or another process wrote into the store meanwhile.
        """
        from xsarcomp.stores.writing import write_dataset

        report = write_dataset(
            self._obj,
            store,
            mode=mode,
            group=group,
            encoding=encoding,
            zarr_format=zarr_format,
            consolidated=consolidated,
            storage_options=storage_options,
            resume=resume,
        )
        from xsarcomp.stores.report import warn_after_writing

        sizes = None if resume else report.sizes
        warn_after_writing(self._obj, store, encoding or {}, sizes=sizes, group=group, storage_options=storage_options)

    def append(
        self,
        store: Any,
        *,
        dim: str | None = None,
        group: str | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        """Append the next dates of a time series to a store, encoded as its first dates were.

        Model, quantization step, guarantees, codec and chunks are those of the store, latents or transparent. Grid, variables,
        scale, units and dates are compared before anything is written. After an error the store is as it was; after a kill, the
        next call makes it so. The manifest is kept up to date. One process may append at a time.

        Parameters
        ----------
        store, group, storage_options
            As for :meth:`to_zarr`; the store exists.
        dim : str, optional
            Dimension that grows: "time" if the store has it, or the only one beside those of a scene. A dataset without it
            needs it as a scalar coordinate.

        Raises
        ------
        DimensionError
            If the grid is another, a coordinate is missing, or chunks of the store hold several dates with loss.
        ConfigurationError
            If scale, units or data type differ, a date is in the store already, or the store cannot express it.
        NotEncodedError
            If a variable of the store is missing, or one is not in the store.

        Examples
        --------
        ``later.sarcomp.append("series.zarr")``, where ``later`` is one scene with a coordinate ``time``, or several.
        """
        from xsarcomp.stores.appending import append_dataset

        append_dataset(self._obj, store, dim=dim, group=group, storage_options=storage_options)


UNNAMED = "backscatter"
"""Name of an array without a name in a latents store."""


@xr.register_dataarray_accessor("sarcomp")
class DataArrayAccessor(Accessor):
    """Learned compression of one array of sigma0 or gamma0 backscatter: ``array.sarcomp``."""

    def _dataset(self) -> xr.Dataset:
        name = UNNAMED if self._obj.name is None else self._obj.name
        if name in self._obj.coords:
            raise DimensionError(
                f"the array has the name of its coordinate {name!r}, and variables of a store have different names: "
                "array.rename('vv')"
            )
        return self._obj.to_dataset(name=name)

    def _named_dataset(self) -> xr.Dataset:
        """The array as a dataset, for what goes by the name that the user knows."""
        if self._obj.name is None:
            raise DimensionError("the array has no name, and to_zarr needs one for the variable: array.rename('vv')")
        return self._dataset()

    def _choose(self, variables: Iterable[Hashable] | None, scale: str) -> list[Hashable]:
        if variables is not None:
            raise ConfigurationError(
                f"variables={variables!r} chooses among the variables of a Dataset, and this is one array. Leave it out"
            )
        if scale == "auto":
            check_quantity(self._obj)
        return [UNNAMED if self._obj.name is None else self._obj.name]

    def encoding(self, **request: Any) -> dict[Hashable, dict[str, Any]]:
        """Encoding for ``to_zarr`` that makes a transparent store, see :meth:`DatasetAccessor.encoding`.

        Raises
        ------
        DimensionError
            If the array has no name: ``to_zarr`` finds the encoding by the name of the variable.
        SarcompError
            As for a Dataset.
        """
        self._named_dataset()
        return super().encoding(**request)

    def to_zarr(self, store: Any, **options: Any) -> None:
        """Write an array of any size: the same store as ``DataArray.to_zarr``, see :meth:`DatasetAccessor.to_zarr`.

        Without the ``encoding`` of a transparent store it is not compressed. For a latents store: ``array.sarcomp.encode()``,
        which is a Dataset.

        Parameters
        ----------
        store, **options
            As for :meth:`DatasetAccessor.to_zarr`.

        Raises
        ------
        DimensionError
            If the array has no name, or that of a coordinate.
        SarcompError
            As for a Dataset.
        """
        self._named_dataset().sarcomp.to_zarr(store, **options)

    def decode(self, *, restore: str | None = None, overview: int | None = None, quality: str = "best") -> xr.DataArray:
        """Refuse, with advice: latents are a Dataset, so that the mask stays with them.

        Raises
        ------
        NotEncodedError
            Always.
        """
        raise NotEncodedError(
            "decode() works on the Dataset that encode() returned, of which this array is a part: dataset.sarcomp.decode()"
        )
