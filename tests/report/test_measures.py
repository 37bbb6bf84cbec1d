"""The numbers of a report against plain loops, against the metrics, and on cases that are followed by eye."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from references.mask_cases import encode, predict_rows, write_rows

from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.evaluation.metrics.mask_metric import ImageMasks
from mmseg_instancenet.report.measures import ScoreCurve, measure, score_bins
from mmseg_instancenet.report.page import best_and_worst

WIDTH = 60
CLASSES = ('cat', 'dog')


def image(objects, found, crowds=()):
    """Objects and crowds are (class, mask), detections (class, score, mask) in order of falling score."""
    return ImageMasks(
        [encode(row) for _, _, row in found],
        np.array([score for _, score, _ in found], np.float32),
        np.array([label for label, _, _ in found], int),
        [encode(row) for _, row in objects],
        np.array([label for label, _ in objects], int),
        [encode(row) for _, row in crowds],
        np.array([label for label, _ in crowds], int),
    )


def random_image(rng):
    """Blocks of several pixels, and detections that are moved by some pixels, of a wrong class, or invented."""
    objects, found = [], []
    for start in range(0, WIDTH - 12, 12):
        first, last = start + rng.integers(0, 3), start + rng.integers(7, 12)
        label = int(rng.integers(2))
        if rng.random() < 0.8:
            objects.append((label, mask(first, last)))
        for _ in range(rng.integers(0, 3)):
            moved = first + rng.integers(-2, 4), last + rng.integers(-2, 4)
            found.append((int(label if rng.random() < 0.8 else 1 - label), round(float(rng.random()), 1), mask(*moved)))
    return objects, sorted(found, key=lambda entry: -entry[1])


def mask(first, last):
    return ''.join('#' if first <= place < last else '.' for place in range(WIDTH))


def iou(a, b):
    return sum(x == y == '#' for x, y in zip(a, b, strict=True)) / sum('#' in pair for pair in zip(a, b, strict=True))


def count_right(objects, found):
    """Right detections of an image by a plain loop."""
    free, right = list(objects), 0
    for label, _, row in found:
        ious = [iou(row, other) if label == of else 0 for of, other in free]
        if ious and max(ious) >= 0.5:
            right += 1
            free.pop(int(np.argmax(ious)))
    return right


@pytest.mark.parametrize('seed', range(3))
def test_curve_counts_and_accuracy_are_those_of_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    cases = [random_image(rng) for _ in range(6)]
    measures = measure([image(*case) for case in cases], CLASSES)
    assert measures.true_N.tolist() == [len(objects) for objects, _ in cases]
    assert measures.predicted_N.tolist() == [len(found) for _, found in cases]
    for matches, (objects, found) in zip(measures.matches, cases, strict=True):
        right = count_right(objects, found)
        assert matches.accuracy == pytest.approx(right / (len(objects) + len(found) - right))
        assert matches.errors == len(objects) + len(found) - 2 * right
    curve, objects = measures.curve, sum(len(objects) for objects, _ in cases)
    scores = {score for _, found in cases for _, score, _ in found}
    assert len(curve.cut_U) == len(scores) > 5
    best = 0
    for place, cut in enumerate(sorted(scores, reverse=True)):
        kept = [(objects, [entry for entry in found if entry[1] >= cut]) for objects, found in cases]
        detections, right = sum(len(found) for _, found in kept), sum(count_right(*case) for case in kept)
        assert curve.cut_U[place] == pytest.approx(cut) and curve.at(cut - 1e-3) == place
        assert curve.precision_U[place] == pytest.approx(right / detections)
        assert curve.recall_U[place] == pytest.approx(right / objects)
        assert curve.f1_U[place] == pytest.approx(2 * right / (detections + objects))
        assert curve.accuracy_U[place] == pytest.approx(right / (detections + objects - right))
        best = max(best, curve.accuracy_U[place])
    assert curve.accuracy_U[curve.best] == best
    assert curve.at(1.1) is None


@pytest.mark.parametrize('seed', range(3))
def test_average_precision_is_that_of_the_metric(seed, tmp_path):
    rng = np.random.default_rng(seed)
    cases = {number: random_image(rng) for number in range(1, 8)}
    truth = {number: [(CLASSES[label], row) for label, row in objects] for number, (objects, _) in cases.items()}
    metric = CocoInstanceMetric(write_rows(tmp_path, truth, CLASSES, (1, WIDTH)), 'segm', classwise=True)
    metric.dataset_meta = {'classes': CLASSES}
    metric.process({}, [predict_rows(number, found, (1, WIDTH)) for number, (_, found) in cases.items()])
    expected = metric.evaluate(len(cases))
    measures = measure([image(*case) for case in cases.values()], CLASSES)
    names = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s')
    assert measures.ap_limited[:4] == pytest.approx([expected[f'coco/segm_{name}'] for name in names], abs=6e-4)
    assert measures.ap_all[0] == pytest.approx(expected['coco/segm_mAP_all'], abs=6e-4)
    assert 0.02 < measures.ap_all[0] < 0.9
    assert np.isnan(measures.ap_all[4:]).all()  # no object of medium size, no large one
    for row in measures.classes:
        assert row.ap[0] == pytest.approx(expected[f'coco/{row.name}_precision'], abs=6e-4)


def test_average_precision_by_size_and_beyond_the_limit():
    """120 objects of one row of 40 pixels, of which 100 count; one of 1500 pixels and one of 10,000, of another class."""
    rows = np.zeros((1, 4800), np.uint8)
    small = []
    for start in range(0, 4800, 40):
        rows[:] = 0
        rows[0, start : start + 39] = 1
        small.append(coco_mask.encode(np.asfortranarray(rows)))
    many = ImageMasks(
        small, np.linspace(1, 0.5, 120), np.zeros(120, int), small, np.zeros(120, int), [], np.zeros(0, int)
    )
    large = [
        coco_mask.encode(np.asfortranarray(np.arange(100 * 200).reshape(100, 200) < area, np.uint8))
        for area in (1500, 10_000)
    ]
    few = ImageMasks(large[:1], np.ones(1), np.ones(1, int), large, np.ones(2, int), [], np.zeros(0, int))
    measures = measure([many, few], CLASSES)
    cat, dog = measures.classes
    assert cat.ap[:4] == pytest.approx([1] * 4) and np.isnan(cat.ap[4:]).all()
    recalls = 51 / 101  # COCO's recalls up to .5
    assert dog.ap[:3] == pytest.approx([recalls] * 3) and np.isnan(dog.ap[3]) and dog.ap[4:] == pytest.approx((1, 0))
    assert measures.ap_all[0] == pytest.approx((1 + recalls) / 2)
    assert measures.ap_limited[0] == pytest.approx((84 / 101 + recalls) / 2)  # recall 100 / 120
    assert (cat.objects, cat.detections, cat.count_error, dog.objects, dog.detections, dog.count_error) == (
        120,
        120,
        0,
        2,
        1,
        0.5,
    )


def test_a_crowd_excuses_detections_of_its_class():
    crowd = (0, '....######')
    found = [(0, 0.9, '####......'), (1, 0.8, '......####'), (0, 0.7, '......####'), (0, 0.6, '..####....')]
    (matches,) = measure([image([(0, '####......')], found, [crowd])], CLASSES).matches
    # The third lies in the crowd, the fourth with half of its pixels.
    assert matches.score_K.tolist() == pytest.approx([0.9, 0.8])
    assert matches.hit_K.tolist() == [True, False]
    assert matches.accuracy == 1 / 2


def test_iou_of_pairs_and_their_bins():
    found = [(0, 0.95, '###.......'), (1, 0.91, '.....####.'), (0, 0.3, '.........#')]
    measures = measure([image([(0, '####......'), (0, '.....####.')], found)], CLASSES)
    assert measures.matches[0].iou_K.tolist() == pytest.approx([3 / 4, 0, 0])  # a wrong class, no object
    low, high = measures.bins
    assert low[:3] == (0.3, 0.4, 1) and high[:3] == (0.9, 1.0, 2)
    assert high[3:] == pytest.approx((0.93, 3 / 8, 1 / 2)) and low[3:] == pytest.approx((0.3, 0, 0))
    assert measures.calibration_error == pytest.approx((2 * (0.93 - 3 / 8) + 0.3) / 3)


def test_bins_begin_at_their_lower_bound():
    scores = np.array([0.0, 0.1, 0.3, 0.7, 1.0])
    assert [one.low for one in score_bins(scores, scores, scores > 2)] == [0, 0.1, 0.3, 0.7, 0.9]


FAULTY = {
    'merges': ([(0, '###.......'), (0, '...##.....')], [(0, 0.9, '#####.....')], 2),
    'splits': ([(0, '######....')], [(0, 0.9, '####......'), (0, 0.8, '....##....')], 1 / 3),
    'classes': ([(0, '######....')], [(1, 0.9, '######....')], 0.9),
    'invented': ([], [(0, 0.75, '######....')], 0.75),
    'missed': ([(0, '######....')], [], 6),
}


@pytest.mark.parametrize('kind', FAULTY)
def test_each_error_counts_once(kind):
    objects, found, severity = FAULTY[kind]
    perfect = [image([(0, '##........')], [(0, 0.5, '##........')])]
    faults = measure([*perfect, image(objects, found)], CLASSES).faults
    assert {name: len(entries) for name, entries in faults.items() if entries} == {kind: 1}
    number, fault = faults[kind][0]
    assert number == 1 and fault.severity == pytest.approx(severity)


def test_best_and_worst_images():
    full, half = (0, '##########'), (0, 0.9, '######....')
    cases = [
        image([full], []),  # nothing is found
        image([full], [half]),
        image([(0, '##........'), (0, '.....#####')], [(0, 0.9, '##........'), (0, 0.8, '.....#####')]),
        image([], []),  # no accuracy
        image([full], [half, (0, 0.5, '.........#')]),
        image([], [half, (0, 0.5, '.........#')]),
    ]
    matches = measure(cases, CLASSES).matches
    # Accuracies 0, 1, 1, -, 1/2, 0: among equals more right detections are better, more errors worse.
    assert best_and_worst(matches) == ([2, 1, 4], [5, 0])
    assert best_and_worst(matches, 1) == ([2], [5])
    assert best_and_worst(matches[3:4]) == ([], [])
    assert best_and_worst(matches[:1]) == ([0], [])


def test_objects_without_a_pixel_are_left_out():
    masks = image([(0, '..........'), (0, '##........')], [(0, 0.9, '##........')])
    measures = measure([masks], CLASSES)
    assert measures.true_N.tolist() == [1] and measures.ap_all[0] == pytest.approx(1)


def test_no_image():
    with pytest.raises(ValueError, match='expected at least one image, got none'):
        measure([], CLASSES)


def test_curve_without_objects():
    curve = ScoreCurve(np.array([0.5]), np.array([False]), 0)
    assert np.isnan(curve.recall_U).all() and curve.accuracy_U.tolist() == curve.f1_U.tolist() == [0]
