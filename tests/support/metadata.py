"""Metadata of latents with some values changed, wherever these lie in it: :func:`changed`."""

from dataclasses import replace

from xsarcomp.latents.metadata import GUARANTEE_KEYS, LatentsMetadata


def changed(metadata: LatentsMetadata, **values: object) -> LatentsMetadata:
    """Metadata with other values, by the keys of the attribute; settings and guarantees among them."""
    guarantees = {key: values.pop(key) for key in GUARANTEE_KEYS if key in values}
    settings = {key: values.pop(key) for key in ("step_db", "scale", "nodata") if key in values}
    settings["guarantees"] = replace(metadata.settings.guarantees, **guarantees)
    return replace(metadata, settings=replace(metadata.settings, **settings), **values)
