"""Metrics on random sets of images: the order of images and detections, further images, and pycocotools' own numbers."""

import contextlib
import io
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mmseg.registry import METRICS
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from references.mask_cases import encode, predict_rows, write_rows

CLASSES = ('cat', 'dog')
OF_MASKS = ['CocoInstanceMetric', 'RegionAveragePrecisionMetric', 'ProposalRecallMetric']
OF_MAPS = ['CountingMetric', 'ForegroundIoUMetric', 'TrimapIoUMetric']
SUMS = ('counting/splits', 'counting/merges')


def rows():
    """A mask of one to ten pixels in a row of ten: one run, as objects are."""
    return st.tuples(st.integers(0, 9), st.integers(1, 10)).map(
        lambda run: ('.' * run[0] + '#' * run[1] + '.' * 9)[:10]
    )


@st.composite
def mask_sets(draw):
    """Objects (class, mask, iscrowd) and detections (label, score, mask) of each image; all scores differ."""
    objects, detections = {}, {}
    for image in range(1, draw(st.integers(1, 4)) + 1):
        objects[image] = draw(
            st.lists(st.tuples(st.sampled_from(CLASSES), rows(), st.integers(0, 5).map(lambda n: n == 0)), max_size=4)
        )
        detections[image] = draw(st.lists(st.tuples(st.integers(0, 1), rows()), max_size=5))
    count = sum(map(len, detections.values()))
    scores = iter(draw(st.permutations([round(0.9 - 0.03 * place, 2) for place in range(count)])))
    return objects, {
        image: [(label, next(scores), mask) for label, mask in found] for image, found in detections.items()
    }


def evaluate(name, objects, samples):
    """Values of a metric, without those of random orders of the proposals."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        metric = METRICS.build(dict(type=name, ann_file=write_rows(Path(folder), objects, CLASSES)))
        metric.dataset_meta = {'classes': CLASSES}
        metric.process({}, samples)
        values = metric.evaluate(len(samples))
    return {key: value for key, value in values.items() if not isinstance(value, dict) and not key.endswith('_random')}


def same(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert actual[key] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), key


def samples_of(detections):
    return [predict_rows(image, found) for image, found in detections.items()]


@pytest.mark.parametrize('name', OF_MASKS)
@given(sets=mask_sets(), random=st.randoms(use_true_random=False))
def test_order_of_detections_and_images(name, sets, random):
    objects, detections = sets
    expected = evaluate(name, objects, samples_of(detections))
    images = random.sample(list(detections), len(detections))
    shuffled = {image: random.sample(detections[image], len(detections[image])) for image in images}
    objects = {image: random.sample(objects[image], len(objects[image])) for image in objects}
    same(evaluate(name, objects, samples_of(shuffled)), expected)


@pytest.mark.parametrize('name', OF_MASKS)
@given(sets=mask_sets())
def test_an_image_with_nothing_changes_nothing(name, sets):
    objects, detections = sets
    expected = evaluate(name, objects, samples_of(detections))
    same(evaluate(name, {**objects, 9: []}, samples_of({**detections, 9: []})), expected)


@pytest.mark.parametrize('name', OF_MASKS)
@given(sets=mask_sets(), class_=st.integers(0, 1))
def test_a_perfect_image_lowers_no_value(name, sets, class_):
    """Of a class that has objects: another one would join the mean, with its false detections."""
    objects, detections = sets
    assume(any(object_[0] == CLASSES[class_] and not object_[2] for found in objects.values() for object_ in found))
    before = evaluate(name, objects, samples_of(detections))
    mask = '###.......'
    after = evaluate(
        name, {**objects, 9: [(CLASSES[class_], mask)]}, samples_of({**detections, 9: [(class_, 0.99, mask)]})
    )
    for key, value in before.items():
        assert after[key] >= value - 1e-3 or math.isnan(value), key  # mmdet rounds to three digits


@given(sets=mask_sets())
def test_ap_is_that_of_pycocotools(sets):
    objects, detections = sets
    actual = evaluate('CocoInstanceMetric', objects, samples_of(detections))
    results = [
        {'image_id': image, 'category_id': label + 1, 'score': score, 'segmentation': encode(mask)}
        for image, found in detections.items()
        for label, score, mask in found
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(write_rows(Path(folder), objects, CLASSES))
        if not results:
            has_object = any(not object_[2] for found in objects.values() for object_ in found)
            assert {value for key, value in actual.items() if key.endswith('mAP')} == {0.0 if has_object else -1.0}
            return
        evaluation = COCOeval(truth, truth.loadRes(results), 'segm')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    for key, value in zip(('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'), evaluation.stats, strict=False):
        assert actual[f'coco/segm_{key}'] == pytest.approx(value, abs=6e-4), key  # mmdet rounds to three digits


@st.composite
def map_sets(draw):
    """Instance and class maps, true and predicted, of a few images of one size."""
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    size, images = (draw(st.integers(2, 6)), draw(st.integers(2, 6))), []
    for _ in range(draw(st.integers(1, 4))):
        true, predicted = (generator.choice([0, 0, 1, 4, 300], size) for _ in range(2))
        true_classes, classes = (np.where(ids == 0, 0, 1 + (ids > 100)) for ids in (true, predicted))
        ignored = generator.random(size) < draw(st.sampled_from([0, 0.2, 1]))
        images.append((np.where(ignored, -1, true), np.where(ignored, 255, true_classes), predicted, classes))
    return images


def evaluate_maps(name, images):
    metric = METRICS.build(dict(type=name, **({'max_width': 3, 'reported': (1, 3)} if 'Trimap' in name else {})))
    metric.dataset_meta = {'classes': CLASSES}
    names = ('gt_instance_map', 'gt_sem_seg', 'pred_instance_map', 'pred_sem_seg')
    for maps in images:
        metric.process(
            {}, [{key: {'data': torch.from_numpy(value)[None]} for key, value in zip(names, maps, strict=True)}]
        )
    with contextlib.redirect_stdout(io.StringIO()):
        return metric.evaluate(len(images))


def flat(values):
    """The numbers of a metric, of its curves too."""
    if isinstance(values, dict):
        return [number for key in sorted(values) for number in flat(values[key])]
    return np.ravel(values).astype(float).tolist()


@pytest.mark.parametrize('name', OF_MAPS)
@given(images=map_sets(), random=st.randoms(use_true_random=False))
def test_order_of_images_and_numbers_of_instances(name, images, random):
    expected = flat(evaluate_maps(name, images))
    shuffled = [
        (*(np.where(ids > 0, ids * 7 + 2, ids) if place % 2 == 0 else ids for place, ids in enumerate(maps)),)
        for maps in random.sample(images, len(images))
    ]
    assert flat(evaluate_maps(name, shuffled)) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize('name', OF_MAPS)
@given(images=map_sets())
def test_each_image_twice_and_one_that_is_all_ignored(name, images):
    """Counts add up: objects that are counted double in a sum, means and shares stay."""
    expected, twice = evaluate_maps(name, images), evaluate_maps(name, images + images)
    for key, value in expected.items():
        assert flat(twice[key]) == pytest.approx(
            [number * 2 if key in SUMS else number for number in flat(value)], rel=1e-9, nan_ok=True
        ), key
    if name != 'CountingMetric':  # there an image without objects has a dice of its own
        size = images[0][0].shape
        nothing = (np.full(size, -1), np.full(size, 255), np.zeros(size, int), np.zeros(size, int))
        assert flat(evaluate_maps(name, [*images, nothing])) == pytest.approx(flat(expected), rel=1e-9, nan_ok=True)
