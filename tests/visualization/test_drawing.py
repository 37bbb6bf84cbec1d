"""Drawings, pixel by pixel."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import tifffile

from mmseg_instancenet.visualization import (
    class_map_to_color,
    draw_instances,
    draw_scores,
    embeddings_to_color,
    panel,
    pixels_for_display,
    read_for_display,
)
from mmseg_instancenet.visualization.drawing import distinct_color

GREY = 147
"""Value of a channel for which the embedding has no direction: the middle of 40 .. 255."""

CHANNELS = [1, 2, 0]
"""Green, blue and red in an RGB image."""


def principal_colors(x_ND: np.ndarray) -> np.ndarray:
    """The first three principal components by singular values, spread from percentile 1 to 99 over 40 .. 255, as green, blue
    and red."""
    centred = x_ND - x_ND.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    colors = np.full((len(x_ND), 3), 0.5)
    for channel, direction in enumerate(directions[:3]):
        if direction[np.abs(direction).argmax()] < 0:
            direction = -direction
        value = centred @ direction
        low, high = np.percentile(value, [1, 99])
        colors[:, CHANNELS[channel]] = np.clip((value - low) / (high - low), 0, 1)
    return 40 + 215 * colors


@pytest.mark.parametrize('dims', [1, 2, 3, 8])
@pytest.mark.parametrize('with_foreground', [False, True])
def test_embedding_colors_are_principal_components(dims, with_foreground):
    rng = np.random.default_rng(dims)
    spread = np.linspace(3, 1, dims)[:, None, None]  # no two directions vary alike
    embeddings = (rng.normal(size=(dims, 13, 17)) * spread + 5).astype(np.float32)
    foreground = rng.random((13, 17)) < 0.6 if with_foreground else None
    image = embeddings_to_color(embeddings, foreground)
    assert image.shape == (13, 17, 3) and image.dtype == np.uint8
    inside = np.ones((13, 17), bool) if foreground is None else foreground
    np.testing.assert_allclose(image[inside], principal_colors(embeddings[:, inside].T.astype(float)), atol=1.01)
    assert (image[~inside] == 0).all()
    assert (image[inside][:, CHANNELS[min(dims, 3) :]] == GREY).all()
    assert (image[inside][:, CHANNELS[: min(dims, 3)]].std(0) > 20).all()


@pytest.mark.parametrize('dims', [1, 2, 3, 8])
def test_constant_embeddings_have_one_color(dims):
    image = embeddings_to_color(np.full((dims, 4, 5), 0.1, np.float32))
    color = [40 if CHANNELS.index(channel) < dims else GREY for channel in range(3)]
    assert image.reshape(-1, 3).tolist() == [color] * 20


def test_embedding_colors_without_any_foreground_show_the_whole_map():
    embeddings = np.random.default_rng(0).normal(size=(3, 4, 5))
    np.testing.assert_array_equal(
        embeddings_to_color(embeddings, np.zeros((4, 5), bool)), embeddings_to_color(embeddings)
    )


def test_class_colors():
    class_map = np.array([[0, 1, 2], [255, 3, 1]])
    image = class_map_to_color(class_map, [(10, 20, 30), (40, 50, 60)])
    third = list(distinct_color(2))
    assert image.tolist() == [
        [[0, 0, 0], [10, 20, 30], [40, 50, 60]],
        [[128, 128, 128], third, [10, 20, 30]],
    ]
    np.testing.assert_array_equal(class_map_to_color(np.array([[5]]))[0, 0], distinct_color(4))


def test_distinct_colors_differ():
    colors = [distinct_color(index) for index in range(100)]
    assert len(set(colors)) == 100
    assert all(0 <= channel <= 255 for color in colors for channel in color)
    assert min(np.abs(np.subtract(a, b)).max() for a, b in pairwise(colors)) > 60


def painted(image: np.ndarray, ids: np.ndarray, alpha: float) -> np.ndarray:
    height, width = ids.shape
    result = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            own = ids[row, column]
            around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            near = [ids[r, c] for r, c in around if 0 <= r < height and 0 <= c < width]
            pixel = image[row, column].astype(float)
            if own > 0:
                color = np.array(distinct_color(own - 1), float)
                outline = any(other != own for other in near)
                pixel = color if outline else (1 - alpha) * pixel + alpha * color
            elif own < 0:
                pixel = 0.5 * pixel + 64
            result[row, column] = pixel
    return result


def test_instances_are_colored_and_the_background_stays_as_it_was():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    ids = np.zeros((24, 32), np.int64)
    ids[2:12, 3:14] = 1
    ids[6:20, 14:25] = 4
    ids[18:23, 1:8] = -1
    before = image.copy()
    result = draw_instances(image, ids, alpha=0.4)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(result[ids == 0], image[ids == 0])
    np.testing.assert_allclose(result, painted(image, ids, 0.4), atol=0.51)
    assert result[3:11, 4:13].std() > 0, 'the image is seen through the instance'
    np.testing.assert_array_equal(result[2, 3], distinct_color(0))
    np.testing.assert_array_equal(result[8, 13], distinct_color(0))  # also where it touches another


@pytest.mark.parametrize('value', [0, -1])
def test_image_without_instances(value):
    image = np.full((3, 4, 3), 100, np.uint8)
    result = draw_instances(image, np.full((3, 4), value))
    assert (result == (100 if value == 0 else 114)).all()


def test_panel_has_the_widths_of_its_images_at_one_height():
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in ((30, 60, 3), (128, 64, 3), (10, 30, 3))]
    result = panel(images, ['a', 'b', 'c'], height=60)
    widths = [120, 30, 180]
    assert result.shape == (60 + 24, sum(widths) + 2 * 4, 3)
    # The enlarged image is repeated, the diminished one averaged.
    np.testing.assert_array_equal(result[24:, :120], images[0].repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(result[24:, 124:154], cv2.resize(images[1], (30, 60), interpolation=cv2.INTER_AREA))
    np.testing.assert_array_equal(result[24:, 158:], images[2].repeat(6, axis=0).repeat(6, axis=1))
    assert (result[24:, 120:124] == 255).all()
    assert (result[:24] < 255).any(), 'titles'
    for left, right in ((0, 120), (124, 154), (158, 338)):
        assert (result[:24, left:right] < 100).any()


def test_scores_are_greys_with_their_digits_and_black_lines_between():
    ids = np.zeros((64, 128), np.int64)
    ids[8:40, 10:42], ids[8:40, 42:80], ids[50:54, 90:94] = 1, 2, 4
    drawn = draw_scores(ids, np.array([0.25, 1.5, 0.9, np.nan]), height=128)
    assert drawn.shape == (128, 256, 3) and (drawn[..., :1] == drawn).all()
    grey = drawn[..., 0].astype(int)
    # Where nothing is written: the corners of the boxes.
    assert grey[17, 21] == round(60 + 195 * 0.25) and grey[17, 155] == 255 and grey[101, 181] == 60
    assert (grey[16:80, 83] == 0).all() and grey[17, 82] == round(60 + 195 * 0.25) and grey[17, 84] == 255
    assert (grey[[15, 80], 20:160] == 0).all()
    # The digits are white on the dark one and black on the bright one, in their middle; the small one has no room for any.
    assert grey[40:56, 32:72].max() > 220 and grey[40:56, 32:72].min() == 109
    assert grey[40:56, 105:140].min() < 40
    assert len(np.unique(grey[100:108, 180:188])) == 1


def test_instances_at_another_height_are_apart_without_colours():
    image = np.full((16, 24, 3), 100, np.uint8)
    ids = np.zeros((16, 24), np.int64)
    ids[4:12, 4:12], ids[4:12, 12:20] = 1, 2
    drawn = draw_instances(image, ids, height=64)
    plain = draw_instances(image.repeat(4, 0).repeat(4, 1), ids.repeat(4, 0).repeat(4, 1))
    assert (drawn[16:48, 47] == 0).all()
    drawn[16:48, 47] = plain[16:48, 47]
    np.testing.assert_array_equal(drawn, plain)


def test_a_reference_gives_the_directions_and_the_range_of_the_colours():
    rng = np.random.default_rng(5)
    reference = (rng.normal(size=(4, 9, 7)) * [[[3]], [[2]], [[1]], [[0.5]]]).astype(np.float32)
    np.testing.assert_array_equal(
        embeddings_to_color(reference, reference_Dhw=reference), embeddings_to_color(reference)
    )
    # Everything at the mean of the reference: each pixel has the colour of that point.
    moved = np.broadcast_to(reference.mean((1, 2), keepdims=True), reference.shape)
    x_ND = reference.reshape(4, -1).T.astype(float)
    _, _, directions = np.linalg.svd(x_ND - x_ND.mean(0), full_matrices=False)
    expected = []
    for direction in directions[:3]:
        value = (x_ND - x_ND.mean(0)) @ (direction * np.sign(direction[np.abs(direction).argmax()]))
        low, high = np.percentile(value, [1, 99])
        expected.append(40 + 215 * (0 - low) / (high - low))
    found = embeddings_to_color(moved, reference_Dhw=reference)
    assert (found == found[0, 0]).all()
    np.testing.assert_allclose(found[0, 0], np.array(expected)[[2, 0, 1]], atol=1.01)


def test_dark_and_deep_images_are_stretched_for_display_and_others_are_not(tmp_path):
    rng = np.random.default_rng(0)
    images = {
        'dark': rng.integers(0, 30, (20, 30, 3)).astype(np.uint8),
        'deep': rng.integers(900, 5000, (20, 30, 3)).astype(np.uint16),
        'bright': rng.integers(0, 256, (20, 30, 3)).astype(np.uint8),
    }
    for name, image_HW3 in images.items():
        cv2.imwrite(str(tmp_path / f'{name}.png'), image_HW3[..., ::-1])
        shown = read_for_display(tmp_path / f'{name}.png')
        assert shown.dtype == np.uint8
        low, high = np.percentile(image_HW3, [1, 99.8])
        stretched = np.clip((image_HW3 - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(shown, image_HW3 if name == 'bright' else stretched, atol=0.51)
    channels = np.zeros((20, 30, 5), np.uint16)
    channels[:, :15, 1] = 1000
    tifffile.imwrite(tmp_path / 'five.tif', channels, planarconfig='contig')
    shown = read_for_display(tmp_path / 'five.tif')
    assert shown.shape == (20, 30, 3) and shown[3, 3].tolist() == [0, 255, 0] and shown[3, 20].tolist() == [0, 0, 0]
    (tmp_path / 'empty.png').write_bytes(b'')
    with pytest.raises(ValueError, match=r'expected an image that OpenCV can read, got .*empty\.png'):
        read_for_display(tmp_path / 'empty.png')


@pytest.mark.parametrize('channels, taken', [(1, [0, 0, 0]), (2, [0, 1, None]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_channels_that_are_shown(channels, taken):
    pixels = np.random.default_rng(channels).integers(0, 256, (9, 8, channels)).astype(np.uint8)
    expected = [np.zeros((9, 8)) if channel is None else pixels[..., channel] for channel in taken]
    np.testing.assert_array_equal(pixels_for_display(pixels), np.stack(expected, axis=2))
    deep = pixels.astype(np.uint16) * 16  # 12 bits, stretched
    shown = pixels_for_display(deep)
    assert shown.dtype == np.uint8 and shown.min() == 0 and shown.max() == 255
