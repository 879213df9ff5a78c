"""Plans of latents stores: to meet a target, or like earlier latents to which the new ones will be appended."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import xarray as xr

from xsarcomp.codec.settings import Guarantees
from xsarcomp.codec.target import Target
from xsarcomp.errors import ConfigurationError, NotEncodedError
from xsarcomp.latents.decode import read_latents_metadata
from xsarcomp.latents.layout import CHUNK_PIXELS, METADATA_BYTES
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plan import Plan, PlanOptions, make_plan
from xsarcomp.latents.plane_steps import describe_differences


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
    arguments = [name for name, value in request.items() if value not in (None, False)]
    if model is not None:
        arguments.append("model")
    if arguments:
        raise ConfigurationError(
            f"{', '.join(arguments)} and like= were given together: like= takes step, model and guarantees from earlier latents. "
            "Leave one of them out"
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
        plans.append(make_plan(dataset, together, target, replace(options, model=model)))
        for name in together:
            if unlike := describe_differences(plans[-1].variables[name], earlier[name]):
                raise ConfigurationError(
                    f"{name!r} cannot be encoded like the store, it has {' and '.join(unlike)}: convert it first, or write it to "
                    "a new store"
                )
    variables = {name: metadata for plan in plans for name, metadata in plan.variables.items()}
    return Plan(variables=variables, estimate=plans[0].estimate)


def _earlier_metadata(names: Iterable[Hashable], like: xr.Dataset) -> dict[Hashable, LatentsMetadata]:
    """Metadata of variables in a dataset of earlier latents."""
    latents = {metadata.name: metadata for metadata in read_latents_metadata(like).values()}
    if missing := [str(name) for name in names if str(name) not in latents]:
        raise NotEncodedError(
            f"like= holds latents of {', '.join(map(str, latents))}, and none of {', '.join(missing)}: rename the variables, or "
            "leave them out"
        )
    return {name: latents[str(name)] for name in names}
