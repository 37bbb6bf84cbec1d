"""mmseg's and mmcv's geometric transforms after MasksToMaps: image and both maps stay aligned, or an error stops the
run."""

import copy

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmseg.datasets import MultiImageMixDataset
from mmseg.registry import DATASETS

from mmseg_instancenet.datasets.transforms import MasksToMaps, PackInstanceMaps

HEIGHT, WIDTH = 72, 96
GREY = {'fill': 0, 'background': 30, 1: 60, 2: 90, 3: 120, 4: 150, 'crowd': 240}
INSTANCE = {0: -1, 30: 0, 60: 1, 90: 2, 120: 3, 150: 4, 240: -1}
CLASS = {0: 255, 30: 0, 60: 6, 90: 3, 120: 6, 150: 1, 240: 255}
LABELS = [5, 2, 5, 0]


def loaded() -> dict:
    """Four objects, three of which touch, and a crowd, as mmdet's LoadAnnotations returns them; each has its own grey."""
    masks = np.zeros((5, HEIGHT, WIDTH), np.uint8)
    masks[0, 5:40, 8:40] = 1
    masks[1, 5:40, 40:70] = 1
    masks[2, 40:66, 20:60] = 1
    masks[3, 50:70, 72:94] = 1
    masks[4, 2:30, 76:94] = 1
    image = np.full((HEIGHT, WIDTH, 3), GREY['background'], np.uint8)
    for mask, grey in zip(masks, (GREY[1], GREY[2], GREY[3], GREY[4], GREY['crowd']), strict=True):
        image[mask == 1] = grey
    return {
        'img': image,
        'img_shape': (HEIGHT, WIDTH),
        'ori_shape': (HEIGHT, WIDTH),
        'gt_masks': BitmapMasks(list(masks), HEIGHT, WIDTH),
        'gt_bboxes': HorizontalBoxes(np.array([[8, 5, 40, 40]] * 5, np.float32)),
        'gt_bboxes_labels': np.array([*LABELS, 3]),
        'gt_ignore_flags': np.array([False] * 4 + [True]),
    }


def maps() -> dict:
    return MasksToMaps()(loaded())


