"""``CocoInstanceDataset``: refused files, ignored annotations, and the objects of real sets."""

import json
import re
import warnings
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmseg_instancenet.datasets import CocoInstanceDataset

HEIGHT, WIDTH = 20, 30
PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadInstanceMasks'},
    {'type': 'MasksToMaps'},
]


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def rle(mask: np.ndarray) -> dict:
    encoded = coco_mask.encode(np.asfortranarray(mask))
    return {'size': encoded['size'], 'counts': encoded['counts'].decode()}


def annotation(mask: np.ndarray, category: int = 1, image: int = 1, **changes) -> dict:
    """An annotation of the mask, with some of its fields replaced; :func:`write_set` numbers them."""
    rows, columns = np.nonzero(mask)
    box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    fields = {'image_id': image, 'category_id': category, 'iscrowd': 0, 'area': int(mask.sum()), 'bbox': box}
    return {**fields, 'segmentation': rle(mask), **changes}


def write_set(
    folder: Path,
    annotations: list[dict],
    classes: tuple[str, ...] = ('cat', 'dog'),
    images: int = 1,
    on_disk: int | None = None,
) -> None:
    """A COCO-format set: ``instances.json`` with categories 1, 2, .. and images ``images/1.png``, .."""
    (folder / 'images').mkdir()
    entries = []
    for index in range(1, images + 1):
        entries.append({'id': index, 'file_name': f'{index}.png', 'height': HEIGHT, 'width': WIDTH})
        if index <= (images if on_disk is None else on_disk):
            cv2.imwrite(str(folder / 'images' / f'{index}.png'), np.full((HEIGHT, WIDTH, 3), 7 * index, np.uint8))
    for number, entry in enumerate(annotations, 1):
        entry['id'] = number
    categories = [{'id': index, 'name': name} for index, name in enumerate(classes, 1)]
    text = json.dumps({'images': entries, 'annotations': annotations, 'categories': categories})
    (folder / 'instances.json').write_text(text)


def load(folder: Path, classes: tuple[str, ...] = ('cat', 'dog'), **kwargs) -> CocoInstanceDataset:
    options = {
        'data_root': str(folder),
        'ann_file': 'instances.json',
        'data_prefix': {'img': 'images/'},
        'metainfo': {'classes': classes},
        'pipeline': PIPELINE,
    }
    return CocoInstanceDataset(**{**options, **kwargs})


def test_missing_annotation_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / 'instances.json'))):
        load(tmp_path)


def test_class_that_the_json_lacks(tmp_path):
    write_set(tmp_path, [annotation(rectangle(2, 2, 8, 8))])
    with pytest.raises(ValueError, match=r"has no class 'cow'; it has \['cat', 'dog'\]"):
        load(tmp_path, classes=('cat', 'cow'))


def test_classes_in_another_order(tmp_path):
    write_set(tmp_path, [annotation(rectangle(2, 2, 8, 8))])
    with pytest.raises(ValueError, match=r"expected \['cat', 'dog'\], got \['dog', 'cat'\]"):
        load(tmp_path, classes=('dog', 'cat'))


def test_some_of_the_classes_are_numbered_among_themselves(tmp_path):
    boxes = [rectangle(1, 1, 6, 6), rectangle(8, 8, 14, 14), rectangle(1, 20, 6, 26)]
    write_set(tmp_path, [annotation(mask, category) for category, mask in enumerate(boxes, 1)], ('cat', 'dog', 'cow'))
    maps = load(tmp_path, classes=('cat', 'cow'))[0]
    expected = boxes[0] * 1 + boxes[2] * 2  # the dog is no class here: background
    np.testing.assert_array_equal(maps['gt_seg_map'], expected)


def test_missing_image(tmp_path):
    write_set(tmp_path, [annotation(rectangle(2, 2, 8, 8))], images=4, on_disk=2)
    with pytest.raises(FileNotFoundError, match=r'names 2 images that do not exist; the first is .*images/3\.png'):
        load(tmp_path)


def test_json_without_images(tmp_path):
    write_set(tmp_path, [], images=0)
    with pytest.raises(ValueError, match='names no images'):
        load(tmp_path)


@pytest.mark.parametrize('segmentation', ['absent', None, []], ids=['absent', 'null', 'empty'])
def test_annotation_without_segmentation(tmp_path, segmentation):
    good, bad = annotation(rectangle(2, 2, 8, 8)), annotation(rectangle(9, 9, 12, 12))
    if segmentation == 'absent':
        del bad['segmentation']
    else:
        bad['segmentation'] = segmentation
    write_set(tmp_path, [good, bad])
    with pytest.raises(
        ValueError, match=r'1 x no "segmentation", or an empty one; the first: annotation 2 of image 1\.png'
    ):
        load(tmp_path)


