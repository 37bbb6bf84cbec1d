"""From masks to label maps, alone and in whole pipelines, against plain painting."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as coco_mask

from mmseg_instancenet.datasets import CocoInstanceDataset
from mmseg_instancenet.datasets.transforms import PackInstanceMaps, ResizeLongerSide, masks_to_maps

LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadInstanceMasks'}]
FINISH = [{'type': 'MasksToMaps'}, {'type': 'PackInstanceMaps'}]


def paint(masks: np.ndarray, labels: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return masks_to_maps(BitmapMasks(masks, *masks.shape[1:]), labels, ignored)


def painted(masks: np.ndarray, labels: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel by pixel: the smallest object there (the last among equals), else ignore, else background."""
    height, width = masks.shape[1:]
    class_map, instance_map = np.zeros((height, width), int), np.zeros((height, width), int)
    for row in range(height):
        for column in range(width):
            here = [k for k in range(len(masks)) if masks[k, row, column]]
            objects = [k for k in here if not ignored[k]]
            if objects:
                winner = min(objects, key=lambda k: (masks[k].sum(), -k))
                class_map[row, column], instance_map[row, column] = labels[winner] + 1, winner + 1
            elif here:
                class_map[row, column], instance_map[row, column] = 255, -1
    return class_map, instance_map


@pytest.mark.parametrize('order', [[0, 1], [1, 0]])
def test_smaller_lies_on_top_in_either_order(order):
    masks = np.array([[[1, 1, 1, 1]], [[0, 1, 1, 0]]])[order]
    labels = np.array([4, 7])[order]
    class_map, instance_map = paint(masks, labels, np.array([False, False]))
    large, small = order.index(0) + 1, order.index(1) + 1
    assert class_map.tolist() == [[5, 8, 8, 5]]
    assert instance_map.tolist() == [[large, small, small, large]]


@pytest.mark.parametrize('order', [[0, 1], [1, 0]])
def test_object_over_a_crowd_stays_and_the_rest_of_the_crowd_is_ignored(order):
    masks = np.array([[[1, 1, 1, 0, 0]], [[0, 0, 1, 1, 0]]])[order]
    class_map, instance_map = paint(masks, np.array([2, 3])[order], np.array([True, False])[order])
    assert class_map.tolist() == [[255, 255, 4, 4, 0]]
    assert instance_map.tolist() == [[-1, -1, order.index(1) + 1, order.index(1) + 1, 0]]


def test_a_crowd_smaller_than_the_object_does_not_cover_it():
    masks = np.array([[[1, 1, 1, 1]], [[0, 1, 0, 0]]])
    class_map, instance_map = paint(masks, np.array([2, 3]), np.array([False, True]))
    assert class_map.tolist() == [[3, 3, 3, 3]]
    assert instance_map.tolist() == [[1, 1, 1, 1]]


def test_without_masks_everything_is_background():
    class_map, instance_map = paint(np.zeros((0, 2, 3)), np.zeros(0, int), np.zeros(0, bool))
    assert class_map.tolist() == instance_map.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_among_equals_the_later_lies_on_top():
    masks = np.array([[[1, 1, 0]], [[0, 1, 1]]])
    class_map, instance_map = paint(masks, np.array([0, 1]), np.array([False, False]))
    assert class_map.tolist() == [[1, 2, 2]]
    assert instance_map.tolist() == [[1, 2, 2]]


