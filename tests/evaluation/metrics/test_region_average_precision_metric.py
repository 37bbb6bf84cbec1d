"""AP^r by hand, and against pycocotools' matching with the area computed plainly."""

import math

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from mmseg.registry import METRICS
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from references.mask_cases import predict_rows, read_fakesegm, write_rows

from mmseg_instancenet.evaluation import RegionAveragePrecisionMetric

CLASSES = ('cat', 'dog', 'bird')
CAT, DOG, BIRD = range(3)


def metric_of(ann_file: str, classes=CLASSES, **kwargs) -> RegionAveragePrecisionMetric:
    metric = METRICS.build(dict(type='RegionAveragePrecisionMetric', ann_file=ann_file, **kwargs))
    metric.dataset_meta = {'classes': classes}
    return metric


def evaluate(metric: RegionAveragePrecisionMetric, samples: list[dict]) -> dict[str, float]:
    metric.process({}, samples)
    metrics = metric.evaluate(len(samples))
    assert all(key.startswith('region/') for key in metrics)
    return {key[len('region/') :]: value for key, value in metrics.items()}


def test_thresholds_are_checked():
    for wrong in ((), (0.5, 1.0), (0.0,)):
        with pytest.raises(ValueError, match=r'iou_thresholds in \(0, 1\)'):
            RegionAveragePrecisionMetric(iou_thresholds=wrong)


def test_bad_input_is_named(tmp_path):
    ann_file = write_rows(tmp_path, {1: [('cat', '##........')]}, CLASSES)
    metric = RegionAveragePrecisionMetric()
    metric.dataset_meta = {'classes': CLASSES}
    maps = {name: {'data': torch.ones(1, 1, 10, dtype=torch.long)} for name in ('gt_instance_map', 'gt_sem_seg')}
    for truth in ({}, maps):  # void and crowds, which this metric needs, are in no label map
        with pytest.raises(
            ValueError, match='RegionAveragePrecisionMetric has no ground truth: use CocoInstanceDataset'
        ):
            metric.process({}, [predict_rows(1, []) | truth])
    metric = metric_of(ann_file)
    for sample, message in (
        (predict_rows(2, []), 'expected an image of .*rows.json, got img_id 2'),
        (predict_rows(1, [(3, 0.5, '##........')]), r'labels 0 \.\. 2, got 3'),
        (predict_rows(1, [(0, math.nan, '##........')]), 'finite scores'),
        (predict_rows(1, [(1, 0.5, '##.......')]), r'original size \[1, 10\] of the image, got \[1, 9\]'),
    ):
        with pytest.raises(ValueError, match=message):
            metric.process({}, [sample])
    with pytest.raises(ValueError, match=r"expected the classes .*'cow'.* which has \['cat', 'dog', 'bird'\]"):
        metric_of(ann_file, classes=('cat', 'cow')).process({}, [predict_rows(1, [])])


def two_images(folder) -> tuple[str, list[dict]]:
    ann_file = write_rows(
        folder,
        {
            1: [('cat', '####......'), ('cat', '.....#####')],
            2: [('cat', '##########'), ('dog', '.........#')],
        },
        CLASSES,
    )
    samples = [
        # not in order of their scores
        predict_rows(1, [(CAT, 0.6, '.....####.'), (CAT, 0.9, '####......'), (CAT, 0.8, '###.......')]),
        predict_rows(2, [(CAT, 0.7, '######....'), (BIRD, 0.95, '.........#')]),
    ]
    return ann_file, samples


def test_by_hand(tmp_path):
    """Three cats. By falling score: 0.9 finds the first (IoU 1); 0.8 is a second detection of it, wrong; 0.7 overlaps the
    third by 6 / 10; 0.6 the second by 4 / 5.
    """
    ann_file, samples = two_images(tmp_path)
    metrics = evaluate(metric_of(ann_file, classwise=True), samples)
    # At 0.5 right, wrong, right, right: precisions 1, 1/2, 2/3, 3/4, the later ones lifted to 3/4; recall by thirds.
    cat_50 = (1 + 3 / 4 + 3 / 4) / 3
    # At 0.6 the overlap of 0.6 does not exceed it: right, wrong, wrong, right; the last has precision 2/4. So at 0.7.
    cat_60 = (1 + 2 / 4) / 3
    # At 0.8, which 4 / 5 does not exceed, and at 0.9 the first alone.
    cat_80 = 1 / 3
    assert metrics['APr_50_cat'] == pytest.approx(cat_50)
    assert metrics['APr_60_cat'] == metrics['APr_70_cat'] == pytest.approx(cat_60)
    assert metrics['APr_80_cat'] == metrics['APr_90_cat'] == pytest.approx(cat_80)
    assert metrics['APr_cat'] == pytest.approx((cat_50 + 2 * cat_60 + 2 * cat_80) / 5) == 0.5
    # No dog is found; birds, of which there are none, do not count.
    assert metrics['APr_50_dog'] == metrics['APr_dog'] == 0
    assert math.isnan(metrics['APr_50_bird'])
    assert metrics['APr_50'] == pytest.approx(cat_50 / 2)
    assert metrics['APr'] == pytest.approx(0.25)


