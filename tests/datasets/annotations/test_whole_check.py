"""``check_set``: each kind of fault is found once, and no other one."""

import json
import re

import cv2
import numpy as np
import pytest
from one_fault_sets import BOX, FAULTS, HEIGHT, WIDTH, SmallSet, corners, run_lengths, upside_down

from mmseg_instancenet.datasets import CocoInstanceDataset
from mmseg_instancenet.datasets.annotations import CHECKS, LABEL_IMAGES, Decision, check_file
from mmseg_instancenet.datasets.annotations.whole_check import SetReport, check_set

ALONE = {'byte-order-mark', 'no-json', 'no-coco', 'no-annotation', 'no-image', 'all-ignored'} | {
    name
    for name, check in CHECKS.items()
    if check.where in ('images', 'categories') and check.decision is Decision.REFUSED
}
"""Faults after which a file is not read on, or that leave no room for others."""


def check(data: SmallSet, **options) -> SetReport:
    data.write()
    dataset = CocoInstanceDataset(
        **{
            'data_root': str(data.folder),
            'ann_file': 'instances.json',
            'data_prefix': {'img': 'images/'},
            'metainfo': {'classes': data.classes},
            'pipeline': [{'type': 'LoadImageFromFile'}],
            'lazy_init': True,
            **options,
        }
    )
    return check_set(dataset)


def counts(report: SetReport) -> dict[str, int]:
    names = {check: name for name, check in CHECKS.items()}
    return {names[finding.check]: finding.count for finding in report.findings.of(*Decision)}


def first(report: SetReport, name: str) -> str:
    return next(finding.first for finding in report.findings.of(*Decision) if finding.check is CHECKS[name])


def test_a_good_set_has_no_findings(tmp_path):
    report = check(SmallSet(tmp_path))
    assert (counts(report), report.stops, report.files.summary()) == (
        {},
        False,
        'images opened: 2, 20 x 30 to 20 x 30 (height x width); of more than 8 bits: 0',
    )


def test_there_is_a_fault_for_each_check():
    """Those of label images are in tests/datasets/label_images/."""
    assert set(FAULTS) == {name for name, check in CHECKS.items() if check.where != LABEL_IMAGES}


@pytest.mark.parametrize('name', FAULTS)
def test_each_fault_is_found_alone(tmp_path, name):
    data = SmallSet(tmp_path)
    FAULTS[name](data)
    report = check(data)
    assert counts(report) == {name: 1, **({'no-annotation': 1} if name == 'no-image' else {})}
    assert report.stops == (CHECKS[name].decision is Decision.REFUSED)
    assert str(report).count(CHECKS[name].found) == 1


def test_all_faults_of_one_set_are_found_once_each(tmp_path):
    data = SmallSet(tmp_path)
    together = {name: fault for name, fault in FAULTS.items() if name not in ALONE}
    for fault in together.values():
        fault(data)
    # The classes of the json are three now, in another order than those of the config.
    assert counts(check(data)) == dict.fromkeys(together, 1)


@pytest.mark.parametrize('name', [name for name, check in CHECKS.items() if check.decision is Decision.MENDED])
def test_the_normal_form_has_no_findings(tmp_path, name):
    data = SmallSet(tmp_path)
    FAULTS[name](data)
    clean = tmp_path / 'clean.json'
    clean.write_text(json.dumps(check(data).content, allow_nan=False))
    content, findings = check_file(clean)
    assert findings.of(*Decision) == []
    assert content == json.loads(clean.read_text())


@pytest.mark.parametrize('name', [name for name in FAULTS if CHECKS[name].can_be_skipped])
def test_faults_in_another_class_do_not_stop_a_training(tmp_path, name):
    """Apart from annotations that have no class."""
    data = SmallSet(tmp_path)
    data.content['categories'].append({'id': 3, 'name': 'cow'})
    FAULTS[name](data)
    if isinstance(data.content['annotations'][-1], dict):
        data.content['annotations'][-1].setdefault('category_id', 3)
        if name != 'unknown-category':
            data.content['annotations'][-1]['category_id'] = 3
    report = check(data)
    assert counts(report)[name] == 1
    assert report.stops == (name in ('annotation-entry', 'unknown-category'))
    assert not check(data, strict=False).stops


