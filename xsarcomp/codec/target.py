"""Request of a user: a rate or an error, and guarantees."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from xsarcomp.codec.settings import Guarantees
from xsarcomp.errors import RateError

PRESETS = {"archive": 2.0, "analysis": 1.0, "browse": 0.25, "8x": 4.0, "16x": 2.0, "32x": 1.0}
"""Bits per pixel of each preset, named after a use, or after the ratio of float32 to all bytes of a store."""
FLOAT32_BITS = 32
TOLERANCE = 0.01
"""Relative error of the rate or the error at which the search ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Request of a user: a rate or an error, and guarantees."""

    quantity: str
    """"bits_per_pixel" or "rmse_db"; "max_error_db" for the cheapest step that keeps a bound; "step_db" for a given step."""
    value: float
    """Value of the quantity, in its unit."""
    request: str
    """The arguments as text, for messages and metadata."""
    max_error_db: float | None = None
    """Bound on the error of each valid pixel in dB; None without a bound."""
    keep_means: bool = False
    """True to keep the mean power of each tile."""
    counts_metadata: bool = False
    """True if bytes of metadata and coordinates of a store count in the rate."""
    is_preset: bool = False
    """True for a preset, which is met as far as the data allow."""

    def guarantees(self, dtype: np.dtype, nodata: float | None, scale: str) -> Guarantees:
        """Make the guarantees for a variable; see :meth:`~xsarcomp.codec.settings.Guarantees.from_request`."""
        return Guarantees.from_request(self.max_error_db, self.keep_means, dtype, nodata, scale)

    @classmethod
    def from_arguments(
        cls,
        *,
        bits_per_pixel: float | None = None,
        ratio: float | None = None,
        rmse_db: float | None = None,
        preset: str | None = None,
        max_error_db: float | None = None,
        keep_means: bool | None = None,
    ) -> "Target":
        """Make a target from the arguments of ``encode``.

        Parameters
        ----------
        bits_per_pixel : float, optional
            Bits of coded data over pixels times polarizations.
        ratio : float, optional
            Size of the data as float32 over the size of coded data.
        rmse_db : float, optional
            Root mean square error over valid pixels in dB.
        preset : str, optional
            A name in ``PRESETS``. "analysis" if there is no rate, error or bound.
        max_error_db : float, optional
            Bound on the error of each valid pixel in dB.
        keep_means : bool, optional
            Whether to keep the mean power of each tile; if not given, it is kept unless there is a bound.

        Returns
        -------
        Target

        Raises
        ------
        RateError
            If more than one rate or error is given, or one makes no sense.
        """
        arguments = {"bits_per_pixel": bits_per_pixel, "ratio": ratio, "rmse_db": rmse_db, "preset": preset}
        given: dict[str, Any] = {name: value for name, value in arguments.items() if value is not None}
        if len(given) > 1:
            raise RateError(f"{', '.join(given)} were given together: ask for one of them")
        asked = {"max_error_db": max_error_db, "keep_means": keep_means}
        if not (keep_means is None or isinstance(keep_means, bool | np.bool_)):
            raise RateError(f"keep_means is {keep_means!r}, expected True, False, or None for the default")
        keep_means = max_error_db is None if keep_means is None else bool(keep_means)
        guarantees = Guarantees.from_request(max_error_db, keep_means, np.dtype(np.float32)).request
        default: tuple[str, Any] = ("preset", "analysis") if max_error_db is None else ("max_error_db", max_error_db)
        name, value = next(iter(given.items()), default)
        named = {name: value} | {key: argument for key, argument in asked.items() if argument is not None}
        request = ", ".join(f"{key}={argument}" for key, argument in named.items())
        if name == "preset":
            if value not in PRESETS:
                raise RateError(f"preset {value!r} is unknown, expected one of {', '.join(PRESETS)}")
            is_ratio = value.endswith("x")
            rate = PRESETS[value] * (1 - TOLERANCE / 2 if is_ratio else 1)  # the search may miss by half the tolerance
            preset_arguments = {"counts_metadata": is_ratio, "is_preset": True, **guarantees}
            return cls(quantity="bits_per_pixel", value=rate, request=request, **preset_arguments)
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value <= 0:
            raise RateError(f"{name} is {value!r}, expected a positive number")
        if name == "ratio":
            return cls(quantity="bits_per_pixel", value=FLOAT32_BITS / value, request=request, **guarantees)
        return cls(quantity=name, value=float(value), request=request, **guarantees)

    @classmethod
    def from_request(cls, request: str) -> "Target":
        """Make a target from its ``request``, the text that metadata keep.

        Raises
        ------
        RateError
            If the text is none: a store may hold anything.
        """
        try:
            texts = dict(part.split("=", 1) for part in request.split(", "))
            values: dict[str, Any] = {
                name: text == "True" if name == "keep_means" else text if name == "preset" else float(text)
                for name, text in texts.items()
            }
            return cls.from_arguments(**values)
        except (ValueError, TypeError) as error:
            raise RateError(f"the text {request!r} is no request of a rate or an error") from error

    def asked_bytes(self, pixels: int) -> int | None:
        """Bytes that were asked for: coded data, or the whole store where metadata count; None if no rate was."""
        return round(self.value * pixels / 8) if self.quantity == "bits_per_pixel" else None
