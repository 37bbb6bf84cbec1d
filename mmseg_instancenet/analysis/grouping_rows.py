"""Computes the metrics of several groupings of the same network outputs, in one run over a data set."""

import copy
import io
from collections.abc import Sequence
from contextlib import redirect_stdout

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from ..evaluation.metrics.coco_metric import CocoInstanceMetric
from ..models.groupers import Grouper
from ..models.postprocess import NetworkPass, View, average_classes, predict_instances
from ..structures import MapPlacement, map_size, mask_ignored, resize_labels


class GroupingRow:
    """One row of a table: a grouper, the source of its classes, and the COCO metrics of its instances.

    Args:
        name: of the row.
        grouper, scorer: see the segmentor.
        classes: 'predicted' or 'ground_truth'.
        metric: a metric that no other row uses.
        uses_embeddings: False groups the class map alone at the image's own size, for the baselines.
    """

    def __init__(
        self,
        name: str,
        grouper: Grouper,
        scorer: nn.Module,
        classes: str,
        metric: CocoInstanceMetric,
        uses_embeddings: bool = True,
    ) -> None:
        self.name, self.grouper, self.scorer, self.classes = name, grouper, scorer, classes
        self.metric, self.uses_embeddings = metric, uses_embeddings

    def add(
        self, data_sample: DetDataSample, views: Sequence[View], classified: tuple[Tensor, Tensor], count: int
    ) -> None:
        """Adds an image: groups it and stores its instances; ``classified`` is its class map and probability, ``count``
        the number of classes."""
        class_HW, probability_HW = classified
        if not self.uses_embeddings:
            views = [[class_map_pass(class_HW, count)]]
        instances, _ = predict_instances(views, class_HW, probability_HW, count, self.grouper, self.scorer)
        self.metric.process({}, [dict(data_sample.metainfo, pred_instances=instances)])

    def metrics(self) -> dict:
        """The COCO metrics of all images so far."""
        return self._compute(copy.deepcopy(self.metric.results))

    def _compute(self, results: list) -> dict:
        with redirect_stdout(io.StringIO()):  # pycocotools prints a table for every call
            return self.metric.compute_metrics(results)

    def shuffled(self, seeds: Sequence[int]) -> list[float]:
        """AP after a random permutation of the scores of all instances of the data set, one value for each seed."""
        values = []
        for seed in seeds:
            results = copy.deepcopy(self.metric.results)
            scores = np.concatenate([prediction['scores'] for _, prediction in results])
            np.random.default_rng(seed).shuffle(scores)
            start = 0
            for _, prediction in results:
                stop = start + len(prediction['scores'])
                prediction['scores'] = scores[start:stop]
                start = stop
            values.append(self._compute(results)['segm_mAP'])
        return values


def class_map_pass(class_HW: Tensor, count: int) -> NetworkPass:
    """Output of a forward pass at the image's own size with the scores of a given class map and with equal embeddings
    everywhere."""
    size = map_size(class_HW)
    return NetworkPass(
        _scores(class_HW, count), torch.zeros(1, *size, device=class_HW.device), MapPlacement(size, size, size)
    )


def perfect_pass(class_HW: Tensor, instance_HW: Tensor, count: int, size: tuple[int, int] | None = None) -> NetworkPass:
    """The output of a perfect network: classes and instances of the ground truth, at ``size`` or at the image's own
    size.

    Ignored pixels are background. Instances lie 10 apart in a one-dimensional embedding, farther than any threshold.
    """
    image_size = map_size(class_HW)
    size = size or image_size
    class_hw, instance_hw = resize_labels(class_HW, size), resize_labels(instance_HW, size)
    return NetworkPass(
        _scores(mask_ignored(class_hw)[0], count),
        instance_hw[None].float() * 10,
        MapPlacement(image_size, size, size),
    )


def classify_perfect(network_pass: NetworkPass) -> tuple[Tensor, Tensor]:
    """Class map and probability of a perfect pass at the image's own size."""
    return average_classes([[network_pass]], network_pass.placement.image_size)


def _scores(class_hw: Tensor, count: int) -> Tensor:
    return F.one_hot(class_hw.clamp(max=count - 1), count).movedim(2, 0).float() * 20  # softmax of 20 against 0 is 1
