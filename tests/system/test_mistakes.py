"""Mistakes that users make in Python: each one ends in one clear error, which names what was found, and what to do instead."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xsarcomp.errors import (
    AlreadyLossyError,
    ConfigurationError,
    DimensionError,
    ModelNotFoundError,
    NotEncodedError,
    RadiometryError,
    RateError,
)
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A scene in power and in decibels, its latents, what was decoded from them, and stores of all kinds."""
    folder = tmp_path_factory.mktemp("mistakes")
    scene = simulated_dataset((128, 128), seed=1)
    encoded = scene.sarcomp.encode(bits_per_pixel=2)
    encoded.sarcomp.to_zarr(folder / "latents.zarr")
    scene.to_zarr(folder / "plain.zarr", consolidated=False)
    scene.sarcomp.to_zarr(folder / "transparent.zarr", encoding=scene.sarcomp.encoding(bits_per_pixel=2))
    (folder / "file.zarr").write_text("no store")
    return SimpleNamespace(
        folder=folder,
        scene=scene,
        decibel=(10 * np.log10(scene)).assign_attrs(scene.attrs),
        encoded=encoded,
        decoded=encoded.sarcomp.decode(),
        dated=scene.expand_dims(time=[pd.Timestamp("2024-01-01")]),
    )


def plane(values, name="vv", dims=("y", "x")):
    """Dataset of one variable."""
    return xr.Dataset({name: (dims, np.asarray(values))})


def engine(work, store="latents.zarr", **options):
    """Open a store of the folder by the engine."""
    return xr.open_dataset(work.folder / store, engine="sarcomp", **options)


def encode(**options):
    """Encoding of the scene, as a call."""
    return lambda w: w.scene.sarcomp.encode(**options)


