"""The digest of a plane for its pictures."""

import math

import numpy as np
import pytest

from xsarcomp.errors import DimensionError
from xsarcomp.evaluation import plane_pair
from xsarcomp.evaluation.matching import scene_pairs
from xsarcomp.evaluation.plane_pair import PlanePair
from xsarcomp.evaluation.report import digest
from xsarcomp.scenes.simulation import simulated_dataset


def flat(shape, level=-12.0):
    return np.full(shape, level)


def test_large_planes_are_thinned_evenly_and_small_ones_are_kept():
    plane = np.arange(1100.0)[:, None] / 100 + np.zeros((1100, 30))
    large = digest.digest_arrays(plane, plane, scale="decibel")
    assert large.thinning == 3
    np.testing.assert_allclose(large.original_db, plane[::3, ::3], atol=1e-6)
    small = digest.digest_arrays(plane[:512], plane[:512], scale="decibel")
    assert small.thinning == 1
    assert small.restored_db.shape == (512, 30)


def test_a_digest_is_small_whatever_the_size_of_the_plane():
    plane = flat((2000, 1500))
    kept = digest.digest_arrays(plane, plane, scale="decibel")
    arrays = [kept.original_db, kept.restored_db, kept.error_map_db, kept.original_looks, kept.restored_looks]
    arrays += [crop for tile in kept.worst_tiles for crop in (tile.original_db, tile.restored_db)]
    assert sum(array.nbytes for array in arrays) < plane.nbytes / 10


def test_pixels_that_are_invalid_in_either_scene_are_gaps_in_both():
    original, restored = flat((20, 30)), flat((20, 30))
    original[0, 0], restored[1, 1] = np.nan, -9999
    kept = digest.digest_arrays(original, restored, scale="decibel", nodata=-9999)
    for plane in (kept.original_db, kept.restored_db):
        assert np.argwhere(np.isnan(plane)).tolist() == [[0, 0], [1, 1]]
    assert sum(counts.sum() for counts in kept.error_histogram.counts) == 598


def test_histograms_hold_all_errors_and_nearly_all_values():
    rng = np.random.default_rng(1)
    original = rng.normal(-12, 2, (100, 120))
    restored = original + rng.normal(0, 0.5, original.shape)
    kept = digest.digest_arrays(original, restored, scale="decibel")
    assert kept.error_histogram.counts[0].sum() == original.size
    width = np.diff(kept.error_histogram.edges)
    assert len(width) % 2 == 1  # errors of zero lie in the middle of a bin
    assert 0 <= -kept.error_histogram.edges[0] - np.abs(restored - original).max() < 1.5 * width[0]
    assert kept.error_histogram.edges[0] == pytest.approx(-kept.error_histogram.edges[-1])
    assert all(counts.sum() >= 0.999 * original.size for counts in kept.value_histogram.counts)
    assert max(len(width), len(kept.value_histogram.edges)) < 170
    centers = (kept.error_histogram.edges[1:] + kept.error_histogram.edges[:-1]) / 2
    assert np.sqrt(np.average(centers**2, weights=kept.error_histogram.counts[0])) == pytest.approx(0.5, rel=0.02)


def test_the_worst_tile_is_the_one_that_was_damaged():
    original = flat((300, 400))
    restored = original.copy()
    restored[160:180, 210:230] += 5
    kept = digest.digest_arrays(original, restored, scale="decibel")
    worst = kept.worst_tiles[0]
    # 300 x 400 pixels make 3 x 4 tiles of 100 x 100
    assert (worst.row, worst.column, worst.original_db.shape) == (100, 200, (100, 100))
    assert worst.rmse_db == pytest.approx(1.0)
    assert worst.position == "row 100, column 200"
    assert np.nanmax(worst.restored_db - worst.original_db) == pytest.approx(5)
    assert len(kept.worst_tiles) == 4
    assert [tile.rmse_db for tile in kept.worst_tiles[1:]] == [0, 0, 0]


