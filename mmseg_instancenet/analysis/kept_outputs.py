"""Network outputs of some images, kept in memory for repeated grouping."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ..models import EmbeddingSegmentor
from ..models.groupers import Grouper
from ..models.postprocess import View, predict_instances
from ..structures import check_finite


class KeptImage(NamedTuple):
    """Outputs of the network for one image, with the image's true objects.

    ``meta`` is that of the data sample. ``view`` has no class scores: the class map ``class_HW`` and its ``probability_HW`` stand
    for them. ``truth_HW`` has the objects of the ground truth: 0 = background, -1 = ignored.
    """

    meta: dict
    view: View
    class_HW: Tensor
    probability_HW: Tensor
    truth_HW: np.ndarray


@torch.no_grad()
def keep_outputs(model: EmbeddingSegmentor, batches: Iterable[dict]) -> list[KeptImage]:
    """Runs the network once over all images and keeps its outputs.

    Memory: the embeddings of the images at the size of the head's map, and for each pixel of the images 8 bytes for its
    class, 4 for the probability and 8 for the truth.

    Args:
        model: in evaluation mode.
        batches: of a dataloader with the pipeline of testing, which loads annotations.

    Raises:
        ValueError: if the ground truth of an image is missing or has another size, or an embedding is not finite.
    """
    images = []
    for data in batches:
        batch = model.data_preprocessor(data, False)
        samples = batch['data_samples']
        for sample, view in zip(samples, model.views(batch['inputs'], samples), strict=True):
            truth_HW = _truth(sample)
            class_HW, probability_HW = model.classify(sample, [view], model.test_cfg.get('classes', 'predicted'))
            for network_pass in view:
                check_finite(network_pass.without_padding(network_pass.embeddings_Dhw))
            bare = [network_pass._replace(scores_Chw=class_HW.new_empty(0, 0, 0)) for network_pass in view]
            images.append(KeptImage(sample.metainfo, bare, class_HW, probability_HW, truth_HW))
    return images


def _truth(sample: DetDataSample) -> np.ndarray:
    if 'gt_instance_map' not in sample:
        raise ValueError(
            'expected gt_instance_map in the data samples: load the annotations in the pipeline of testing '
            '(LoadInstanceMasks, MasksToMaps and PackInstanceMaps)'
        )
    truth_HW = sample.gt_instance_map.data[0].cpu().numpy()
    size = tuple(sample.metainfo['ori_shape'][:2])
    if truth_HW.shape != size:
        raise ValueError(
            f'expected gt_instance_map at the original size {size}, got {truth_HW.shape}: in the pipeline of testing '
            'put LoadInstanceMasks after the resize'
        )
    return truth_HW


@torch.no_grad()
def group_again(model: EmbeddingSegmentor, image: KeptImage, grouper: Grouper) -> tuple[InstanceData, Tensor]:
    """Groups a kept image by another grouper: all instances, without a cut of the scores, and their map (H, W)."""
    return predict_instances(
        [image.view],
        image.class_HW,
        image.probability_HW,
        model.num_classes,
        grouper,
        model.group_scorer,
        model.instance_scorer,
    )
