"""Warning where a number fills areas without data, though nobody declared it as nodata."""

import warnings
from collections.abc import Hashable, Mapping

from xsarcomp.errors import caller_stacklevel
from xsarcomp.latents.inspection import Inspection
from xsarcomp.radiometry.pixel_classes import VALID, classify


def warn_of_fill_values(inspections: Mapping[Hashable, Inspection]) -> None:
    """Warn once of all fill values in the samples of variables: those that were taken as nodata, and those that will be lost.

    Parameters
    ----------
    inspections : mapping
        Variable name to its inspection.
    """
    kept, lost = [], []
    for name, inspection in inspections.items():
        settings = inspection.settings
        for fill in inspection.fill_values:
            text = f"{100 * fill.share:.3g} % of the sample of {str(name)!r} are exactly {fill.value:g}"
            if settings.nodata == fill.value:
                kept.append(text)
            elif classify([fill.value], settings.scale)[0] == VALID:  # others are no backscatter, and kept exactly
                lost.append(f"{text}, and nodata is {settings.nodata:g}" if settings.nodata is not None else text)
    advice = "Declare it to say so yourself: array.attrs['nodata'] = number; NaN says that every number is backscatter"
    if kept:
        warnings.warn(
            f"{'; '.join(kept)}, in whole areas, as where the declaration of nodata was lost. They are taken as nodata and kept "
            f"exactly. {advice}",
            stacklevel=caller_stacklevel(),
        )
    if lost:
        warnings.warn(
            f"{'; '.join(lost)}. They fill areas without data, but are compressed as backscatter and change. Replace them by NaN "
            f"first, or by nodata",
            stacklevel=caller_stacklevel(),
        )