def test_mask_of_another_size(tmp_path):
    wrong = annotation(rectangle(2, 2, 8, 8), segmentation=rle(np.ones((WIDTH, HEIGHT), np.uint8)))
    write_set(tmp_path, [annotation(rectangle(9, 9, 12, 12)), wrong])
    with pytest.raises(ValueError, match=r'annotation 2 of image 1\.png: \[30, 20\], expected \[20, 30\]'):
        load(tmp_path)


def polygon_annotation(left: float, top: float, right: float, bottom: float) -> dict:
    return annotation(
        rectangle(1, 1, 3, 3),
        segmentation=[[left, top, right, top, right, bottom, left, bottom]],
        bbox=[left, top, right - left, bottom - top],
        area=(right - left) * (bottom - top),
    )


def test_polygon_outside_the_image_is_clipped_with_a_warning(tmp_path):
    outside = polygon_annotation(20, 10, 36, 25)
    write_set(tmp_path, [annotation(rectangle(2, 2, 8, 8)), outside, polygon_annotation(-9, 0, 4, 4)])
    with pytest.warns(
        UserWarning,
        match=r'2 x polygon a few pixels outside.*annotation 2 of image 1\.png: x 20 to 36 of 30, y 10 to 25 of 20',
    ):
        dataset = load(tmp_path)
    instance_map = dataset[0]['gt_instance_map']
    np.testing.assert_array_equal(instance_map == 2, rectangle(10, 20, HEIGHT, WIDTH) == 1)


def test_polygon_rounded_over_the_border_gives_no_warning(tmp_path):
    write_set(tmp_path, [polygon_annotation(-0.5, -1, WIDTH + 1, HEIGHT + 0.5)])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        dataset = load(tmp_path)
    assert (dataset[0]['gt_instance_map'] == 1).all()


THING = rectangle(5, 5, 12, 9)
IGNORED = {'ignore flag': {'ignore': 1}, 'crowd': {'iscrowd': 1}}
OBJECTS = {
    'narrow box': {'bbox': [5, 5, 0.9, 7]},
    'flat box': {'bbox': [5, 5, 4, 0.5]},
    'no area': {'area': 0},
    'box outside': {'bbox': [WIDTH + 3, 5, 4, 7]},
    'box of corners': {'bbox': [5, 5, 9, 12]},
}
"""What mmdet would leave out for its size, and a box that is not the mask's."""


@pytest.mark.parametrize('changes', IGNORED.values(), ids=IGNORED.keys())
def test_annotations_that_mmdet_leaves_out_are_ignored_instead_of_background(tmp_path, changes):
    other = rectangle(13, 20, 18, 26)
    write_set(tmp_path, [annotation(THING, 2, **changes), annotation(other, 2)])
    dataset = load(tmp_path)
    instances = dataset.get_data_info(0)['instances']
    assert sorted(instance['ignore_flag'] for instance in instances) == [0, 1]
    ignored = next(instance for instance in instances if instance['ignore_flag'])
    np.testing.assert_array_equal(coco_mask.decode(ignored['mask']), THING)
    maps = dataset[0]
    expected_classes = np.where(THING == 1, 255, 2 * other.astype(int))
    np.testing.assert_array_equal(maps['gt_seg_map'], expected_classes)
    np.testing.assert_array_equal(maps['gt_instance_map'] == -1, THING == 1)
    assert set(maps['gt_instance_map'][other == 1].tolist()) <= {1, 2}
    assert (maps['gt_instance_map'] > 0).sum() == other.sum()


@pytest.mark.filterwarnings('ignore:.*mended')
@pytest.mark.parametrize('changes', OBJECTS.values(), ids=OBJECTS.keys())
def test_an_annotation_with_pixels_in_its_mask_is_an_object(tmp_path, changes):
    write_set(tmp_path, [annotation(THING, 2, **changes)])
    dataset = load(tmp_path)
    (instance,) = dataset.get_data_info(0)['instances']
    assert (instance['ignore_flag'], instance['bbox']) == (0, [5, 5, 9, 12])
    np.testing.assert_array_equal(dataset[0]['gt_seg_map'], 2 * THING)


def test_object_of_a_class_that_is_left_out_stays_background(tmp_path):
    write_set(tmp_path, [annotation(THING, 2, ignore=1), annotation(rectangle(1, 1, 4, 4), 1)])
    maps = load(tmp_path, classes=('cat',))[0]
    assert maps['gt_seg_map'][THING == 1].tolist() == [0] * int(THING.sum())


@pytest.mark.parametrize('test_mode', [False, True])
def test_image_without_instances_is_a_normal_image(tmp_path, test_mode):
    write_set(tmp_path, [annotation(THING, image=2)], images=3)
    dataset = load(tmp_path, test_mode=test_mode)
    assert len(dataset) == 3
    for index in (0, 2):
        maps = dataset[index]
        for name in ('gt_seg_map', 'gt_instance_map'):
            np.testing.assert_array_equal(maps[name], np.zeros((HEIGHT, WIDTH)))
    np.testing.assert_array_equal(dataset[1]['gt_instance_map'], THING)


