"""Numbering of the instances in a batch of label maps, and the base of the losses that are computed on them."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...structures import BACKGROUND_INSTANCE, IGNORED_CLASS, IGNORED_INSTANCE, check_tensors, point_boxes
from .misplaced import refuse_class_scores


class BatchInstances(NamedTuple):
    """The instances of a batch, numbered 0 .. K-1 over all its images (K in all, P labelled pixels).

    Attributes:
        pixel_P: index into the flattened (N, H, W) map of each pixel that belongs to an instance.
        instance_P: the instance of each of these pixels.
        image_K: the image of each instance, ascending.
        class_K: the class of each instance.
        size_K: its number of pixels (float).
    """

    pixel_P: Tensor
    instance_P: Tensor
    image_K: Tensor
    class_K: Tensor
    size_K: Tensor


def class_map_or_one_class(instance_map_NHW: Tensor, class_map_NHW: Tensor | None, class_agnostic: bool) -> Tensor:
    """Returns the class map, or, if there is none, a map of one class: 1 on every instance, 0 elsewhere.

    Args:
        instance_map_NHW: (N, H, W) integers.
        class_map_NHW: (N, H, W) integers, or ``None``.
        class_agnostic: whether the map's user treats all classes as one.

    Raises:
        TypeError: if there is no class map and ``class_agnostic`` is False, or a map is no tensor.

    Example:
        >>> class_map_or_one_class(torch.tensor([[[0, 7, -1]]]), None, class_agnostic=True)
        tensor([[[0, 1, 0]]])
    """
    check_tensors(instance_map=instance_map_NHW, class_map=class_map_NHW)
    if class_map_NHW is not None:
        return class_map_NHW
    if not class_agnostic:
        raise TypeError(
            'expected a class map (N, H, W) of the same size as the instance map, got None: give one, or set '
            'class_agnostic=True (of a RecurrentLoss: in its loss and its grouping) to take all instances for one class'
        )
    return (instance_map_NHW > BACKGROUND_INSTANCE).long()


def number_instances(
    instance_map_NHW: Tensor,
    class_map_NHW: Tensor | None = None,
    background_is_instance: bool = False,
    class_agnostic: bool = False,
) -> BatchInstances:
    """Numbers the instances of a batch without a loop over them; ids may be any integers, with gaps.

    An instance is a set of pixels of one image with one id *and* one class. Pixels with id -1 or class 255 are
    ignored; id 0 is background, left out unless ``background_is_instance``.

    Args:
        instance_map_NHW: (N, H, W) integers.
        class_map_NHW: (N, H, W) integers; may be left out where ``class_agnostic``.
        background_is_instance: whether each image's background counts as an instance.
        class_agnostic: take all classes for one, 0.

    Example:
        >>> ids = torch.tensor([[[0, 7, 7, 900, -1]]])
        >>> classes = torch.tensor([[[0, 2, 2, 2, 255]]])
        >>> number_instances(ids, classes).size_K
        tensor([2., 1.])
    """
    class_map_NHW = class_map_or_one_class(instance_map_NHW, class_map_NHW, class_agnostic)
    if instance_map_NHW.dim() != 3 or instance_map_NHW.shape != class_map_NHW.shape:
        raise ValueError(
            'expected instance and class maps of one shape (N, H, W), got '
            f'{tuple(instance_map_NHW.shape)} and {tuple(class_map_NHW.shape)}'
        )
    num_images, height, width = instance_map_NHW.shape
    if class_agnostic:
        class_map_NHW = torch.where(class_map_NHW == IGNORED_CLASS, class_map_NHW, 0)
    ids, classes = instance_map_NHW.reshape(-1).long(), class_map_NHW.reshape(-1).long()
    labelled = (ids != IGNORED_INSTANCE) & (classes != IGNORED_CLASS)
    if not background_is_instance:
        labelled &= ids != BACKGROUND_INSTANCE
    pixel_P = labelled.nonzero().squeeze(1)
    images = torch.arange(num_images, device=ids.device)[:, None].expand(-1, height * width).reshape(-1)
    images_P, classes_P, ids_P = (labels.index_select(0, pixel_P) for labels in (images, classes, ids))
    lowest_id, highest_id, lowest_class, highest_class = (
        int(value) for labels_P in (ids_P, classes_P) for value in (labels_P.aminmax() if len(pixel_P) else (0, 0))
    )
    if lowest_id < IGNORED_INSTANCE or lowest_class < 0:
        raise ValueError(
            f'expected instance ids >= -1 and classes >= 0, got ids from {lowest_id} and classes from {lowest_class}; use -1 '
            '(instance map) and 255 (class map) for pixels to ignore'
        )

    # A sortable key for each pixel: image, then class, then id.
    num_classes, num_ids = highest_class + 1, highest_id + 1
    if num_images * num_classes * num_ids > torch.iinfo(torch.long).max:
        names, ids_P = torch.unique(ids_P, return_inverse=True)
        num_ids = len(names)
    key_P = (images_P * num_classes + classes_P) * num_ids + ids_P
    if num_images * num_classes * num_ids <= ids.numel():  # counting is faster than sorting
        present = torch.bincount(key_P, minlength=1)
        key_K = present.nonzero().squeeze(1)
        instance_P, size_K = ((present > 0).cumsum(0) - 1).index_select(0, key_P), present[key_K]
    else:
        key_K, instance_P, size_K = torch.unique(key_P, return_inverse=True, return_counts=True)
    image_K = torch.div(key_K, num_classes * num_ids, rounding_mode='floor')
    class_K = torch.div(key_K, num_ids, rounding_mode='floor') % num_classes
    return BatchInstances(pixel_P, instance_P, image_K, class_K, size_K.float())


class EmbeddingLoss(nn.Module):
    """Base of the losses on embeddings; ``RecurrentLoss`` can evaluate them several times on the same label maps.

    Args:
        class_agnostic: treat all classes as one.
        background_is_instance: count the background as an instance (of class 0).
        loss_weight: factor on the whole.
        loss_name: key of the total; it has to contain ``loss`` to be trained on.
    """

    def __init__(self, class_agnostic: bool, background_is_instance: bool, loss_weight: float, loss_name: str) -> None:
        super().__init__()
        self.register_forward_pre_hook(refuse_class_scores, with_kwargs=True)
        if 'loss' not in loss_name:
            raise ValueError(
                f"expected a loss_name that contains 'loss', since MMEngine trains on no others, got {loss_name!r}"
            )
        if background_is_instance and not class_agnostic:
            warnings.warn(
                'background_is_instance=True with class_agnostic=False: class by class the background is the only instance of '
                'class 0, so that nothing is pushed away from it. Set class_agnostic=True, or background_is_instance=False',
                stacklevel=3,
            )
        self.class_agnostic, self.background_is_instance = class_agnostic, background_is_instance
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def number(self, instance_map_NHW: Tensor, class_map_NHW: Tensor | None = None) -> BatchInstances:
        """Numbers the instances of a batch that count in this loss, for ``forward(.., instances=..)``."""
        return number_instances(instance_map_NHW, class_map_NHW, self.background_is_instance, self.class_agnostic)


def instance_boxes(instances: BatchInstances, height: int, width: int) -> Tensor:
    """Boxes (x1, y1, x2, y2) around the instances on their maps, right and lower edge exclusive: (K, 4) int64.

    Args:
        instances: of :func:`number_instances`.
        height, width: of the maps.

    Example:
        >>> ids = torch.tensor([[[0, 7, 7], [0, 0, 7]]])
        >>> instance_boxes(number_instances(ids, ids), height=2, width=3)
        tensor([[1, 0, 3, 2]])
    """
    row_P = torch.div(instances.pixel_P, width, rounding_mode='floor') % height
    return point_boxes(row_P, instances.pixel_P % width, instances.instance_P, len(instances.image_K))


def box_gaps(box_K4: Tensor, other_M4: Tensor) -> Tensor:
    """Euclidean distance, in pixels, between boxes (x1, y1, x2, y2) with exclusive right and lower edges: (.., K, M) float.

    0 where they overlap or touch. It never exceeds the distance between the objects inside, so no pair nearer than a bound is
    missed by it.

    Example:
        >>> a, b = torch.tensor([[0, 0, 4, 4]]), torch.tensor([[8, 0, 10, 4]])
        >>> box_gaps(a, b)
        tensor([[4.]])
    """
    box_K14, other_1M4 = box_K4[..., :, None, :], other_M4[..., None, :, :]
    gap_KM2 = torch.maximum(box_K14[..., :2] - other_1M4[..., 2:], other_1M4[..., :2] - box_K14[..., 2:])
    return gap_KM2.clamp(min=0).float().norm(dim=-1)
