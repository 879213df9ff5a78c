"""What is known about encoded, transparent and decoded variables, in words and numbers."""

from typing import Any

import numpy as np
import xarray as xr

from xsarcomp.latents.metadata import ATTRIBUTE, LOSS_ATTRIBUTE, LatentsMetadata
from xsarcomp.latents.plane_steps import STEP


def describe(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """What is known about encoded or decoded variables; see ``.sarcomp.info``."""
    described = {}
    for name, array in dataset.variables.items():
        if ATTRIBUTE in array.attrs:
            metadata = LatentsMetadata.from_attribute(array.attrs[ATTRIBUTE])
            left_out = ("attributes", "encoding", "name", "calm_variances_db2", "fingerprint")
            described[str(metadata.name)] = {"store": "latents"} | {
                key: value for key, value in metadata.to_dict().items() if key not in left_out
            }
            steps = _steps(dataset, metadata)
            if len(steps) > 1:
                described[str(metadata.name)]["steps_db"] = steps
        else:
            configuration = transparent_configuration(array)
            if configuration is not None:
                described[str(name)] = {"store": "transparent", **configuration}
            elif LOSS_ATTRIBUTE in array.attrs:
                described[str(name)] = {"store": "decoded", "loss": array.attrs[LOSS_ATTRIBUTE]}
    return described


def _steps(dataset: xr.Dataset, metadata: LatentsMetadata) -> list[float]:
    """Steps of the planes, each once, in the order in which they come; empty if no plane has one of its own."""
    coding = dataset.variables.get(metadata.part_names.get("coding"))
    return (
        [] if coding is None else list(dict.fromkeys(np.asarray(coding[..., STEP].values, np.float64).ravel().tolist()))
    )


def transparent_configuration(variable: xr.Variable) -> dict[str, Any] | None:
    """Configuration of the transparent codec that a variable was opened from; None without one."""
    codec = variable.encoding.get("serializer")
    for candidate in [codec, *(variable.encoding.get("compressors") or ())]:
        metadata = candidate if isinstance(candidate, dict) else None
        if hasattr(candidate, "to_dict"):
            metadata = candidate.to_dict()
        elif hasattr(candidate, "get_config"):
            settings = candidate.get_config()
            metadata = {"name": settings.pop("id"), "configuration": settings}
        if metadata and metadata.get("name") == "xsarcomp.backscatter":
            return dict(metadata["configuration"])
    return None
