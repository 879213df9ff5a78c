"""Large scenes that are made where they are read: the same values however they are cut, nothing held that is not asked for."""

import pickle
import tracemalloc

import dask
import numpy as np
import pytest

from xsarcomp.errors import DimensionError
from xsarcomp.scenes.large_scene import SHIFT, TILE, _chips, chip_files, large_scene
from xsarcomp.scenes.simulation import slanted_border

SHAPE = (1100, 900)


@pytest.fixture(scope="module")
def whole():
    return large_scene(SHAPE, seed=3).compute(scheduler="synchronous")


@pytest.mark.parametrize("chunk", [256, ((1, 1000, 99), (480, 3, 417))])
def test_values_do_not_depend_on_chunks(whole, chunk):
    scene = large_scene(SHAPE, seed=3, chunk=chunk)
    for name in ("vv", "vh"):
        np.testing.assert_array_equal(scene[name].values, whole[name].values)


def test_any_part_is_that_part_of_the_whole(whole):
    scene = large_scene(SHAPE, seed=3, chunk=128)
    np.testing.assert_array_equal(scene.vh[700:1000, 5:444].values, whole.vh[700:1000, 5:444].values)


def test_the_border_is_that_of_a_simulated_scene_and_all_else_is_backscatter(whole):
    for name in ("vv", "vh"):
        np.testing.assert_array_equal(np.isnan(whole[name].values), slanted_border(SHAPE))
    assert -20 < np.nanmedian(whole.vv) < -5
    assert np.nanmedian(whole.vh) < np.nanmedian(whole.vv) - 4


def test_a_window_of_the_border_is_cut_out_of_it():
    np.testing.assert_array_equal(slanted_border(SHAPE, ((30, 90), (5, 17))), slanted_border(SHAPE)[30:90, 5:17])


def test_each_tile_is_a_chip_mirrored_and_shifted_in_level():
    scene = large_scene(SHAPE, seed=5, border=False)
    tile = scene.vv.values[TILE - SHIFT[0] :, TILE - SHIFT[1] :][:TILE, :TILE]

    def spread(chip, y, x, flips):
        piece = chip[0, y : y + TILE, x : x + TILE][flips]
        return np.ptp(tile[::40, ::40] - piece[::40, ::40])

    mirrors = [(slice(None, None, a), slice(None, None, b)) for a in (1, -1) for b in (1, -1)]
    places = [(y, x) for y in range(33) for x in range(33)]
    assert min(spread(chip, *at, flips) for chip in _chips(()) for at in places for flips in mirrors) < 1e-4


def test_names_and_values_depend_on_the_seed_alone():
    names = [large_scene(SHAPE, seed=seed).vv.data.name for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]
    assert float(large_scene(SHAPE, seed=1).vv[600, 600]) != float(large_scene(SHAPE, seed=2).vv[600, 600])


def test_a_scene_of_a_gigabyte_is_a_small_graph():
    scene = large_scene((25_000, 16_000))
    assert scene.nbytes == 8 * 25_000 * 16_000
    graph = dict(scene.__dask_graph__())
    assert len(graph) == 2 * 13 * 8
    assert len(pickle.dumps(graph)) < 1000 * len(graph)


def test_only_a_chunk_stands_in_memory():
    scene = large_scene((3000, 2000), chunk=250)
    with dask.config.set(scheduler="synchronous"):
        scene.vv[:10, :10].compute()  # the chips are made
        tracemalloc.start()
        scene.vv.max().compute()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < scene.vv.nbytes / 4


@pytest.mark.parametrize("shape", [(0, 5), (5,), (5, -1)])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(DimensionError, match="expected"):
        large_scene(shape)


@pytest.mark.data
def test_real_chips_are_found_and_laid(sar_data):
    chips = chip_files(sar_data)
    assert chips
    assert not any("water" in chip for chip in chips)
    values = large_scene((700, 700), chips=chips, border=False).vv.values
    assert np.isfinite(values).mean() > 0.9
    assert -25 < np.nanmedian(values) < 0


def test_without_data_there_are_no_real_chips(monkeypatch, tmp_path):
    monkeypatch.delenv("XSARCOMP_DATA", raising=False)
    assert chip_files() == chip_files(tmp_path) == ()
