"""Each correction on masks that are followed by eye, and on random ones against plain loops over pixels."""

from itertools import permutations

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from references.mask_cases import encode

from mmseg_instancenet.evaluation.functional.budget_corrections import (
    Detections,
    TrueObjects,
    add_missed,
    correct_boundaries,
    correct_classes,
    correct_resolution,
    cut_merges,
    join_splits,
    pair_with_objects,
    rank_by_iou,
    remove_invented,
)
from mmseg_instancenet.evaluation.functional.mask_overlap import mask_iou

NOTHING = np.array([], int)


def true_objects(rows, labels=None, drawable=None, crowds=()):
    masks = [encode(row) for row in rows]
    return TrueObjects(
        masks,
        np.array(labels or [0] * len(rows), int),
        masks if drawable is None else [row and encode(row) for row in drawable],
        [encode(row) for row in crowds],
        np.zeros(len(crowds), int),
    )


def detections(truth, *found):
    """Of (mask, score, class)."""
    masks = [encode(row) for row, _, _ in found]
    return Detections(
        masks,
        np.array([score for _, score, _ in found], float),
        np.array([label for _, _, label in found], int),
        pair_with_objects(masks, truth.masks_G),
    )


def rows_of(found):
    """The detections as (mask, score, class, object)."""
    return [
        (''.join('.#'[pixel] for pixel in coco_mask.decode(mask)[0]), score, label, number)
        for mask, score, label, number in zip(
            found.masks_K, found.score_K.tolist(), found.label_K.tolist(), found.object_K.tolist(), strict=True
        )
    ]


def severities(faults):
    return pytest.approx([fault.severity for fault in faults])


@pytest.mark.parametrize('seed', range(5))
def test_pairs_have_the_largest_sum_of_iou(seed):
    rng = np.random.default_rng(seed)
    masks, objects = (
        [coco_mask.encode(np.asfortranarray(rng.random((4, 5)) < 0.3, np.uint8)) for _ in range(count)]
        for count in (3, 4)
    )
    iou_KG = mask_iou(masks, objects)
    worth_KG = np.where(iou_KG >= 0.1, iou_KG, 0)
    best = max(sum(worth_KG[k, g] for k, g in enumerate(order)) for order in permutations(range(4), 3))
    object_K = pair_with_objects(masks, objects)
    paired = object_K >= 0
    assert len(set(object_K[paired])) == paired.sum()
    assert (iou_KG[paired, object_K[paired]] >= 0.1).all()
    assert iou_KG[paired, object_K[paired]].sum() == pytest.approx(best)
    assert pair_with_objects([], objects).tolist() == [] and pair_with_objects(masks, []).tolist() == [-1] * 3


def test_a_merge_is_cut_between_its_objects():
    truth = true_objects(['###.......', '.....##...', '........##'], labels=[0, 1, 0])
    found = detections(truth, ('########..', 0.9, 0), ('........##', 0.8, 0))
    cut, faults = cut_merges(truth, found)
    # The pixels 3 and 4 are background: each goes to the nearer object. So does pixel 7; the third object, which is as near, does
    # not belong to this detection.
    assert sorted(rows_of(cut)) == [
        ('####......', 0.9, 0, 0),
        ('....####..', 0.9, 0, 1),
        ('........##', 0.8, 0, 2),
    ]
    assert [fault.severity for fault in faults] == [2] and len(faults[0].masks) == 3


def test_an_object_without_most_of_its_pixels_in_a_detection_is_no_part_of_a_merge():
    truth = true_objects(['###.......', '...####...'])
    found = detections(truth, ('#####.....', 0.9, 0))
    assert cut_merges(truth, found) == (found, [])


