"""Error budgets of detections whose errors were put in on purpose, and their sum on random ones."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from references.mask_cases import encode, read_fakesegm
from scipy.optimize import linear_sum_assignment

from mmseg_instancenet.evaluation import CocoInstanceMetric
from mmseg_instancenet.evaluation.functional.budget_corrections import CORRECTIONS, TrueObjects
from mmseg_instancenet.evaluation.functional.error_budget import error_budget, image_of_budget
from mmseg_instancenet.evaluation.functional.mask_overlap import IOU_THRESHOLDS
from mmseg_instancenet.evaluation.metrics.mask_metric import MaskMetric

NOTHING = np.array([], int)
RECALLS = 51 / 101
"""Share of COCO's 101 recalls up to .5."""


def image(objects, found, crowds=()):
    """Objects are (class, mask) or (class, mask, drawable mask); detections (class, score, mask)."""
    masks = [encode(entry[1]) for entry in objects]
    drawable = [
        encode(entry[2]) if entry[2:] and entry[2] else None if entry[2:] else encode(entry[1]) for entry in objects
    ]
    truth = TrueObjects(
        masks,
        np.array([entry[0] for entry in objects], int),
        drawable,
        [encode(row) for _, row in crowds],
        np.array([label for label, _ in crowds], int),
    )
    labels, scores = np.array([label for label, _, _ in found], int), np.array([score for _, score, _ in found], float)
    return image_of_budget(truth, [encode(row) for _, _, row in found], scores, labels)


def parts(images, measure):
    """What each kind costs in turn, the kinds that cost nothing left out; the parts sum up to 1 - the measure."""
    found = error_budget(images, resamples=2).measures[measure]
    in_turn = {kind: part.in_turn for kind, part in found.parts.items()}
    assert list(in_turn) == list(CORRECTIONS)
    assert sum(in_turn.values()) == pytest.approx(1 - found.value, abs=1e-9)
    return {kind: value for kind, value in in_turn.items() if abs(value) > 1e-9}


A, B = (0, '####......'), (0, '.....#####')
FOUND_A, FOUND_B = (0, 0.9, '####......'), (0, 0.8, '.....#####')
ONE_KIND = {
    # objects, detections, AP, AP*
    'merges': ([(0, '###.......'), (0, '...##.....'), (0, '.....###..')], [(0, 0.9, '########..')], 0, 0),
    'splits': ([(0, '######....')], [(0, 0.9, '##........'), (0, 0.8, '..##......'), (0, 0.7, '....##....')], 0, 0),
    'classes': ([A, (1, B[1])], [FOUND_A, FOUND_B], 0.5, 1),  # one of two classes has AP 0
    'invented': ([A], [FOUND_A, (0, 1.0, '.....#####')], 1 / 2, 1 / 2),
    'missed': ([A, B], [FOUND_A], RECALLS, 1 / 2),
    'boundaries': ([A, B], [FOUND_A, (0, 0.8, '.....##...')], RECALLS, 1 / 3),  # IoU .4
    'resolution': ([A, (0, '.....##...', '.....#####')], [FOUND_A, FOUND_B], RECALLS, 1 / 3),
}


@pytest.mark.parametrize('kind', ONE_KIND)
def test_one_kind_of_error_has_all_of_the_loss(kind):
    objects, found, ap, ratio = ONE_KIND[kind]
    images = [image(objects, found)]
    budget = error_budget(images, resamples=2)
    for measure, expected in {'AP': ap, 'AP*': ratio, 'AP*50': ratio}.items():
        assert budget.measures[measure].value == pytest.approx(expected)
        lost = {} if expected == 1 else {kind: pytest.approx(1 - expected)}
        assert parts(images, measure) == lost
        assert budget.measures[measure].parts[kind].alone == pytest.approx(1 - expected)
    assert [name for name, faults in budget.faults.items() if faults and name != 'ranking'] == [kind]


def test_an_object_that_the_map_cannot_hold_is_lost_by_resolution():
    assert parts([image([A, (0, '.....#####', None)], [FOUND_A])], 'AP') == {'resolution': pytest.approx(1 - RECALLS)}


def test_ranking_is_the_loss_by_a_bad_mask_with_a_high_score():
    """An IoU of 2 / 3 is a hit at four of ten thresholds; at the others it stands before the only hit."""
    images = [image([(0, '###.......'), B], [(0, 0.9, '##........'), FOUND_B])]
    assert error_budget(images, 2).measures['AP'].value == pytest.approx(0.4 + 0.6 * RECALLS / 2)
    ranking, boundaries = 0.6 * RECALLS / 2, 0.6 * (1 - RECALLS)
    assert parts(images, 'AP') == {'ranking': pytest.approx(ranking), 'boundaries': pytest.approx(boundaries)}
    assert parts(images, 'AP*') == {'boundaries': pytest.approx(0.6 * (1 - 1 / 3))}


