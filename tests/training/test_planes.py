"""Planes: one side of the split each, and a small file that gives them back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.errors import ConfigurationError, ModelIntegrityError, RadiometryError
from xsarcomp.training.planes import Plane, assert_disjoint, load_planes_file, save_planes


def flat_plane(name="scene", polarization="vv"):
    return Plane(name, polarization, np.full((4, 4), -12, np.float32), np.ones((4, 4), bool))


def test_a_scene_on_both_sides_of_the_split_is_refused():
    ghana, nigeria = flat_plane("ghana"), flat_plane("nigeria")
    assert_disjoint([ghana], [nigeria])
    other_polarization = flat_plane("ghana", "vh")
    with pytest.raises(ConfigurationError, match="1 are in both"):
        assert_disjoint([ghana, nigeria], [other_polarization])
    with pytest.raises(ConfigurationError, match="expected two sides"):
        assert_disjoint([ghana], [])


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_stored_planes_come_back_within_half_a_step(tmp_path_factory, seed):
    generator = np.random.default_rng(seed)
    planes = []
    for index in range(3):
        shape = tuple(generator.integers(1, 30, 2))
        decibel = generator.uniform(-60, 30, shape).astype(np.float32)
        planes.append(Plane(f"scene/{index}", "vh", decibel, generator.random(shape) < (0.5, 1, 2)[index]))
    path = tmp_path_factory.mktemp("planes") / "planes.safetensors"
    save_planes(path, planes)
    for plane, stored in zip(planes, load_planes_file(path), strict=True):
        assert (stored.name, stored.polarization) == (plane.name, plane.polarization)
        np.testing.assert_array_equal(stored.valid, plane.valid)
        assert np.abs(stored.decibel - plane.decibel).max() <= 0.005 + 1e-5


def test_stored_planes_take_little_more_than_two_bytes_a_pixel(tmp_path):
    valid = np.random.default_rng(0).random((300, 300)) < 0.9
    save_planes(tmp_path / "planes", [Plane("a", "vv", np.zeros((300, 300), np.float32), valid)])
    # 64 MiB must hold 25 million samples: at most 2.68 bytes each
    assert (tmp_path / "planes").stat().st_size < 2.2 * 300**2


@pytest.mark.parametrize("value", [np.nan, np.inf, 400.0])
def test_planes_that_are_no_decibel_are_not_stored(tmp_path, value):
    plane = flat_plane()
    plane.decibel[1, 1] = value
    with pytest.raises(RadiometryError, match="327"):
        save_planes(tmp_path / "planes", [plane])


def test_a_cut_file_of_planes_is_recognized(tmp_path):
    path = tmp_path / "planes.safetensors"
    save_planes(path, [Plane("a", "vv", np.zeros((30, 30), np.float32), np.ones((30, 30), bool))])
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ModelIntegrityError, match="Write it again"):
        load_planes_file(path)
