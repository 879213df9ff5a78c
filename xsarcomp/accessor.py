"""What the ``.sarcomp`` accessors of DataArray and Dataset share: each method is one call into the floors below."""

from collections.abc import Hashable, Mapping
from os import PathLike
from typing import Any

import xarray as xr

from xsarcomp.codec.rate_control import Target
from xsarcomp.errors import DimensionError
from xsarcomp.scenes.variables import backscatter_names


class Accessor:
    """What both accessors can; ``_obj`` is the DataArray or Dataset."""

    def __init__(self, obj: Any):
        self._obj = obj

    def _dataset(self) -> xr.Dataset:
        return self._obj

    def _names(self) -> list:
        return backscatter_names(self._obj)

    def encode(
        self,
        *,
        bits_per_pixel: float | None = None,
        ratio: float | None = None,
        rmse_db: float | None = None,
        preset: str | None = None,
        max_error_db: float | None = None,
        keep_means: bool = False,
        model: str | None = None,
        scale: str = "auto",
        recompress: bool = False,
        like: xr.Dataset | None = None,
    ) -> xr.Dataset:
        """Encode backscatter to latents, lazily on Dask arrays and at once on NumPy arrays.

        At most one of the first four arguments; the preset "analysis" if neither they nor a bound are given. The step that
        meets the target is found on a sample of the values, which is read at once also where the rest stays lazy.

        Parameters
        ----------
        bits_per_pixel : float, optional
            Coded bits over all pixels and polarizations.
        ratio : float, optional
            Size in float32 over coded size.
        rmse_db : float, optional
            Root mean square error over valid pixels, dB.
        preset : {"archive", "analysis", "browse", "8x", "16x", "32x"}, optional
            2, 1 or 0.25 bits per pixel, or a store of so many times fewer bytes than float32, metadata and all.
        max_error_db : float, optional
            No valid pixel is off by more than this, dB, 0.02 or more. Alone it takes the lowest rate that keeps it; with a rate
            that is too low for it, an error says which one would do.
        keep_means : bool
            Keep the mean power of each tile of 64 x 64 pixels within 0.02 dB in float32 and float64 (rounding to integers of
            a few units moves it further). Like a bound, it costs a second pass: what was coded is decoded, and compared.
        model : str, optional
            Name or id of an installed model.
        scale : {"auto", "power", "amplitude", "decibel"}
            Scale of the values; "auto" finds it out and records why.
        recompress : bool
            Accept data that was compressed with loss before.
        like : xarray.Dataset, optional
            Latents of an opened store that the result will be appended to: takes their model, step and guarantees instead of
            a target. Without it, each call finds a step of its own; joined planes keep theirs.

        Returns
        -------
        xarray.Dataset
            Latents, mask and all other variables and coordinates. :meth:`to_zarr` writes it entropy coded.

        Raises
        ------
        RateError
            If the target is contradictory or out of reach.
        RadiometryError
            If the values are no calibrated backscatter, or their scale is in doubt.
        DimensionError
            If no variable with backscatter is found.
        AlreadyLossyError
            If the values were compressed with loss before.
        ModelError
            If the model is missing or damaged.
        ConfigurationError
            If the variables cannot be encoded like those of ``like``.

        Examples
        --------
        >>> import xarray as xr, xsarcomp
        >>> from xsarcomp.scenes.simulation import simulated_dataset
        >>> encoded = simulated_dataset((64, 64), seed=1).sarcomp.encode(bits_per_pixel=1)
        >>> sorted(encoded.data_vars)
        ['vh_latents', 'vh_mask', 'vv_latents', 'vv_mask']
        """
        from xsarcomp.latents.append import plan_latents
        from xsarcomp.latents.encode import encode_dataset

        request = {
            "bits_per_pixel": bits_per_pixel,
            "ratio": ratio,
            "rmse_db": rmse_db,
            "preset": preset,
            "max_error_db": max_error_db,
            "keep_means": keep_means,
        }
        dataset = self._dataset()
        plan = plan_latents(dataset, self._names(), request, like=like, model=model, scale=scale, recompress=recompress)
        return encode_dataset(dataset, plan)

    def encoding(
        self,
        *,
        bits_per_pixel: float | None = None,
        ratio: float | None = None,
        rmse_db: float | None = None,
        preset: str | None = None,
        max_error_db: float | None = None,
        keep_means: bool = False,
        model: str | None = None,
        scale: str = "auto",
        recompress: bool = False,
        zarr_format: int = 3,
    ) -> dict:
        """Encoding for ``to_zarr`` that makes a transparent store: any reader with xsarcomp installed sees backscatter.

        Each chunk stands alone. The chunks are those of the Dask array, or 512 x 512 pixels.

        Parameters
        ----------
        bits_per_pixel, ratio, rmse_db, preset, max_error_db, keep_means, model, scale, recompress
            As for :meth:`encode`.
        zarr_format : {3, 2}
            Format of the store that will be written; pass the same to ``to_zarr``.

        Returns
        -------
        dict
            Variable name to its encoding.

        Raises
        ------
        SarcompError
            As :meth:`encode` does.

        Examples
        --------
        ``scene.to_zarr("plain.zarr", encoding=scene.sarcomp.encoding(bits_per_pixel=1.0))``
        """
        from xsarcomp.stores.transparent import plan_encoding

        target = Target.from_arguments(
            bits_per_pixel=bits_per_pixel,
            ratio=ratio,
            rmse_db=rmse_db,
            preset=preset,
            max_error_db=max_error_db,
            keep_means=keep_means,
        )
        return plan_encoding(
            self._dataset(),
            self._names(),
            target,
            model=model,
            scale=scale,
            recompress=recompress,
            zarr_format=zarr_format,
        )

    def compare(
        self, original: xr.Dataset | xr.DataArray, *, scale: str | None = None, html: str | PathLike | None = None
    ) -> dict[str, Any]:
        """Measure this (restored) backscatter against the original.

        Parameters
        ----------
        original : xarray.Dataset or xarray.DataArray
            On the same grid.
        scale : {"power", "amplitude", "decibel"}, optional
            Scale of both; found out if None.
        html : str or path-like, optional
            File for a report with pictures, one self-contained page; see :func:`xsarcomp.evaluation.report.page.write_report`.

        Returns
        -------
        dict
            ``rmse_db``, ``bias_db``, ``max_error_db``, ``enl_ratio``, ``edge_preservation``, ``valid_pixels`` and more, see
            :func:`xsarcomp.evaluation.compare.compare`.

        Raises
        ------
        DimensionError
            If variables, dimensions, sizes or coordinates do not match.
        RadiometryError
            If the scale is unknown or cannot be found out.
        ConfigurationError
            If the report cannot be written there.
        MissingDependencyError
            If a report is asked for without Jinja or Matplotlib.
        """
        if html is not None:
            from xsarcomp.evaluation.report.page import write_report

            return write_report(html, original, self._obj, scale=scale)
        from xsarcomp.evaluation.compare import compare

        return compare(original, self._obj, scale=scale)

    def info(self) -> dict[str, Any]:
        """What is known about encoded or decoded variables: model, step, target, scale, estimated rate.

        Returns
        -------
        dict
            Variable name to a dict.
        """
        from xsarcomp.latents.info import describe

        return describe(self._dataset())


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
            filled pixels, from the lowest latents alone and many times as fast. Coordinates are the centers of the blocks.

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
            from xsarcomp.latents.overview import check_factor, overview_dataset

            return overview_dataset(self._obj, check_factor(overview, restore=restore))
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


UNNAMED = "backscatter"  # name in a latents store of an array without one


@xr.register_dataarray_accessor("sarcomp")
class DataArrayAccessor(Accessor):
    """``array.sarcomp``: learned compression of one array of backscatter."""

    def _dataset(self) -> xr.Dataset:
        return self._obj.to_dataset(name=UNNAMED if self._obj.name is None else self._obj.name)

    def _names(self) -> list:
        return [UNNAMED if self._obj.name is None else self._obj.name]

    def encoding(self, **request: Any) -> dict:
        """As for a Dataset; the array needs a name, because ``to_zarr`` finds the encoding by it."""
        if self._obj.name is None:
            raise DimensionError("the array has no name, by which to_zarr would find its encoding: array.rename('vv')")
        return super().encoding(**request)

    def decode(self, *, restore: str | None = None) -> xr.DataArray:
        """Refused with advice: latents are a Dataset, so that the mask stays with them.

        Raises
        ------
        NotEncodedError
            Always.
        """
        from xsarcomp.errors import NotEncodedError

        raise NotEncodedError(
            "decode() works on the Dataset that encode() returned, of which this array is a part: dataset.sarcomp.decode()"
        )
