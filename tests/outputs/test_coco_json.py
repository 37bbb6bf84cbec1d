"""COCO's json, read back by pycocotools and by the package's reader."""

import numpy as np
import pytest
from instance_results import ragged_masks, result_of
from pycocotools.coco import COCO

from mmseg_instancenet.datasets.annotations import Decision, read_annotations
from mmseg_instancenet.outputs import coco_annotations, coco_image, image_row, write_coco


def write(path, results) -> None:
    images = [coco_image(number, image_row(result, f'{number}.png')) for number, result in enumerate(results, start=1)]
    annotations = [
        {'image_id': number, **annotation}
        for number, result in enumerate(results, start=1)
        for annotation in coco_annotations(result)
    ]
    with open(path, 'w', encoding='utf-8') as file:
        write_coco(file, ['cat', 'dög'], images, annotations)


def test_what_pycocotools_and_our_reader_read(tmp_path):
    masks = [ragged_masks(seed) for seed in range(2)]
    masks.insert(1, masks[0][:0])
    path = tmp_path / 'coco.json'
    write(path, [result_of(some, ['cat', 'dög']) for some in masks])

    coco = COCO(path)
    assert [category['name'] for category in coco.loadCats([1, 2])] == ['cat', 'dög']
    assert coco.loadImgs([2]) == [{'id': 2, 'file_name': '2.png', 'height': 33, 'width': 40}]
    assert sorted(coco.anns) == list(range(1, 13))
    for number, some in enumerate(masks, start=1):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        assert [annotation['category_id'] for annotation in annotations] == [2, 1, 2, 1, 2, 1][: len(some)]
        for place, (annotation, mask) in enumerate(zip(annotations, some, strict=True)):
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            rows, columns = mask.nonzero()
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation['bbox'] == box and annotation['area'] == mask.sum() and annotation['iscrowd'] == 0
            assert annotation['score'] == pytest.approx(0.9 / (place + 1), rel=1e-6)

    content, findings = read_annotations(path)
    assert len(content['annotations']) == 12 and not findings.of(*Decision)


def test_no_image(tmp_path):
    write(tmp_path / 'coco.json', [])
    assert COCO(tmp_path / 'coco.json').dataset['annotations'] == []
