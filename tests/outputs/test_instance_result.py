"""``InstanceResult``: the values of a prediction, and those computed from its masks."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from pycocotools import mask as coco_mask

from mmseg_instancenet.outputs import InstanceResult
from mmseg_instancenet.structures import RunLengthMasks


def predicted(masks_KHW: np.ndarray, labels_HW: np.ndarray) -> DetDataSample:
    """A prediction of the segmentor with these masks; classes 1, 0, 1, 0, .. and scores .5, .25, .."""
    count = len(masks_KHW)
    rle = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks_KHW]
    instances = InstanceData(
        labels=torch.tensor([(k + 1) % 2 for k in range(count)]),
        scores=torch.tensor([2.0 ** -(k + 1) for k in range(count)]),
        bboxes=torch.tensor([[k, 0, k + 2, 3] for k in range(count)], dtype=torch.float32).reshape(-1, 4),
        masks=RunLengthMasks(rle, labels_HW.shape),
    )
    return DetDataSample(
        pred_instances=instances, pred_instance_map=PixelData(data=torch.from_numpy(labels_HW)[None].long())
    )


def test_values_of_a_prediction_and_computed_values():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 7, 5)) < 0.4  # in several pieces, and overlapping as those of proposals
    labels = np.where(masks.any(0), masks.argmax(0) + 1, 0)
    result = InstanceResult.from_data_sample(predicted(masks, labels), ['cat', 'dog'], path='a.png')
    assert len(result) == 3 and result.path == 'a.png' and result.class_names == ('cat', 'dog')
    assert result.classes == ['dog', 'cat', 'dog'] and result.class_indices.tolist() == [1, 0, 1]
    assert result.scores.tolist() == [0.5, 0.25, 0.125]
    assert result.boxes.tolist() == [[0, 0, 2, 3], [1, 0, 3, 3], [2, 0, 4, 3]]
    assert result.labels.dtype == np.int32 and np.array_equal(result.labels, labels)
    assert result.areas.tolist() == [int(mask.sum()) for mask in masks]
    for centroid, mask in zip(result.centroids, masks, strict=True):
        points = [(x, y) for y in range(7) for x in range(5) if mask[y, x]]
        assert centroid == pytest.approx([sum(axis) / len(points) for axis in zip(*points, strict=True)])
    for crop, mask in zip(result.crops, masks, strict=True):
        whole = np.zeros((7, 5), bool)
        whole[crop.box] = crop.mask_hw
        assert np.array_equal(whole, mask)


def test_an_image_without_instances():
    result = InstanceResult.from_data_sample(predicted(np.zeros((0, 7, 5)), np.zeros((7, 5), int)), ['cat', 'dog'])
    assert len(result) == 0 and result.classes == [] and result.crops == [] and result.path is None
    assert result.areas.tolist() == [] and result.centroids.shape == (0, 2) and result.boxes.shape == (0, 4)
    assert not result.labels.any()
