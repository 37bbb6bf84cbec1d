"""Outlines against shapely, which finds the pixels within them, and scikit-image, which counts the pieces."""

import numpy as np
import pytest
import shapely
from instance_results import ragged_masks
from skimage.measure import label

from mmseg_instancenet.outputs import mask_outlines, outlines
from mmseg_instancenet.structures import MaskCrop


def polygon_of(pieces) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([shapely.Polygon(outer, holes) for outer, *holes in pieces])


def shoelace(ring) -> float:
    return sum(x * y2 - x2 * y for (x, y), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True)) / 2


def check(pieces, mask_HW) -> None:
    polygon = polygon_of(pieces)
    assert polygon.is_valid, shapely.is_valid_reason(polygon)
    assert polygon.area == mask_HW.sum()
    row, column = np.indices(mask_HW.shape)
    np.testing.assert_array_equal(shapely.contains_xy(polygon, column + 0.5, row + 0.5), mask_HW)
    assert len(pieces) == label(mask_HW, connectivity=1).max()
    for outer, *holes in pieces:
        assert shoelace(outer) > 0 and all(shoelace(hole) < 0 for hole in holes)
        for ring in (outer, *holes):  # it turns at every corner
            steps = np.diff(ring, axis=0, append=ring[:1])
            assert ((steps != 0).sum(1) == 1).all() and ((steps[::2] == 0) == (steps[0] == 0)).all()


@pytest.mark.parametrize('seed', range(8))
def test_polygons_are_valid_and_cover_the_pixels_of_the_mask(seed):
    masks = ragged_masks(seed)
    for pieces, mask in zip(mask_outlines([MaskCrop(0, 0, mask) for mask in masks]), masks, strict=True):
        check(pieces, mask)


def test_all_masks_of_four_by_three_pixels():
    numbers = np.arange(1, 2**12)
    masks = (numbers[:, None] >> np.arange(12) & 1).astype(bool).reshape(-1, 4, 3)
    for pieces, mask in zip(mask_outlines([MaskCrop(0, 0, mask) for mask in masks]), masks, strict=True):
        polygon = polygon_of(pieces)
        assert polygon.is_valid and polygon.area == mask.sum()
        assert [
            shapely.contains_xy(polygon, c + 0.5, r + 0.5) for r in range(4) for c in range(3)
        ] == mask.ravel().tolist()


def test_place_in_the_image():
    ring_with_hole = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
    pixel = np.ones((1, 1), np.uint8)
    [[outer, hole]], [[square]] = mask_outlines([MaskCrop(10, 20, ring_with_hole), MaskCrop(0, 7, pixel)])
    assert outer.tolist() == [[20, 10], [23, 10], [23, 13], [20, 13]]
    assert sorted(hole.tolist()) == [[21, 11], [21, 12], [22, 11], [22, 12]] and shoelace(hole) == -1
    assert square.tolist() == [[7, 0], [8, 0], [8, 1], [7, 1]]


def test_pixels_that_touch_at_a_corner():
    """Two pieces in the first; one piece in the others, whose hole touches the outside, or a second hole."""
    apart = np.array([[1, 0], [0, 1]])
    outside = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    holes = np.pad(np.array([[0, 1], [1, 0]]), 1, constant_values=1)
    pieces = mask_outlines([MaskCrop(0, 0, mask.astype(np.uint8)) for mask in (apart, outside, holes)])
    assert [[len(piece) for piece in one] for one in pieces] == [[1, 1], [2], [3]]


@pytest.mark.parametrize('pixels', [1, 2000, 2**20])
def test_result_does_not_depend_on_the_masks_that_are_done_at_once(monkeypatch, pixels):
    masks = np.concatenate([ragged_masks(seed, count=4) for seed in range(3)])
    alone = [mask_outlines([MaskCrop(2, 3, mask)])[0] for mask in masks]
    monkeypatch.setattr(outlines, '_PIXELS_AT_ONCE', pixels)
    together = mask_outlines([MaskCrop(2, 3, mask) for mask in masks])
    as_lists = [[[[ring.tolist() for ring in piece] for piece in one] for one in some] for some in (alone, together)]
    assert as_lists[0] == as_lists[1]


def test_no_mask_and_a_mask_without_pixels():
    assert mask_outlines([]) == []
    with pytest.raises(ValueError, match='at least one pixel, got none in mask 1'):
        mask_outlines([MaskCrop(0, 0, np.ones((2, 2))), MaskCrop(0, 0, np.zeros((0, 0)))])
