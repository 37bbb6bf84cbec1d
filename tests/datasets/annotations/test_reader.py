"""Each kind of fault: mended to the intended annotations or refused with its name, and no other fault found."""

import json
import math

import numpy as np
import pytest
from mmdet.datasets.api_wrappers import COCO
from small_set import PARTS, SIZES, as_numbers, as_text, mask_of, rectangle, ring, small_set

from mmseg_instancenet.datasets.annotations import CHECKS, Decision, check_file, coco_of, read_annotations


def write(folder, content) -> str:
    path = folder / 'set.json'
    path.write_text(json.dumps(content))
    return str(path)


def counts(findings) -> dict[str, int]:
    return {finding.check.name: finding.count for finding in findings.of(*Decision)}


def masks(content: dict) -> list[np.ndarray]:
    coco = coco_of(content)
    return [coco.annToMask(annotation) for annotation in content['annotations']]


def test_a_file_without_fault_stays_as_it_is(tmp_path):
    content, findings = read_annotations(write(tmp_path, small_set()))
    assert content == small_set()
    assert counts(findings) == {}
    for found, number in zip(masks(content), PARTS, strict=True):
        np.testing.assert_array_equal(found, mask_of(number))


def first(content: dict) -> dict:
    return content['annotations'][0]


def change(**fields):
    """Sets fields of the first annotation; a field of ... is removed."""

    def apply(content):
        for key, value in fields.items():
            if value is ...:
                del first(content)[key]
            else:
                first(content)[key] = value

    return apply


def all_ids(numbers):
    def apply(content):
        for annotation, number in zip(content['annotations'], numbers, strict=True):
            if number is ...:
                del annotation['id']
            else:
                annotation['id'] = number

    return apply


def renumber(key, function, references):
    def apply(content):
        for entry in content[key]:
            entry['id'] = function(entry['id'])
        for annotation in content['annotations']:
            annotation[references] = function(annotation[references])

    return apply


SQUARE = ring(*PARTS[1][0])
PAIRS = [SQUARE[at : at + 2] for at in range(0, len(SQUARE), 2)]

MENDED = {
    'annotation-id': [
        (all_ids([0, 1, 2, 3, 4]), 1),
        (all_ids([1, 1, 2, 3, 3]), 4),
        (all_ids(['a', 'b', 'c', 'd', 'e']), 5),
        (all_ids([None, ..., 3, -4, 5.5]), 4),
        (all_ids(['1', 2, 3, 4, 5]), 1),
    ],
    'image-id': [
        (renumber('images', str, 'image_id'), 2),
        (renumber('images', float, 'image_id'), 2),
        (renumber('images', 'photo {}'.format, 'image_id'), 2),
        (renumber('images', lambda number: 'first' if number == 1 else number, 'image_id'), 1),
        (lambda content: content['images'].append({'id': None, 'file_name': '3.png', 'height': 4, 'width': 5}), 1),
        (lambda content: content['images'].append({'file_name': '3.png', 'height': 4, 'width': 5}), 1),
    ],
    'category-id': [
        (renumber('categories', str, 'category_id'), 2),
        (renumber('categories', float, 'category_id'), 2),
        (renumber('categories', 'class {}'.format, 'category_id'), 2),
    ],
    'image-size-as-text': [
        (lambda content: content['images'][0].update(width='30'), 1),
        (lambda content: content['images'][0].update(width=30.0, height=20.0), 2),
        (lambda content: content['images'][1].update(height=' 16 '), 1),
    ],
    'no-crowd-flag': [
        (change(iscrowd=...), 1),
        (change(iscrowd=None), 1),
        (change(iscrowd=''), 1),
        (change(iscrowd=[]), 1),
    ],
    'crowd-flag-as-text': [
        (change(iscrowd='0'), 1),
        (change(iscrowd=False), 1),
        (change(iscrowd='false'), 1),
        (change(iscrowd=0.0), 1),
        (change(ignore='0'), 1),
    ],
    'area': [
        (change(area=...), 1),
        (change(area=0), 1),
        (change(area='36'), 1),
        (change(area=-36), 1),
        (change(area=math.nan), 1),
        (change(area=[36]), 1),
    ],
    'box': [
        (change(bbox=...), 1),
        (change(bbox=[]), 1),
        (change(bbox=[3, 2, 0, 6]), 1),
        (change(bbox=['3', '2', '6', '6']), 1),
        (change(bbox=[3, 2, 6]), 1),
        (change(bbox=[math.nan, 2, 6, 6]), 1),
        (change(bbox=[50, 2, 6, 6]), 1),
        (change(bbox='3 2 6 6'), 1),
        (change(bbox={'x': 3}), 1),
    ],
    'other-box': [
        (change(bbox=[3, 2, 9, 8]), 1),
        (change(bbox=[2, 3, 6, 6.5]), 0),
        (change(bbox=[13, 12, 6, 6]), 1),
        (change(bbox=[3, 2, 26, 17]), 1),
    ],
    'flat-polygon': [
        (change(segmentation=SQUARE), 1),
        (change(segmentation=PAIRS), 1),
        (change(segmentation=[float(value) for value in SQUARE]), 1),
    ],
    'polygon-of-pairs': [
        (change(segmentation=[PAIRS]), 1),
        (change(segmentation=[[[float(x), float(y)] for x, y in PAIRS]]), 1),
        (change(segmentation=[PAIRS[1:] + PAIRS[:1]]), 1),
    ],
    'coordinates-as-text': [
        (change(segmentation=[[str(value) for value in SQUARE]]), 1),
        (change(segmentation=[[*SQUARE[:-1], f' {SQUARE[-1]}.0 ']]), 1),
        (change(segmentation=[['3e0', *SQUARE[1:]]]), 1),
    ],
    'empty-ring': [
        (change(segmentation=[SQUARE, []]), 1),
        (change(segmentation=[[4, 4], SQUARE]), 1),
        (change(segmentation=[[4, 4, 5, 5], SQUARE, []]), 1),
    ],
    'over-the-border': [],
    'no-pixel': [],
    'byte-order-mark': [],
}