def test_without_classwise_only_means_are_returned(tmp_path):
    ann_file, samples = two_images(tmp_path)
    assert list(evaluate(metric_of(ann_file), samples)) == ['APr', 'APr_50', 'APr_60', 'APr_70', 'APr_80', 'APr_90']
    volume = evaluate(metric_of(ann_file, iou_thresholds=[0.1 * step for step in range(1, 10)]), samples)
    assert volume['APr_10'] == volume['APr_50']
    assert len(volume) == 10


def test_table_of_the_classes_is_printed(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('mmengine.logging.MMLogger.info', lambda self, message: lines.append(message))
    ann_file, samples = two_images(tmp_path)
    evaluate(metric_of(ann_file, classwise=True), samples)
    table = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in '\n'.join(lines).splitlines() if '|' in line
    ]
    assert table[0] == ['category', 'objects', 'APr', 'APr_50', 'APr_60', 'APr_70', 'APr_80', 'APr_90']
    assert table[1] == ['cat', '3', '0.500', '0.833', '0.500', '0.500', '0.333', '0.333']
    assert table[3][:3] == ['bird', '0', 'nan']


def test_masks_as_tensor_and_as_run_lengths_are_the_same(tmp_path):
    ann_file, samples = two_images(tmp_path)
    expected = evaluate(metric_of(ann_file), samples)
    for sample in samples:
        instances = sample['pred_instances']
        instances['masks'] = torch.stack(
            [torch.from_numpy(coco_mask.decode(mask)).bool() for mask in instances['masks']]
        )
    assert evaluate(metric_of(ann_file), samples) == expected


def test_data_samples_of_the_runner(tmp_path):
    ann_file, samples = two_images(tmp_path)
    expected = evaluate(metric_of(ann_file), samples)
    evaluator = Evaluator([dict(type='RegionAveragePrecisionMetric')])
    evaluator.dataset_meta = {'classes': CLASSES}
    for sample in samples:
        meta = {key: sample[key] for key in ('img_id', 'ori_shape')}
        data_sample = DetDataSample(metainfo=meta | {'ann_file': ann_file})
        data_sample.pred_instances = InstanceData(**sample['pred_instances'])
        evaluator.process([data_sample], {})
    assert evaluator.evaluate(2) == {f'region/{key}': value for key, value in expected.items()}


def test_void_is_excluded(tmp_path):
    """Without the void the first mask has IoU 1, with it 1/2; the second lies in the void alone and is no detection."""
    images = {1: [('cat', '####......'), ('void', '....####..', True)]}
    ann_file = write_rows(tmp_path, images, (*CLASSES, 'void'))
    sample = predict_rows(1, [(CAT, 0.8, '########..'), (CAT, 0.9, '.....##...')])
    assert evaluate(metric_of(ann_file), [sample])['APr'] == 1
    images[1].pop()
    assert evaluate(metric_of(write_rows(tmp_path, images, CLASSES)), [sample])['APr'] == 0


def test_crowd_excuses_detections_of_its_own_class(tmp_path):
    images = {1: [('cat', '###.......'), ('cat', '.....#####', True), ('dog', '###.......')]}
    ann_file = write_rows(tmp_path, images, CLASSES)
    in_crowd = [(CAT, 0.9, '......##..'), (CAT, 0.8, '###.......'), (DOG, 0.8, '......##..'), (DOG, 0.7, '###.......')]
    metrics = evaluate(metric_of(ann_file, classwise=True), [predict_rows(1, in_crowd)])
    assert metrics['APr_cat'] == 1
    assert metrics['APr_dog'] == 1 / 2
    # Two of four pixels in the crowd do not exceed a half.
    at_rim = [(CAT, 0.9, '...####...'), (CAT, 0.8, '###.......')]
    assert evaluate(metric_of(ann_file, classwise=True), [predict_rows(1, at_rim)])['APr_50_cat'] == 1 / 2