@pytest.mark.parametrize('seed', range(5))
def test_the_pixels_of_a_merge_go_to_the_nearest_object(seed):
    rng = np.random.default_rng(seed)
    label_HW = np.zeros((9, 11), int)
    for number, (row, column) in enumerate([(1, 1), (1, 8), (6, 2)], 1):
        label_HW[row : row + rng.integers(1, 3), column : column + rng.integers(1, 3)] = number
    mask_HW = (rng.random(label_HW.shape) < 0.5) | (label_HW > 0)
    truth_masks = [coco_mask.encode(np.asfortranarray(label_HW == number, np.uint8)) for number in (1, 2, 3)]
    truth = TrueObjects(truth_masks, np.zeros(3, int), truth_masks, [], NOTHING)
    mask = coco_mask.encode(np.asfortranarray(mask_HW, np.uint8))
    found = Detections([mask], np.array([0.5]), np.array([0]), pair_with_objects([mask], truth_masks))
    cut, _ = cut_merges(truth, found)
    decoded = [coco_mask.decode(piece) for piece in cut.masks_K]
    pieces = {int(label_HW[piece > 0].max()) - 1: piece for piece in decoded}
    assert sorted(pieces) == [0, 1, 2] and (sum(decoded) == mask_HW).all()
    for row, column in zip(*mask_HW.nonzero(), strict=True):
        distances = [
            min(
                (row - other) ** 2 + (column - far) ** 2
                for other, far in zip(*(label_HW == number).nonzero(), strict=True)
            )
            for number in (1, 2, 3)
        ]
        (owner,) = [number for number, piece in pieces.items() if piece[row, column]]
        assert distances[owner] == min(distances)


def test_pieces_are_joined_with_the_best_score_and_its_class():
    truth = true_objects(['######....', '.......###'])
    found = detections(
        truth, ('##........', 0.3, 2), ('..##......', 0.7, 1), ('....###...', 0.5, 0), ('.......###', 0.2, 0)
    )
    joined, faults = join_splits(truth, found)
    assert rows_of(joined) == [('.......###', 0.2, 0, 1), ('#######...', 0.7, 1, 0)]
    assert severities(faults) == [1 - 2 / 6]


def test_a_second_detection_is_a_piece():
    truth = true_objects(['#####.....'])
    joined, _ = join_splits(truth, detections(truth, ('#####.....', 0.3, 0), ('####......', 0.7, 0)))
    assert rows_of(joined) == [('#####.....', 0.7, 0, 0)]


def test_a_splinter_that_makes_the_union_worse_is_left_out():
    truth = true_objects(['#####.....'])
    found = detections(truth, ('#####.....', 0.3, 0), ('..#####...', 0.4, 2))
    joined, faults = join_splits(truth, found)
    assert rows_of(joined) == [('#####.....', 0.4, 2, 0)] and severities(faults) == [0]


def test_an_object_around_another_keeps_the_whole_of_a_merge():
    truth = true_objects(['########..', '..##......'])
    cut, faults = cut_merges(truth, detections(truth, ('########..', 0.9, 0)))
    assert rows_of(cut) == [('########..', 0.9, 0, 0), ('..##......', 0.9, 0, 1)] and severities(faults) == [2]


def test_a_detection_of_the_object_on_top_is_no_piece_of_the_one_below():
    truth = true_objects(['########..', '..##......'])
    found = detections(truth, ('########..', 0.9, 0), ('..##......', 0.8, 1))
    assert join_splits(truth, found) == (found, [])
    large = true_objects(['#' * 600, '.' * 300 + '#' * 300])  # more pixels than 8 bits can count
    assert (
        join_splits(large, detections(large, ('#' * 300 + '.' * 300, 0.9, 0), ('.' * 300 + '#' * 300, 0.8, 1)))[1] == []
    )
    found = detections(truth, ('##..####..', 0.9, 0), ('..##......', 0.8, 1))
    assert cut_merges(truth, found) == join_splits(truth, found) == (found, [])


def test_half_in_the_background_is_no_piece():
    truth = true_objects(['####......'])
    found = detections(truth, ('####......', 0.3, 0), ('...##.....', 0.7, 0))
    assert join_splits(truth, found) == (found, [])


