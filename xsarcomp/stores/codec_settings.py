"""What the codecs for Zarr format 2 and 3 demand of their configuration, and say to damaged chunks."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from xsarcomp.codec.model_card import MODEL_ID_PATTERN
from xsarcomp.codec.settings import Guarantees, Settings
from xsarcomp.errors import BitstreamError, ConfigurationError
from xsarcomp.radiometry.scales import check_scale


def check_model_id(model: Any) -> None:
    """Refuse anything but a full model id in a codec's configuration."""
    if not isinstance(model, str) or not MODEL_ID_PATTERN.fullmatch(model):
        raise ConfigurationError(
            f"a codec names its model by 64 hexadecimal digits, got {str(model)[:80]!r}: use .sarcomp.encoding(model=...) or "
            "xsarcomp.codec.installed_models.resolve_model(name)"
        )


def settings_of(codec: Any, dtype: Any, nodata: float | None) -> Settings:
    """What an encoder is told, from a codec with the attributes of a configuration and the data type of its array."""
    guarantees = Guarantees.from_request(codec.max_error_db, codec.keep_means, dtype, nodata, codec.scale)
    return Settings(step_db=codec.step_db, scale=codec.scale, nodata=nodata, guarantees=guarantees)


def configuration_of(codec: Any) -> dict[str, Any]:
    """Configuration of a codec of backscatter as metadata holds it: guarantees stand there only where they were made."""
    promised = Guarantees(max_error_db=codec.max_error_db, keep_means=codec.keep_means).request
    return {name: getattr(codec, name) for name in ("model", "step_db", "scale", "nodata")} | promised


def check_guarantees(max_error_db: Any, keep_means: Any) -> None:
    """Refuse guarantees in a codec's configuration that nobody can keep."""
    if not isinstance(keep_means, bool):
        raise ConfigurationError(f"keep_means is {keep_means!r}, expected true or false")
    Guarantees.from_request(max_error_db, keep_means, np.dtype(np.float32))


def check_settings(step_db: Any, scale: Any, nodata: Any) -> None:
    """Refuse wrong types and values in a codec's configuration."""
    if isinstance(step_db, bool) or not isinstance(step_db, int | float) or not math.isfinite(step_db) or step_db <= 0:
        raise ConfigurationError(f"step_db is {step_db!r}, expected a positive number of decibels")
    if nodata is not None and (
        isinstance(nodata, bool) or not isinstance(nodata, int | float) or not math.isfinite(nodata)
    ):
        raise ConfigurationError(f"nodata is {nodata!r}, expected a finite number or None (NaN needs no declaration)")
    check_scale(scale)


@contextlib.contextmanager
def with_advice() -> Iterator[None]:
    """Add to errors about damaged chunks how to find them: Zarr does not tell a codec which chunk of which array it is."""
    try:
        yield
    except BitstreamError as error:
        error.add_note("xsarcomp verify STORE names each chunk of a store that is wrong")
        raise
