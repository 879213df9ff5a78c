"""Pieces of a plane: all of it, once, and none too small to be measured."""

import numpy as np
import pytest

from xsarcomp.evaluation import plane_pair
from xsarcomp.evaluation.matching import array_pairs


@pytest.mark.parametrize(
    ("length", "sizes"),
    [(1, [1]), (100, [100]), (149, [149]), (150, [100, 50]), (249, [100, 149]), (250, [100, 100, 50]), (0, [0])],
)
def test_pieces_cover_the_plane_and_none_is_a_sliver(monkeypatch, length, sizes):
    monkeypatch.setattr(plane_pair, "PIECE_PIXELS", 100)
    values = np.arange(3.0 * length).reshape(3, length) + 1
    (pair,) = array_pairs(values, values, scale="power")
    pieces = list(pair.pieces())
    assert [piece.valid.shape for piece in pieces] == [(3, size) for size in sizes]
    np.testing.assert_array_equal(np.concatenate([piece.restored_power for piece in pieces], axis=1), values)


def test_decibels_of_invalid_pixels_are_harmless_and_validity_is_common():
    original, restored = np.array([[0.1, np.nan, 1.0]]), np.array([[0.01, 1.0, 0.0]])
    (pair,) = array_pairs(original, restored, scale="power")
    np.testing.assert_allclose(pair.original_db, [[-10, 0, 0]])
    np.testing.assert_allclose(pair.restored_db, [[-20, 0, 0]])
    assert pair.valid.tolist() == [[True, False, False]]
