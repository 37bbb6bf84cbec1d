"""Recall of proposals by hand, and against COCO's own AR without classes."""

import math

import numpy as np
import pytest
from mmseg.registry import METRICS
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from references.mask_cases import predict_rows, read_fakesegm, write_rows

from mmseg_instancenet.evaluation import ProposalRecallMetric
from mmseg_instancenet.evaluation.functional.mask_overlap import IOU_THRESHOLDS

CLASSES = ('cat', 'dog')


def metric_of(ann_file: str, classes=CLASSES, **kwargs) -> ProposalRecallMetric:
    metric = METRICS.build(dict(type='ProposalRecallMetric', ann_file=ann_file, **kwargs))
    metric.dataset_meta = {'classes': classes}
    return metric


def evaluate(metric: ProposalRecallMetric, samples: list[dict]) -> dict[str, float]:
    metric.process({}, samples)
    metrics = metric.evaluate(len(samples))
    assert all(key.startswith('proposal/') for key in metrics)
    return {key[len('proposal/') :]: value for key, value in metrics.items()}


def two_images(folder) -> tuple[str, list[dict]]:
    images = {1: [('cat', '####......'), ('dog', '.....#####')], 2: [('cat', '##########')]}
    samples = [
        predict_rows(1, [(1, 0.7, '.....####.'), (1, 0.9, '####......'), (0, 0.8, '###.......')]),
        predict_rows(2, [(0, 0.1, '######....')]),
    ]
    return write_rows(folder, images, CLASSES), samples


def test_numbers_are_checked():
    with pytest.raises(ValueError, match='num_proposals >= 1'):
        ProposalRecallMetric(num_proposals=(10, 0))


def test_by_hand(tmp_path):
    """Of three objects the best proposal of each image finds the first at all ten IoU (it is perfect, of another class)
    and the third at 0.5, 0.55 and 0.6 (its IoU). The second of image 1 finds nothing that is new, the third the second
    object (IoU 0.8) at seven.
    """
    ann_file, samples = two_images(tmp_path)
    metrics = evaluate(metric_of(ann_file, num_proposals=(1, 2, 3, 60)), samples)
    assert metrics['AR@1'] == metrics['AR@2'] == pytest.approx((10 + 3) / 30)
    assert metrics['AR@3'] == metrics['AR@60'] == pytest.approx((10 + 3 + 7) / 30)
    assert metrics['AR50@1'] == metrics['AR50@2'] == pytest.approx(2 / 3)
    assert metrics['AR50@3'] == 1
    # With all proposals the order is the same to disjoint objects.
    assert metrics['AR@3_random'] == pytest.approx(metrics['AR@3'])
    assert set(evaluate(metric_of(ann_file), samples)) == {
        'curve', *(f'{name}@{number}{order}' for name in ('AR', 'AR50') for number in (10, 60) for order in ('', '_random'))
    }  # fmt: skip


def test_random_order(tmp_path):
    """One good proposal among ten, the best scored: a random order has it first in a tenth of the cases."""
    numbers = range(1, 31)
    ann_file = write_rows(tmp_path, {number: [('cat', '###.......')] for number in numbers}, CLASSES)
    proposals = [(0, 0.9, '###.......')] + [(0, 0.1, '.........#')] * 9
    samples = [predict_rows(number, proposals) for number in numbers]
    metrics = evaluate(metric_of(ann_file, num_proposals=(1, 5, 10)), samples)
    assert metrics['AR@1'] == 1
    # 300 draws: standard deviations .017 and .029.
    assert metrics['AR@1_random'] == pytest.approx(0.1, abs=0.07)
    assert metrics['AR50@5_random'] == pytest.approx(0.5, abs=0.12)
    assert metrics['AR@10_random'] == 1
    # The draw is a matter of the image, not of when its turn comes.
    again = evaluate(metric_of(ann_file, num_proposals=(1, 5, 10)), samples[::-1])
    assert again.pop('curve') == metrics.pop('curve')
    assert again == pytest.approx(metrics)


