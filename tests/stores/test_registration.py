"""Registration: it covers the codecs that the package declares, and gives Zarr and numcodecs the classes that entry points give."""

import tomllib

import numcodecs.registry
import pytest
import zarr.registry

from tests.support.paths import ROOT
from xsarcomp.stores import codec_numcodecs, codec_zarr
from xsarcomp.stores.registration import ENTRY_POINTS, register_codecs


def test_all_declared_codecs_are_registered():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    codecs = {(group, name) for group in ("zarr.codecs", "numcodecs.codecs") for name in declared[group]}
    assert codecs == ENTRY_POINTS


@pytest.mark.parametrize("found", [set(), ENTRY_POINTS], ids=["no entry points", "all entry points"])
def test_registering_twice_changes_nothing_and_warns_of_nothing(found):
    for _ in range(2):
        register_codecs(found)
    classes = {codec_zarr.BackscatterCodec, codec_zarr.LatentsCodec, codec_zarr.IntegersCodec}
    assert {zarr.registry.get_codec_class(codec.codec_name) for codec in classes} == classes
    codec = numcodecs.registry.codec_registry["xsarcomp.backscatter"]
    assert codec is codec_numcodecs.BackscatterCodec
