"""Positions of the cells of image, input and map on one another."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from mmseg_instancenet.structures import MapPlacement, bilinear_neighbours, resize_labels, sample_bilinear

CPU = torch.device('cpu')
BIG = [0, -1, 255, 2**24 + 1, 300000001, 2**53 + 1, 2**62 + 1, 2**63 - 1]


@pytest.mark.parametrize('size', [(1, 1), (3, 5), (7, 4), (8, 12), (16, 3), (24, 36), (13, 17)])
def test_resize_labels_takes_the_label_under_each_centre(size):
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor(BIG)[torch.randint(len(BIG), (2, 8, 12), generator=generator)]
    result = resize_labels(labels, size)
    assert result.dtype == torch.long
    assert result.shape == (2, *size)
    for row, column in itertools.product(range(size[0]), range(size[1])):
        # In whole numbers: floor((i + 1/2) old / new).
        source = labels[:, (2 * row + 1) * 8 // (2 * size[0]), (2 * column + 1) * 12 // (2 * size[1])]
        assert torch.equal(result[:, row, column], source)


def test_resize_labels_keeps_type_and_leading_axes():
    labels = torch.arange(16, dtype=torch.uint8).view(4, 4)
    result = resize_labels(labels, (2, 2))
    assert result.dtype == torch.uint8
    assert result.tolist() == [[5, 7], [13, 15]]
    assert torch.equal(resize_labels(labels.view(1, 1, 4, 4), (2, 2))[0, 0], result)
    assert torch.equal(resize_labels(labels, (4, 4)), labels)


@pytest.mark.parametrize('size', [(5, 7), (10, 14), (20, 9), (3, 3), (1, 1)])
def test_sample_bilinear_is_torchs_interpolation(size):
    map_Dhw = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    row = (torch.arange(size[0], dtype=torch.float64) + 0.5) * 5 / size[0]
    column = (torch.arange(size[1], dtype=torch.float64) + 0.5) * 7 / size[1]
    expected = F.interpolate(map_Dhw[None], size=size, mode='bilinear', align_corners=False)[0]
    torch.testing.assert_close(sample_bilinear(map_Dhw, row, column), expected)
    result = sample_bilinear(map_Dhw.float(), row, column)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected.float(), rtol=1e-4, atol=1e-5)


def test_sample_bilinear_replicates_the_border():
    map_Dhw = torch.tensor([[[0.0, 1.0, 4.0]]])
    column = torch.tensor([-3.0, 0.0, 0.5, 0.75, 2.0, 2.5, 3.0, 9.0], dtype=torch.float64)
    result = sample_bilinear(map_Dhw, torch.tensor([-1.0, 0.5, 7.0]), column)
    torch.testing.assert_close(result[0], torch.tensor([[0.0, 0, 0, 0.25, 2.5, 4, 4, 4]]).expand(3, -1))


def test_bilinear_neighbours():
    position = torch.tensor([0.0, 0.4, 0.5, 0.75, 1.5, 2.25, 2.5, 2.9, 3.0], dtype=torch.float64)
    (lower, lower_share), (upper, upper_share) = bilinear_neighbours(position, 3)
    assert lower.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    assert upper.tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 2]
    assert upper_share[2:7].tolist() == [0, 0.25, 0, 0.75, 0]
    torch.testing.assert_close(lower_share + upper_share, torch.ones_like(position))
    # Their blend is what sample_bilinear reads.
    values = torch.tensor([2.0, -1.0, 5.0], dtype=torch.float64)
    blend = values[lower] * lower_share + values[upper] * upper_share
    row = torch.tensor([0.5], dtype=torch.float64)
    torch.testing.assert_close(blend, sample_bilinear(values.view(1, 1, 3), row, position)[0, 0])


FLIPS = list(itertools.product([False, True], repeat=2))


def physical_map(image, factor, flipped, padded, origin, window, step):
    """An image of labels, enlarged, flipped, padded with -1, cut, and sampled in cells of step x step."""
    result = image.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    for axis in (0, 1):
        if flipped[axis]:
            result = result.flip(axis)
    result = F.pad(result, (0, padded[1] - result.shape[1], 0, padded[0] - result.shape[0]), value=-1)
    result = result[origin[0] : origin[0] + window[0], origin[1] : origin[1] + window[1]]
    return result[step // 2 :: step, step // 2 :: step]


@pytest.mark.parametrize('flipped', FLIPS)
@pytest.mark.parametrize('origin, window', [((0, 0), (18, 27)), ((3, 6), (9, 15)), ((0, 12), (18, 15))])
def test_map_to_image_follows_the_pixels(flipped, origin, window):
    image = torch.arange(5 * 7).view(5, 7)
    placement = MapPlacement((5, 7), (15, 21), window, origin, flipped)
    seen = physical_map(image, 3, flipped, (18, 27), origin, window, 3)
    row, row_inside = placement.map_to_image(0, seen.shape[0], CPU)
    column, column_inside = placement.map_to_image(1, seen.shape[1], CPU)
    inside = row_inside[:, None] & column_inside[None, :]
    assert torch.equal(inside, seen != -1)
    assert torch.equal(image[row[:, None], column[None, :]][inside], seen[inside])
    assert inside.sum() > 0


@pytest.mark.parametrize('flipped', FLIPS)
@pytest.mark.parametrize('origin, window', [((0, 0), (16, 24)), ((4, 8), (8, 12)), ((0, 12), (16, 12))])
def test_image_to_map_reads_the_same_values(flipped, origin, window):
    map_Dhw = torch.randn(2, window[0] // 2, window[1] // 2, dtype=torch.float64)
    # The image is 13 x 21, neither enlarged nor reduced, in an input of 16 x 24.
    placement = MapPlacement((13, 21), (13, 21), window, origin, flipped)
    canvas = torch.full((2, 16, 24), float('nan'), dtype=torch.float64)
    # A cell whose centre lies in the padding is not looked at: the last one inside goes on.
    inside = map_Dhw.clone()
    last = [min(size // 2, (edge - first) // 2) - 1 for size, edge, first in zip(window, (13, 21), origin, strict=True)]
    inside[:, last[0] + 1 :] = inside[:, last[0] : last[0] + 1]
    inside[:, :, last[1] + 1 :] = inside[:, :, last[1] : last[1] + 1]
    at_input = F.interpolate(inside[None], size=window, mode='bilinear', align_corners=False)[0]
    canvas[:, origin[0] : origin[0] + window[0], origin[1] : origin[1] + window[1]] = at_input
    expected = canvas[:, :13, :21]
    for axis in (0, 1):
        if flipped[axis]:
            expected = expected.flip(1 + axis)
    row, rows = placement.image_to_map(0, map_Dhw.shape[1], CPU)
    column, columns = placement.image_to_map(1, map_Dhw.shape[2], CPU)
    result = torch.full((2, 13, 21), float('nan'), dtype=torch.float64)
    row, column = (placement.keep_inside(axis, map_Dhw.shape[1 + axis], x) for axis, x in ((0, row), (1, column)))
    result[:, rows, columns] = sample_bilinear(map_Dhw, row, column)
    torch.testing.assert_close(result, expected, equal_nan=True)
    assert torch.isfinite(result).any()


@pytest.mark.parametrize('flipped', [False, True])
@pytest.mark.parametrize(
    'original, image, input_, origin, length',
    [(37, 37, 37, 0, 10), (37, 61, 64, 0, 16), (100, 61, 64, 0, 16), (480, 513, 256, 257, 64), (333, 97, 40, 30, 11)],
)
def test_round_trip(original, image, input_, origin, length, flipped):
    """A cell, taken to the image's pixel under its centre, comes back to within half of that pixel."""
    for axis in (0, 1):
        sizes = [(n, n) if axis == 0 else (1, n) for n in (original, image, input_)]
        placement = MapPlacement(
            *sizes, (0, origin) if axis else (origin, 0), (axis == 0 and flipped, axis == 1 and flipped)
        )
        pixel, inside = placement.map_to_image(axis, length, CPU)
        position, span = placement.image_to_map(axis, length, CPU)
        half_a_pixel = 0.5 * image / original * length / input_
        cells = torch.arange(length, dtype=torch.float64) + 0.5
        back = torch.full((original,), float('nan'), dtype=torch.float64)
        back[span] = position
        covered = inside & torch.isfinite(back[pixel])
        # A pixel whose own centre lies outside the window is not covered: one at each end at most.
        assert covered.sum() >= inside.sum() - 2
        assert covered.sum() > 0
        assert ((back[pixel] - cells).abs()[covered] <= half_a_pixel + 1e-9).all()
        assert pixel.min() >= 0
        assert pixel.max() < original
        assert len(position) == span.stop - span.start


def test_window_in_the_padding_covers_nothing():
    placement = MapPlacement((10, 10), (10, 10), (8, 8), (12, 0))
    position, span = placement.image_to_map(0, 4, CPU)
    assert len(position) == 0
    assert range(10)[span] == range(0)
    assert not placement.map_to_image(0, 4, CPU)[1].any()
    assert placement.map_to_image(1, 4, CPU)[1].all()