def test_the_curve_of_every_number(tmp_path):
    ann_file, samples = two_images(tmp_path)
    metrics = evaluate(metric_of(ann_file, num_proposals=(2,)), samples)
    curve = metrics['curve']
    assert list(curve) == ['proposals an image', 'AR', 'AR50', 'AR_random', 'AR50_random']
    assert curve['proposals an image'] == [1, 2, 3]
    assert curve['AR'] == pytest.approx([13 / 30, 13 / 30, 20 / 30], abs=1e-4)
    assert curve['AR50'] == pytest.approx([2 / 3, 2 / 3, 1], abs=1e-4)
    assert curve['AR_random'][1] == pytest.approx(metrics['AR@2_random'], abs=1e-4)


def test_the_curve_of_many_proposals_has_a_hundred_points(tmp_path):
    """Each of 400 proposals but the last finds nothing."""
    ann_file = write_rows(tmp_path, {1: [('cat', '##........')]}, CLASSES)
    proposals = [(0, 0.9, '.........#')] * 399 + [(0, 0.1, '##........')]
    curve = evaluate(metric_of(ann_file), [predict_rows(1, proposals)])['curve']
    numbers = curve['proposals an image']
    assert numbers[:9] == list(range(1, 10)) and numbers[-1] == 400 and 50 < len(numbers) <= 100
    assert curve['AR'] == [0] * (len(numbers) - 1) + [1]


def test_void_is_cut_out_and_crowds_are_no_objects(tmp_path):
    images = {1: [('cat', '####......'), ('void', '....##....', True), ('cat', '.......###', True)]}
    ann_file = write_rows(tmp_path, images, (*CLASSES, 'void'))
    # The first two lie in the void alone and take no place.
    proposals = [(0, 0.9, '....##....'), (0, 0.8, '....#.....'), (0, 0.7, '######....')]
    assert evaluate(metric_of(ann_file, num_proposals=(1,)), [predict_rows(1, proposals)])['AR@1'] == 1


def test_images_without_objects_or_proposals(tmp_path):
    ann_file = write_rows(tmp_path, {1: [('cat', '##........')], 2: [], 3: [('cat', '##........')]}, CLASSES)
    found = (0, 0.5, '##........')
    samples = [predict_rows(1, [found]), predict_rows(2, [found]), predict_rows(3, [])]
    assert evaluate(metric_of(ann_file), samples)['AR@10'] == 1 / 2
    nothing = evaluate(metric_of(ann_file), [predict_rows(number, []) for number in (1, 2, 3)])
    assert nothing.pop('curve')['AR'] == [0]
    assert set(nothing.values()) == {0.0}
    metrics = evaluate(metric_of(ann_file), [predict_rows(2, [found])])
    assert math.isnan(metrics.pop('curve')['AR'][0])
    assert all(math.isnan(value) for value in metrics.values())


def test_on_real_detections_against_coco(test_data):
    ann_file, categories, samples = read_fakesegm(test_data)
    classes = [category['name'] for category in categories]
    numbers = [1, 3, 10, 60]
    metrics = evaluate(metric_of(ann_file, classes, num_proposals=numbers), samples)
    coco = COCO(ann_file)
    detections = [
        {'image_id': sample['img_id'], 'category_id': 1, 'score': float(score), 'segmentation': mask}
        for sample in samples
        for score, mask in zip(sample['pred_instances']['scores'], sample['pred_instances']['masks'], strict=True)
    ]
    evaluation = COCOeval(coco, coco.loadRes(detections), 'segm')
    evaluation.params.useCats, evaluation.params.maxDets = 0, numbers
    evaluation.params.iouThrs = np.array(IOU_THRESHOLDS)
    evaluation.evaluate()
    evaluation.accumulate()
    recall = evaluation.eval['recall'][:, 0, 0, :]  # thresholds x numbers, all areas
    for column, number in enumerate(numbers):
        assert metrics[f'AR@{number}'] == pytest.approx(recall[:, column].mean(), abs=1e-12)
        assert metrics[f'AR50@{number}'] == pytest.approx(recall[0, column], abs=1e-12)
