"""The part of an image around an object, pixel by pixel."""

import numpy as np
import pytest

from mmseg_instancenet.visualization import draw_crop

SIZE = (60, 80)


def image():
    """The red value of a pixel is its row, the green one its column."""
    row_HW, column_HW = np.indices(SIZE)
    return np.stack([row_HW, column_HW, np.zeros(SIZE, int)], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ('box', 'rows', 'columns'),
    [
        ((30, 25, 40, 35), (9, 51), (14, 56)),  # 16 pixels on each side
        ((0, 50, 4, 60), (18, 60), (0, 42)),  # moved inside
        ((20, 5, 60, 45), (0, 60), (0, 80)),  # 20 on each side: wider than the image is high
    ],
)
def test_part_around_the_box(box, rows, columns):
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    drawing = draw_crop(image(), {}, box, height)
    assert drawing.shape == (24 + height, width, 3)
    part = drawing[24:]
    left, top, right, bottom = box[0] - columns[0], box[1] - rows[0], box[2] - columns[0], box[3] - rows[0]
    far = np.ones((height, width), bool)
    far[max(0, top - 3) : bottom + 4, max(0, left - 3) : right + 4] = False
    assert (part == image()[slice(*rows), slice(*columns)])[far].all()
    assert (part[top, left : min(right, width - 1)] == 255).all()
    inside = part[top + 3 : bottom - 3, left + 3 : right - 3]
    assert (inside == image()[box[1] + 3 : box[3] - 3, box[0] + 3 : box[2] - 3]).all()


def test_instances_beside_the_input():
    instance_HW = np.zeros(SIZE, int)
    instance_HW[25:35, 30:40] = 1
    drawing = draw_crop(image(), {'truth': instance_HW}, (30, 25, 40, 35), 42)
    assert drawing.shape == (24 + 42, 2 * 42 + 4, 3)
    plain, drawn = drawing[24:, :42], drawing[24:, 46:]
    differs = (plain != drawn).any(2)
    assert differs[20:23, 20:23].all() and not differs[:13].any() and not differs[:, 30:].any()