TOGETHER = {
    'flat-polygon': {'polygon-of-pairs'},
    'image-id': {'reference-as-text'},
    'category-id': {'reference-as-text'},
}
"""Checks that may find the same input."""


@pytest.mark.parametrize(
    ('check', 'number'), [(check, number) for check, cases in MENDED.items() for number in range(len(cases))], ids=str
)
def test_mended(check, number, tmp_path):
    apply, count = MENDED[check][number]
    content = small_set()
    apply(content)
    normal, findings = read_annotations(write(tmp_path, content))
    found = counts(findings)
    for other in TOGETHER.get(check, ()):
        found.pop(other, None)
    assert found == ({check: count} if count else {})
    expected = small_set()
    for found_mask, name in zip(masks(normal), PARTS, strict=True):
        np.testing.assert_array_equal(found_mask, mask_of(name))
    for entry, meant in zip(normal['annotations'], expected['annotations'], strict=True):
        assert {**entry, 'id': 0, 'image_id': 0, 'category_id': 0, 'segmentation': 0, 'ignore': 0} == {
            **meant, 'id': 0, 'image_id': 0, 'category_id': 0, 'segmentation': 0, 'ignore': 0,
            'bbox': entry['bbox'] if not count else meant['bbox'],
        }  # fmt: skip
    ids = [entry['id'] for entry in normal['annotations']]
    assert all(type(number) is int and number > 0 for number in ids) and len(set(ids)) == 5
    names = {image['id']: image['file_name'] for image in normal['images']}
    assert [names[entry['image_id']] for entry in normal['annotations']] == ['1.png'] * 4 + ['2.png']
    classes = {category['id']: category['name'] for category in normal['categories']}
    assert [classes[entry['category_id']] for entry in normal['annotations']] == ['dog', 'cat', 'dog', 'cat', 'dog']
    # What was mended once is in the normal form.
    again, findings = read_annotations(write(tmp_path, normal))
    assert counts(findings) == {} and again == normal


ONE = rectangle(SIZES[1], 2, 3, 8, 9)


def text_counts(text):
    return change(segmentation={'size': [20, 30], 'counts': text})


