"""Run lengths, boxes and scores against loops over the masks."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from mmseg_instancenet.models.postprocess import drop_low_scores, make_instances
from mmseg_instancenet.models.scorers import vote_classes
from mmseg_instancenet.structures import labels_to_boxes, labels_to_rle


def encode(mask: np.ndarray) -> dict:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def label_maps() -> dict[str, tuple[np.ndarray, int]]:
    rng = np.random.default_rng(0)
    maps = {
        f'random {h} x {w}': (rng.integers(0, 6, (h, w)), 5) for h, w in ((13, 29), (31, 8), (1, 17), (23, 1), (1, 1))
    }
    blocks = np.kron(rng.integers(0, 8, (6, 9)), np.ones((7, 5), int))
    maps['blocks'] = (blocks, 7)
    maps['a row of 4000'] = (np.repeat(rng.integers(0, 4, 400), 10)[None], 3)
    maps['one group everywhere'] = (np.ones((6, 4), int), 1)
    maps['empty'] = (np.zeros((5, 7), int), 0)
    maps['groups without a pixel'] = (np.where(rng.random((9, 9)) < 0.5, 2, 0), 4)
    return maps


@pytest.mark.parametrize('labels, count', label_maps().values(), ids=label_maps().keys())
@pytest.mark.parametrize('dtype', [np.int64, np.uint8])
def test_run_lengths_are_those_of_pycocotools(labels, count, dtype):
    masks = labels_to_rle(labels.astype(dtype), count)
    assert len(masks) == count
    for index, mask in enumerate(masks, 1):
        expected = encode(labels == index)
        assert mask['size'] == list(labels.shape) and isinstance(mask['counts'], bytes)
        np.testing.assert_array_equal(coco_mask.decode(mask), labels == index)
        assert coco_mask.area(mask) == coco_mask.area(expected) == (labels == index).sum()
        np.testing.assert_array_equal(coco_mask.toBbox(mask), coco_mask.toBbox(expected))
        if (labels == index).any():
            assert coco_mask.iou([mask], [expected], [0]).item() == 1
    if count > 1:
        references = [encode(labels == index) for index in range(1, count + 1)]
        everything = [encode(np.ones_like(labels))]
        np.testing.assert_array_equal(coco_mask.iou(masks, everything, [0]), coco_mask.iou(references, everything, [0]))


@pytest.mark.parametrize('labels, count', label_maps().values(), ids=label_maps().keys())
@pytest.mark.parametrize('block', [1, 40])
def test_blocks_of_the_walk_make_no_difference(labels, count, block, monkeypatch):
    expected = labels_to_rle(labels, count)
    monkeypatch.setattr('mmseg_instancenet.structures.masks._BLOCK', block)
    assert labels_to_rle(labels, count) == expected


def test_run_lengths_of_a_transposed_view():
    labels = np.random.default_rng(1).integers(0, 3, (11, 6))
    for index, mask in enumerate(labels_to_rle(labels.T, 2), 1):
        np.testing.assert_array_equal(coco_mask.decode(mask), index == labels.T)


@pytest.mark.parametrize('labels, count', label_maps().values(), ids=label_maps().keys())
def test_boxes_surround_the_groups(labels, count):
    boxes = labels_to_boxes(torch.from_numpy(labels), count)
    assert boxes.shape == (count, 4) and boxes.dtype == torch.float32
    for index, box in enumerate(boxes.tolist(), 1):
        rows, columns = np.nonzero(labels == index)
        if len(rows):
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        else:
            assert box == [0, 0, 0, 0]


def voted_instances(labels, group_score, classes, probability, num_classes):
    votes = vote_classes(labels, classes, probability, len(group_score), num_classes)
    return make_instances(labels, group_score, votes)


def test_instances_against_loops():
    rng = np.random.default_rng(2)
    for trial in range(20):
        height, width = rng.integers(4, 12, 2)
        count = int(rng.integers(1, 6))
        labels = rng.integers(0, count + 1, (height, width))
        labels.reshape(-1)[:count] = np.arange(1, count + 1)  # without gaps
        classes = rng.integers(1, 5, (height, width))
        probability = rng.random((height, width)).astype(np.float32)
        group_score = rng.random(count).astype(np.float32)
        instances = voted_instances(
            *(torch.from_numpy(data) for data in (labels, group_score, classes, probability)), num_classes=5
        )
        assert len(instances) == count
        for index in range(count):
            inside = labels == index + 1
            votes = np.bincount(classes[inside], minlength=5)
            label = int(instances.labels[index])
            assert votes[label + 1] == votes.max()  # one of the most frequent
            total = 0.0
            for row, column in zip(*np.nonzero(inside), strict=True):
                if classes[row, column] == label + 1:
                    total += float(probability[row, column])
            expected = float(group_score[index]) * total / inside.sum()
            assert float(instances.scores[index]) == pytest.approx(expected, rel=1e-5), f'trial {trial}'
            np.testing.assert_array_equal(coco_mask.decode(instances.masks[index]), inside)
            rows, columns = np.nonzero(inside)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert instances.bboxes[index].tolist() == box


def test_instance_by_hand():
    """Three pixels of class 2 and one of class 1: class 2, label 1, and the fourth pixel counts zero."""
    instances = voted_instances(
        torch.tensor([[1, 1, 1, 1, 0]]),
        torch.tensor([0.5]),
        torch.tensor([[2, 2, 1, 2, 0]]),
        torch.tensor([[0.9, 0.6, 1.0, 0.3, 1.0]]),
        num_classes=3,
    )
    assert instances.labels.tolist() == [1]
    assert instances.scores.tolist() == pytest.approx([0.5 * (0.9 + 0.6 + 0.3) / 4])
    assert instances.bboxes.tolist() == [[0, 0, 4, 1]]


def test_without_groups_there_are_no_instances_and_the_masks_are_there():
    empty = torch.zeros(3, 4)
    instances = voted_instances(empty.long(), torch.zeros(0), empty.long(), empty, num_classes=4)
    assert len(instances) == 0
    assert instances.masks == []
    assert instances.bboxes.shape == (0, 4) and instances.scores.shape == instances.labels.shape == (0,)
    assert instances.labels.dtype == torch.long


@pytest.mark.parametrize('seed', range(8))
def test_a_cut_keeps_the_instances_that_reach_it_and_renumbers_their_map(seed):
    rng = np.random.default_rng(seed)
    labels, score = rng.integers(0, 8, (9, 11)), rng.choice([0.1, 0.25, 0.5, 0.75], 7).astype(np.float32)
    labels[0, :7] = np.arange(1, 8)
    instances = voted_instances(
        *(torch.from_numpy(data) for data in (labels, score, np.ones_like(labels), np.ones((9, 11), np.float32))), 2
    )
    kept, map_HW = drop_low_scores(instances, torch.from_numpy(labels), 0.5)
    expected = [index for index in range(7) if score[index] >= 0.5]
    assert kept.scores.tolist() == [float(score[index]) for index in expected]
    assert len(kept.masks) == len(kept.labels) == len(expected) == int(map_HW.max())
    number = 0
    for index in range(7):
        number += index in expected
        assert (map_HW[labels == index + 1] == (number if index in expected else 0)).all()
        if index in expected:
            assert np.array_equal(coco_mask.decode(kept.masks[number - 1]), labels == index + 1)
            assert kept.bboxes[number - 1].tolist() == instances.bboxes[index].tolist()
    assert not map_HW[labels == 0].any()


def test_a_cut_at_the_ends():
    labels = torch.tensor([[1, 2, 2, 0]])
    instances = voted_instances(labels, torch.tensor([-0.1, 0.5]), labels.clamp(max=1), torch.ones(1, 4), 2)
    # A fitted score may lie below 0; without a cut it stays.
    kept, map_HW = drop_low_scores(instances, labels, 0.0)
    assert kept.scores.tolist() == pytest.approx([-0.1, 0.5]) and torch.equal(map_HW, labels)
    kept, map_HW = drop_low_scores(instances, labels, 0.6)
    assert len(kept) == len(kept.masks) == 0 and kept.bboxes.shape == (0, 4) and not map_HW.any()
    nothing = voted_instances(labels * 0, torch.zeros(0), labels, torch.ones(1, 4), 3)
    kept, map_HW = drop_low_scores(nothing, labels * 0, 0.6)
    assert len(kept) == 0 and kept.masks == [] and torch.equal(map_HW, labels * 0)
