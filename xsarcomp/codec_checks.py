"""What the codecs for Zarr format 2 and 3 demand of their configuration."""

import math
from typing import Any

from xsarcomp.errors import ConfigurationError
from xsarcomp.model_card import MODEL_ID_PATTERN
from xsarcomp.scale_inference import check_scale


def check_model_id(model: Any) -> None:
    """Refuse anything but a full model id in a codec's configuration."""
    if not isinstance(model, str) or not MODEL_ID_PATTERN.fullmatch(model):
        raise ConfigurationError(
            f"a codec names its model by 64 hexadecimal digits, got {str(model)[:80]!r}: use .sarcomp.encoding(model=...) or "
            "xsarcomp.weights.resolve_model(name)"
        )


def check_settings(step_db: Any, scale: Any, nodata: Any) -> None:
    """Refuse wrong types and values in a codec's configuration."""
    if isinstance(step_db, bool) or not isinstance(step_db, int | float) or not math.isfinite(step_db) or step_db <= 0:
        raise ConfigurationError(f"step_db is {step_db!r}, expected a positive number of decibels")
    if nodata is not None and (
        isinstance(nodata, bool) or not isinstance(nodata, int | float) or not math.isfinite(nodata)
    ):
        raise ConfigurationError(f"nodata is {nodata!r}, expected a finite number or None (NaN needs no declaration)")
    check_scale(scale)
