"""Mean levels by two decoders: the library and the one made from the text of the format give the same, for wrong levels too."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import xsarcomp
from tests.format.test_golden import assert_same
from tests.support.format_frames import frame_from_the_format
from tests.support.format_stores import (
    ArrayFromTheFormat,
    Models,
    backscatter_from_the_format,
    latents_from_the_format,
    transparent_from_the_format,
    variable_from_the_format,
)
from tests.support.leveled import LEVELED, leveled_settings, releveled
from xsarcomp.codec import chunk, installed_models
from xsarcomp.codec.mean_levels import UNKNOWN
from xsarcomp.radiometry.pixel_classes import classify
from xsarcomp.scenes.simulation import simulated_dataset

pytestmark = pytest.mark.slow

MODELS = Models(Path(xsarcomp.__file__).parent / "pretrained")
NETWORK, PLAIN = "s1-grd-10m", "s1-grd-10m-lapped"
SHAPE = (70, 90)


def power(seed=1, shape=SHAPE):
    """Power with a border without data, and ships."""
    values = simulated_dataset(shape, seed).vv.values
    values[30:33, 40:44] *= 1e6
    return values


CHUNKS = {
    "power": (lambda: power(), "power", 2.0, NETWORK),
    "fine": (lambda: power(2), "power", 0.02, PLAIN),
    "coarse": (lambda: power(3), "power", 40.0, NETWORK),
    "decibel, big-endian float64": (lambda: (10 * np.log10(power(4))).astype(">f8"), "decibel", 9.0, PLAIN),
    "amplitude": (lambda: np.sqrt(power(5)), "amplitude", 5.0, NETWORK),
    "uint16": (lambda: np.nan_to_num(300 * np.sqrt(power(6))).clip(max=65535).astype("u2"), "amplitude", 4.0, PLAIN),
    "float16": (lambda: power(7).clip(max=6e4).astype("f2"), "power", 3.0, PLAIN),
    "faint": (lambda: power(8) * np.float32(1e-30), "power", 6.0, PLAIN),
    "bright": (lambda: power(9) * np.float32(1e30), "power", 6.0, PLAIN),
    "planes": (lambda: np.stack([power(seed, (65, 30)) for seed in (1, 2, 3)]), "power", 3.0, PLAIN),
    "nothing valid": (lambda: np.full(SHAPE, np.nan, "f4"), "power", 3.0, PLAIN),
    "one row": (lambda: power(1)[31:32], "power", 3.0, NETWORK),
}


def frame_of(case):
    """A frame with levels, and the coder of its model."""
    values, scale, step_db, model = CHUNKS[case]
    coder = installed_models.load_coder(model)
    return chunk.encode_backscatter(values(), leveled_settings(step_db, scale), coder), coder, scale


@pytest.mark.parametrize("case", CHUNKS)
def test_a_chunk_with_levels_decodes_to_the_same_by_the_text_of_the_format(case):
    content, coder, scale = frame_of(case)
    assert frame_from_the_format(content).flags & LEVELED
    found = chunk.decode_backscatter(content, None, coder)
    assert_same(found, backscatter_from_the_format(content, None, MODELS[coder.model_id]), scale)


@pytest.mark.parametrize(
    "level", [-(2**20) + 1, -30_000, -9_000, -2_500, -700, 0, 700, 2_500, 9_000, 30_000, UNKNOWN - 1, UNKNOWN]
)
def test_levels_that_no_encoder_writes_mean_the_same_to_both_decoders(level):
    content, coder, scale = frame_of("decibel, big-endian float64")
    levels = np.full((1, 2, 2), level, np.int32)
    levels[0, 1, 1] = 3
    changed = releveled(content, levels)
    found = chunk.decode_backscatter(changed, None, coder)
    expected = backscatter_from_the_format(changed, None, MODELS[coder.model_id])
    assert_same(found, expected, scale)
    np.testing.assert_array_equal(classify(found, scale, None), classify(expected, scale, None))


@pytest.mark.parametrize("kind", ["coded", "as they are", "of one block", "of 3 planes"])
def test_a_chunk_of_65_latents_decodes_to_the_same_by_the_text_of_the_format(kind):
    generator = np.random.default_rng(5)
    shape = {"of one block": (65, 1, 1), "of 3 planes": (3, 65, 9, 17)}.get(kind, (65, 9, 17))
    largest = 2**20 if kind == "as they are" else 3
    latents = generator.integers(-largest + 1, largest, shape).astype(np.int32)
    latents[..., 0, :, :] //= 4  # differences of the lowest are coded
    levels = latents[..., 64, ::8, ::8].copy()
    latents[..., 64, :, :] = 0
    latents[..., 64, ::8, ::8] = levels
    coder = installed_models.load_coder(PLAIN)
    content = chunk.encode_latents(latents, 5, coder)
    frame = frame_from_the_format(content)
    assert (frame.flags, content[5]) == ((16, 1) if kind == "as they are" else (LEVELED, 2))
    np.testing.assert_array_equal(chunk.decode_latents(content, coder), latents)
    np.testing.assert_array_equal(latents_from_the_format(content, MODELS[coder.model_id]), latents)


@pytest.mark.parametrize(
    ("model", "request_", "scale"),
    [(NETWORK, {"bits_per_pixel": 0.5}, "power"), (PLAIN, {"rmse_db": 2.5}, "decibel"), (PLAIN, {"rmse_db": 0.2}, "amplitude")],
)  # fmt: skip
def test_a_latents_store_decodes_to_the_same_by_the_text_of_the_format(model, request_, scale, tmp_path):
    values = {"power": lambda one: one, "decibel": lambda one: 10 * np.log10(one), "amplitude": np.sqrt}[scale](
        power(3)
    )
    scene = xr.DataArray(values, dims=("y", "x"), name="vv").to_dataset()
    scene.sarcomp.encode(model=model, scale=scale, **request_).to_zarr(tmp_path / "a", consolidated=False)
    found = xr.open_zarr(tmp_path / "a", consolidated=False).sarcomp.decode().vv.values
    assert_same(found, variable_from_the_format(tmp_path / "a", "vv", MODELS), scale)


def test_a_stack_of_several_steps_decodes_to_the_same_by_the_text_of_the_format(tmp_path):
    for seed, rmse_db in ((1, 0.4), (2, 2.2)):
        date = xr.DataArray(power(seed)[None], dims=("time", "y", "x"), name="vv").assign_coords(time=[seed])
        encoded = date.to_dataset().sarcomp.encode(model=PLAIN, scale="power", rmse_db=rmse_db)
        encoded.to_zarr(tmp_path / "a", consolidated=False, **({"append_dim": "time"} if seed > 1 else {}))
    stored = xr.open_zarr(tmp_path / "a", consolidated=False)
    assert len({*stored.vv_coding.values[:, 0].tolist()}) == 2
    assert_same(stored.sarcomp.decode().vv.values, variable_from_the_format(tmp_path / "a", "vv", MODELS), "power")


@pytest.mark.parametrize(("zarr_format", "shards"), [(3, None), (3, (128, 128)), (2, None)])
def test_a_transparent_store_decodes_to_the_same_by_the_text_of_the_format(zarr_format, shards, tmp_path):
    scene = xr.DataArray(power(2, (130, 100)), dims=("y", "x"), name="vv").to_dataset()
    encoding = scene.sarcomp.encoding(bits_per_pixel=0.5, model=PLAIN, scale="power", zarr_format=zarr_format)
    encoding["vv"] |= {"chunks": (64, 64), **({"shards": shards} if shards else {})}
    scene.to_zarr(tmp_path / "a", encoding=encoding, zarr_format=zarr_format, consolidated=False)
    frames = [content for _, content in ArrayFromTheFormat(tmp_path / "a/vv").frames()]
    assert {bool(frame_from_the_format(content).flags & LEVELED) for content in frames} == {True}
    found = zarr.open_array(tmp_path / "a/vv", mode="r")[:]
    assert_same(found, transparent_from_the_format(tmp_path / "a/vv", MODELS), "power")
