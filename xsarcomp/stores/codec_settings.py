"""Settings of the backscatter codecs for Zarr formats 2 and 3: their checks, their JSON, and advice on damaged chunks."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xsarcomp.codec.model_card import MODEL_ID_PATTERN
from xsarcomp.codec.settings import Guarantees, Settings
from xsarcomp.errors import BitstreamError, ConfigurationError
from xsarcomp.radiometry.scales import check_scale


@dataclass(frozen=True)
class BackscatterSettings:
    """Settings that the codecs of backscatter for both Zarr formats have in common, checked.

    Parameters
    ----------
    model : str
        Id of the model, 64 hexadecimal digits.
    step_db : float
        Quantization step in dB, positive; ``.sarcomp.encoding`` finds it from a rate or an error.
    scale : {"power", "amplitude", "decibel"}
        Scale of the values.
    nodata : float, optional
        Declared fill value among the values, finite.
    max_error_db : float, optional
        Bound on the error of each valid pixel, dB.
    keep_means : bool
        Tile radiometry: whether the mean power of each tile of 64 x 64 pixels is kept.

    Raises
    ------
    ConfigurationError, RadiometryError, RateError
        If a parameter is wrong.
    """

    model: str
    step_db: float
    scale: str
    nodata: float | None = None
    max_error_db: float | None = None
    keep_means: bool = False

    def __post_init__(self) -> None:
        check_model_id(self.model)
        if not _is_finite_number(self.step_db) or self.step_db <= 0:
            raise ConfigurationError(f"step_db is {self.step_db!r}, expected a positive number of decibels")
        if self.nodata is not None and not _is_finite_number(self.nodata):
            raise ConfigurationError(
                f"nodata is {self.nodata!r}, expected a finite number or None (NaN needs no declaration)"
            )
        check_scale(self.scale)
        if not isinstance(self.keep_means, bool):
            raise ConfigurationError(f"keep_means is {self.keep_means!r}, expected true or false")
        Guarantees.from_request(self.max_error_db, self.keep_means, np.dtype(np.float32))  # refuses impossible bounds

    @property
    def configuration(self) -> dict[str, Any]:
        """Settings as the JSON of a store holds them; guarantees only where there are some."""
        guarantees = Guarantees(max_error_db=self.max_error_db, keep_means=self.keep_means)
        return {name: getattr(self, name) for name in ("model", "step_db", "scale", "nodata")} | guarantees.request

    def encoder_settings(self, dtype: np.dtype, nodata: float | None) -> Settings:
        """Settings of the encoder of one array.

        Parameters
        ----------
        dtype : numpy.dtype
            Data type of the array: its rounding takes a part of the bound on the error.
        nodata : float or None
            Fill value of the array, which may be another than that of the codec.

        Returns
        -------
        Settings

        Raises
        ------
        RateError
            If the bound is out of reach of the data type.
        """
        guarantees = Guarantees.from_request(self.max_error_db, self.keep_means, dtype, nodata, self.scale)
        return Settings(step_db=self.step_db, scale=self.scale, nodata=nodata, guarantees=guarantees)


def check_model_id(model: Any) -> None:
    """Refuse anything but a full model id in the configuration of a codec.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    if not isinstance(model, str) or not MODEL_ID_PATTERN.fullmatch(model):
        raise ConfigurationError(
            f"model is {str(model)[:80]!r}, expected 64 hexadecimal digits: use .sarcomp.encoding(model=...) or "
            "xsarcomp.codec.installed_models.resolve_model(name)"
        )


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@contextlib.contextmanager
def advice_on_damage() -> Iterator[None]:
    """Add to errors about damaged chunks how to find them: Zarr does not tell a codec which chunk of which array it decodes."""
    try:
        yield
    except BitstreamError as error:
        error.add_note("xsarcomp verify STORE names each chunk of a store that is wrong")
        raise
