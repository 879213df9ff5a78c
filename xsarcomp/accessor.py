"""The ``.sarcomp`` accessors of Dataset and DataArray: each method is one call into the rooms below."""

import inspect
import logging
import warnings
from collections.abc import Hashable, Iterable, Mapping
from os import PathLike
from typing import Any

import xarray as xr

from xsarcomp.codec.target import Target
from xsarcomp.errors import ConfigurationError, DimensionError, NotEncodedError, caller_stacklevel
from xsarcomp.scenes.choice import check_quantity, choose_variables

_LOGGER = logging.getLogger("xsarcomp")
_TARGET_ARGUMENTS = tuple(inspect.signature(Target.from_arguments).parameters)


def _target_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Rate, error and guarantees among the arguments of a method, for :meth:`Target.from_arguments`."""
    return {name: arguments[name] for name in _TARGET_ARGUMENTS}


class Accessor:
    """Methods for Sentinel-1 backscatter that Dataset and DataArray have in common.

    Backscatter is calibrated sigma0 or gamma0 (beta0 is coded as well) in power, amplitude or decibels, with dimensions
    (..., y, x) of any names; polarizations are variables or a dimension.
    """

    def __init__(self, obj: Any):
        self._obj = obj

    def _dataset(self) -> xr.Dataset:
        """The dataset to encode."""
        return self._obj

    def _choose(self, variables: Iterable[Hashable] | None, scale: str) -> list[Hashable]:
        """Names of the variables to encode: those of the caller, or those that say that they are backscatter."""
        choice = choose_variables(self._obj, variables)
        _LOGGER.info(choice.text)
        if choice.doubtful:
            names = ", ".join(map(str, choice.doubtful))
            warnings.warn(
                f"kept exactly, because nothing says if it is backscatter: {names}. Say which variables to compress: "
                f"variables={[*map(str, choice.names)]!r}",
                stacklevel=caller_stacklevel(),
            )
        return choice.names

    def encode(
        self,
        *,
        bits_per_pixel: float | None = None,
        ratio: float | None = None,
        rmse_db: float | None = None,
        preset: str | None = None,
        max_error_db: float | None = None,
        keep_means: bool | None = None,
        model: str | None = None,
        scale: str = "auto",
        recompress: bool = False,
        variables: Iterable[Hashable] | None = None,
        like: xr.Dataset | None = None,
    ) -> xr.Dataset:
        """Encode sigma0 or gamma0 backscatter to latents: lazily on Dask arrays, immediately on NumPy arrays.

        Give at most one of the first four arguments; without them and without ``max_error_db``, the preset "analysis" applies.
        The quantization step that meets the target is searched on a sample of the values, which is read immediately even where
        the rest stays lazy.

        Parameters
        ----------
        bits_per_pixel : float, optional
            Coded bits over pixels times polarizations.
        ratio : float, optional
            Size in float32 over coded size.
        rmse_db : float, optional
            Root mean square error over valid pixels, dB.
        preset : {"archive", "analysis", "browse", "8x", "16x", "32x"}, optional
            "archive", "analysis" and "browse" are 2, 1 and 0.25 bits per pixel. "8x", "16x" and "32x" are stores with 8, 16 and
            32 times fewer bytes than float32, metadata included.
        max_error_db : float, optional
            Guarantee: bound on the error of each valid pixel, dB, at least 0.02. Without a rate or an error, the lowest rate
            that keeps the bound is taken; if a given rate is too low for it, the error message says which rate suffices.
        keep_means : bool, optional
            Guarantee of radiometry: the mean power of each tile of 64 x 64 pixels, and so of the scene, is kept within 0.02 dB
            in float32 and float64 (rounding to integers of a few units moves it further). True unless ``max_error_db`` is
            given; with it, True halves the error that is left for rounding, which costs up to a bit per pixel. False saves
            0.001 bits per pixel.
        model : str, optional
            Name or id of an installed model.
        scale : {"auto", "power", "amplitude", "decibel"}
            Scale of the values; "auto" infers it and records the reason.
        recompress : bool
            Accept data that was compressed with loss before.
        variables : iterable of variable names, optional
            Variables of a Dataset to compress; all others are kept exactly. Without it, those are compressed that say by name
            or attributes that they are backscatter, and if none does, an error lists them. The logger "xsarcomp" says at level
            INFO what was compressed, what was kept, and why. A DataArray is a choice itself: one that says that it is
            something else is refused, unless ``scale`` is given.
        like : xarray.Dataset, optional
            Latents of an opened store to which the result will be appended, for instance the next acquisitions of a time
            series. The result has the model, quantization step and guarantees of this store, so no target may be given.
            Without ``like``, each call searches its own step; appended planes then keep different steps.

        Returns
        -------
        xarray.Dataset
            Latents, mask and all other variables and coordinates. :meth:`to_zarr` writes it entropy coded.

        Raises
        ------
        RateError
            If the target is contradictory or cannot be met.
        RadiometryError
            If the values are no calibrated backscatter, or their scale cannot be inferred.
        DimensionError
            If no variable with backscatter is found, or bands of backscatter and others share a variable.
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
        ['vh_coding', 'vh_latents', 'vh_mask', 'vv_coding', 'vv_latents', 'vv_mask']
        """
        target = _target_arguments(locals())  # before any other local variable exists
        from xsarcomp.latents.append import plan_latents
        from xsarcomp.latents.encode import encode_dataset

        dataset = self._dataset()
        names = self._choose(variables, scale)
        plan = plan_latents(dataset, names, target, like=like, model=model, scale=scale, recompress=recompress)
        return encode_dataset(dataset, plan)

    def encoding(
        self,
        *,
        bits_per_pixel: float | None = None,
        ratio: float | None = None,
        rmse_db: float | None = None,
        preset: str | None = None,
        max_error_db: float | None = None,
        keep_means: bool | None = None,
        model: str | None = None,
        scale: str = "auto",
        recompress: bool = False,
        variables: Iterable[Hashable] | None = None,
        zarr_format: int = 3,
    ) -> dict[Hashable, dict[str, Any]]:
        """Encoding for ``to_zarr`` that makes a transparent store: any reader with xsarcomp installed sees sigma0 or gamma0.

        Each chunk is coded by itself. The chunks are those of the Dask array, or about 512 x 512 pixels, of one plane. In Zarr format 2,
        y and x must be the last dimensions.

        Parameters
        ----------
        bits_per_pixel, ratio, rmse_db, preset, max_error_db, keep_means, model, scale, recompress, variables
            As for :meth:`encode`.
        zarr_format : {3, 2}
            Zarr format of the store; pass the same to ``to_zarr``.

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
        target = Target.from_arguments(**_target_arguments(locals()))
        from xsarcomp.stores.transparent import plan_encoding

        return plan_encoding(
            self._dataset(),
            self._choose(variables, scale),
            target,
            model=model,
            scale=scale,
            recompress=recompress,
            zarr_format=zarr_format,
        )

    def compare(
        self, original: xr.Dataset | xr.DataArray, *, scale: str | None = None, html: str | PathLike[str] | None = None
    ) -> dict[str, Any]:
        """Measure this decoded backscatter against the original.

        Parameters
        ----------
        original : xarray.Dataset or xarray.DataArray
            Backscatter before compression, on the same grid.
        scale : {"power", "amplitude", "decibel"}, optional
            Scale of both; inferred if None.
        html : str or path-like, optional
            File for a report with pictures on one self-contained page; see :func:`xsarcomp.evaluation.report.page.write_report`.

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
            If the scale is unknown or cannot be inferred.
        ConfigurationError
            If the report cannot be written to the file.
        MissingDependencyError
            If a report needs Jinja or Matplotlib, and they are not installed.
        """
        if html is not None:
            from xsarcomp.evaluation.report.page import write_report

            return write_report(html, original, self._obj, scale=scale)
        from xsarcomp.evaluation.compare import compare

        return compare(original, self._obj, scale=scale)

    def info(self) -> dict[str, Any]:
        """Describe encoded or decoded variables: model, quantization step, target, scale, estimated rate.

        Returns
        -------
        dict
            Variable name to a dictionary of its settings.
        """
        from xsarcomp.latents.info import describe

        return describe(self._dataset())


