"""Symmetric extension against NumPy's, tiles, and blending without seams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsarcomp.errors import DimensionError
from xsarcomp.tiling import aligned_spans, blended, equal_spans, raised_cosine_weights, reflect_indices, round_up


@given(
    size=st.integers(1, 12),
    start=st.integers(-60, 60),
    length=st.integers(0, 60),
)
def test_reflected_indices_equal_symmetric_padding_of_numpy(size, start, length):
    indices, is_reversed = reflect_indices(start, start + length, size)
    padded = np.pad(np.arange(size), 120, mode="symmetric")
    np.testing.assert_array_equal(indices, padded[start + 120 : start + length + 120])
    assert indices.shape == is_reversed.shape == (length,)


@given(size=st.integers(2, 12), start=st.integers(-60, 60))
def test_reversed_marks_where_the_indices_run_backwards(size, start):
    indices, is_reversed = reflect_indices(start, start + 40, size)
    steps, same_turn = np.diff(indices), is_reversed[1:] == is_reversed[:-1]
    np.testing.assert_array_equal(steps[same_turn], np.where(is_reversed[1:], -1, 1)[same_turn])
    np.testing.assert_array_equal(steps[~same_turn], 0)
    inside = (np.arange(start, start + 40) >= 0) & (np.arange(start, start + 40) < size)
    assert not is_reversed[inside].any()


@pytest.mark.parametrize(("start", "stop", "size"), [(3, 2, 5), (0, 1, 0), (0, 0, -1)])
def test_impossible_extension_is_refused(start, stop, size):
    with pytest.raises(DimensionError):
        reflect_indices(start, stop, size)


@given(first=st.integers(0, 500), size=st.integers(0, 1000), multiple=st.integers(1, 300))
def test_aligned_spans_cover_the_range_once_and_meet_at_multiples(first, size, multiple):
    spans = aligned_spans(first, first + size, multiple)
    covered = [point for start, stop in spans for point in range(start, stop)]
    assert covered == list(range(first, first + size))
    assert all(0 < stop - start <= multiple for start, stop in spans)
    assert all(start % multiple == 0 for start, _ in spans[1:])


@given(value=st.integers(-1000, 1000), multiple=st.integers(1, 50))
def test_rounding_up_gives_the_nearest_multiple_above(value, multiple):
    rounded = round_up(value, multiple)
    assert rounded % multiple == 0
    assert value <= rounded < value + multiple


def test_a_multiple_of_nothing_is_refused():
    with pytest.raises(DimensionError, match="expected"):
        round_up(4, 0)


@given(length=st.integers(1, 200), data=st.data())
def test_shifted_weights_sum_to_one_exactly(length, data):
    overlap = data.draw(st.integers(0, length // 2))
    weights = raised_cosine_weights(length, overlap)
    stride = length - overlap
    total = np.zeros(stride * 5 + overlap)
    for shift in range(5):
        total[shift * stride : shift * stride + length] += weights
    assert (total[overlap : stride * 5] == 1.0).all()
    np.testing.assert_array_equal(weights, weights[::-1])
    assert weights.min() > 0
    assert weights.max() <= 1


def test_weights_rise_as_a_raised_cosine():
    rise = raised_cosine_weights(64, 16)[:16]
    expected = 0.5 - 0.5 * np.cos(np.pi * (np.arange(16) + 0.5) / 16)
    np.testing.assert_allclose(rise, expected, atol=1e-15)


@pytest.mark.parametrize(("length", "overlap"), [(8, 5), (8, -1), (0, 0), (1, 1)])
def test_overlap_in_which_three_tiles_meet_is_refused(length, overlap):
    with pytest.raises(DimensionError, match="half a tile"):
        raised_cosine_weights(length, overlap)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 41),
    columns=st.integers(1, 41),
    tile=st.integers(4, 17),
    scale=st.integers(1, 3),
    data=st.data(),
)
def test_blending_the_identity_returns_the_image(rows, columns, tile, scale, data):
    overlap = data.draw(st.integers(0, tile // 2))
    image = np.random.default_rng(rows * columns).normal(-12.0, 5.0, (2, rows, columns))
    result = blended(
        lambda part: part.repeat(scale, axis=1).repeat(scale, axis=2),
        image,
        tile=tile,
        overlap=overlap,
        scale=scale,
    )
    expected = image.repeat(scale, axis=1).repeat(scale, axis=2)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (40, 12), (72, 100)])
def test_blending_a_reduction_returns_one_value_for_each_block(rows, columns):
    image = np.random.default_rng(3).normal(size=(2, rows, columns))

    def block_means(part):
        return part.reshape(len(part), 8, 4, 8, 4).mean((2, 4))

    reduced = blended(block_means, image, tile=32, overlap=8, stride=4)
    np.testing.assert_allclose(reduced, image.reshape(2, rows // 4, 4, columns // 4, 4).mean((2, 4)), atol=1e-12)


@pytest.mark.parametrize("sizes", [(34, 8, 4), (32, 6, 4), (32, 8, 0), (32, 8, 16)])
def test_a_stride_that_divides_not_all_sizes_is_refused(sizes):
    tile, overlap, stride = sizes
    with pytest.raises(DimensionError, match=f"stride {stride}"):
        blended(lambda part: part, np.zeros((1, 40, 40)), tile=tile, overlap=overlap, stride=stride)


def test_blending_keeps_the_float_type_of_the_function_and_its_planes():
    image = np.ones((3, 20, 9), dtype=np.float32)
    result = blended(lambda part: part[:2], image, tile=8, overlap=2)
    assert (result.dtype, result.shape) == (np.float32, (2, 20, 9))
    assert blended(lambda part: part.astype(int), image, tile=8, overlap=2).dtype == np.float64


def test_every_tile_that_the_function_sees_is_whole_and_symmetrically_extended():
    image, seen = np.arange(6.0).reshape(1, 2, 3), []
    blended(lambda part: (seen.append(part), part)[1], image, tile=8, overlap=4)
    padded = np.pad(image, [(0, 0), (20, 20), (20, 20)], mode="symmetric")
    assert {part.shape for part in seen} == {(1, 8, 8)}
    np.testing.assert_array_equal(seen[0], padded[:, 16:24, 16:24])


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((1, 0, 4))])
def test_image_without_planes_or_pixels_is_refused(image):
    with pytest.raises(DimensionError, match="plane, y, x"):
        blended(lambda part: part, image, tile=4, overlap=1)


def test_function_with_an_unexpected_output_size_is_refused():
    with pytest.raises(DimensionError, match="scale 2"):
        blended(lambda part: part, np.zeros((1, 9, 9)), tile=4, overlap=1, scale=2)
    with pytest.raises(DimensionError, match="scale 0"):
        blended(lambda part: part, np.zeros((1, 9, 9)), tile=4, overlap=1, scale=0)


def _seam_ratio(result, image, tile, overlap):
    """Mean squared jump of the error across the places where tiles begin or end, over that elsewhere."""
    error = result - image
    jumps = np.diff(error, axis=2) ** 2
    starts = np.arange(-overlap, image.shape[2], tile - overlap)
    borders = np.concatenate([starts, starts + tile]) - 1
    at_border = np.isin(np.arange(jumps.shape[2]), borders)
    return jumps[..., at_border].mean() / jumps[..., ~at_border].mean()


@pytest.mark.slow
def test_blending_hides_the_tile_grid_of_a_group_normalized_network():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(2)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(2, 8, 3, padding=1),
        torch.nn.GroupNorm(2, 8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 2, 3, padding=1),
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)

    def network(part):
        with torch.no_grad():
            tensor = torch.from_numpy(part.astype(np.float32))
            return (tensor + layers(tensor[None])[0]).numpy()

    # A slope across the plane makes the statistics of each tile differ, as between land and sea.
    noise = np.random.default_rng(2).normal(0.0, 1.0, (2, 150, 170))
    image = noise + np.linspace(0.0, 6.0, 170)[None, None, :]
    blended_ratio = _seam_ratio(blended(network, image, tile=32, overlap=16), image, 32, 16)
    cut_ratio = _seam_ratio(blended(network, image, tile=32, overlap=0), image, 32, 0)
    assert 0.85 < blended_ratio < 1.15
    assert cut_ratio > 2


@given(size=st.integers(0, 500), largest=st.integers(1, 90))
def test_equal_spans_cover_an_axis_with_few_pieces_of_one_size(size, largest):
    spans = equal_spans(size, largest)
    assert [place for span in spans for place in range(*span)] == list(range(size))
    assert len(spans) == -(-size // largest)
    lengths = [stop - start for start, stop in spans]
    assert all(0 < length <= largest for length in lengths)
    assert not lengths or max(lengths) - min(lengths) <= 1
