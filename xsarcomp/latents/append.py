"""Latents that are to be joined with earlier ones: encoded with their step, their model and their guarantees."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import xarray as xr

from xsarcomp.codec.rate_control import Target
from xsarcomp.errors import ConfigurationError, NotEncodedError
from xsarcomp.latents.decode import encoded_names
from xsarcomp.latents.encode import CHUNK_PIXELS, METADATA_BYTES
from xsarcomp.latents.metadata import LatentsMetadata
from xsarcomp.latents.plan import Plan, make_plan
from xsarcomp.latents.plane_steps import differences


def plan_latents(
    dataset: xr.Dataset, names: list[Hashable], request: Mapping[str, Any], *, like: xr.Dataset | None, **options: Any
) -> Plan:
    """Plan the encoding of variables into a latents store: to a target, or like earlier latents.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : list of variable names
    request : mapping
        Arguments of :meth:`xsarcomp.codec.rate_control.Target.from_arguments`.
    like : xarray.Dataset or None
        Earlier latents.
    **options
        ``model``, ``scale`` and ``recompress`` of :func:`xsarcomp.latents.plan.make_plan`.

    Raises
    ------
    RateError, ConfigurationError
        If there is a target, or a model, beside earlier latents.
    """
    options |= {"chunk_pixels": CHUNK_PIXELS, "metadata_bytes": METADATA_BYTES, "notes_speckle": True}
    if like is None:
        return make_plan(dataset, names, Target.from_arguments(**request), **options)
    asked = [name for name, value in request.items() if value not in (None, False)]
    if options.pop("model") is not None:
        asked.append("model")
    if asked:
        raise ConfigurationError(
            f"{', '.join(asked)} and like= were given together: like= takes step, model and guarantees from earlier latents. Leave "
            "one of them out"
        )
    return plan_like(dataset, names, like, **options)


def plan_like(dataset: xr.Dataset, names: Iterable[Hashable], like: xr.Dataset, **options: Any) -> Plan:
    """Plan the encoding of variables exactly as they were encoded before, so that the latents can be joined.

    Parameters
    ----------
    dataset : xarray.Dataset
    names : iterable of variable names
    like : xarray.Dataset
        Latents of variables of the same names.
    **options
        As of :func:`xsarcomp.latents.plan.make_plan`.

    Returns
    -------
    Plan
        Its estimate is that of the first variables.

    Raises
    ------
    ConfigurationError
        If data type, scale or nodata value are not those of the earlier encoding.
    NotEncodedError
        If there are no latents of a variable.
    """
    earlier = _earlier_records(names, like)
    groups: dict[tuple, list[Hashable]] = {}
    for name, record in earlier.items():
        groups.setdefault((record.model_id, record.step_db, record.max_error_db, record.keep_means), []).append(name)
    plans = []
    for (model, step_db, bound, keep_means), together in groups.items():
        target = Target(
            quantity="step_db",
            value=step_db,
            asked=earlier[together[0]].target,
            max_error_db=bound,
            keep_means=keep_means,
        )
        plans.append(make_plan(dataset, together, target, model=model, **options))
        for name in together:
            if found := differences(plans[-1].records[name], earlier[name]):
                raise ConfigurationError(
                    f"{name!r} cannot be encoded like the store, it has {' and '.join(found)}: convert it first, or write a "
                    "store of its own"
                )
    return Plan(
        records={name: record for plan in plans for name, record in plan.records.items()}, estimate=plans[0].estimate
    )


def _earlier_records(names: Iterable[Hashable], like: xr.Dataset) -> dict[Hashable, LatentsMetadata]:
    """LatentsMetadata of each variable in a dataset of latents."""
    found = {record.name: record for record in encoded_names(like).values()}
    if missing := [str(name) for name in names if str(name) not in found]:
        raise NotEncodedError(
            f"like= holds latents of {', '.join(map(str, found))}, and none of {', '.join(missing)}: rename the variables, or "
            "leave them out"
        )
    return {name: found[str(name)] for name in names}