def test_images_without_truth_or_detections(tmp_path):
    ann_file = write_rows(tmp_path, {1: [('cat', '####......')], 2: [], 3: [], 4: [('cat', '####......')]}, CLASSES)
    found, wrong = (CAT, 0.5, '####......'), (CAT, 0.9, '####......')
    samples = [predict_rows(1, [found]), predict_rows(2, [wrong]), predict_rows(3, []), predict_rows(4, [])]
    # One of two found, below one wrong: precision 1/2 up to recall 1/2.
    assert evaluate(metric_of(ann_file), samples)['APr'] == 1 / 4
    nothing = evaluate(metric_of(ann_file), [predict_rows(number, []) for number in (1, 2, 3, 4)])
    assert set(nothing.values()) == {0.0}
    no_truth = evaluate(metric_of(ann_file), [predict_rows(2, [wrong]), predict_rows(3, [])])
    assert all(math.isnan(value) for value in no_truth.values())


def test_more_than_a_hundred_objects(tmp_path):
    rows = ['.' * (2 * k) + '#' + '.' * (299 - 2 * k) for k in range(150)]
    ann_file = write_rows(tmp_path, {1: [('cat', row) for row in rows]}, CLASSES, (1, 300))
    sample = predict_rows(1, [(CAT, 0.9, row) for row in rows], (1, 300))
    assert evaluate(metric_of(ann_file), [sample])['APr'] == 1


def test_no_masks_are_kept(tmp_path):
    ann_file, samples = two_images(tmp_path)
    metric = metric_of(ann_file)
    metric.process({}, samples)
    assert len(metric.results) == len(samples)
    for result in metric.results:
        assert all(isinstance(value, np.ndarray) and value.size <= 15 for value in result.values())


def area_of_coco_matches(ann_file: str, samples: list[dict], thresholds: list[float]) -> dict[tuple[int, float], float]:
    """AP^r from the matches of ``COCOeval``.

    COCO's greedy rule is Hariharan's: the best object among those still free. Made equal: COCO matches at the threshold
    itself, so it gets the next larger number; its limit of detections is lifted. Then the area is taken step by step
    where COCO would look up 101 recalls.
    """
    coco = COCO(ann_file)
    categories = coco.getCatIds()
    detections = [
        {'image_id': sample['img_id'], 'category_id': categories[label], 'score': score, 'segmentation': mask}
        for sample in samples
        for label, score, mask in zip(
            *(sample['pred_instances'][key] for key in ('labels', 'scores', 'masks')), strict=True
        )
    ]
    detections = [dict(d, score=float(d['score'])) for d in detections]
    evaluation = COCOeval(coco, coco.loadRes(detections), 'segm')
    evaluation.params.iouThrs = np.nextafter(thresholds, 1)
    evaluation.params.maxDets = [len(detections)]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ['all']
    evaluation.evaluate()
    areas = {}
    for category in categories:
        images = [found for found in evaluation.evalImgs if found is not None and found['category_id'] == category]
        count = sum(int((np.array(found['gtIgnore']) == 0).sum()) for found in images)
        for row, threshold in enumerate(thresholds):
            ranked = [
                (-score, place, bool(match))
                for place, found in enumerate(images)
                for score, match, ignored in zip(
                    found['dtScores'], found['dtMatches'][row], found['dtIgnore'][row], strict=True
                )
                if not ignored
            ]
            hits = [match for _, _, match in sorted(ranked, key=lambda entry: entry[:2])]
            area = 0.0
            for index, hit in enumerate(hits):
                if hit:
                    area += max(sum(hits[:end]) / end for end in range(index + 1, len(hits) + 1)) / count
            areas[category, threshold] = area if count else math.nan
    return areas


def test_on_real_detections_against_cocos_matching(test_data):
    ann_file, categories, samples = read_fakesegm(test_data)
    classes = [category['name'] for category in categories]
    thresholds = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9]
    metrics = evaluate(metric_of(ann_file, classes, iou_thresholds=thresholds, classwise=True), samples)
    expected = area_of_coco_matches(ann_file, samples, thresholds)
    for category in categories:
        for threshold in thresholds:
            found = metrics[f'APr_{100 * threshold:g}_{category["name"]}']
            assert found == pytest.approx(expected[category['id'], threshold], abs=1e-12, nan_ok=True)
    for threshold in thresholds:
        mean = np.nanmean([expected[category['id'], threshold] for category in categories])
        assert metrics[f'APr_{100 * threshold:g}'] == pytest.approx(mean)
    # COCO's own figure, a mean over 101 recalls, is .562.
    assert metrics['APr_50'] == pytest.approx(0.562, abs=0.02)