def test_a_mixture_by_hand():
    """A merge of three objects, an object in three pieces, one missed, one invented, one right; no class is wrong."""
    images = [
        image([(0, '###.......'), (0, '...###....'), (0, '......###.')], [(0, 0.9, '#########.')]),
        image(
            [(0, '######....'), (0, '.......###')],
            [(0, 0.9, '##........'), (0, 0.9, '..##......'), (0, 0.9, '....##....')],
        ),
        image([A], [FOUND_A, FOUND_B]),
    ]
    # 6 objects and 6 detections with 1 hit; then 8 and 4; 6 and 5; 5 and 5; 6 and 6.
    expected = [1 / 11, 4 / 10, 5 / 7, 5 / 6, 1]
    for measure in ('AP*', 'AP*50'):
        assert error_budget(images, 2).measures[measure].value == pytest.approx(expected[0])
        assert list(parts(images, measure)) == ['merges', 'splits', 'invented', 'missed']
        assert list(parts(images, measure).values()) == pytest.approx(np.diff(expected))
    alone = error_budget(images, 2).measures['AP*'].parts
    ratios = {'merges': 4 / 10, 'splits': 2 / 8, 'invented': 1 / 10, 'missed': 2 / 11}
    # missed: two of the three merged objects (one is paired with the merge, by an IoU of 1 / 3) and the last are added.
    ratios['missed'] = 4 / (6 + 9 - 4)
    # invented: beside the false one, two of the three pieces are paired with no object.
    ratios['invented'] = 1 / (6 + 3 - 1)
    assert {kind: alone[kind].alone for kind in ratios} == pytest.approx(
        {kind: ratio - 1 / 11 for kind, ratio in ratios.items()}
    )


def random_image(rng, crowded=False):
    """Nine objects of two classes. Detections merge two, split two, miss one and invent one, and 15 % of the pixels are wrong."""
    truth_HW = np.pad(np.kron(np.arange(1, 10).reshape(3, 3), np.ones((4, 4), int)), 2)
    order = rng.permutation(np.arange(1, 10)).tolist()
    found_HW = truth_HW.copy()
    found_HW[truth_HW == order[0]] = order[1]
    for label in order[2:4]:
        rows, _ = (truth_HW == label).nonzero()
        found_HW[: rows.mean().astype(int) + 1][(truth_HW == label)[: rows.mean().astype(int) + 1]] = label + 10
    found_HW[truth_HW == order[4]] = 0
    found_HW[0, :6] = 30
    found_HW = np.where(rng.random(found_HW.shape) < 0.15, rng.permuted(found_HW), found_HW)

    def masks(labels_HW):
        labels = np.unique(labels_HW[labels_HW > 0])
        return [coco_mask.encode(np.asfortranarray(labels_HW == label, np.uint8)) for label in labels]

    objects, detections = masks(truth_HW), masks(found_HW)
    drawable = masks(np.where(rng.random(truth_HW.shape) < 0.8, truth_HW, rng.permuted(truth_HW)))
    drawable[order[4] - 1] = None if rng.random() < 0.5 else drawable[order[4] - 1]
    crowds = masks(rng.integers(0, 4, truth_HW.shape) == 0) if crowded else []
    truth = TrueObjects(objects, (np.arange(9) == order[5]).astype(int), drawable, crowds, np.zeros(len(crowds), int))
    labels = (rng.random(len(detections)) < 0.2).astype(int)
    return image_of_budget(truth, detections, rng.random(len(detections)), labels), (truth_HW, found_HW)


@pytest.mark.parametrize('crowded', [False, True])
@pytest.mark.parametrize('seed', range(4))
def test_the_parts_sum_up_to_the_loss(seed, crowded):
    rng = np.random.default_rng(seed)
    budget = error_budget([random_image(rng, crowded)[0] for _ in range(5)], resamples=3, seed=seed)
    for measure in budget.measures.values():
        assert 0 < measure.value < 0.7
        assert sum(part.in_turn for part in measure.parts.values()) == pytest.approx(1 - measure.value, abs=1e-9)
        assert measure.parts['merges'].in_turn == measure.parts['merges'].alone
    for kind in ('invented', 'ranking', 'missed', 'boundaries', 'resolution'):
        assert budget.measures['AP'].parts[kind].in_turn > -1e-9
    assert all(budget.faults.values())


@pytest.mark.parametrize('seed', range(3))
def test_ap_star_of_label_maps_against_a_dense_matching(seed):
    rng = np.random.default_rng(seed)
    images, maps = zip(*(random_image(rng) for _ in range(4)), strict=True)
    ratios = []
    for threshold in IOU_THRESHOLDS:
        pairs = total = 0
        for truth_HW, found_HW in maps:
            objects, found = (
                [labels == label for label in np.unique(labels[labels > 0])] for labels in (truth_HW, found_HW)
            )
            hit = np.array([[(a & b).sum() / (a | b).sum() >= threshold for b in found] for a in objects])
            pairs += hit[linear_sum_assignment(hit, maximize=True)].sum()
            total += len(objects) + len(found)
        ratios.append(pairs / (total - pairs))
    measures = error_budget(images, resamples=1).measures
    assert measures['AP*'].value == pytest.approx(np.mean(ratios))
    assert measures['AP*50'].value == pytest.approx(ratios[0])


