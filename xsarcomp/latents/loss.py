"""Description of what decoded backscatter lost, in attributes and encoding: one more lossy pass must not go unnoticed."""

from xsarcomp.latents.metadata import LatentsMetadata

LOSS_ATTRIBUTE = "sarcomp_lossy"
"""Attribute of backscatter that was compressed with loss, which says so: the same text for all of a collection."""
LOSS_TEXT = "xsarcomp: restored from lossy compression"
"""Beginning of the attribute, see :func:`loss_note`."""
WITHOUT_NETWORK = "; decoded without the network (quality fast)"
"""What both texts say of a decoding of less quality."""
LOSS_SETTINGS = "sarcomp_settings"
"""Entry of the encoding of decoded backscatter that describes model, step, target and guarantees."""


def loss_note(scale: str, *, uses_network: bool = True) -> str:
    """Value of ``LOSS_ATTRIBUTE``: without step and target, so that scenes of a collection have the same and can be combined."""
    return f"{LOSS_TEXT}, scale {scale}" + ("" if uses_network else WITHOUT_NETWORK)


def loss_text(metadata: LatentsMetadata, *, with_speckle: bool = False) -> str:
    """Describe the loss, for the entry ``LOSS_SETTINGS`` of the encoding of decoded backscatter.

    Parameters
    ----------
    metadata : LatentsMetadata
    with_speckle : bool
        Whether synthetic speckle was added.

    Returns
    -------
    str
        One line: model, step, request, guarantees; it follows the text of an earlier lossy encoding, if there was one.
    """
    guarantees, earlier = metadata.settings.guarantees, metadata.attributes.get(LOSS_ATTRIBUTE)
    # noise has a mean of 1, but not in each tile: gains were computed without it
    keeps_means = guarantees.keep_means and (guarantees.mean_levels or not with_speckle)
    later = " unless planes were joined from other encodings" if metadata.leading else " when it was first encoded"
    return ("" if earlier is None else f"{earlier}; then ") + (
        f"xsarcomp: decoded from latents of model {metadata.model} ({metadata.model_id[:16]}), quantization step "
        f"{metadata.settings.step_db:.5g} dB"
        f", scale {metadata.settings.scale}"
        + ("" if metadata.fingerprint is None else later)
        + f", asked for {metadata.target}"
        + (
            ""
            if guarantees.max_error_db is None
            else f"; no valid pixel is off by more than {guarantees.max_error_db:g} dB"
        )
        + ("; the mean power of tiles of 64 x 64 pixels is kept" if keeps_means else "")
        + ("" if metadata.uses_network else WITHOUT_NETWORK)
        + ("; synthetic speckle was added" if with_speckle else "")
    )