@pytest.mark.parametrize(
    ('content', 'said'),
    [(b'', '0 bytes'), (b'no image at all', '15 bytes'), (None, r'\d+ bytes')],
    ids=['empty', 'text', 'cut off'],
)
def test_unreadable_images(tmp_path, content, said):
    data = SmallSet(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image = data.image(pixels=noise)
    data.object(image)
    file = data.file(image['file_name'])
    file.write_bytes(file.read_bytes()[:-600] if content is None else content)
    report = check(data)
    assert counts(report) == {'unreadable-image': 1}
    assert re.match(rf'{re.escape(str(file))}: {said}', first(report, 'unreadable-image'))
    assert sum(report.files.sizes.values()) == 2


@pytest.mark.parametrize('size', [(10, 15), (30, 20), (21, 30)])
def test_both_sizes_of_an_image_of_another_size(tmp_path, size):
    data = SmallSet(tmp_path)
    data.object(data.image(pixels=np.zeros(size, np.uint8)))
    report = check(data)
    assert first(report, 'other-size') == f'3.png is {size[0]} x {size[1]}, in the json 20 x 30 (height x width)'


@pytest.mark.parametrize(
    ('orientation', 'stored', 'found'),
    [
        (1, (20, 30), {}),
        (3, (20, 30), {'orientation': 1}),
        (6, (30, 20), {'orientation': 1}),
        (6, (20, 30), {'other-size': 1}),
        (8, (20, 30), {'other-size': 1}),
    ],
)
def test_images_with_an_orientation(tmp_path, orientation, stored, found):
    """OpenCV turns images on loading: an image that is stored in the json's size may be loaded in another one."""
    data = SmallSet(tmp_path)
    upside_down(data, orientation, stored)
    assert counts(check(data)) == found


def test_a_loading_step_that_does_not_turn(tmp_path):
    data = SmallSet(tmp_path)
    upside_down(data, 6, (20, 30))
    report = check(data, pipeline=[{'type': 'LoadImageFromFile', 'color_type': 'unchanged'}])
    assert first(report, 'orientation') == 'turned_6.jpg: 6; stored 20 x 30, loaded 20 x 30'


@pytest.mark.parametrize(
    ('pixels', 'suffix', 'bits'),
    [
        (np.uint16(3000), 'png', 16),
        (np.full(3, 3000, np.uint16), 'png', 16),
        (np.uint16(3000), 'tif', 16),
        (np.full(3, 3000, np.uint16), 'tif', 16),
    ],
    ids=['grey png', 'colour png', 'grey tif', 'colour tif'],
)
def test_more_than_eight_bits(tmp_path, pixels, suffix, bits):
    data = SmallSet(tmp_path)
    image = np.broadcast_to(pixels, (HEIGHT, WIDTH, *np.shape(pixels))).copy()
    data.object(data.image(f'deep.{suffix}', image))
    report = check(data)
    assert (counts(report), report.files.deep) == ({'depth': 1}, 1)
    assert first(report, 'depth').startswith(f'deep.{suffix}: {bits} bits')
    kept = check(data, pipeline=[{'type': 'LoadImageFromFile', 'color_type': 3}])
    assert (counts(kept), kept.files.deep) == ({}, 1)


def test_images_of_more_than_eight_bits_that_are_damaged(tmp_path):
    data = SmallSet(tmp_path)
    noise = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH), np.uint16)
    image = data.image(pixels=noise)
    data.object(image)
    file = data.file(image['file_name'])
    file.write_bytes(file.read_bytes()[:-600])
    assert counts(check(data)) == {'unreadable-image': 1}


def test_images_of_one_name_and_images_listed_twice(tmp_path):
    data = SmallSet(tmp_path)
    for name in ('a/x.png', 'b/x.png', 'c/x.png', './a/x.png', 'a/y.png', 'b\\y.png'):
        data.object(data.image(name))
    cv2.imwrite(str(data.file('b\\y.png')), np.zeros((HEIGHT, WIDTH), np.uint8))
    report = check(data)
    assert counts(report) == {'same-name': 2, 'image-listed-twice': 1}
    assert first(report, 'same-name') == 'a/x.png and b/x.png'
    assert first(report, 'image-listed-twice') == './a/x.png with ids 3 and 6'


def test_equal_masks(tmp_path):
    """Three annotations of one mask, in three forms; one of the same box but another mask; one of another image; a crowd."""
    data = SmallSet(tmp_path)
    image = data.image()
    counted = [4 * HEIGHT + 3, *[5, 15] * 5, 5, HEIGHT * WIDTH - 9 * HEIGHT - 8]
    ring = [corners(*BOX), corners(*BOX)]
    forms = [run_lengths(*BOX), [corners(*BOX)], {'size': [HEIGHT, WIDTH], 'counts': counted}, ring]
    for form in forms:
        data.object(image, segmentation=form)
    data.object(image, segmentation=[[4, 3, 10, 3, 10, 8]])
    data.object(image, iscrowd=1)
    data.object()
    report = check(data)
    assert counts(report) == {'same-mask': 3}
    assert first(report, 'same-mask') == 'annotations 3 and 4 of image 3.png'


@pytest.mark.parametrize(('bottom', 'found'), [(18, {}), (19, {'whole-image': 1}), (20, {'whole-image': 1})])
def test_objects_on_nearly_the_whole_image(tmp_path, bottom, found):
    data = SmallSet(tmp_path)
    data.object(box=(0, 0, WIDTH, bottom))
    assert counts(check(data)) == found


def test_images_without_annotations_beside_refused_ones(tmp_path):
    """An image all of whose annotations are refused is annotated; one with those of another class is not."""
    data = SmallSet(tmp_path)
    FAULTS['counts'](data)
    data.content['categories'].append({'id': 3, 'name': 'cow'})
    data.object(category_id=3)
    data.image()
    data.image()
    report = check(data)
    assert counts(report) == {'counts': 1, 'other-class': 1, 'image-without-annotation': 3}
    assert first(report, 'other-class') == "'cow' with 1 annotations"


def test_void_is_ignored_and_no_class(tmp_path):
    data = SmallSet(tmp_path)
    data.content['categories'].append({'id': 3, 'name': 'void'})
    data.object(category_id=3)
    report = check(data)
    assert counts(report) == {}
    rows = [line.split()[:3] for line in report.statistics.table().splitlines()[1:]]
    assert rows == [['void', '0', '1'], ['cat', '1', '0'], ['dog', '1', '0'], ['all', '2', '1']]


def test_a_missing_annotation_file(tmp_path):
    data = SmallSet(tmp_path)
    with pytest.raises(FileNotFoundError, match='nowhere.json; set data_root and ann_file'):
        check(data, ann_file='nowhere.json')