def test_random_masks_against_painting_pixel_by_pixel():
    rng = np.random.default_rng(0)
    for _ in range(60):
        count = int(rng.integers(0, 7))
        height, width = rng.integers(1, 9, 2)
        masks = (rng.random((count, height, width)) < rng.random((count, 1, 1))).astype(np.uint8)
        labels, ignored = rng.integers(0, 80, count), rng.random(count) < 0.3
        for found, expected in zip(paint(masks, labels, ignored), painted(masks, labels, ignored), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_large_masks_against_painting_one_whole_mask_after_another():
    """Blobs anywhere, at the borders as well, on top of each other, some ignored and some empty."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:60, :80]
    covered = 0
    for count in (0, 1, 5, 30, 30):
        masks = np.zeros((count, 60, 80), np.uint8)
        for mask in masks:
            height, width = rng.uniform(1, 25, 2)
            top, left = rng.uniform(0, 60), rng.uniform(0, 80)
            mask[((row - top) / height) ** 2 + ((column - left) / width) ** 2 < 1] = 1
            mask[rng.random((60, 80)) < 0.1] = 0  # holes
        if count > 5:
            masks[[3, 17]] = 0
        labels, ignored = rng.integers(0, 80, count), rng.random(count) < 0.3
        if count > 5:
            ignored[[3, 17]] = [False, True]
        expected_classes, expected_ids = np.zeros((60, 80), int), np.zeros((60, 80), int)
        for index in [*np.flatnonzero(ignored), *sorted(np.flatnonzero(~ignored), key=lambda k: -int(masks[k].sum()))]:
            inside = masks[index] == 1
            covered += (expected_ids[inside] != 0).sum()
            expected_classes[inside] = 255 if ignored[index] else labels[index] + 1
            expected_ids[inside] = -1 if ignored[index] else index + 1
        class_map, instance_map = paint(masks, labels, ignored)
        np.testing.assert_array_equal(class_map, expected_classes)
        np.testing.assert_array_equal(instance_map, expected_ids)
        assert class_map.dtype == instance_map.dtype == np.int64
    assert covered > 1000


def test_missing_masks_are_named():
    with pytest.raises(KeyError, match='LoadInstanceMasks'):
        Compose([{'type': 'MasksToMaps'}])({'img': np.zeros((2, 2, 3))})


# Whole pipelines


def coco_mini(test_data: Path) -> tuple[CocoInstanceDataset, list[dict]]:
    dataset = CocoInstanceDataset(
        data_root=str(test_data / 'coco_mini'), ann_file='train.json', data_prefix={'img': 'images/'}, pipeline=[]
    )
    return dataset, json.loads((test_data / 'coco_mini' / 'train.json').read_text())['annotations']


def reference_maps(info: dict, annotations: list[dict], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Masks decoded by pycocotools, brought to another size by the nearest pixel, painted from large to small.

    Instances are named by the ids of their annotations.
    """
    decoded = []
    for annotation in annotations:
        segmentation = annotation['segmentation']
        parts = coco_mask.frPyObjects(segmentation, info['height'], info['width'])
        mask = coco_mask.decode(coco_mask.merge(parts) if isinstance(segmentation, list) else parts)
        rows = np.arange(size[0]) * info['height'] // size[0]
        columns = np.arange(size[1]) * info['width'] // size[1]
        decoded.append((annotation, mask[rows][:, columns] == 1))
    class_map, instance_map = np.zeros(size, int), np.zeros(size, int)
    for annotation, mask in decoded:
        if annotation['iscrowd']:
            class_map[mask], instance_map[mask] = 255, -1
    for annotation, mask in sorted(decoded, key=lambda pair: -pair[1].sum()):
        if not annotation['iscrowd']:
            class_map[mask], instance_map[mask] = annotation['category_id'], annotation['id']
    return class_map, instance_map


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two maps of ids agree up to the names of the positive ids."""
    if not np.array_equal(np.where(a > 0, 1, a), np.where(b > 0, 1, b)):
        return False
    pairs = set(zip(a[a > 0].tolist(), b[a > 0].tolist(), strict=True))
    return len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})


def test_whole_pipeline_on_a_real_image(test_data):
    dataset, all_annotations = coco_mini(test_data)
    # The image with a crowd that has the most objects.
    with_crowd = {annotation['image_id'] for annotation in all_annotations if annotation['iscrowd']}
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    info = max((i for i in infos if i['img_id'] in with_crowd), key=lambda i: len(i['instances']))
    annotations = [annotation for annotation in all_annotations if annotation['image_id'] == info['img_id']]
    assert len(annotations) >= 5

    def run(flip: float, direction: str = 'horizontal') -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
        steps = [
            {'type': 'ResizeLongerSide', 'length': 513},
            {'type': 'mmdet.RandomFlip', 'prob': flip, 'direction': direction},
        ]
        packed = Compose([*LOAD, *steps, *FINISH])(dict(info, instances=[dict(i) for i in info['instances']]))
        sample = packed['data_samples']
        maps = sample.gt_sem_seg.data, sample.gt_instance_map.data
        assert all(data.shape[0] == 1 for data in maps)
        return packed['inputs'].numpy(), maps[0][0].numpy(), maps[1][0].numpy(), sample.metainfo

    inputs, class_map, instance_map, meta = run(0.0)
    longer = max(info['height'], info['width'])
    size = round(info['height'] * 513 / longer), round(info['width'] * 513 / longer)
    assert max(size) == 513
    assert inputs.shape == (3, *size) and class_map.shape == instance_map.shape == size
    assert meta['img_shape'][:2] == size and meta['ori_shape'][:2] == (info['height'], info['width'])
    assert meta['img_id'] == info['img_id'] and not meta['flip']
    assert meta['scale_factor'] == pytest.approx((size[1] / info['width'], size[0] / info['height']))

    expected_image = cv2.resize(cv2.imread(info['img_path']), size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(inputs, expected_image.transpose(2, 0, 1))
    expected_classes, expected_ids = reference_maps(info, annotations, size)
    # COCO's category ids have gaps (1 .. 90), labels have none.
    categories = json.loads((test_data / 'coco_mini' / 'train.json').read_text())['categories']
    number = {category['id']: index for index, category in enumerate(categories, 1)}
    number.update({0: 0, 255: 255})
    np.testing.assert_array_equal(class_map, np.vectorize(number.get)(expected_classes))
    assert same_partition(instance_map, expected_ids)
    assert (instance_map == -1).any() and len(np.unique(instance_map)) > 4

    for direction, axes in {'horizontal': (1,), 'vertical': (0,), 'diagonal': (0, 1)}.items():
        flipped_inputs, flipped_classes, flipped_instances, flipped_meta = run(1.0, direction)
        assert flipped_meta['flip'] and flipped_meta['flip_direction'] == direction
        np.testing.assert_array_equal(flipped_inputs, np.flip(inputs, [axis + 1 for axis in axes]))
        np.testing.assert_array_equal(flipped_classes, np.flip(class_map, axes))
        np.testing.assert_array_equal(flipped_instances, np.flip(instance_map, axes))


def test_in_testing_the_maps_keep_the_images_own_size(test_data):
    dataset, all_annotations = coco_mini(test_data)
    info = next(i for i in map(dataset.get_data_info, range(len(dataset))) if len(i['instances']) > 2)
    annotations = [annotation for annotation in all_annotations if annotation['image_id'] == info['img_id']]
    packed = Compose([LOAD[0], {'type': 'ResizeLongerSide', 'length': 200}, LOAD[1], *FINISH])(info)
    assert max(packed['inputs'].shape[1:]) == 200
    _, expected = reference_maps(info, annotations, (info['height'], info['width']))
    assert same_partition(packed['data_samples'].gt_instance_map.data[0].numpy(), expected)


def image_with(tmp_path: Path, image: np.ndarray, masks: list[np.ndarray]) -> dict:
    """The input that a data set gives to a pipeline."""
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), image)
    instances = []
    for label, mask in enumerate(masks):
        rows, columns = np.nonzero(mask)
        box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        rle = {'size': encoded['size'], 'counts': encoded['counts'].decode()}
        instances.append({'bbox': box, 'bbox_label': label, 'mask': rle, 'ignore_flag': 0})
    return {
        'img_path': str(path),
        'img_id': 1,
        'height': image.shape[0],
        'width': image.shape[1],
        'instances': instances,
    }


def test_object_that_a_crop_removed_leaves_no_trace(tmp_path):
    row, column = np.mgrid[:40, :50]
    image = np.stack([row, column, 0 * row], axis=2).astype(np.uint8)  # each pixel says where it was
    masks = [np.zeros((40, 50), bool) for _ in range(3)]
    masks[0][1:5, 1:5] = True
    masks[1][18:23, 20:30] = True
    masks[2][37:, :] = masks[2][:, 47:] = True  # its box reaches where its mask does not
    random_state = np.random.get_state()
    np.random.seed(0)
    try:
        crop = {'type': 'mmdet.RandomCrop', 'crop_size': (25, 20), 'allow_negative_crop': True}  # width, height
        pipeline = Compose([*LOAD, crop, *FINISH])
        survivors, gone_though_box_stays = set(), 0
        for _ in range(60):
            packed = pipeline(image_with(tmp_path, image, masks))
            inputs, sample = packed['inputs'].numpy(), packed['data_samples']
            top, left = inputs[0, 0, 0], inputs[1, 0, 0]
            cropped = [mask[top : top + 20, left : left + 25] for mask in masks]
            expected_classes, expected_ids = np.zeros((20, 25), int), np.zeros((20, 25), int)
            for index, mask in enumerate(cropped):
                expected_classes[mask] = expected_ids[mask] = index + 1
            np.testing.assert_array_equal(sample.gt_sem_seg.data[0].numpy(), expected_classes)
            instance_map = sample.gt_instance_map.data[0].numpy()
            assert same_partition(instance_map, expected_ids)
            present = frozenset(index for index, mask in enumerate(cropped) if mask.any())
            assert len(set(instance_map.ravel().tolist()) - {0}) == len(present)
            survivors.add(present)
            gone_though_box_stays += 2 not in present
    finally:
        np.random.set_state(random_state)
    assert {0 in present for present in survivors} == {True, False}
    assert gone_though_box_stays > 0


def test_object_that_a_resize_removed_leaves_no_trace(tmp_path):
    masks = [np.zeros((100, 100), bool) for _ in range(2)]
    masks[0][51, 51] = True  # every tenth row and column stay
    masks[1][10:60, 10:40] = True
    info = image_with(tmp_path, np.zeros((100, 100, 3), np.uint8), masks)
    packed = Compose([*LOAD, {'type': 'ResizeLongerSide', 'length': 10}, *FINISH])(info)
    expected = np.zeros((10, 10), int)
    expected[1:6, 1:4] = 2
    np.testing.assert_array_equal(packed['data_samples'].gt_sem_seg.data[0].numpy(), expected)
    assert set(packed['data_samples'].gt_instance_map.data.unique().tolist()) == {0, 2}


@pytest.mark.parametrize('shape', [(1, 4000), (4000, 1), (3, 4000)])
def test_thin_image_keeps_both_sides(tmp_path, shape):
    mask = np.zeros(shape, bool)
    mask.reshape(-1)[mask.size // 2 :] = True
    expected = (1, 513) if shape[0] < shape[1] else (513, 1)
    info = image_with(tmp_path, np.full((*shape, 3), 9, np.uint8), [mask])
    packed = Compose([*LOAD, {'type': 'ResizeLongerSide', 'length': 513}, *FINISH])(info)
    assert packed['inputs'].shape == (3, *expected)
    assert (packed['inputs'] == 9).all()
    class_map = packed['data_samples'].gt_sem_seg.data[0].numpy()
    assert class_map.shape == expected
    if min(shape) == 1:
        np.testing.assert_array_equal(class_map.ravel(), np.arange(513) * 4000 // 513 >= 2000)


@pytest.mark.parametrize('shape', [(480, 640), (640, 427), (513, 513), (100, 90), (1200, 1201), (333, 1000)])
def test_longer_side_becomes_513_and_the_ratio_is_kept(shape):
    results = ResizeLongerSide(513)({'img': np.zeros((*shape, 3), np.uint8)})
    height, width = results['img'].shape[:2]
    assert max(height, width) == 513
    assert abs(min(height, width) - 513 * min(shape) / max(shape)) <= 0.5
    assert (height > width) == (shape[0] > shape[1])
    assert results['img_shape'][:2] == (height, width)


def test_length_below_one():
    with pytest.raises(ValueError, match='length >= 1 pixel, got 0'):
        ResizeLongerSide(0)


def test_packing_grey_image_without_maps():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    packed = PackInstanceMaps()({'img': image, 'img_id': 5, 'other': 1})
    assert packed['inputs'].tolist() == [image.tolist()]
    assert packed['data_samples'].metainfo == {'img_id': 5}
    assert 'gt_sem_seg' not in packed['data_samples']
