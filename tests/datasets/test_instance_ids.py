"""Instance maps from images of ids: Cityscapes', ADE20K's and plain label images of several depths."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmseg.datasets import CityscapesDataset
from PIL import Image

from mmseg_instancenet.datasets.transforms import LoadInstanceIds
from mmseg_instancenet.datasets.transforms.instance_ids import ade20k_instances, cityscapes_instances, label_instances

# Rule by rule


def test_cityscapes_ids():
    # road, void, a group of people, two people, a bicycle, a car beyond 16 bits signed
    ids = np.array([[7, 0, 24, 24001, 24000, 33002, 33005]], np.uint16)
    assert cityscapes_instances(ids).tolist() == [[0, 0, -1, 2, 1, 3, 4]]
    assert cityscapes_instances(np.array([[23, 34, 999, 1000]])).tolist() == [[0, 0, 0, 1]]


def test_ade20k_ids():
    rgb = np.zeros((1, 5, 3), np.uint8)
    rgb[0, :, 0] = [0, 8, 8, 3, 0]  # category
    rgb[0, :, 1] = [0, 1, 2, 1, 9]  # object
    rgb[0, :, 2] = [0, 7, 0, 0, 4]  # means nothing
    assert ade20k_instances(rgb).tolist() == [[0, 2, 3, 1, 0]]


@pytest.mark.parametrize(
    'dtype, ids, expected',
    [
        (bool, [[0, 1]], [[0, 1]]),
        (np.uint8, [[255, 0, 3]], [[2, 0, 1]]),
        (np.uint16, [[65535, 0, 255]], [[2, 0, 1]]),
        (np.uint32, [[4294967295, 0, 300000001]], [[2, 0, 1]]),
        (np.uint8, [[0, 0, 0]], [[0, 0, 0]]),
    ],
)
def test_label_image(dtype, ids, expected):
    found = label_instances(np.array(ids, dtype))
    assert found.tolist() == expected and found.dtype == np.int64


# From files


def write_image(folder: Path, height: int = 6, width: int = 8) -> Path:
    (folder / 'images').mkdir(exist_ok=True, parents=True)
    cv2.imwrite(str(folder / 'images' / 'a.png'), np.zeros((height, width, 3), np.uint8))
    return folder / 'images' / 'a.png'


def load(results: dict, **settings) -> dict:
    return Compose([dict(type='LoadImageFromFile'), dict(type='LoadInstanceIds', **settings)])(results)


def ids_of(dtype: type, highest: int) -> np.ndarray:
    ids = np.zeros((6, 8), dtype)
    ids[1:4, 1:4], ids[2:5, 4:7], ids[5, :2] = highest, 2, highest // 2
    return ids


@pytest.mark.parametrize(
    'name, dtype, highest',
    [
        ('a.png', np.uint8, 255),
        ('a.png', np.uint16, 40000),
        ('a.tif', np.uint16, 40000),
        ('a.tif', np.int32, 300000001),
    ],
)
def test_label_files_of_every_depth(tmp_path, name, dtype, highest):
    ids = ids_of(dtype, highest)
    Image.fromarray(ids).save(tmp_path / name)
    results = load({'img_path': str(write_image(tmp_path)), 'instance_map_path': str(tmp_path / name)}, rule='labels')
    expected = np.select([ids == 2, ids == highest // 2, ids == highest], [1, 2, 3], 0)
    np.testing.assert_array_equal(results['gt_instance_map'], expected)
    np.testing.assert_array_equal(results['gt_seg_map'], ids > 0)
    assert results['seg_fields'] == ['gt_seg_map', 'gt_instance_map']


def test_palette_is_read_as_numbers(tmp_path):
    image = Image.fromarray(ids_of(np.uint8, 4))
    image.putpalette([255, 0, 0] * 256)  # every colour is the same
    assert image.mode == 'P'
    image.save(tmp_path / 'a.png')
    results = load({'img_path': str(write_image(tmp_path)), 'seg_map_path': str(tmp_path / 'a.png')}, rule='labels')
    # 4 // 2 is 2: one object in two pieces.
    np.testing.assert_array_equal(results['gt_instance_map'], ids_of(np.uint8, 4) // 2)


def test_path_from_the_images(tmp_path):
    image = write_image(tmp_path)
    (tmp_path / 'masks').mkdir()
    Image.fromarray(ids_of(np.uint8, 9)).save(tmp_path / 'masks' / 'a.png')
    results = load({'img_path': str(image)}, rule='labels', replace=('images', 'masks'))
    assert results['gt_instance_map'].max() == 3


def test_cityscapes_data_set_of_mmseg(tmp_path):
    """The whole way: mmseg's data set and transforms, image and both maps in step."""
    rng = np.random.default_rng(0)
    for folder in ('leftImg8bit/train/x', 'gtFine/train/x'):
        (tmp_path / folder).mkdir(parents=True)
    train_ids = np.kron(rng.choice([0, 1, 11, 13, 255], (6, 8)), np.ones((8, 8), int)).astype(np.uint8)
    ids = np.kron(rng.permutation(48).reshape(6, 8), np.ones((8, 8), int))
    things = np.isin(train_ids, (11, 13))  # person, car
    instance_ids = np.where(things, np.where(train_ids == 11, 24000, 26000) + ids, train_ids + 7)
    instance_ids[train_ids == 255] = 29001  # caravans: objects whose class is ignored
    instance_ids[:8][things[:8]] = 26  # a group of cars
    image = np.stack([train_ids, ids, ids], axis=2).astype(np.uint8)  # OpenCV writes BGR and reads it
    cv2.imwrite(str(tmp_path / 'leftImg8bit/train/x/a_leftImg8bit.png'), image)
    Image.fromarray(train_ids).save(tmp_path / 'gtFine/train/x/a_gtFine_labelTrainIds.png')
    Image.fromarray(instance_ids.astype(np.uint16)).save(tmp_path / 'gtFine/train/x/a_gtFine_instanceIds.png')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='LoadInstanceIds', rule='cityscapes'),
        dict(type='RandomCrop', crop_size=(24, 40)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackInstanceMaps'),
    ]
    dataset = CityscapesDataset(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=pipeline,
    )
    expected = np.where(things, ids + 1, 0)
    expected[train_ids == 255] = -1
    expected[:8][things[:8]] = -1
    by_block = {int(ids[row, column]): int(expected[row, column]) for row in range(48) for column in range(64)}
    state = np.random.get_state()
    np.random.seed(0)
    try:
        for _ in range(10):
            packed = dataset[0]
            classes, blocks = packed['inputs'].numpy()[:2]
            found = packed['data_samples'].gt_instance_map.data[0].numpy()
            np.testing.assert_array_equal(packed['data_samples'].gt_sem_seg.data[0].numpy(), classes)
            wanted = np.vectorize(by_block.get)(blocks)
            np.testing.assert_array_equal(np.minimum(found, 1), np.minimum(wanted, 1))
            pairs = set(zip(found[found > 0].tolist(), wanted[found > 0].tolist(), strict=True))
            assert len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})
    finally:
        np.random.set_state(state)


