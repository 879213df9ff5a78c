"""Methods that the ``.sarcomp`` accessors of Dataset and DataArray have in common: encode, compare, describe."""

import inspect
import logging
import warnings
from collections.abc import Hashable, Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import xarray as xr

from xsarcomp.codec.target import Target
from xsarcomp.errors import caller_stacklevel
from xsarcomp.scenes.choice import choose_variables
from xsarcomp.scenes.chunking import Sizes

if TYPE_CHECKING:
    from xsarcomp.evaluation.preview import Preview

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

    def __repr__(self) -> str:
        from xsarcomp.latents.summary import summary_of

        return summary_of(self._obj, self._dataset).text()

    def _repr_html_(self) -> str:
        from xsarcomp.latents.summary import summary_of

        return summary_of(self._obj, self._dataset).html()

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
        shards: Sizes | None = None,
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
        shards : int, mapping or sequence of int, optional
            Pixels of a stored object: one size for y and x, one by dimension, or one for each dimension. y and x in multiples of
            512, the chunks of every latents store, which cannot be chosen. Dask blocks become whole shards.

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
            If no variable with backscatter is found, bands of backscatter and others share a variable, or shards do not fit.
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
        return encode_dataset(dataset, plan, shards)

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
        chunks: Sizes | None = None,
        shards: Sizes | None = None,
    ) -> dict[Hashable, dict[str, Any]]:
        """Encoding for ``to_zarr`` that makes a transparent store: any reader with xsarcomp installed sees sigma0 or gamma0.

        Each chunk is coded by itself. The chunks are those of the Dask array, divided where they are large, or about 512 x 512 pixels, of
        one plane. :meth:`to_zarr` rechunks Dask blocks that do not fit; xarray's ``to_zarr`` refuses them. In Zarr format 2, y and x
        must be the last dimensions.

        Parameters
        ----------
        bits_per_pixel, ratio, rmse_db, preset, max_error_db, keep_means, model, scale, recompress, variables
            As for :meth:`encode`.
        zarr_format : {3, 2}
            Zarr format of the store; pass the same to ``to_zarr``.
        chunks : int, mapping or sequence of int, optional
            Sizes of chunks: one for y and x, one by dimension, or one for each dimension. Below 128 pixels, bits are wasted.
        shards : int, mapping or sequence of int, optional
            Sizes of stored objects, multiples of the chunks: several chunks share an object. Format 3 only.

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
            chunks=chunks,
            shards=shards,
        )

    def preview(
        self,
        rates: Iterable[float] = (0.25, 0.5, 1.0, 2.0),
        *,
        crop: Mapping[Hashable, slice] | int = 256,
        variables: Iterable[Hashable] | None = None,
        scale: str = "auto",
        model: str | None = None,
        recompress: bool = False,
    ) -> "Preview":
        """Show what several rates take and lose, with pictures: choose one by looking.

        A sample is encoded and decoded: the whole of a plane of up to a million pixels, else some areas of 512 x 512 pixels, of
        which only those are read. It says how much of the scene it measured. Of dates, the first is taken: choose another with
        ``isel`` before.

        Parameters
        ----------
        rates : iterable of float
            Bits per pixel.
        crop : int or mapping of dimension name to slice
            Side of the crop to show, which is put where the sample has most structure; or its pixels along y and x, up to 512.
        variables, scale, model, recompress
            As for :meth:`encode`.

        Returns
        -------
        Preview
            ``table``, ``original`` and ``crops`` are Datasets; notebooks show pictures, and ``save("preview.html")`` writes them.

        Raises
        ------
        SarcompError
            As :meth:`encode` does.
        DimensionError
            If the variables have different grids, or no pixel.
        ConfigurationError
            If there is no such crop.

        Examples
        --------
        ``scene.sarcomp.preview([0.5, 1, 2], crop={"y": slice(0, 300), "x": slice(500, 800)})``
        """
        from xsarcomp.evaluation.preview import make_preview

        names = self._choose(variables, scale)
        return make_preview(self._dataset(), names, rates, crop=crop, scale=scale, model=model, recompress=recompress)

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
            ``bias_db``, ``enl_ratio``, ``edge_preservation``, ``rmse_db``, ``max_error_db``, ``valid_pixels`` and more, those with
            goals first, see :func:`xsarcomp.evaluation.compare.compare`. It shows itself as a table.

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
            Variable name to a dictionary of its settings. It shows itself as a table.
        """
        from xsarcomp.latents.info import describe

        return describe(self._dataset())
