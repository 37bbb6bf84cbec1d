"""Rows of the tables, against scikit-image's ``regionprops`` and sums over the whole masks."""

import math

import numpy as np
import pytest
from instance_results import ragged_masks, result_of
from skimage.measure import regionprops

from mmseg_instancenet.outputs import image_row, object_columns, object_rows


@pytest.mark.parametrize('channels', [1, 3])
def test_measurements_of_objects(channels):
    masks = ragged_masks(seed=2)
    pixels = np.random.default_rng(0).integers(0, 60_000, (*masks.shape[1:], channels)).astype(np.uint16)
    rows = object_rows(result_of(masks), 'a/1.png', pixels)
    assert [list(row) for row in rows] == [object_columns(channels)] * len(masks)
    for number, (row, mask) in enumerate(zip(rows, masks, strict=True), start=1):
        [region] = regionprops(mask.astype(np.uint8))
        assert (row['image'], row['id'], row['class']) == ('a/1.png', number, ['cat', 'dog'][number % 2])
        assert row['score'] == pytest.approx(0.9 / number, rel=1e-6)
        assert row['area'] == region.area
        assert (row['y1'], row['x1'], row['y2'], row['x2']) == region.bbox
        assert (row['centroid_y'], row['centroid_x']) == pytest.approx(region.centroid)
        assert row['perimeter'] == pytest.approx(region.perimeter_crofton)
        means = [row[f'mean_intensity_{channel}'] for channel in range(1, channels + 1)]
        assert means == pytest.approx(pixels[mask].astype(float).mean(axis=0).tolist())


@pytest.mark.parametrize('radius, within', [(5, 0.09), (8, 0.05), (12, 0.02), (30, 0.02)])
def test_perimeter_of_a_disc(radius, within):
    row, column = np.indices((64, 64)) - 32
    [measured] = object_rows(result_of((row**2 + column**2 <= radius**2)[None]), 'disc')
    assert measured['perimeter'] == pytest.approx(2 * math.pi * radius, rel=within)


def test_physical_units():
    masks = ragged_masks(seed=3)
    without = object_rows(result_of(masks), 'a')
    rows = object_rows(result_of(masks), 'a', pixel_size=0.25)
    assert list(rows[0]) == object_columns(0, 0.25)
    for row, plain in zip(rows, without, strict=True):
        assert row['area_um2'] == plain['area'] / 16
        for name in ('centroid_x', 'centroid_y', 'perimeter'):
            assert row[f'{name}_um'] == plain[name] / 4
        assert {name: row[name] for name in plain} == plain


@pytest.mark.parametrize('pixel_size', [0, -0.5, float('nan'), float('inf')])
def test_pixel_sizes_that_are_none(pixel_size):
    with pytest.raises(ValueError, match='positive pixel size in micrometres, got'):
        object_rows(result_of(ragged_masks(seed=0)), 'a', pixel_size=pixel_size)


@pytest.mark.parametrize('shape', [(40, 33, 1), (33, 40), (33, 41, 3)])
def test_pixels_of_another_image(shape):
    with pytest.raises(ValueError, match=r'b\.png: expected pixels \(33, 40, C\)'):
        object_rows(result_of(ragged_masks(seed=0)), 'b.png', np.zeros(shape))


def test_row_of_an_image():
    masks = ragged_masks(seed=0)[:5]
    expected = {'image': 'a.png', 'width': 40, 'height': 33, 'count': 5, 'count_cat': 1, 'count_dog': 2, 'count_cow': 2}
    assert image_row(result_of(masks, ['cat', 'dog', 'cow']), 'a.png') == expected
    assert object_rows(result_of(masks[:0]), 'a.png', np.zeros((33, 40, 1))) == []
