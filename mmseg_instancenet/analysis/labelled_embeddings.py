"""Computes embeddings of a network, with the ground truth under them, for the analysis of mean-shift iterations."""

import copy
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS
from torch import Tensor, nn

from ..apis import init_model
from ..models import EmbeddingSegmentor, MeanShiftGrouping, RecurrentLoss, SphericalPairLoss
from ..structures import IGNORED_CLASS, IGNORED_INSTANCE


class LabelledEmbeddings(NamedTuple):
    """One image, its embeddings and the ground truth under them.

    image_HW3: uint8, RGB.
    instance_HW: the ground truth's instances at the image's size, numpy.
    embeddings_Dhw: at the size of the head's map.
    instance_hw: the ground truth's instance under each cell of it; -1 where nothing is known.
    class_hw: its class; 255 where nothing is known.
    """

    image_HW3: np.ndarray
    instance_HW: np.ndarray
    embeddings_Dhw: Tensor
    instance_hw: Tensor
    class_hw: Tensor

    def regions(self, grouping: MeanShiftGrouping) -> Tensor:
        """Regions in which ``grouping`` shifts cells together, given the true classes: (h, w), numbers above 0; 0 = no
        region."""
        return grouping.regions(torch.where(self.instance_hw == IGNORED_INSTANCE, IGNORED_CLASS, self.class_hw))


def load_looping_model(config: Config, checkpoint: str) -> tuple[EmbeddingSegmentor, BaseDataset]:
    """Loads a model with mean-shift iterations for testing, on the first GPU if there is one, and builds its test data.

    Raises:
        TypeError: if the model's grouper has no loops.
    """
    # In training the grouping gets the whole image.
    config.model.test_cfg = dict(config.model.get('test_cfg') or {}, mode='whole')
    model = init_model(config, checkpoint, device='cuda:0' if torch.cuda.is_available() else 'cpu')
    if not isinstance(model.grouper, MeanShiftGrouping):
        raise TypeError(
            f'expected a MeanShiftGrouping as the grouper of the config, got {type(model.grouper).__name__}; add '
            '--cfg-options model.grouper._delete_=True model.grouper.type=MeanShiftGrouping'
        )
    return model, DATASETS.build(config.test_dataloader.dataset)


def loss_on_embeddings(model: EmbeddingSegmentor) -> nn.Module:
    """The loss that a model's embeddings are trained with, over all pixels, without mean shift before it.

    Raises:
        TypeError: if there is none.
    """
    loss = model.branch.loss_embedding
    if loss is None:
        raise TypeError('expected a loss_embedding in the decode_head of the config, got none')
    loss = copy.deepcopy(loss.loss if isinstance(loss, RecurrentLoss) else loss)
    if isinstance(loss, SphericalPairLoss):
        loss.sample_ratio = loss.max_samples = None
    return loss


def labelled_embeddings(model: EmbeddingSegmentor, dataset: BaseDataset, count: int) -> Iterator[LabelledEmbeddings]:
    """Runs the network over the first ``count`` images of a data set (at most all), one by one.

    Args:
        model: see :func:`load_looping_model`.
        dataset: for testing, with the ground truth at the images' own size.
        count: images.

    Raises:
        ValueError: if the ground truth has not the image's size.
    """
    for index in range(min(count, len(dataset))):
        packed = dataset[index]
        batch = {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
        batch = model.data_preprocessor(batch, False)
        sample = batch['data_samples'][0]
        with torch.no_grad():
            ((network_pass,),) = views = model.views(batch['inputs'], batch['data_samples'])
        class_HW, _ = model.classify(sample, views, 'ground_truth')
        instance_HW = sample.gt_instance_map.data[0]
        yield LabelledEmbeddings(
            mmcv.imread(sample.img_path, channel_order='rgb'),
            instance_HW.cpu().numpy(),
            *network_pass.on_image(instance_HW, class_HW),
        )


def shift_embeddings(grouping: MeanShiftGrouping, x_PD: Tensor, region_P: Tensor, loops: int) -> list[Tensor]:
    """Embeddings after 0, 1, .., ``loops`` iterations of ``grouping``: ``loops`` + 1 tensors (P, D).

    Args:
        grouping: its kernel is used.
        x_PD: (P, D) embeddings of an image.
        region_P: (P,) numbers above 0; points with one number attract one another.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> before, after = shift_embeddings(MeanShiftGrouping(concentration=100), x, torch.tensor([1, 1, 1]), loops=1)
        >>> after.round(decimals=2)
        tensor([[1.0000, 0.0000],
                [0.8000, 0.6000],
                [0.0000, 1.0000]])
    """
    if len(x_PD) == 0:
        return [x_PD] * (loops + 1)
    maps = grouping.loops(x_PD.T[None, :, None], region_P[None, None])
    return [shifted_1D1P[0, :, 0].T for shifted_1D1P in islice(maps, loops + 1)]