REFUSED = {
    'annotation-entry': [
        lambda content: content['annotations'].append(None),
        lambda content: content['annotations'].append(['a']),
        lambda content: content['annotations'].append(7),
    ],
    'unknown-image': [change(image_id=9), change(image_id=...), change(image_id=True), change(image_id={'id': 1})],
    'unknown-category': [change(category_id=0), change(category_id=...), change(category_id=True), change(category_id=[1])],
    'crowd-flag': [change(iscrowd=2), change(iscrowd='yes'), change(iscrowd=[0]), change(ignore='maybe')],
    'no-mask': [change(segmentation=...), change(segmentation=None), change(segmentation=[]), change(segmentation='')],
    'segmentation-form': [
        change(segmentation='3,2,9,8'),
        change(segmentation=5),
        change(segmentation={'counts': [600]}),
        change(segmentation={'size': [20, 30]}),
        change(segmentation=[as_text(ONE)]),
        change(segmentation=[SQUARE, 5]),
        change(segmentation=[[*SQUARE[:-1], {}]]),
        change(segmentation=[[*SQUARE[:-1], True]]),
    ],
    'point-polygon': [
        change(segmentation=[[4, 4]]),
        change(segmentation=[[3, 2, 9, 8]]),
        change(segmentation=[[], []]),
        change(segmentation=[[]]),
        change(segmentation=[4, 4]),
        change(segmentation=[[[3, 2], [9, 8]]]),
    ],
    'odd-polygon': [
        change(segmentation=[SQUARE[:-1]]),
        change(segmentation=SQUARE[:-1]),
        change(segmentation=[SQUARE, [*SQUARE, 3]]),
    ],
    'coordinate': [
        change(segmentation=[[math.nan, *SQUARE[1:]]]),
        change(segmentation=[[*SQUARE[:-1], math.inf]]),
        change(segmentation=[SQUARE, [*SQUARE[:-1], -math.inf]]),
        change(segmentation=[[None, *SQUARE[1:]]]),
        change(segmentation=[['left', *SQUARE[1:]]]),
        change(segmentation=[[10**400, *SQUARE[1:]]]),
    ],
    'shares': [
        change(segmentation=[[0.1, 0.1, 0.3, 0.1, 0.3, 0.4, 0.1, 0.4]]),
        change(segmentation=[[0, 0, 0.5, 0, 0.5, 1]]),
        change(segmentation=[[0.1, 0.1, 0.3, 0.1, 0.3, 0.4], [0.6, 0.6, 0.9, 0.6, 0.9, 0.9]]),
    ],
    'outside': [
        change(segmentation=[[3, 2, 1e9, 2, 1e9, 8]]),
        change(segmentation=[[3, 2, 41, 2, 41, 8]]),
        change(segmentation=[[-11, 2, 9, 2, 9, 8]]),
        change(segmentation=[[3, 2, 9, 2, 9, -1e300]]),
        change(segmentation=[SQUARE, [103, 102, 109, 102, 109, 108]]),
    ],
    'mask-size': [
        change(segmentation=as_text(ONE.T)),
        change(segmentation=as_numbers(np.pad(ONE, 1))),
        change(segmentation={'size': ['twenty', 30], 'counts': [600]}),
        change(segmentation={'size': 600, 'counts': [600]}),
        change(segmentation={'size': [20, 30, 3], 'counts': [600]}),
    ],
    'counts': [
        text_counts([100, 20]),
        text_counts([100, 600]),
        text_counts([700, -100]),
        text_counts([]),
        text_counts([300, '300']),
        text_counts([300, 300.5]),
        text_counts([2**70, 600]),
        text_counts('100 20 480'),
        text_counts('600'),
        text_counts(''),
        text_counts('ööö'),
        text_counts('~~~~~~~~~~~~~~~~~~~'),
        text_counts(as_text(ONE)['counts'][:-1]),
        text_counts(as_text(ONE)['counts'] + 'o'),
        text_counts(as_text(ONE)['counts'] + 'P' * 30),
        text_counts({'0': 600}),
        text_counts(None),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ('check', 'number'), [(check, number) for check, cases in REFUSED.items() for number in range(len(cases))], ids=str
)
def test_annotations_that_are_refused(check, number, tmp_path):
    content = small_set()
    REFUSED[check][number](content)
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=r'set\.json cannot be used as it is:') as error:
        read_annotations(path)
    assert f'1 x {CHECKS[check].found}; the first: ' in str(error.value) and CHECKS[check].action in str(error.value)
    if check != 'annotation-entry':
        assert 'annotation 1 ' in str(error.value)
    # With strict=False the others are read, and the fault is counted.
    normal, findings = read_annotations(path, strict=False)
    assert counts(findings) == {check: 1}
    expected = small_set()['annotations'][0 if check == 'annotation-entry' else 1 :]
    assert normal['annotations'] == expected
    content, findings = check_file(path)
    assert content == normal and counts(findings) == {check: 1}


