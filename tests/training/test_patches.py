"""Patches: what is invalid stays out, every pixel offset comes up, seeds repeat."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.paths import ROOT
from xsarcomp.errors import ConfigurationError
from xsarcomp.training.augmentation import AugmentationConfig
from xsarcomp.training.patches import PatchConfig, PatchSampler, cut_patch, fixed_batches
from xsarcomp.training.planes import Plane

PLAIN = AugmentationConfig(flips=False, transposes=False)


def address_plane(rows=90, columns=80, name="scene", valid=None):
    """A plane whose values tell where a pixel comes from: row * 1000 + column."""
    addresses = (np.arange(rows)[:, None] * 1000.0 + np.arange(columns)).astype(np.float32)
    return Plane(name, "vv", addresses, np.ones((rows, columns), bool) if valid is None else valid)


def sampler(planes, **changes):
    return PatchSampler(planes, PatchConfig(**{"patch": 16, "batch": 8, "augmentation": PLAIN, **changes}))


def origins(batches, count):
    corners = np.concatenate([next(batches)[:, 0, 0] for _ in range(count)]).astype(int)
    return corners // 1000, corners % 1000


def test_batches_have_the_shape_and_type_that_models_expect():
    batch = next(sampler([address_plane()]))
    assert batch.shape == (8, 16, 16)
    assert batch.dtype == np.float32


def test_a_patch_is_a_contiguous_piece_of_its_plane():
    plane = address_plane()
    for patch in next(sampler([plane])):
        row, column = divmod(int(patch[0, 0]), 1000)
        np.testing.assert_array_equal(patch, plane.decibel[row : row + 16, column : column + 16])


def test_patches_start_at_every_phase_of_any_block_grid():
    rows, columns = origins(sampler([address_plane()]), 250)
    phases = np.zeros((8, 8), int)
    np.add.at(phases, (rows % 8, columns % 8), 1)
    # 2000 draws over 64 phases: 31 each, so none is missing and none dominates
    assert phases.min() > 0
    assert phases.max() < 80


def test_all_offsets_up_to_the_last_one_are_used():
    rows, columns = origins(sampler([address_plane(20 + 16, 24 + 16)]), 600)
    assert set(rows) == set(range(21))
    assert set(columns) == set(range(25))


def test_a_plane_of_exactly_one_patch_still_gives_sixteen_offsets_an_axis():
    batches = sampler([address_plane(16, 16)])
    patches = np.concatenate([next(batches) for _ in range(400)])
    assert len({patch.tobytes() for patch in patches}) == 16 * 16


@pytest.mark.parametrize("size", [(9, 11), (1, 1), (2, 30), (16, 15)])
def test_a_small_plane_is_reflected_up_to_the_patch(size):
    plane = address_plane(*size)
    batches = sampler([plane])
    for patch in next(batches):
        assert patch.shape == (16, 16)
        assert set(np.unique(patch)) <= set(np.unique(plane.decibel))
        steps = np.abs(np.diff(patch, axis=1))
        assert ((steps == 1) | (size[1] == 1)).all()


@given(
    values=hnp.arrays(
        np.float32, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements=st.floats(-40, 20, width=32)
    ),
    row=st.integers(-8, 0),
    column=st.integers(-8, 0),
)
def test_reflection_agrees_with_numpy(values, row, column):
    patch = 12
    margins = ((-row, 24), (-column, 24))
    expected = np.pad(values, margins, mode="reflect")[:patch, :patch]
    np.testing.assert_array_equal(cut_patch(values, row, column, patch), expected)


def test_the_same_seed_gives_the_same_batches_and_another_seed_others():
    planes = [address_plane(), address_plane(50, 60)]
    augmentation = AugmentationConfig(gain_db=3, speckle_looks=4)
    first, second, other = (sampler(planes, seed=s, augmentation=augmentation) for s in (1, 1, 2))
    for _ in range(3):
        batch = next(first)
        np.testing.assert_array_equal(batch, next(second))
        assert not np.array_equal(batch, next(other))


def test_a_sampler_goes_on_where_its_state_was_taken():
    first = sampler([address_plane()])
    next(first)
    state = first.state_dict()
    expected = [next(first) for _ in range(3)]
    second = sampler([address_plane()], seed=77)
    second.load_state_dict(state)
    for batch in expected:
        np.testing.assert_array_equal(next(second), batch)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 0.2), limit=st.sampled_from([0.0, 0.05, 0.3]))
def test_no_patch_exceeds_the_limit_of_invalid_pixels(seed, share, limit):
    generator = np.random.default_rng(seed)
    valid = generator.random((40, 45)) >= share * generator.random((40, 1))
    plane = Plane("scene", "vv", np.where(valid, 0, 1).astype(np.float32), valid)
    try:
        batches = sampler([plane], invalid_limit=limit, batch=30)
    except ConfigurationError:
        return
    assert next(batches).mean(axis=(1, 2)).max() <= limit + 1e-6


def test_places_that_qualify_are_all_found():
    valid = np.ones((60, 60), bool)
    valid[:, 20] = False
    rows, columns = origins(sampler([address_plane(60, 60, valid=valid)], invalid_limit=0.05), 400)
    # one invalid column in 16 is 6 %: patches touch column 20 nowhere
    assert set(columns) == {*range(5), *range(21, 45)}
    assert set(rows) == set(range(45))


def test_planes_without_room_are_left_out_and_counted(caplog):
    sampler([address_plane(), address_plane(valid=np.zeros((90, 80), bool))])
    assert "1 of 2 planes have no usable patch" in caplog.text


def test_no_usable_patch_at_all_is_an_error():
    with pytest.raises(ConfigurationError, match="none of 1 planes"):
        sampler([address_plane(valid=np.zeros((90, 80), bool))])


def test_planes_are_drawn_in_proportion_to_their_valid_area():
    half = np.ones((90, 80), bool)
    half[:, 40:] = False
    large, small = address_plane(180, 80), address_plane(valid=half)
    large.decibel[:], small.decibel[:] = 0, 1
    batches = sampler([large, small], batch=500)
    share = np.mean([next(batches)[:, 0, 0].mean() for _ in range(10)])
    assert share == pytest.approx(0.2, abs=0.03)


def test_fixed_patches_are_the_same_every_time_and_cover_the_plane_evenly():
    planes = [address_plane(64, 40), address_plane(20, 10, name="small")]
    first, second = fixed_batches(planes, 16, batch=4), fixed_batches(planes, 16, batch=4)
    assert [batch.shape for batch in first] == [(4, 16, 16), (4, 16, 16), (1, 16, 16)]
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left, right)
    corners = np.concatenate(first)[:8, 0, 0].astype(int)
    assert sorted(set(corners // 1000)) == [0, 16, 32, 48]
    assert sorted(set(corners % 1000)) == [0, 24]


def test_fixed_patches_respect_limits():
    valid = np.ones((64, 64), bool)
    valid[:32] = False
    assert sum(map(len, fixed_batches([address_plane(64, 64, valid=valid)], 16))) == 8
    assert sum(map(len, fixed_batches([address_plane(64, 64)], 16, limit=5))) == 5
    with pytest.raises(ConfigurationError, match="no patch of 16 pixels"):
        fixed_batches([address_plane(64, 64, valid=np.zeros((64, 64), bool))], 16)


@pytest.mark.slow
def test_training_needs_no_geographic_library():
    program = (
        "import sys; import xsarcomp.training.loop, xsarcomp.training.patches, xsarcomp.models.refiner.network;"
        "absent = {'rioxarray', 'scipy', 'tensorboard', 'dask', 'zarr', 'numcodecs', 'google_crc32c'};"
        "print(sorted(absent & set(sys.modules)))"
    )
    root = ROOT
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