def packed(*steps: dict, content: dict | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """(H, W) grey values, class map, instance map, meta information after the steps."""
    result = Compose([*steps, dict(type='PackInstanceMaps')])(content or maps())
    sample = result['data_samples']
    return (
        result['inputs'][0].numpy(),
        sample.gt_sem_seg.data[0].numpy(),
        sample.gt_instance_map.data[0].numpy(),
        sample.metainfo,
    )


def inner_pixels(grey: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours, two in each direction, have the same grey: not interpolated, and off the edges of objects."""
    inside = np.zeros(grey.shape, bool)
    inside[2:-2, 2:-2] = True
    for rows, columns in np.ndindex(5, 5):
        inside &= np.roll(grey, (rows - 2, columns - 2), (0, 1)) == grey
    return inside


@pytest.fixture(autouse=True)
def seed():
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


def test_masks_to_maps_names_its_maps_and_leaves_no_objects_behind():
    results = maps()
    assert results['seg_fields'] == ['gt_seg_map', 'gt_instance_map']
    assert not {'gt_masks', 'gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'} & set(results)
    for key, value in (('gt_seg_map', CLASS), ('gt_instance_map', INSTANCE)):
        np.testing.assert_array_equal(results[key], np.vectorize(value.get)(results['img'][..., 0]))


TRANSFORMS = {
    'Resize': dict(type='Resize', scale=(120, 61)),
    'Resize that keeps the ratio': dict(type='Resize', scale=(60, 60), keep_ratio=True),
    'RandomResize': dict(type='RandomResize', scale=(WIDTH, HEIGHT), ratio_range=(0.6, 2.0), keep_ratio=True),
    'RandomChoiceResize': dict(type='RandomChoiceResize', scales=[(70, 60), (200, 110)]),
    'ResizeShortestEdge': dict(type='ResizeShortestEdge', scale=90, max_size=110),
    'ResizeToMultiple': dict(type='ResizeToMultiple', size_divisor=50),
    'RandomCrop': dict(type='RandomCrop', crop_size=(40, 50), cat_max_ratio=0.75),
    'RandomFlip': dict(type='RandomFlip', prob=0.9, direction=['horizontal', 'vertical', 'diagonal']),
    'RandomRotate': dict(type='RandomRotate', prob=1.0, degree=40),
    'RandomRotate, enlarged': dict(type='RandomRotate', prob=1.0, degree=40, auto_bound=True),
    'RandomRotFlip, quarter turns': dict(type='RandomRotFlip', rotate_prob=0.0, flip_prob=1.0),
    'RandomCutOut': dict(type='RandomCutOut', prob=1.0, n_holes=3, cutout_shape=(20, 16), seg_fill_in=255),
    'RandomRotateMaps': dict(type='RandomRotateMaps', degrees=30, border=(0, 0, 0)),
    'RandomScaledCropMaps': dict(type='RandomScaledCropMaps', size=48),
    'RandomCropMaps': dict(type='RandomCropMaps'),
    'RandomTurnMaps': dict(type='RandomTurnMaps'),
}


@pytest.mark.parametrize('name', TRANSFORMS)
def test_image_and_both_maps_stay_aligned(name):
    changed = 0
    for _ in range(12):
        grey, class_map, instance_map, meta = packed(TRANSFORMS[name])
        assert grey.shape == class_map.shape == instance_map.shape == meta['img_shape']
        inside = inner_pixels(grey)
        assert inside.mean() > 0.3 and len(np.unique(grey[inside])) > 2
        np.testing.assert_array_equal(instance_map[inside], np.vectorize(INSTANCE.get)(grey[inside]))
        np.testing.assert_array_equal(class_map[inside], np.vectorize(CLASS.get)(grey[inside]))
        # Everywhere: what is ignored is so in both maps, and no label comes from nowhere.
        np.testing.assert_array_equal(class_map == 255, instance_map == -1)
        pairs = set(zip(class_map.ravel().tolist(), instance_map.ravel().tolist(), strict=True))
        assert pairs <= {(255, -1), (0, 0), *((label + 1, index) for index, label in enumerate(LABELS, 1))}
        changed += grey.shape != (HEIGHT, WIDTH) or bool((grey != loaded()['img'][..., 0]).any())
    assert changed >= 6


def test_several_in_a_row():
    names = ('RandomResize', 'RandomRotate', 'RandomFlip', 'RandomCutOut', 'RandomCrop')
    for _ in range(10):
        grey, class_map, instance_map, _ = packed(*(TRANSFORMS[name] for name in names))
        inside = inner_pixels(grey)
        np.testing.assert_array_equal(instance_map[inside], np.vectorize(INSTANCE.get)(grey[inside]))
        np.testing.assert_array_equal(class_map[inside], np.vectorize(CLASS.get)(grey[inside]))


def test_an_object_that_a_crop_removed_leaves_no_trace():
    counts = set()
    for _ in range(30):
        grey, _, instance_map, _ = packed(dict(type='RandomCrop', crop_size=(30, 30)))
        visible = {INSTANCE[value] for value in np.unique(grey).tolist()}
        assert set(np.unique(instance_map).tolist()) == visible
        counts.add(len(visible - {-1, 0}))
    assert len(counts) > 1


def test_an_id_that_equals_the_fill_value_stays_an_object():
    content = maps()
    content['gt_instance_map'][content['gt_instance_map'] == 3] = 255
    grey, _, instance_map, _ = packed(TRANSFORMS['RandomRotate'], content=content)
    inside = inner_pixels(grey)
    expected = np.vectorize({**INSTANCE, GREY[3]: 255}.get)(grey[inside])
    np.testing.assert_array_equal(instance_map[inside], expected)
    assert {255, -1} <= set(expected.tolist())


@pytest.mark.parametrize(
    'transform, message',
    [
        (
            dict(type='RandomRotFlip', rotate_prob=1.0),
            'interpolated .*RandomRotFlip.*take RandomRotateMaps and RandomTurnMaps',
        ),
        (
            dict(type='Pad', size=(128, 128)),
            r'gt_seg_map \(128, 128\) and gt_instance_map \(72, 96\) .*Pad set size or size_divisor of the data_preprocessor',
        ),
        (dict(type='mmdet.Resize', scale=(50, 50)), "of one size.*mmdet's transforms come before MasksToMaps"),
        (dict(type='mmdet.RandomFlip', prob=1.0), "one background.*[0-9]+ pixels.*mmdet's transforms come before"),
        (dict(type='mmcv.RandomFlip', prob=1.0), 'one background.*moved one of them only'),
    ],
)
def test_unsuitable_transforms_name_a_replacement(transform, message):
    with pytest.raises(ValueError, match=message):
        packed(transform)


def test_instances_that_are_classes_move_too():
    content = maps()
    for key in ('gt_instance_map', 'zero_is_background', 'ori_shape_of_maps'):
        del content[key]
    content.update(gt_seg_map=content['gt_seg_map'].astype(np.uint8), seg_fields=['gt_seg_map'])
    steps = [dict(type='ClassesToInstances'), TRANSFORMS['RandomRotate'], TRANSFORMS['RandomCrop']]
    grey, class_map, instance_map, _ = packed(*steps, content=content)
    np.testing.assert_array_equal(instance_map, np.where(class_map == 255, -1, class_map))
    inside = inner_pixels(grey)
    np.testing.assert_array_equal(class_map[inside], np.vectorize(CLASS.get)(grey[inside]))


@pytest.mark.parametrize('name', ['RandomRotateMaps', 'RandomScaledCropMaps', 'RandomCropMaps', 'RandomTurnMaps'])
def test_a_further_map_in_seg_fields_moves_with_the_two(name):
    content = maps()
    content['gt_depth_map'] = content['gt_instance_map'] + 2
    content['seg_fields'].append('gt_depth_map')
    results = Compose([TRANSFORMS[name]])(content)
    instance_map, depth = results['gt_instance_map'], results['gt_depth_map']
    np.testing.assert_array_equal(depth[depth != 255], instance_map[depth != 255] + 2)
    assert (depth == 255).any() == (name == 'RandomRotateMaps') and (instance_map[depth == 255] == -1).all()


# Mosaics


class Images:
    """One image, several times over."""

    metainfo: dict = {}

    def __len__(self) -> int:
        return 3

    def full_init(self) -> None:
        pass

    def __getitem__(self, index: int) -> dict:
        return {**maps(), 'homography_matrix': np.eye(3)}


def mosaics(**transform) -> MultiImageMixDataset:
    DATASETS.register_module(module=Images, name='ImagesOfTheTest', force=True)
    step = dict(img_scale=(HEIGHT, WIDTH), **transform)
    return MultiImageMixDataset(dict(type='ImagesOfTheTest'), [step, dict(type='PackInstanceMaps')])


@pytest.mark.parametrize('fill', [255, 0])
def test_ids_stay_unique_in_a_mosaic(fill):
    """Also if an image is drawn twice. The images keep their size, so every pixel identifies its object."""
    dataset = mosaics(type='RandomMosaicMaps', prob=1.0, seg_pad_val=fill)
    for _ in range(8):
        result = dataset[0]
        grey, sample = result['inputs'][0].numpy(), result['data_samples']
        class_map, instance_map = sample.gt_sem_seg.data[0].numpy(), sample.gt_instance_map.data[0].numpy()
        assert grey.shape == class_map.shape == instance_map.shape == (2 * HEIGHT, 2 * WIDTH)
        assert sample.img_shape == sample.ori_shape == grey.shape and 'homography_matrix' not in sample
        np.testing.assert_array_equal(class_map, np.vectorize({**CLASS, 0: fill}.get)(grey))
        expected = np.vectorize({**INSTANCE, 0: -1 if fill == 255 else 0}.get)(grey)
        np.testing.assert_array_equal(np.minimum(instance_map, 1), np.minimum(expected, 1))
        row, column = np.indices(grey.shape)
        tile = 2 * (row >= dataset.pipeline[0].center_y) + (column >= dataset.pipeline[0].center_x)
        objects = instance_map > 0
        pairs = set(zip((tile * 10 + expected)[objects].tolist(), instance_map[objects].tolist(), strict=True))
        assert len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs}) > 8


def test_a_mosaic_that_was_not_drawn_changes_nothing():
    sample = mosaics(type='RandomMosaicMaps', prob=0.0)[0]['data_samples']
    np.testing.assert_array_equal(sample.gt_instance_map.data[0].numpy(), maps()['gt_instance_map'])


def test_a_mosaic_of_images_that_are_copies_of_one_dict():
    content = maps()
    content['mix_results'] = [copy.deepcopy(content)] * 3
    after = Compose([dict(type='RandomMosaicMaps', prob=1.0, img_scale=(HEIGHT, WIDTH))])(content)
    assert (PackInstanceMaps()(after)['data_samples'].gt_instance_map.data.unique() > 0).sum() > 8


def test_mmsegs_own_mosaic_is_refused():
    with pytest.raises(ValueError, match="same id: take dict.type='RandomMosaicMaps'"):
        mosaics(type='RandomMosaic', prob=1.0)[0]
    mosaics(type='RandomMosaic', prob=0.0)[0]


def test_a_mosaic_without_maps_says_what_to_load():
    content = {'img': np.zeros((4, 4, 3), np.uint8), 'mix_results': []}
    with pytest.raises(KeyError, match='MasksToMaps'):
        Compose([dict(type='RandomMosaicMaps', prob=1.0)])(content)


# What else mmseg's networks train on


def test_edges_and_depths_are_packed_as_mmseg_does():
    steps = [TRANSFORMS['RandomCrop'], dict(type='GenerateEdge', edge_width=4)]
    content = maps()
    content['gt_depth_map'] = np.random.default_rng(0).random((HEIGHT, WIDTH)).astype(np.float32)
    content['seg_fields'].append('gt_depth_map')
    results = Compose(steps)(content)
    expected = Compose([dict(type='PackSegInputs')])(copy.deepcopy(results))['data_samples']
    sample = PackInstanceMaps()(results)['data_samples']
    for name in ('gt_sem_seg', 'gt_edge_map', 'gt_depth_map'):
        found = sample.get(name).data
        assert found.dtype == expected.get(name).data.dtype and found.equal(expected.get(name).data)
    assert sample.gt_edge_map.data.sum() > 0
