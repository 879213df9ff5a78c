"""Registration of the codecs with Zarr and numcodecs where these do not find the entry points of the package by themselves."""

import sys
from collections.abc import Collection

ENTRY_POINTS = {
    ("zarr.codecs", "xsarcomp.backscatter"),
    ("zarr.codecs", "xsarcomp.latents"),
    ("zarr.codecs", "xsarcomp.integers"),
    ("numcodecs.codecs", "xsarcomp.backscatter"),
}
"""Groups and names of the entry points by which Zarr and numcodecs find the codecs of an installed package."""


def register_codecs(found: Collection[tuple[str, str]]) -> None:
    """Register the codecs with libraries that would not find them.

    A library that is loaded already may have looked before the package was installed. One that is not loaded finds the entry
    points later; where there are none (a checkout on the path, an archive, a browser), it is loaded now.

    Parameters
    ----------
    found : collection of (group, name)
        Entry points of the package in this environment.
    """
    are_missing = bool(ENTRY_POINTS - {*found})
    if are_missing or "zarr" in sys.modules:
        from zarr.registry import register_codec

        from xsarcomp.stores.codec_zarr import BackscatterCodec, IntegersCodec, LatentsCodec

        for codec in (BackscatterCodec, LatentsCodec, IntegersCodec):
            register_codec(codec.codec_name, codec)
    if are_missing or "numcodecs" in sys.modules:
        from numcodecs.registry import register_codec as register_numcodec

        from xsarcomp.stores import codec_numcodecs

        register_numcodec(codec_numcodecs.BackscatterCodec)