WHOLE = {
    'no-coco': [
        lambda content: content.pop('images'),
        lambda content: content.update(categories={}),
        lambda content: content.update(annotations='many'),
        lambda content: content.update(images=None),
    ],
    'image-entry': [
        lambda content: content['images'].append('3.png'),
        lambda content: content['images'][0].pop('file_name'),
        lambda content: content['images'][1].update(file_name=''),
        lambda content: content['images'][1].update(file_name=['2.png']),
    ],
    'image-size': [
        lambda content: content['images'][1].update(width=-1),
        lambda content: content['images'][1].update(width=0),
        lambda content: content['images'][1].pop('height'),
        lambda content: content['images'][1].update(height=16.5),
        lambda content: content['images'][1].update(height='high'),
        lambda content: content['images'][1].update(height=10**12),
    ],
    'duplicate-image-id': [
        lambda content: content['images'][1].update(id=1),
        lambda content: content['images'][1].update(id='1'),
        lambda content: content['images'].append(dict(content['images'][0])),
    ],
    'category-name': [
        lambda content: content['categories'].append('cow'),
        lambda content: content['categories'][0].pop('name'),
        lambda content: content['categories'][1].update(name=None),
    ],
    'duplicate-category': [
        lambda content: content['categories'][1].update(id=1),
        lambda content: content['categories'][1].update(name='cat'),
        lambda content: content['categories'].append({'id': 3, 'name': 'dog'}),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ('check', 'number'), [(check, number) for check, cases in WHOLE.items() for number in range(len(cases))], ids=str
)
@pytest.mark.parametrize('strict', [True, False])
def test_files_that_are_refused(check, number, strict, tmp_path):
    """Images and categories cannot be skipped: all of their annotations depend on them."""
    content = small_set()
    WHOLE[check][number](content)
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=r'set\.json cannot be used as it is:') as error:
        read_annotations(path, strict=strict)
    assert f'1 x {CHECKS[check].found}; the first: ' in str(error.value)
    assert 'strict=False' not in str(error.value)
    content, findings = check_file(path)
    assert content is None and counts(findings)[check] == 1


NO_JSON = {
    'empty': b'',
    'truncated': json.dumps(small_set()).encode()[:-300],
    'pointer': b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n',
    'an image': b'\x89PNG\r\n\x1a\n\x00\x00',
    'text': b'image,x,y\n1.png,3,4\n',
    'UTF-16': json.dumps(small_set()).encode('utf-16'),
    'deep': b'[' * 100_000,
}


@pytest.mark.parametrize('data', NO_JSON.values(), ids=NO_JSON)
def test_no_json(data, tmp_path):
    path = tmp_path / 'set.json'
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'set\.json: expected a'):
        read_annotations(path)
    content, findings = check_file(path)
    assert content is None and counts(findings) == {'no-json': 1}


@pytest.mark.parametrize('content', [[], [{'id': 1}], {}, 'text', 5, None, {'images': [], 'annotations': []}])
def test_json_of_something_else(content, tmp_path):
    with pytest.raises(ValueError, match=CHECKS['no-coco'].found):
        read_annotations(write(tmp_path, content))


@pytest.mark.parametrize('indent', [None, 2])
@pytest.mark.parametrize('name', ['cat', 'Kätzchen', '猫'])
def test_byte_order_mark(indent, name, tmp_path):
    content = small_set()
    content['categories'][0]['name'] = name
    path = tmp_path / 'set.json'
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding='utf-8-sig')
    normal, findings = read_annotations(path)
    assert normal == content and counts(findings) == {'byte-order-mark': 1}


@pytest.mark.parametrize(
    'segmentation',
    [
        [[3, 2, 3, 2, 3, 2]],
        [[3, 2, 9, 2, 15, 2]],
        [[3.1, 2.1, 3.2, 2.1, 3.2, 2.2]],
        [[3.1, 2, 3.2, 8, 3.15, 8]],
        [[-5, 2, -1, 2, -1, 8]],
        [[-5, 2, 0, 2, 0, 8, -5, 8]],
        [[30, 2, 39, 2, 39, 8, 30, 8]],
        as_text(ONE * 0),
        as_numbers(ONE * 0),
        {'size': [20, 30], 'counts': [600, 0]},
    ],
)
def test_masks_without_a_pixel_are_left_out(segmentation, tmp_path):
    content = small_set()
    first(content)['segmentation'] = segmentation
    normal, findings = read_annotations(write(tmp_path, content))
    found = counts(findings)
    found.pop('over-the-border', None)
    assert found == {'no-pixel': 1}
    assert normal['annotations'] == small_set()['annotations'][1:]


