"""Quality of decoding: with the network of the model, or without it where time counts more than a few per cent of error.

The network takes most of the time of decoding. Its input are the symbols, and nothing that is stored depends on it, except
what keeps a bound on the error of pixels.
"""

from dataclasses import replace

from xsarcomp.errors import ConfigurationError
from xsarcomp.latents.metadata import LatentsMetadata

QUALITIES = ("best", "fast")
"""Values of the argument ``quality`` of ``decode``."""


def at_quality(metadata: LatentsMetadata, quality: str) -> LatentsMetadata:
    """Choose how a variable is decoded.

    Parameters
    ----------
    metadata : LatentsMetadata
        Metadata of the variable.
    quality : {"best", "fast"}
        "fast" leaves the network out.

    Returns
    -------
    LatentsMetadata
        With the choice, for all that decodes.

    Raises
    ------
    ConfigurationError
        If there is no such quality, or the variable was encoded with residuals or gains, which belong to the best.
    """
    if quality not in QUALITIES:
        raise ConfigurationError(f"quality is {quality!r}, expected one of {', '.join(map(repr, QUALITIES))}")
    if quality == "best":
        return metadata
    guarantees = metadata.settings.guarantees
    if guarantees and not guarantees.mean_levels:
        kept = (
            "the mean power of tiles by gains"
            if guarantees.max_error_db is None
            else f"max_error_db={guarantees.max_error_db}"
        )
        raise ConfigurationError(
            f"{metadata.name!r} was encoded with {kept}, whose corrections belong to quality='best': leave quality='fast' out"
        )
    return replace(metadata, uses_network=False)
