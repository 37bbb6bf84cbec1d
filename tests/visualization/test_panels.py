"""Drawings of results, column by column."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from mmseg_instancenet.visualization import (
    class_map_to_color,
    draw_instances,
    draw_panel,
    draw_scores,
    embeddings_to_color,
)
from mmseg_instancenet.visualization.drawing import distinct_color

SIZE = (32, 48)
WIDTH = 384
"""Of a column: 48 pixels, eight times as large."""


def result(class_map: np.ndarray, with_truth: bool = False, **fields: PixelData) -> DetDataSample:
    """A data sample with two instances, and other fields."""
    ids = np.zeros(SIZE, np.int64)
    ids[8:24, 16:28] = 1
    ids[8:24, 28:40] = 2
    sample = DetDataSample()
    sample.pred_sem_seg = PixelData(data=torch.from_numpy(class_map)[None])
    sample.pred_instances = InstanceData(scores=torch.tensor([0.25, 0.875]))
    fields['pred_instance_map'] = PixelData(data=torch.from_numpy(ids)[None])
    if with_truth:
        fields['gt_instance_map'] = PixelData(data=torch.from_numpy(ids * 3)[None])
    for name, value in fields.items():
        sample.set_field(value, name, dtype=PixelData)
    return sample


def random_maps(count: int, **metainfo) -> PixelData:
    embeddings = np.random.default_rng(0).normal(size=(count * 3, 8, 12)).astype(np.float32)
    return PixelData(metainfo=metainfo, data=torch.from_numpy(embeddings))


def columns(panel_HW3: np.ndarray) -> list[np.ndarray]:
    """The columns of a panel, without their titles."""
    count = (panel_HW3.shape[1] + 4) // (WIDTH + 4)
    assert panel_HW3.shape == (256 + 24, count * (WIDTH + 4) - 4, 3)
    return [panel_HW3[24:, start : start + WIDTH] for start in range(0, panel_HW3.shape[1], WIDTH + 4)]


def enlarged(image_HW3: np.ndarray) -> np.ndarray:
    factor = 256 // image_HW3.shape[0]
    return image_HW3.repeat(factor, axis=0).repeat(factor, axis=1)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


@pytest.fixture
def class_map() -> np.ndarray:
    classes = np.zeros(SIZE, np.int64)
    classes[8:24, 16:40] = 1
    return classes


@pytest.mark.parametrize('with_truth', [False, True])
def test_panel_of_a_result(image, class_map, with_truth):
    embeddings = random_maps(1)
    sample = result(class_map, with_truth, pred_embeddings=embeddings)
    drawn = columns(draw_panel(image, sample, [(1, 2, 3)]))
    ids = sample.pred_instance_map.data[0].numpy()
    expected = [
        enlarged(image),
        enlarged(class_map_to_color(class_map, [(1, 2, 3)])),
        enlarged(embeddings_to_color(embeddings.data.numpy(), class_map[2::4, 2::4] > 0)),
        draw_instances(image, ids, height=256),
        draw_scores(ids, np.array([0.25, 0.875]), height=256),
        *([draw_instances(image, ids * 3, height=256)] if with_truth else []),
    ]
    for found, part in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(found, part)
    # Inside of the first instance in the fourth and fifth column, by hand.
    colour = 0.45 * image[15, 20] + 0.55 * np.array(distinct_color(0))
    np.testing.assert_allclose(drawn[3][15 * 8 + 4, 20 * 8 + 4], colour, atol=1)
    assert (drawn[4][8 * 8 + 4, 17 * 8] == round(60 + 195 * 0.25)).all()


def test_parts_that_are_not_asked_for_are_left_out(image, class_map):
    sample = result(class_map, with_truth=True, pred_embeddings=random_maps(1))
    assert len(columns(draw_panel(image, sample, draw_gt=False))) == 5
    assert len(columns(draw_panel(image, sample, draw_pred=False))) == 2
    (alone,) = columns(draw_panel(image, DetDataSample()))
    np.testing.assert_array_equal(alone, enlarged(image))


@pytest.mark.parametrize('loops', [0, 1, 3])
def test_each_iteration_has_a_column_in_the_colours_of_the_first(image, class_map, loops):
    iterations = random_maps(loops + 1, embedding_dims=3)
    sample = result(class_map, pred_embeddings=random_maps(1) if loops else iterations, embedding_iterations=iterations)
    drawn = columns(draw_panel(image, sample))
    assert len(drawn) == 5 + loops
    first, *_ = maps = iterations.data.numpy().reshape(-1, 3, 8, 12)
    for found, embeddings in zip(drawn[2 : 3 + loops], maps, strict=True):
        np.testing.assert_array_equal(
            found, enlarged(embeddings_to_color(embeddings, class_map[2::4, 2::4] > 0, first))
        )


def test_the_embedding_of_a_window_lies_where_the_window_does(image, class_map):
    embeddings = random_maps(1, image_box=(0, 16, 16, 48))
    shown = columns(draw_panel(image, result(class_map, pred_embeddings=embeddings)))[2][4::8, 4::8]
    # The window is 16 x 32 pixels, its map 8 x 12 cells.
    foreground = class_map[:16, 16:][1::2][:, (np.arange(12) * 32 / 12 + 16 / 12).astype(int)] > 0
    colors = embeddings_to_color(embeddings.data.numpy(), foreground)
    expected = cv2.resize(colors, (32, 16), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(shown[:16, 16:], expected)
    assert (shown[16:] == 128).all() and (shown[:, :16] == 128).all()


@pytest.mark.parametrize('background', [True, False])
def test_classes_without_a_background_begin_with_the_first_colour(image, background):
    classes = np.arange(3).repeat(16)[None].repeat(32, axis=0)
    classes[0] = 255
    sample = result(classes)
    sample.set_metainfo({'background': background})
    palette = [(10, 20, 30), (40, 50, 60), (70, 80, 90)]
    drawn = columns(draw_panel(image, sample, palette))[1][4::8, 4::8]
    expected = np.array([(0, 0, 0), *palette] if background else palette)[classes[1:]]
    np.testing.assert_array_equal(drawn[1:], expected)
    assert (drawn[0] == 128).all()


def test_an_image_of_another_size_is_refused(image, class_map):
    with pytest.raises(ValueError, match=r'expected an image of the size \(32, 48\) of pred_sem_seg, got \(48, 32\)'):
        draw_panel(image.transpose(1, 0, 2), result(class_map))


def test_ignored_pixels_have_no_colour(image, class_map):
    """They take no part in mean shift either, and would change the colours of the others."""
    embeddings = random_maps(1)
    shown = columns(draw_panel(image, result(np.where(class_map > 0, 1, 255), pred_embeddings=embeddings)))[2]
    foreground = class_map[2::4, 2::4] > 0
    np.testing.assert_array_equal(shown, enlarged(embeddings_to_color(embeddings.data.numpy(), foreground)))


def test_a_result_without_instances(image, class_map):
    sample = result(class_map * 0, pred_embeddings=random_maps(1))
    sample.pred_instances = InstanceData(scores=torch.zeros(0))
    sample.pred_instance_map.data.zero_()
    drawn = columns(draw_panel(image, sample))
    np.testing.assert_array_equal(drawn[3], enlarged(image))
    assert (drawn[4] == 0).all()