@pytest.mark.parametrize(
    'box, clipped', [((2, -6, 8, 9), (2, 0, 8, 9)), ((-3, 3, 8, 9), (0, 3, 8, 9)), ((12, 21, 29, 39), (12, 21, 20, 30))]
)
def test_polygons_a_few_pixels_outside(box, clipped, tmp_path):
    content = small_set()
    expected = rectangle(SIZES[1], *clipped)
    top, left, bottom, right = clipped
    first(content).update(segmentation=[ring(*box)], bbox=[left, top, right - left, bottom - top])
    normal, findings = read_annotations(write(tmp_path, content))
    assert counts(findings) == {'over-the-border': 1}
    np.testing.assert_array_equal(masks(normal)[0], expected)


def ignore_all(flag):
    def apply(content):
        for annotation in content['annotations']:
            annotation[flag] = 1

    return apply


def crowds_of(category):
    def apply(content):
        for annotation in content['annotations']:
            if annotation['category_id'] == category:
                annotation['iscrowd'] = 1

    return apply


@pytest.mark.parametrize(
    'apply, expected',
    [
        (lambda content: content.update(annotations=[]), {'no-annotation': 1}),
        (lambda content: content.update(annotations=None), {'no-annotation': 1}),
        (lambda content: content.pop('annotations'), {'no-annotation': 1}),
        (ignore_all('iscrowd'), {'all-ignored': 5}),
        (ignore_all('ignore'), {'all-ignored': 5}),
        (crowds_of(1), {'class-without-object': 1}),
        (crowds_of(2), {'class-without-object': 1}),
    ],
)
def test_nothing_to_learn(apply, expected, tmp_path):
    content = small_set()
    apply(content)
    normal, findings = read_annotations(write(tmp_path, content))
    assert counts(findings) == expected
    assert len(normal['annotations']) == len(content.get('annotations') or [])


@pytest.mark.parametrize('classes', [['cat'], ['dog'], ['cat', 'dog']])
def test_annotations_of_other_classes_are_left_out_unread(classes, tmp_path):
    content = small_set()
    content['categories'].append({'id': 7, 'name': 'box'})
    content['annotations'].append({'id': 6, 'image_id': 1, 'category_id': 7})
    normal, findings = read_annotations(write(tmp_path, content), classes=classes)
    names = {category['id']: category['name'] for category in content['categories']}
    expected = [entry for entry in small_set()['annotations'] if names[entry['category_id']] in classes]
    assert normal['annotations'] == expected and 'no-mask' not in counts(findings)


@pytest.mark.parametrize(
    'file', ['coco_mini/train.json', 'dsb2018/val.json', 'coco_fakesegm/instances_val2014_100.json']
)
def test_real_files_are_read_as_pycocotools_reads_them(test_data, file):
    normal, findings = read_annotations(test_data / file)
    assert findings.of(Decision.REFUSED) == []
    truth = COCO(str(test_data / file))
    assert normal == truth.dataset
    ours = coco_of(normal)
    for number in list(truth.anns)[::37]:
        np.testing.assert_array_equal(ours.annToMask(ours.anns[number]), truth.annToMask(truth.anns[number]))


@pytest.mark.parametrize('key', ['id', 'image_id', 'segmentation', 'iscrowd', 'area', 'bbox', 'score'])
def test_deep_nesting_is_an_error_that_names_the_file(tmp_path, key):
    """A little below the recursion limit Python reads the json, and fails to print the value."""
    content = small_set()
    content['annotations'][0][key] = 'here'
    path = tmp_path / 'deep.json'
    for depth in (*range(880, 1000), 2000, 10**5):
        path.write_text(json.dumps(content).replace('"here"', '[' * depth + ']' * depth))
        try:
            read_annotations(path)
        except ValueError as error:
            assert 'deep.json' in str(error)
        else:
            assert depth < 1000
        content_read, findings = check_file(path)
        if depth > 1000:
            assert content_read is None and 'nested too deeply' in findings.report(Decision.REFUSED)