MISTAKES = {
    # what to ask for
    "a misspelled option": (encode(bit_per_pixel=1), TypeError, ["bit_per_pixel"]),
    "a rate as text": (encode(bits_per_pixel="1"), RateError, ["bits_per_pixel is '1'", "positive number"]),
    "a rate of zero": (encode(bits_per_pixel=0), RateError, ["bits_per_pixel is 0", "positive number"]),
    "a rate that is NaN": (encode(bits_per_pixel=float("nan")), RateError, ["nan", "positive number"]),
    "two rates": (encode(bits_per_pixel=1, ratio=32), RateError, ["bits_per_pixel, ratio", "ask for one"]),
    "a preset with a ratio": (encode(preset="browse", ratio=4), RateError, ["ratio, preset", "ask for one"]),
    "a preset that is none": (encode(preset="high"), RateError, ["'high'", "archive, analysis, browse"]),
    "a ratio below one": (encode(ratio=0.5), RateError, ["ratio=0.5", "out of reach", "at most"]),
    "a bound that no decoder keeps": (encode(max_error_db=0.001), RateError, ["max_error_db is 0.001", "0.02 to 100"]),
    "a bound too tight for the rate": (
        encode(bits_per_pixel=0.1, max_error_db=0.1), RateError, ["bits_per_pixel=0.1", "at least"],
    ),
    "kept means as a word": (encode(keep_means="yes"), RateError, ["keep_means is 'yes'", "True, False"]),
    "a model that is not installed": (encode(model="mine"), ModelNotFoundError, ["'mine'", "Installed: s1-grd-10m"]),
    "a model by its file": (
        lambda w: w.scene.sarcomp.encode(model=w.folder / "mine.safetensors"), ModelNotFoundError, ["XSARCOMP_MODEL_PATH", "model='mine'"],
    ),
    "a scale by another word": (encode(scale="dB"), RadiometryError, ["'dB'", "scale='decibel'"]),
    # what to compress
    "variables that are not there": (encode(variables=["VV"]), DimensionError, ["vv, vh", "variables=['VV']"]),
    "no variables": (encode(variables=[]), DimensionError, ["variables=[]", "at least one"]),
    "variables of one array": (
        lambda w: w.scene.vv.sarcomp.encode(variables=["vh"]), ConfigurationError, ["variables=['vh']", "Leave it out"],
    ),
    "an empty dataset": (lambda w: xr.Dataset().sarcomp.encode(), DimensionError, ["found no variable", "y and x"]),
    "a profile": (lambda w: w.scene.vv.isel(y=0).sarcomp.encode(), DimensionError, ["('x',)", "'vv'", "Rename"]),
    "complex values": (lambda w: plane(np.ones((64, 64), "c8")).sarcomp.encode(), RadiometryError, ["complex64", "abs(values)**2"]),
    "text": (lambda w: plane(np.full((4, 4), "a")).sarcomp.encode(), DimensionError, ["vv", "its type is"]),
    "an optical band": (lambda w: plane(np.ones((64, 64), "u2"), "B04").sarcomp.encode(), DimensionError, ["B04", "rename"]),
    "coherence": (lambda w: w.scene.vv.rename("coherence").sarcomp.encode(), RadiometryError, ["'coherence'", "scale="]),
    "digital numbers": (
        lambda w: plane(np.arange(2**14, dtype="u2").reshape(128, 128) % 3000).sarcomp.encode(), RadiometryError, ["Calibrate", "scale="],
    ),
    "latents again": (lambda w: w.encoded.sarcomp.encode(), AlreadyLossyError, ["latents", ".sarcomp.decode()"]),
    "decoded data again": (lambda w: w.decoded.sarcomp.encode(), AlreadyLossyError, ["'vv'", "recompress=True"]),
    "like a path": (encode(like="latents.zarr"), ConfigurationError, ["like is of type str", "xr.open_zarr"]),
    "like a scene": (lambda w: w.scene.sarcomp.encode(like=w.scene), NotEncodedError, ["vv, vh", "what encode() made"]),
    "like with a rate": (lambda w: w.scene.sarcomp.encode(like=w.encoded, ratio=8), ConfigurationError, ["ratio and like=", "Leave one"]),
    "a Zarr format of no codec": (lambda w: w.scene.sarcomp.encoding(zarr_format=1), ConfigurationError, ["zarr_format is 1", "3 or 2"]),
    # decoding
    "a scene decoded": (lambda w: w.scene.sarcomp.decode(), NotEncodedError, ["variables: v", "needs no decoding"]),
    "latents times two": (lambda w: (w.encoded * 2).sarcomp.decode(), NotEncodedError, ["'vv'", "decode before you compute"]),
    "latents without attributes": (lambda w: w.encoded.drop_attrs().sarcomp.decode(), NotEncodedError, ["'vv_latents'", "Decode first"]),
    "latents cut like pixels": (lambda w: w.encoded.isel(y=slice(3, 9)).sarcomp.decode(), DimensionError, ["'vv_mask'", "Decode first"]),
    "latents without their mask": (lambda w: w.encoded.drop_vars("vv_mask").sarcomp.decode(), NotEncodedError, ["'vv_mask'", "keep both"]),
    "an unknown restoration": (lambda w: w.encoded.sarcomp.decode(restore="noise"), ConfigurationError, ["'noise'", "restore='speckle'"]),
    "an overview of three pixels": (lambda w: w.encoded.sarcomp.decode(overview=3), ConfigurationError, ["overview of 3", "8, 16, 32"]),
    "an overview with speckle": (
        lambda w: w.encoded.sarcomp.decode(overview=8, restore="speckle"), ConfigurationError, ["overview=8", "Leave one"],
    ),
    # stores
    "a store that is there": (
        lambda w: w.encoded.sarcomp.to_zarr(w.folder / "latents.zarr"), FileExistsError, ["latents.zarr", "mode='w'"],
    ),
    "mode a": (lambda w: w.encoded.sarcomp.to_zarr(w.folder / "latents.zarr", mode="a"), ConfigurationError, ["mode is 'a'", "append"]),
    "a store called .tif": (lambda w: w.encoded.sarcomp.to_zarr(w.folder / "a.tif"), ConfigurationError, ["a.tif", "'a.zarr'"]),
    "a file in place of a store": (
        lambda w: w.encoded.sarcomp.to_zarr(w.folder / "file.zarr"), ConfigurationError, ["file.zarr", "is a file"],
    ),
    "no store": (lambda w: w.encoded.sarcomp.to_zarr(None), ConfigurationError, ["store is None", "path or URL"]),
    "latents as an encoding": (
        lambda w: w.scene.sarcomp.to_zarr(w.folder / "b.zarr", encoding=w.encoded), ConfigurationError, ["Dataset", ".sarcomp.encoding("],
    ),
    "an encoding of what is not there": (
        lambda w: w.scene.sarcomp.to_zarr(w.folder / "b.zarr", encoding={"hh": {}}), ConfigurationError, ["['hh']", "'vv'"],
    ),
    "a rate given to the writer": (lambda w: w.scene.sarcomp.to_zarr(w.folder / "b.zarr", bits_per_pixel=1), TypeError, ["bits_per_pixel"]),
    "appending to nothing": (lambda w: w.dated.sarcomp.append(w.folder / "no.zarr"), ConfigurationError, ["no.zarr", "first dates"]),
    "appending to one date": (
        lambda w: w.dated.sarcomp.append(w.folder / "latents.zarr"), DimensionError, ["no dimension beside", "expand_dims"],
    ),
    "appending to a plain store": (lambda w: w.dated.sarcomp.append(w.folder / "plain.zarr"), NotEncodedError, ["plain.zarr", "xarray"]),
    # the engine
    "opening what is not there": (lambda w: engine(w, "no.zarr"), FileNotFoundError, ["no.zarr", "does not exist"]),
    "opening a plain store": (lambda w: engine(w, "plain.zarr"), NotEncodedError, ["variables: v", "needs no decoding"]),
    "opening a transparent store": (lambda w: engine(w, "transparent.zarr"), NotEncodedError, ["variables: v", "needs no decoding"]),
    "opening an overview of seven pixels": (lambda w: engine(w, overview=7), ConfigurationError, ["overview of 7", "8, 16, 32"]),
    "opening with an option that is none": (lambda w: engine(w, speckle=True), TypeError, ["speckle"]),
    # comparing
    "comparing latents": (lambda w: w.encoded.sarcomp.compare(w.scene), DimensionError, ["latents in restored", ".sarcomp.decode()"]),
    "comparing with a path": (lambda w: w.decoded.sarcomp.compare("s1.tif"), DimensionError, ["str as original", "Dataset"]),
    "comparing decibels with power": (lambda w: w.decoded.sarcomp.compare(w.decibel), RadiometryError, ["'vv' is in decibels", "Convert"]),
    "comparing with a crop": (
        lambda w: w.decoded.sarcomp.compare(w.scene.isel(x=slice(64))), DimensionError, ["of 'vv'", "(128, 64)", "same window"],
    ),
    "comparing with a shifted scene": (
        lambda w: w.decoded.sarcomp.compare(w.scene.assign_coords(x=w.scene.x + 1000)), DimensionError, ["'x' of 'vv'", "Align"],
    ),
    "comparing VV with VH": (lambda w: w.decoded[["vv"]].sarcomp.compare(w.scene[["vh"]]), DimensionError, ["'vv'", "'vh'"]),
    "a report into no folder": (
        lambda w: w.decoded.sarcomp.compare(w.scene, html=w.folder / "no" / "r.html"), ConfigurationError, ["r.html", "does not exist"],
    ),
}  # fmt: skip
"""By what was done: the call, the class of its error, and what the message tells."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_error(work, mistake):
    call, kind, told = MISTAKES[mistake]
    with pytest.raises(kind) as caught:
        call(work)
    message = str(caught.value)
    assert "\n" not in message
    assert not [part for part in told if part not in message], message