@xr.register_dataset_accessor("sarcomp")
class DatasetAccessor(Accessor):
    """Learned compression of the sigma0 or gamma0 backscatter in a dataset: ``dataset.sarcomp``."""

    def decode(self, *, restore: str | None = None, overview: int | None = None) -> xr.Dataset:
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
        """Write a scene of any size: the same store as ``Dataset.to_zarr``, in memory that does not grow with the scene.

        A compressed scene of 4 Mpixel or more that takes over 2 % more, or 5 % fewer, bytes than were asked for is warned of.
        Accepts latents of :meth:`encode`, a scene with the ``encoding`` of a transparent store, and any other dataset, on every
        scheduler of Dask. A compressed store gets a manifest. To append or to write regions, call xarray's ``to_zarr``.

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
        DimensionError
            If Dask blocks end inside a chunk or shard of the store.
        CorruptStreamError
            If a resumed store holds damaged chunks, or another process wrote into the store meanwhile.
        """
        from xsarcomp.stores.writing import write_dataset

        write_dataset(
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
        if sum(array.size for array in self._obj.values()) >= 2**22:
            from xsarcomp.stores.report import warn_after_writing

            warn_after_writing(store, getattr(encoding, "target", None), group=group, storage_options=storage_options)

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
        return self._obj.to_dataset(name=UNNAMED if self._obj.name is None else self._obj.name)

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
        if self._obj.name is None:
            raise DimensionError(
                "the array has no name, and to_zarr finds an encoding by the name of the variable: array.rename('vv')"
            )
        return super().encoding(**request)

    def decode(self, *, restore: str | None = None) -> xr.DataArray:
        """Refuse, with advice: latents are a Dataset, so that the mask stays with them.

        Raises
        ------
        NotEncodedError
            Always.
        """
        raise NotEncodedError(
            "decode() works on the Dataset that encode() returned, of which this array is a part: dataset.sarcomp.decode()"
        )