def test_ade20k_file_beside_the_class_map(tmp_path):
    image = write_image(tmp_path)
    for folder in ('annotations', 'annotations_instance'):
        (tmp_path / folder).mkdir()
    rgb = np.zeros((6, 8, 3), np.uint8)
    rgb[:3, :, 0], rgb[:3, :4, 1], rgb[:3, 4:, 1] = 12, 1, 2
    Image.fromarray(rgb).save(tmp_path / 'annotations_instance/a.png')
    class_map = tmp_path / 'annotations' / 'a.png'
    Image.fromarray(np.full((6, 8), 5, np.uint8)).save(class_map)
    results = {'img_path': str(image), 'seg_map_path': str(class_map), 'seg_fields': [], 'reduce_zero_label': True}
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='LoadInstanceIds', rule='ade20k')]
    results = Compose(steps)(results)
    assert (results['gt_seg_map'] == 4).all()  # the data set's
    np.testing.assert_array_equal(results['gt_instance_map'], [[1] * 4 + [2] * 4] * 3 + [[0] * 8] * 3)
    assert results['seg_fields'] == ['gt_seg_map', 'gt_instance_map']


# What stops


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'rule': 'coco'}, r"a rule out of \['ade20k', 'cityscapes', 'labels'\], got 'coco'"),
        ({'rule': 'labels', 'replace': ('a',)}, r'replace=\(old, new\), got'),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        LoadInstanceIds(**settings)


def test_file_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'image of ids not found: .*none.png .*images/a.png.; set replace'):
        load({'img_path': str(write_image(tmp_path)), 'instance_map_path': str(tmp_path / 'none.png')}, rule='labels')


@pytest.mark.parametrize(
    'extra, settings, message',
    [
        ({}, {'rule': 'labels'}, 'the path of an image of ids beside .*a.png; set replace'),
        ({'seg_map_path': 'c/x.png'}, {'rule': 'cityscapes'}, "expected '_labelTrainIds.png' in the path c/x.png"),
        (
            {'seg_map_path': 'c/x.png', 'gt_seg_map': np.zeros((6, 8))},
            {'rule': 'labels'},
            'an image of ids beside c/x.png',
        ),
    ],
)
def test_path_that_is_not_known(tmp_path, extra, settings, message):
    with pytest.raises(ValueError, match=message):
        load({'img_path': str(write_image(tmp_path)), **extra}, **settings)


def test_class_map_comes_first(tmp_path):
    results = {'img_path': str(write_image(tmp_path)), 'seg_map_path': 'c/x.png'}
    with pytest.raises(KeyError, match='LoadAnnotations.* before LoadInstanceIds'):
        load(results, rule='labels', replace=('c/', 'i/'))


@pytest.mark.parametrize(
    'extra, message',
    [
        ({}, r'is \(6, 8\) pixels .*its image \(5, 8\): expected one size'),
        ({'gt_seg_map': np.zeros((6, 7))}, r'is \(6, 8\) pixels .*its class map \(6, 7\): expected one size'),
    ],
)
def test_sizes_that_differ(tmp_path, extra, message):
    Image.fromarray(ids_of(np.uint8, 9)).save(tmp_path / 'ids.png')
    results = {'img_path': str(write_image(tmp_path, 5, 8)), 'instance_map_path': str(tmp_path / 'ids.png'), **extra}
    with pytest.raises(ValueError, match=message):
        load(results, rule='labels')


@pytest.mark.parametrize(
    'rule, content, message',
    [
        ('labels', np.zeros((6, 8, 3), np.uint8), r'a label image, \(H, W\) integers, got uint8 \(6, 8, 3\); set rule'),
        ('cityscapes', np.zeros((6, 8, 3), np.uint8), r'Cityscapes, \(H, W\) integers, got uint8 \(6, 8, 3\)'),
        ('ade20k', np.zeros((6, 8), np.uint8), r'three channels of 8 bits, got uint8 \(6, 8\)'),
        ('labels', np.zeros((6, 8), np.float32), r'\(H, W\) integers, got float32'),
    ],
)
def test_file_of_another_kind(tmp_path, rule, content, message):
    path = tmp_path / 'ids.tif'
    Image.fromarray(content).save(path)
    with pytest.raises(ValueError, match=message):
        load({'img_path': str(write_image(tmp_path)), 'instance_map_path': str(path)}, rule=rule)
