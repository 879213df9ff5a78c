"""Plans of latents stores: to meet a target, or like earlier latents to which the new ones will be appended."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import xarray as xr

from xsarcomp.codec.settings import Guarantees
from xsarcomp.codec.target import Target
from xsarcomp.errors import ConfigurationError, DimensionError, NotEncodedError
from xsarcomp.latents.decode import read_latents_metadata
from xsarcomp.latents.layout import CHUNK_PIXELS, METADATA_BYTES
from xsarcomp.latents.metadata import ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.plan import Plan, PlanOptions, make_plan
from xsarcomp.latents.plane_steps import describe_differences
from xsarcomp.scenes.grids import describe_grid_difference
from xsarcomp.scenes.variables import spatial_dimensions


def plan_latents(
    dataset: xr.Dataset,
    names: Iterable[Hashable],
    request: Mapping[str, Any],
    *,
    like: xr.Dataset | None,
    model: str | None,
    scale: str,
    recompress: bool,
) -> Plan:
    """Plan the encoding of variables into a latents store: to meet a target, or like earlier latents.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : iterable of variable names
    request : mapping
        Arguments of :meth:`xsarcomp.codec.rate_control.Target.from_arguments`.
    like : xarray.Dataset or None
        Earlier latents; None to plan to a target.
    model, scale, recompress
        See :class:`xsarcomp.latents.plan.PlanOptions`.

    Returns
    -------
    Plan

    Raises
    ------
    RateError, ConfigurationError
        If a target or a model is given together with ``like``.
    """
    options = PlanOptions(
        model=model,
        scale=scale,
        recompress=recompress,
        chunk_pixels=CHUNK_PIXELS,
        metadata_bytes=METADATA_BYTES,
        measures_speckle=True,
        separate_parts=True,
    )
    if like is None:
        return make_plan(dataset, names, Target.from_arguments(**request), options)
    arguments = [name for name, value in request.items() if value is not None]
    if model is not None:
        arguments.append("model")
    if arguments:
        raise ConfigurationError(
            f"{', '.join(arguments)} and like= were given together: like= takes step, model and guarantees from earlier latents. "
            "Leave one of them out"
        )
    if not isinstance(like, xr.Dataset):
        raise ConfigurationError(
            f"like is of type {type(like).__name__}, expected a dataset of latents: open the store first, "
            "like=xr.open_zarr(store). To append dates, scene.sarcomp.append(store) does all at once"
        )
    return plan_like(dataset, names, like, options)


def plan_like(dataset: xr.Dataset, names: Iterable[Hashable], like: xr.Dataset, options: PlanOptions) -> Plan:
    """Plan the encoding of variables exactly as they were encoded before, so that the latents can be joined.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : iterable of variable names
    like : xarray.Dataset
        Latents of variables of the same names.
    options : PlanOptions
        Its model is replaced by the model of the earlier latents.

    Returns
    -------
    Plan
        Its estimate is for the first group of variables with equal settings.

    Raises
    ------
    ConfigurationError
        If data type, scale or nodata value differ from the earlier encoding.
    NotEncodedError
        If ``like`` has no latents of a variable.
    """
    earlier = _earlier_metadata(names, like)
    check_backscatter_like(dataset, like, earlier)
    groups: dict[tuple[str, float, Guarantees], list[Hashable]] = {}
    for name, metadata in earlier.items():
        settings = metadata.settings
        groups.setdefault((metadata.model_id, settings.step_db, settings.guarantees), []).append(name)
    plans = []
    for (model, step_db, guarantees), together in groups.items():
        target = Target(
            quantity="step_db",
            value=step_db,
            request=earlier[together[0]].target,
            max_error_db=guarantees.max_error_db,
            keep_means=guarantees.keep_means,
        )
        like_settings = {name: earlier[name].settings for name in together}
        plans.append(make_plan(dataset, together, target, replace(options, model=model, earlier=like_settings)))
        for name in together:
            if unlike := describe_differences(plans[-1].variables[name], earlier[name]):
                raise ConfigurationError(
                    f"{name!r} cannot be encoded like the store, it has {' and '.join(unlike)}: convert it first, or write it to "
                    "a new store"
                )
    variables = {name: metadata for plan in plans for name, metadata in plan.variables.items()}
    return Plan(variables=variables, estimate=plans[0].estimate)


def latents_of(dataset: xr.Dataset) -> dict[Hashable, LatentsMetadata]:
    """Metadata of the latents of a dataset, see :func:`read_latents_metadata`; none in one of backscatter."""
    holds_latents = any(ATTRIBUTE in variable.attrs for variable in dataset.variables.values())
    return read_latents_metadata(dataset) if holds_latents else {}


def check_backscatter_like(addition: xr.Dataset, earlier: xr.Dataset, names: Iterable[Hashable]) -> None:
    """Refuse backscatter that does not belong into a store, because its grid or unit is another.

    Parameters
    ----------
    addition : xarray.Dataset
    earlier : xarray.Dataset
        What the store holds, latents or backscatter.
    names : iterable of variable names

    Raises
    ------
    DimensionError
        If the grids differ.
    ConfigurationError
        If the units differ.
    """
    latents = {one.name: one for one in latents_of(earlier).values()}
    for name in map(str, names):
        _check_grid(addition, earlier, name, spatial_dimensions(addition[name]))
        _check_units(name, addition[name].attrs, latents[name].attributes if name in latents else earlier[name].attrs)


def check_latents_like(addition: xr.Dataset, earlier: xr.Dataset) -> None:
    """Refuse latents that do not belong into a store, because they were encoded for another.

    Parameters
    ----------
    addition, earlier : xarray.Dataset
        Latents.

    Raises
    ------
    DimensionError
        If the grids differ.
    ConfigurationError
        If units or settings differ.
    NotEncodedError
        If one of them has latents of a variable that the other has not.
    """
    new, old = ({one.name: one for one in read_latents_metadata(each).values()} for each in (addition, earlier))
    if new.keys() != old.keys():
        raise NotEncodedError(
            f"latents of {', '.join(map(str, new))} were given, the store holds {', '.join(map(str, old))}: encode the scene "
            "again with all of them"
        )
    for name, metadata in new.items():
        if unlike := describe_differences(metadata, old[name]):
            raise ConfigurationError(
                f"the latents of {name!r} have {' and '.join(unlike)}: encode the scene again, encode(like=store)"
            )
        _check_grid(addition, earlier, str(name), metadata.spatial)
        _check_units(str(name), metadata.attributes, old[name].attributes)


def _check_grid(addition: xr.Dataset, earlier: xr.Dataset, name: str, spatial: tuple[Hashable, Hashable]) -> None:
    """Refuse a variable on another grid."""
    if difference := describe_grid_difference(addition, earlier, spatial):
        raise DimensionError(
            f"{name!r} is not on the grid of the store, its {difference}: bring it there first, for instance with "
            "scene.rio.reproject_match, or write it to a new store"
        )


def _check_units(name: str, attributes: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """Refuse a variable in another unit."""
    units = [str(one.get("units", "")) for one in (attributes, earlier)]
    if all(units) and units[0] != units[1]:
        raise ConfigurationError(
            f"{name!r} has units {units[0]!r} and the store {units[1]!r}: convert it, or mend the attribute"
        )


def _earlier_metadata(names: Iterable[Hashable], like: xr.Dataset) -> dict[Hashable, LatentsMetadata]:
    """Metadata of variables in a dataset of earlier latents."""
    latents = {metadata.name: metadata for metadata in read_latents_metadata(like).values()}
    names = list(names)
    if missing := [str(name) for name in names if str(name) not in latents]:
        raise NotEncodedError(
            f"like= holds latents of {', '.join(map(str, latents))}, and none of {', '.join(missing)}: rename the variables, or "
            "leave them out"
        )
    if lacking := [str(name) for name in latents if name not in {*map(str, names)}]:
        raise NotEncodedError(
            f"like= holds latents of {', '.join(map(str, latents))}, and {', '.join(lacking)} is not among the variables to encode "
            f"({', '.join(map(str, names))}): a date would be without it. Add it, or leave its variables out of like="
        )
    return {name: latents[str(name)] for name in names}
