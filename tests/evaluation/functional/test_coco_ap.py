"""AP of drawn images against that of a data set that has these images written out."""

import copy

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from references.mask_cases import encode

from mmseg_instancenet.evaluation.functional.coco_ap import match_images, mean_ap

ROWS = ['###.......', '...####...', '.......###', '##........', '...###....', '......####']


def coco(images: list[list[tuple]]) -> COCO:
    """Of each image its (class, mask, score)."""
    entries = [(number, *entry) for number, image in enumerate(images) for entry in image]
    result = COCO()
    result.dataset = {
        'images': [{'id': number, 'height': 1, 'width': 10} for number in range(len(images))],
        'categories': [{'id': 1}, {'id': 2}],
        'annotations': [
            {
                'id': place,
                'image_id': number,
                'category_id': label,
                'iscrowd': 0,
                'segmentation': encode(row),
                'area': float(coco_mask.area(encode(row))),
                'score': score,
            }
            for place, (number, label, row, score) in enumerate(entries, 1)
        ],
    }
    result.createIndex()
    return result


def some_images(rng: np.random.Generator, count: int) -> list[list[tuple]]:
    return [
        [
            (int(rng.integers(1, 3)), row, float(rng.random()))
            for row in rng.choice(ROWS, rng.integers(0, 5), replace=False)
        ]
        for _ in range(count)
    ]


@pytest.mark.parametrize('seed', range(4))
def test_drawn_images_are_a_data_set_of_these_images(seed):
    rng = np.random.default_rng(seed)
    truth, found = some_images(rng, 6), some_images(rng, 6)
    evaluation = match_images(coco(truth), coco(found), [1, 2], range(6))
    everything = mean_ap(evaluation)
    values = set()
    for _ in range(5):
        drawn = rng.integers(6, size=7)
        written = [[copy.copy(images[place]) for place in drawn] for images in (truth, found)]
        expected = mean_ap(match_images(coco(written[0]), coco(written[1]), [1, 2], range(7)))
        assert mean_ap(evaluation, drawn) == expected
        values.add(expected)
    assert len(values) > 1
    assert mean_ap(evaluation, np.arange(6)) == mean_ap(evaluation) == everything


def test_without_objects_it_is_minus_one():
    evaluation = match_images(coco([[]]), coco([[(1, ROWS[0], 0.5)]]), [1, 2], [0])
    assert mean_ap(evaluation) == mean_ap(evaluation, np.array([0, 0])) == -1


def test_thresholds_of_the_iou():
    """Two of three pixels: COCO's AP has four of its ten thresholds below 2 / 3."""
    truth, found = coco([[(1, '###.......', 1.0)]]), coco([[(1, '##........', 1.0)]])
    assert mean_ap(match_images(truth, found, [1], [0])) == pytest.approx(0.4)
    assert mean_ap(match_images(truth, found, [1], [0], [0.6, 0.7])) == pytest.approx(0.5)
