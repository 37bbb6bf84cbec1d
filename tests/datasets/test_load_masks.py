"""``LoadInstanceMasks`` against mmdet's loader: the same maps to the bit; images of another size than their annotations."""

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from pycocotools import mask as coco_mask
from test_coco_dataset import annotation, load, rectangle, write_set

from mmseg_instancenet.datasets import CocoInstanceDataset
from mmseg_instancenet.datasets.transforms.load_masks import crops_of
from mmseg_instancenet.structures import BoxedMasks

MMDETS = {'type': 'mmdet.LoadAnnotations', 'with_bbox': True, 'with_mask': True}
RESIZE_AND_FLIP = [
    {'type': 'mmdet.Resize', 'scale': (200, 170), 'keep_ratio': True},
    {'type': 'mmdet.RandomFlip', 'prob': 1.0, 'direction': 'diagonal'},
]


@pytest.mark.parametrize('moves', [[], RESIZE_AND_FLIP], ids=['as it is', 'resized and flipped'])
@pytest.mark.parametrize(
    'folder, classes',
    [('coco_mini', None), ('dsb2018', ('nucleus',)), ('penn_fudan', ('person',)), ('fruit_nuts', None)],
)
def test_maps_of_real_images_are_those_of_mmdets_loader(test_data, folder, classes, moves):
    settings = dict(
        ann_file='trainval.json', data_prefix={'img': 'images/'}, metainfo={'classes': ('date', 'fig', 'hazelnut')}
    )
    if folder != 'fruit_nuts':
        settings = dict(ann_file='val.json', data_prefix={'img': 'images/'})
        settings |= {'metainfo': {'classes': classes}} if classes else {}
    dataset = CocoInstanceDataset(data_root=str(test_data / folder), pipeline=[], **settings)
    objects = 0
    for index in range(0, len(dataset), max(1, len(dataset) // 12)):
        ours, mmdets = (
            Compose([{'type': 'LoadImageFromFile'}, step, *moves, {'type': 'MasksToMaps'}])(
                dataset.get_data_info(index)
            )
            for step in ({'type': 'LoadInstanceMasks'}, MMDETS)
        )
        for name in ('gt_seg_map', 'gt_instance_map'):
            np.testing.assert_array_equal(ours[name], mmdets[name])
        objects += int(ours['gt_instance_map'].max())
    assert objects > 20


def test_forms_of_masks(tmp_path):
    """Polygons in several rings, run lengths as numbers and as text."""
    mask = rectangle(3, 4, 9, 11)
    runs = np.diff(np.flatnonzero(np.diff(mask.T.reshape(-1), prepend=1 - mask[0, 0], append=2)))
    runs = [*runs[: len(runs)]] if mask[0, 0] == 0 else [0, *runs]
    rings = [[4, 3, 8, 3, 8, 9, 4, 9], [8, 3, 11, 3, 11, 9, 8, 9]]
    as_numbers = {'size': list(mask.shape), 'counts': [int(run) for run in runs]}
    write_set(
        tmp_path, [annotation(mask), annotation(mask, segmentation=rings), annotation(mask, segmentation=as_numbers)]
    )
    dataset = load(tmp_path, pipeline=[{'type': 'LoadImageFromFile'}, {'type': 'LoadInstanceMasks'}])
    masks = dataset[0]['gt_masks']
    assert isinstance(masks, BoxedMasks)
    for found in masks:
        np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize('seed', range(4))
def test_crops_against_pycocotools(seed):
    rng = np.random.default_rng(seed)
    masks = (rng.random((6, 13, 17)) < rng.uniform(0.1, 1, (6, 1, 1))).astype(np.uint8)
    masks[0], masks[1] = 0, 1
    masks[2, :, :9] = 0
    crops = crops_of([coco_mask.encode(np.asfortranarray(mask)) for mask in masks])
    np.testing.assert_array_equal(np.array(list(BoxedMasks(crops, 13, 17))), masks)
    for crop in crops[2:]:
        assert (
            crop.mask_hw[0].any() and crop.mask_hw[-1].any() and crop.mask_hw[:, 0].any() and crop.mask_hw[:, -1].any()
        )


@pytest.mark.parametrize('loader', [{'type': 'LoadInstanceMasks'}, MMDETS], ids=['ours', "mmdet's"])
@pytest.mark.parametrize(
    'size, hint',
    [((10, 15), 'resize both alike'), ((30, 20), 'turned by an EXIF tag'), ((20, 31), 'resize both alike')],
)
def test_an_image_of_another_size_than_its_annotations_stops(tmp_path, loader, size, hint):
    polygon = [[2.0, 2, 8, 2, 8, 8, 2, 8]]
    write_set(tmp_path, [annotation(rectangle(2, 2, 8, 8), segmentation=polygon)])
    cv2.imwrite(str(tmp_path / 'images/1.png'), np.zeros((*size, 3), np.uint8))
    dataset = load(tmp_path, pipeline=[{'type': 'LoadImageFromFile'}, loader, {'type': 'MasksToMaps'}])
    with pytest.raises(
        ValueError,
        match=rf'1\.png \(image id 1\): expected .* \(20, 30\), got an image of \({size[0]}, {size[1]}\): .*{hint}',
    ):
        dataset[0]