def test_classes():
    truth = true_objects(['####......', '.....#####'], labels=[3, 5])
    found = detections(truth, ('####......', 0.9, 3), ('.....####.', 0.6, 3), ('....#.....', 0.5, 7))
    corrected, faults = correct_classes(truth, found)
    assert corrected.label_K.tolist() == [3, 5, 7] and severities(faults) == [0.6]
    assert rows_of(corrected._replace(label_K=found.label_K)) == rows_of(found)


def test_invented_detections_but_those_in_a_crowd_are_errors():
    truth = true_objects(['####......'], crowds=['.......###'])
    found = detections(
        truth, ('#####.....', 0.9, 0), ('.....#....', 0.6, 0), ('........##', 0.5, 0), ('......##..', 0.4, 0)
    )
    left, faults = remove_invented(truth, found)
    assert rows_of(left) == [('#####.....', 0.9, 0, 0)] and severities(faults) == [0.6]


def test_missed_objects_are_added_but_those_that_the_map_cannot_hold():
    truth = true_objects(
        ['####......', '.....###..', '.........#'], [0, 4, 0], drawable=['####......', '.....####.', None]
    )
    found = detections(truth, ('####......', 0.9, 0))
    more, faults = add_missed(truth, found)
    assert rows_of(more) == [('####......', 0.9, 0, 0), ('.....####.', 0.75, 4, 1)] and severities(faults) == [3]
    rest, faults = correct_resolution(truth, more)
    assert rows_of(rest)[1:] == [('.....###..', 0.75, 4, 1), ('.........#', 1, 0, 2)]
    assert severities(faults) == [1 / 4, 1]


def test_scores_become_the_iou():
    truth = true_objects(['####......', '.....#####'], [0, 1])
    found = detections(truth, ('###.......', 0.2, 0), ('.....####.', 0.6, 0), ('....#.....', 0.5, 0))
    ranked, faults = rank_by_iou(truth, found)
    assert ranked.score_K.tolist() == [0.75, 0, 0] and severities(faults) == [0.55, 0.6, 0.5]


@pytest.mark.parametrize('seed', range(10))
def test_pixels_are_corrected_by_their_kind(seed):
    """Pixels in which the object and its drawable mask differ belong to the resolution, all others to the boundary."""
    rng = np.random.default_rng(seed)
    true, drawable, mask = (rng.random((5, 6)) < 0.6 for _ in range(3))
    encoded = [coco_mask.encode(np.asfortranarray(one, np.uint8)) for one in (true, drawable, mask)]
    truth = TrueObjects([encoded[0]], np.array([0]), [encoded[1] if seed else None], [], NOTHING)
    found = Detections([encoded[2]], np.array([0.5]), np.array([0]), np.array([0]))
    differs = true != drawable if seed else true
    by_boundary, faults = correct_boundaries(truth, found)
    by_resolution, _ = correct_resolution(truth, found)
    assert (coco_mask.decode(by_boundary.masks_K[0]) == np.where(differs, mask, true)).all()
    assert (coco_mask.decode(by_resolution.masks_K[0]) == np.where(differs, true, mask)).all()
    assert severities(faults) == [1 - (true & mask).sum() / (true | mask).sum()]
    both, _ = correct_resolution(truth, by_boundary)
    assert (coco_mask.decode(both.masks_K[0]) == true).all()


def test_a_detection_without_an_object_keeps_its_pixels():
    truth = true_objects(['####......'], drawable=['###.......'])
    found = detections(truth, ('......##..', 0.9, 0))
    for correct in (correct_boundaries, correct_resolution):
        assert correct(truth, found) == (found, [])


def test_what_is_right_stays():
    truth = true_objects(['####......', '.....#####'], [0, 1], crowds=['#.........'])
    found = detections(truth, ('####......', 1.0, 0), ('.....#####', 1.0, 1))
    for correct in (cut_merges, join_splits, correct_classes, remove_invented, add_missed, correct_boundaries,
                    correct_resolution):  # fmt: skip
        after, faults = correct(truth, found)
        assert rows_of(after) == rows_of(found) and not faults