@pytest.mark.parametrize("shape", [(129, 130), (1, 1), (3, 1000), (128, 257)])
def test_tiles_are_even_and_no_slivers(shape):
    plane = flat(shape)
    sizes = [tile.original_db.shape for tile in digest.digest_arrays(plane, plane, scale="decibel").worst_tiles]
    for axis in (0, 1):
        assert max(size[axis] for size in sizes) <= 128
        assert min(size[axis] for size in sizes) >= min(shape[axis], 60)


def test_a_few_valid_pixels_at_the_border_are_no_worst_tile():
    original = flat((256, 256))
    restored = original + 0.1
    original[:128, :128] = np.nan
    original[127, 120:128], restored[127, 120:128] = -12.0, -2.0
    kept = digest.digest_arrays(original, restored, scale="decibel")
    assert (0, 0) not in [(tile.row, tile.column) for tile in kept.worst_tiles]
    assert len(kept.worst_tiles) == 3


def test_positions_are_given_in_coordinates_where_they_are_known():
    scene = simulated_dataset((150, 150), 1)
    pair = next(scene_pairs(scene, scene.map(lambda plane: plane * np.where(plane.x > 601_000, 1.5, 1))))
    worst = digest.digest_pair(pair).worst_tiles[0]
    assert worst.position == f"row {worst.row}, column 75 (y {5_399_995 - 10 * worst.row}, x 600755)"


def test_planes_without_a_valid_pixel_have_an_empty_digest():
    empty = np.full((30, 30), np.nan)
    kept = digest.digest_arrays(empty, empty, scale="decibel", name="vv")
    assert kept.name == "vv"
    assert kept.worst_tiles == ()
    assert np.isnan(kept.error_map_db).all()
    assert not kept.value_histogram.counts[0].any()


def test_stacks_and_planes_without_pixels_are_refused():
    with pytest.raises(DimensionError, match="one polarization"):
        digest.digest_arrays(np.ones((2, 9, 9)), np.ones((2, 9, 9)), scale="power")
    nothing = np.ones((0, 9))
    pair = PlanePair(
        original_power=nothing, restored_power=nothing, original_valid=nothing > 0, restored_valid=nothing > 0
    )
    with pytest.raises(DimensionError, match="with pixels"):
        digest.digest_pair(pair)


def test_cells_of_the_error_map_are_root_mean_squares():
    original = flat((40, 40))
    restored = original.copy()
    restored[:4, :4] += np.array([1.0, -1.0, 3.0, -3.0])
    kept = digest.digest_arrays(original, restored, scale="decibel")
    assert kept.cell_pixels == 4
    assert kept.error_map_db[0, 0] == pytest.approx(math.sqrt(5))
    assert np.count_nonzero(kept.error_map_db > 1e-9) == 1


def test_a_digest_of_pieces_is_that_of_the_whole_plane(monkeypatch):
    rng = np.random.default_rng(1)
    original = rng.normal(-12, 2, (700, 900))
    original[:30, :50] = np.nan
    restored = original + rng.normal(0, 0.5, original.shape)
    restored[640:660, 320:340] += 4
    whole = digest.digest_arrays(original, restored, scale="decibel")
    monkeypatch.setattr(plane_pair, "PIECE_PIXELS", 256)
    pieces = digest.digest_arrays(original, restored, scale="decibel")
    assert whole.thinning == pieces.thinning == 2
    for name in ("original_db", "restored_db", "error_map_db"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-6)
    for name in ("value_histogram", "error_histogram"):
        first, second = getattr(pieces, name), getattr(whole, name)
        np.testing.assert_allclose(first.edges, second.edges)
        np.testing.assert_array_equal(first.counts, second.counts)
    # 256 pixels hold 10 windows of 25 and a remainder, which is left out between pieces
    assert pieces.original_looks.shape == (10 + 444 // 25 + 1, 30 + 132 // 25 + 1)
    np.testing.assert_allclose(pieces.original_looks[:10, :10], whole.original_looks[:10, :10])
    worst = pieces.worst_tiles[0]
    assert worst.row <= 640 < worst.row + 128
    assert worst.column <= 320 < worst.column + 128
    np.testing.assert_allclose(
        worst.original_db,
        original[worst.row :, worst.column :][: worst.original_db.shape[0], : worst.original_db.shape[1]],
    )