def test_annotation_file_is_named_for_the_metric(tmp_path):
    write_set(tmp_path, [annotation(THING)])
    assert load(tmp_path, test_mode=True)[0]['ann_file'] == str(tmp_path / 'instances.json')
    assert 'ann_file' not in load(tmp_path)[0]
    # The training set's metainfo is stored in checkpoints, and that of sets that are joined has to agree.
    assert 'ann_file' not in load(tmp_path, test_mode=True).metainfo


@pytest.mark.parametrize('classes', ['cat', 'a cat', 'cat,dog'])
def test_one_string_is_one_class(tmp_path, classes):
    write_set(tmp_path, [annotation(THING)], (classes, 'dog'))
    dataset = load(tmp_path, classes=classes)
    assert dataset.metainfo['classes'] == (classes,)
    np.testing.assert_array_equal(dataset[0]['gt_seg_map'], THING)


@pytest.mark.parametrize('fault', [{'segmentation': [[1, 2]]}, {'category_id': 9}, {'segmentation': 'x'}])
def test_annotations_that_cannot_be_mended_are_left_out_on_request(tmp_path, fault):
    write_set(tmp_path, [annotation(rectangle(1, 1, 4, 4), **fault), annotation(THING)])
    with pytest.raises(ValueError, match='strict=False in the config of the data set leaves these annotations out'):
        load(tmp_path)
    with pytest.warns(UserWarning, match='left out:\n  1 x '):
        dataset = load(tmp_path, strict=False)
    np.testing.assert_array_equal(dataset[0]['gt_instance_map'], THING)


def expected_counts(json_file: Path) -> dict[int, Counter]:
    """Objects and ignored objects of each image, counted from the json alone."""
    content = json.loads(json_file.read_text())
    counts = {image['id']: Counter(objects=0, ignored=0) for image in content['images']}
    for entry in content['annotations']:
        ignored = entry['iscrowd'] or entry.get('ignore')
        counts[entry['image_id']]['ignored' if ignored else 'objects'] += 1
    return counts


@pytest.mark.parametrize(
    'ann_file, classes',
    [('coco_mini/train.json', None), ('dsb2018/train.json', ('nucleus',)), ('dsb2018/val.json', ('nucleus',))],
)
def test_real_sets_load_with_every_object(test_data, ann_file, classes):
    metainfo = {'metainfo': {'classes': classes}} if classes else {}
    folder = test_data / Path(ann_file).parent
    dataset = CocoInstanceDataset(
        data_root=str(folder), ann_file=Path(ann_file).name, data_prefix={'img': 'images/'}, pipeline=[], **metainfo
    )
    found = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        ignored = sum(instance['ignore_flag'] for instance in info['instances'])
        found[info['img_id']] = Counter(objects=len(info['instances']) - ignored, ignored=ignored)
    expected = expected_counts(test_data / ann_file)
    assert found == expected
    total = sum(expected.values(), Counter())
    if classes is None:
        assert total['ignored'] > 0, 'the set is here for its crowds'
    assert total['objects'] > 500


def test_crowds_of_real_images_are_ignored_pixels(test_data):
    content = json.loads((test_data / 'coco_mini' / 'train.json').read_text())
    crowds = {entry['image_id']: entry for entry in content['annotations'] if entry['iscrowd']}
    dataset = CocoInstanceDataset(
        data_root=str(test_data / 'coco_mini'),
        ann_file='train.json',
        data_prefix={'img': 'images/'},
        pipeline=PIPELINE,
    )
    checked = 0
    for index in range(len(dataset)):
        image = dataset.get_data_info(index)['img_id']
        if image not in crowds or checked == 3:
            continue
        segmentation = crowds[image]['segmentation']
        covered = coco_mask.decode(coco_mask.frPyObjects(segmentation, *segmentation['size'])) == 1
        maps = dataset[index]
        assert not (maps['gt_seg_map'][covered] == 0).any(), 'a crowd became background'
        assert (maps['gt_seg_map'][covered] == 255).any()
        np.testing.assert_array_equal(maps['gt_seg_map'] == 255, maps['gt_instance_map'] == -1)
        checked += 1
    assert checked == 3


@pytest.mark.parametrize('indices, beyond', [([0, 3], (1, 3)), (range(7), (4, 3)), ([-4, 1], (1, -4))])
def test_indices_beyond_the_set(tmp_path, indices, beyond):
    """A config of a set with more images, with the data of a smaller one."""
    write_set(tmp_path, [annotation(THING)], images=3)
    with pytest.raises(ValueError, match=rf'has 3 images: .* got {beyond[0]} others, the first of them {beyond[1]}'):
        load(tmp_path, indices=indices)
    assert len(load(tmp_path, indices=[2, 0])) == 2 and len(load(tmp_path, indices=2)) == 2
