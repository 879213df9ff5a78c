"""Settings of an encoding: quantization step, scale, nodata and guarantees.

They are made once, in the plan of an encoding; from then on metadata of latents, samples and codecs hold them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from xsarcomp.codec.error_bound import residual_spacing_db


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """Properties of decoded backscatter that hold at every rate. True if there is at least one."""

    max_error_db: float | None = None
    """Bound on the error of each valid pixel in dB; None without a bound."""
    keep_means: bool = False
    """True to keep the mean power of each tile."""
    residual_spacing_db: float = 0.0
    """Spacing in dB of the residuals that keep the bound; 0 without a bound."""
    mean_levels: bool = False
    """True if means are kept by :mod:`xsarcomp.codec.mean_levels`, False if by :mod:`xsarcomp.codec.tile_means`."""

    @classmethod
    def from_request(
        cls,
        max_error_db: float | None,
        keep_means: bool,
        dtype: np.dtype,
        nodata: float | None = None,
        scale: str = "decibel",
    ) -> "Guarantees":
        """Make guarantees from the arguments of a user, with the spacing of residuals that they need.

        Parameters
        ----------
        max_error_db : float or None
            Bound on the error of each valid pixel in dB.
        keep_means : bool
            Whether to keep the mean power of each tile.
        dtype : dtype
            Data type of the backscatter: rounding to it takes a part of the bound.
        nodata : float, optional
            Declared fill value.
        scale : {"power", "amplitude", "decibel"}
            Scale of the backscatter.

        Returns
        -------
        Guarantees

        Raises
        ------
        RateError
            If the bound makes no sense, see :func:`xsarcomp.codec.error_bound.residual_spacing_db`.
        """
        spacing = 0.0
        if nodata is not None and nodata <= 0 and scale != "decibel":
            nodata = None  # no valid power or amplitude ever equals it
        if max_error_db is not None:
            spacing = residual_spacing_db(max_error_db, dtype, nodata, keep_means=bool(keep_means))
            max_error_db = float(max_error_db)
        return cls(
            max_error_db=max_error_db,
            keep_means=bool(keep_means),
            residual_spacing_db=spacing,
            mean_levels=bool(keep_means)
            and not spacing,  # what moves pixels after a bound was checked must be known to the check
        )

    @property
    def request(self) -> dict[str, Any]:
        """Arguments of a user that ask for these guarantees, without those at their default."""
        arguments = {"max_error_db": self.max_error_db, "keep_means": self.keep_means or None}
        return {name: value for name, value in arguments.items() if value is not None}

    @property
    def need_decoding(self) -> bool:
        """Return whether the encoder must decode its symbols to keep the guarantees."""
        return bool(self) and not self.mean_levels

    def __bool__(self) -> bool:
        return self.max_error_db is not None or self.keep_means


NO_GUARANTEES = Guarantees()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Choices of an encoding, beside the data and the model."""

    step_db: float
    """Quantization step in dB."""
    scale: str
    """Scale of the backscatter: "power", "amplitude" or "decibel"."""
    nodata: float | None = None
    """Declared fill value of the data; None without one."""
    guarantees: Guarantees = NO_GUARANTEES
    """Properties that hold at every step."""
