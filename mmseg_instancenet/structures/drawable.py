"""Results in the form that metrics read; arrays for the visualizers of mmdet and mmseg are computed on demand."""

from collections.abc import Iterable
from typing import SupportsIndex, overload

import numpy as np
from mmengine.structures import PixelData
from pycocotools import mask as coco_mask
from torch import Tensor

from .labels import IGNORED_CLASS


class RunLengthMasks(list[dict]):
    """List of the run-length encoded masks of one image, as mmdet's ``CocoMetric`` reads it; it becomes an array when
    drawn.

    mmdet's ``DetLocalVisualizer`` takes a part of it and calls ``astype(bool)``. pycocotools takes plain lists only:
    ``pycocotools.mask.decode(list(masks))``.

    Args:
        masks: K dicts of ``size`` and ``counts``.
        size: (height, width) of the image.

    Example:
        >>> rle = coco_mask.encode(np.asfortranarray([[1, 0, 1]], np.uint8))
        >>> masks = RunLengthMasks([rle, rle], (1, 3))
        >>> masks[1:].astype(bool).tolist(), masks[:0].astype(bool).shape
        ([[[True, False, True]]], (0, 1, 3))
    """

    def __init__(self, masks: Iterable[dict] = (), size: tuple[int, int] = (0, 0)) -> None:
        super().__init__(masks)
        self.size = size

    def astype(self, dtype: type) -> np.ndarray:
        """The masks as an array of 0 and 1, (K, H, W)."""
        if not self:
            return np.zeros((0, *self.size), dtype)
        return coco_mask.decode(list(self)).transpose(2, 0, 1).astype(dtype)

    @overload
    def __getitem__(self, item: SupportsIndex) -> dict: ...

    @overload
    def __getitem__(self, item: slice) -> 'RunLengthMasks': ...

    def __getitem__(self, item: SupportsIndex | slice) -> 'dict | RunLengthMasks':
        if isinstance(item, slice):
            return RunLengthMasks(super().__getitem__(item), self.size)
        return super().__getitem__(item)

    # A list takes items of any type from another one; masks take masks.
    def __add__(self, other: list[dict]) -> 'RunLengthMasks':  # type: ignore[override]
        return RunLengthMasks(super().__add__(other), self.size)


class ClassMap(PixelData):
    """A class map ``data`` (1, H, W) for mmseg's metrics, with a property ``sem_seg`` that mmdet draws.

    mmdet numbers the classes as the data set's list does, from 0. Where the metainfo has ``background``, class 0 of ``data`` is
    the background, and class k is number k - 1 of the list. ``sem_seg`` is computed when it is read.

    Example:
        >>> import torch
        >>> ClassMap(metainfo={'background': True}, data=torch.tensor([[[0, 1, 2, 255]]])).sem_seg
        tensor([[[255,   0,   1, 255]]])
    """

    @property
    def sem_seg(self) -> Tensor:
        """The class map as indices into the data set's list of classes, (1, H, W); 255 for the background and for
        ignored pixels."""
        if not self.get('background', False):
            return self.data
        return (self.data - 1).masked_fill((self.data == 0) | (self.data == IGNORED_CLASS), IGNORED_CLASS)
