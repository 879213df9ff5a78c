"""Choice of the variables that are compressed: those that are backscatter, or those that the caller names."""

import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import xarray as xr

from xsarcomp.errors import AlreadyLossyError, DimensionError, RadiometryError, caller_stacklevel
from xsarcomp.scenes.quantities import Judgment, Kind, is_sentinel_1, judge_quantity
from xsarcomp.scenes.variables import ATTRIBUTE, band_labels, has_spatial_dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Variables to compress, and those that are kept exactly."""

    names: list[Hashable]
    """Variables to compress, in the order of the dataset."""
    kept: Mapping[Hashable, str]
    """Why each other variable is kept exactly: part of a sentence about it."""
    doubtful: list[Hashable]
    """Variables among those kept that may be backscatter: nothing says what they are."""

    @property
    def text(self) -> str:
        """One line: what is compressed, what is kept, and why."""
        kept = ", ".join(f"{name} ({reason})" for name, reason in self.kept.items())
        return f"compressed: {', '.join(map(str, self.names))}; kept exactly: {kept or 'nothing else'}"


def choose_variables(dataset: xr.Dataset, variables: Iterable[Hashable] | None = None) -> Choice:
    """Choose the variables of a dataset that are compressed.

    Parameters
    ----------
    dataset : xarray.Dataset
    variables : iterable of variable names, optional
        Explicit choice. Without it, those are taken that say that they are backscatter: by name, units, ``long_name``,
        ``standard_name``, labels of bands, or the name of the product. What only may be backscatter is never taken.

    Returns
    -------
    Choice

    Raises
    ------
    AlreadyLossyError
        If the dataset holds latents.
    DimensionError
        If no variable says that it is backscatter, bands of backscatter and others share a variable, or a name is unknown.
    """
    if any(ATTRIBUTE in array.attrs for array in dataset.data_vars.values()):
        raise AlreadyLossyError("found a dataset of latents, expected backscatter: decode it with .sarcomp.decode()")
    if variables is not None:
        return _named_choice(dataset, variables)
    judged = {name: _judge(array) for name, array in dataset.data_vars.items()}
    unknown = [name for name, judgment in judged.items() if judgment.kind is Kind.UNKNOWN]
    names = [name for name, judgment in judged.items() if judgment.kind is Kind.BACKSCATTER]
    for name, judgment in judged.items():
        if judgment.kind is Kind.MIXED:
            raise DimensionError(_describe_mixture(name, judgment))
    if not names and len(unknown) == 1 and is_sentinel_1(dataset.attrs):
        names, unknown = unknown, []
    if not names:
        raise DimensionError(_describe_candidates(dataset, judged))
    return Choice(
        names=names,
        kept={name: judgment.reason for name, judgment in judged.items() if name not in names},
        doubtful=[name for name in unknown if dataset[name].dtype.kind in "fc"],
    )


def holds_backscatter(dataset: xr.Dataset, variables: Iterable[Hashable] | None = None) -> bool:
    """Check if a dataset, one of many, has anything to compress.

    Parameters
    ----------
    dataset : xarray.Dataset
    variables : iterable of variable names, optional
        Explicit choice; without it, :func:`choose_variables` chooses.

    Returns
    -------
    bool
        True also where ``choose_variables`` refuses what it finds for another reason than that there is nothing.
    """
    if variables is not None:
        return any(name in dataset.data_vars for name in variables)
    try:
        return bool(choose_variables(dataset).names)
    except AlreadyLossyError:
        return True
    except DimensionError:
        return any(_judge(array).kind is Kind.MIXED for array in dataset.data_vars.values())


def check_quantity(array: xr.DataArray) -> None:
    """Refuse an array that says clearly that it is no backscatter.

    Parameters
    ----------
    array : xarray.DataArray

    Raises
    ------
    RadiometryError
        If its name, attributes or bands name another quantity; the message says how to compress it nevertheless.
    """
    judgment = judge_quantity(array)
    if judgment.kind is Kind.MIXED:
        raise RadiometryError(_describe_mixture(array.name, judgment))
    if judgment.kind is Kind.OTHER:
        raise RadiometryError(
            f"array {array.name!r} is no backscatter: {judgment.reason}. Compression would lose most of it. If it is backscatter, "
            "rename it, or say its scale: scale='power', 'amplitude' or 'decibel'"
        )


def _judge(array: xr.DataArray) -> Judgment:
    """Judge a variable by its texts and its dimensions."""
    if not has_spatial_dimensions(array):
        return Judgment(
            Kind.OTHER, f"its dimensions are {_listed(array.dims)}" if array.dims else "it has no dimensions"
        )
    return judge_quantity(array)


def _named_choice(dataset: xr.Dataset, variables: Iterable[Hashable]) -> Choice:
    """Take the named variables, and warn of those that say that they are something else."""
    names = [variables] if isinstance(variables, str) else list(dict.fromkeys(variables))
    unknown = [name for name in names if name not in dataset.data_vars]
    if unknown or not names:
        raise DimensionError(
            f"found variables {_listed(dataset.data_vars) or 'none'}, expected those of variables={names!r}. Name at least one "
            "that the dataset has"
        )
    for name in names:
        judgment = _judge(dataset[name])
        if judgment.kind in (Kind.OTHER, Kind.MIXED):
            warnings.warn(
                f"{name!r} is compressed as backscatter, because variables= names it, although {judgment.reason}",
                stacklevel=caller_stacklevel(),
            )
    kept = {name: "not among variables=" for name in dataset.data_vars if name not in names}
    return Choice(names=[name for name in dataset.data_vars if name in names], kept=kept, doubtful=[])


def _describe_mixture(name: Hashable, judgment: Judgment) -> str:
    """Words for a variable with bands of several kinds."""
    return (
        f"variable {name!r}: {judgment.reason}. Make each band a variable, and the right ones are found: "
        "array.assign_coords(band=list(array.long_name)).to_dataset('band')"
    )


def _describe_candidates(dataset: xr.Dataset, judged: Mapping[Hashable, Judgment]) -> str:
    """Words for a dataset in which nothing says that it is backscatter."""
    if not judged:
        return "found no variable, expected variables of backscatter with dimensions y and x"
    candidates = [name for name, judgment in judged.items() if judgment.kind is Kind.UNKNOWN]
    listing = "; ".join(f"{_described(array)}: {judged[name].reason}" for name, array in dataset.data_vars.items())
    advice = f"name it: variables={[str(name) for name in candidates[:1]]}" if candidates else "rename it"
    return (
        f"no variable says that it is backscatter, by a name like vv or sigma0 or by its attributes. Found {listing}. "
        f"If one of them is backscatter, {advice}"
    )


def _described(array: xr.DataArray) -> str:
    """Name, dimensions, type and units of a variable."""
    units = array.attrs.get("units")
    return f"{array.name} ({_listed(array.dims)}; {array.dtype}; {'no units' if units is None else f'units {units!r}'})"


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(map(str, names))


def separate_bands(dataset: xr.Dataset, variables: Iterable[str] | None = None) -> xr.Dataset:
    """Make variables of the bands of a raster, where some of them are backscatter and others are not, or some are named.

    Parameters
    ----------
    dataset : xarray.Dataset
        As :func:`xsarcomp.scenes.rasters.open_raster` gives it.
    variables : iterable of str, optional
        Explicit choice: names of variables, or labels of bands.

    Returns
    -------
    xarray.Dataset
        The same dataset where nothing has to be separated.
    """
    wanted = set(() if variables is None else variables) - set(map(str, dataset.data_vars))
    for name, array in dataset.data_vars.items():
        found = band_labels(array)
        if found is None or len({*found[1]}) < len(found[1]):
            continue
        dimension, labels = found
        needed = wanted & {*labels} if variables is not None else judge_quantity(array).kind is Kind.MIXED
        others = [other for other in (*dataset.variables, *dataset.dims) if other not in (name, dimension)]
        if needed and not {*labels} & {*map(str, others)}:
            bands = {
                label: array.isel({dimension: position}, drop=True).assign_attrs(long_name=label)
                for position, label in enumerate(labels)
            }
            dataset = dataset.drop_vars([name]).assign(bands)
    return dataset