class Kept(MaskMetric):
    def compare(self, masks, image_id):
        return masks


def test_ap_is_that_of_the_metric(test_data):
    """25 of cocoapi's images with detections, crowds among them."""
    ann_file, categories, samples = read_fakesegm(test_data)
    metrics = Kept(ann_file=ann_file), CocoInstanceMetric(ann_file=ann_file, metric='segm')
    for metric in metrics:
        metric.dataset_meta = {'classes': [category['name'] for category in categories]}
        metric.process({}, samples[:25])
    images = [
        image_of_budget(
            TrueObjects(masks.objects_G, masks.object_labels_G, masks.objects_G, masks.crowds_J, masks.crowd_labels_J),
            masks.masks_K,
            masks.scores_K,
            masks.labels_K,
        )
        for masks in metrics[0].results
    ]
    measure = error_budget(images, resamples=1).measures['AP']
    assert round(measure.value, 3) == metrics[1].compute_metrics(metrics[1].results)['segm_mAP_all']
    assert sum(part.in_turn for part in measure.parts.values()) == pytest.approx(1 - measure.value, abs=1e-9)


def test_pixels_of_a_crowd_do_not_count():
    """One detection in a crowd is no error; one half in a crowd counts with its other half."""
    images = [image([A], [FOUND_A, (0, 1.0, '.......###')], crowds=[(0, '......####')])]
    assert parts(images, 'AP*') == {} and error_budget(images, 1).measures['AP*'].value == 1
    images = [image([A], [(0, 0.9, '########..')], crowds=[(0, '..########')])]
    assert error_budget(images, 1).measures['AP*'].value == 1


def test_intervals_of_equal_images_have_no_width():
    measures = error_budget([image(*ONE_KIND['missed'][:2])] * 5, resamples=20).measures
    for measure in measures.values():
        assert measure.interval == pytest.approx((measure.value, measure.value), abs=1e-12)
        for part in measure.parts.values():
            assert part.in_turn_interval == pytest.approx((part.in_turn, part.in_turn), abs=1e-12)
            assert part.alone_interval == pytest.approx((part.alone, part.alone), abs=1e-12)


def test_intervals_are_quantiles_of_drawn_data_sets():
    """Of an image with a hit and one with a miss AP* of a drawn pair is 1, 1 / 2 or 0, with chances 1, 2 and 1 of 4."""
    images = [image([A], [FOUND_A]), image([A], [])]
    measure = error_budget(images, resamples=100).measures['AP*']
    assert measure.value == 1 / 2 and measure.interval == (0, 1)
    assert measure.parts['missed'].in_turn_interval == (0, 1)
    twenty = error_budget(images * 10, resamples=60).measures
    deviation = np.sqrt(0.25 / 20)
    assert twenty['AP*'].interval == pytest.approx((0.5 - 1.96 * deviation, 0.5 + 1.96 * deviation), abs=0.09)
    assert error_budget(images * 10, resamples=60).measures == twenty
    assert error_budget(images * 10, resamples=60, seed=1).measures['AP'] != twenty['AP']


def test_worst_faults_come_first():
    faults = error_budget([image([A], [FOUND_B]), image([B], [(0, 0.95, '####......')])], 1).faults
    assert [(number, fault.severity) for number, fault in faults['invented']] == [(1, 0.95), (0, 0.8)]
    assert [(number, fault.severity) for number, fault in faults['missed']] == [(1, 5), (0, 4)]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match='got 1 images without one'):
        error_budget([image([], [FOUND_A])])
    with pytest.raises(ValueError, match='none of 1: raise resamples, 1 of 50 images have an object'):
        error_budget([image([A], []), *[image([], [])] * 49], resamples=1, seed=2)
    with pytest.raises(ValueError, match='resamples >= 1, got 0'):
        error_budget([image([A], [])], resamples=0)
    truth, found = image([A], [FOUND_A])
    with pytest.raises(ValueError, match='got 1 masks, 2 scores, 1 labels'):
        image_of_budget(truth, found.masks_K, np.ones(2), found.label_K)
    with pytest.raises(ValueError, match='1 objects, 1 labels, 0 drawable masks'):
        image_of_budget(truth._replace(drawable_G=[]), found.masks_K, found.score_K, found.label_K)
    with pytest.raises(ValueError, match='finite scores'):
        image_of_budget(truth, found.masks_K, np.array([np.nan]), found.label_K)
    with pytest.raises(ValueError, match='at least one pixel'):
        image_of_budget(truth, [encode('..........')], found.score_K, found.label_K)
    with pytest.raises(ValueError, match='masks of one size'):
        image_of_budget(truth, [encode('#.')], found.score_K, found.label_K)
