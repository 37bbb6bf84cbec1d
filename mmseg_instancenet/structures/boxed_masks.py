"""Masks of many objects of one image, each cropped to its box."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import mmcv
import numpy as np
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes, get_box_type
from mmdet.structures.mask import BitmapMasks


class MaskCrop(NamedTuple):
    """A mask cropped to its box: ``mask_hw`` (h, w) uint8; its first pixel is at row ``top`` and column ``left`` of the
    image."""

    top: int
    left: int
    mask_hw: np.ndarray

    @property
    def box(self) -> tuple[slice, slice]:
        """The rows and columns of the image that the mask covers, as slices."""
        height, width = self.mask_hw.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


class BoxedMasks(BitmapMasks):
    """mmdet's ``BitmapMasks`` with each mask cropped to its box instead of stored at the size of the image.

    Indexing, resizing, flipping, cropping, padding and joining give the same masks to the bit and take time and memory of the
    objects' boxes. All other methods of ``BitmapMasks``, and ``masks`` itself, make the bitmaps of the image's size first:
    K times H times W bytes.

    Args:
        masks: :class:`MaskCrop` of each object, or masks for ``BitmapMasks``: (K, H, W), or a list of (H, W).
        height, width: of the image.

    Example:
        >>> masks = BoxedMasks([MaskCrop(1, 2, np.ones((1, 2), np.uint8))], height=3, width=5)
        >>> masks.flip().masks[0].tolist()
        [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    """

    def __init__(self, masks: Sequence[MaskCrop] | Sequence[np.ndarray] | np.ndarray, height: int, width: int) -> None:
        self.height, self.width = int(height), int(width)
        self._crops: list[MaskCrop] | None = None
        self._bitmaps_KHW: np.ndarray | None = None
        crops = [mask for mask in masks if isinstance(mask, MaskCrop)]
        if len(crops) == len(masks):
            self._crops = crops
        else:
            self.masks = np.stack([np.asarray(mask) for mask in masks])

    @property
    def masks(self) -> np.ndarray:
        """The masks as bitmaps of the image's size, (K, H, W) uint8; the bitmaps then replace the crops, since
        transforms may change the bitmaps."""
        if self._bitmaps_KHW is None:
            self._bitmaps_KHW = np.zeros((len(self), self.height, self.width), np.uint8)
            for mask_HW, crop in zip(self._bitmaps_KHW, self.crops, strict=True):
                mask_HW[crop.box] = crop.mask_hw
            self._crops = None
        return self._bitmaps_KHW

    @masks.setter
    def masks(self, masks_KHW: np.ndarray) -> None:
        if masks_KHW.shape[1:] != (self.height, self.width):
            raise ValueError(
                f'expected masks of height and width {(self.height, self.width)}, got {masks_KHW.shape[1:]}'
            )
        self._bitmaps_KHW, self._crops = masks_KHW, None

    @classmethod
    def of(cls, masks: BitmapMasks) -> 'BoxedMasks':
        """Crops masks to their boxes; ``BoxedMasks`` are returned unchanged."""
        if isinstance(masks, cls):
            return masks
        bitmaps_KHW = masks.to_ndarray().reshape(-1, masks.height, masks.width)
        return cls([_crop(mask_HW) for mask_HW in bitmaps_KHW], masks.height, masks.width)

    @property
    def crops(self) -> list[MaskCrop]:
        """The masks, each cropped to its box."""
        if self._crops is None:
            return [_crop(mask_HW) for mask_HW in self.masks]
        return self._crops

    def __len__(self) -> int:
        return len(self.masks if self._crops is None else self._crops)

    def __iter__(self) -> Iterator[np.ndarray]:
        for crop in self.crops:
            mask_HW = np.zeros((self.height, self.width), np.uint8)
            mask_HW[crop.box] = crop.mask_hw
            yield mask_HW

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_masks={len(self)}, height={self.height}, width={self.width})'

    def __getitem__(self, index: int | slice | np.ndarray) -> 'BoxedMasks':
        chosen = np.arange(len(self))[index].reshape(-1)
        crops = self.crops
        return BoxedMasks([crops[place] for place in chosen], self.height, self.width)

    def rescale(self, scale: float | tuple[int, int], interpolation: str = 'nearest') -> BitmapMasks:
        """Resizes the masks to a scale with the aspect ratio kept; see mmdet's ``BaseInstanceMasks.rescale``."""
        width, height = mmcv.rescale_size((self.width, self.height), scale)
        return self.resize((height, width), interpolation)

    def resize(self, out_shape: tuple[int, int], interpolation: str = 'nearest') -> BitmapMasks:
        """Resizes the masks to a height and width; see mmdet's ``BaseInstanceMasks.resize``."""
        if interpolation != 'nearest':
            return super().resize(out_shape, interpolation)
        height, width = map(int, out_shape)
        # The row and the column of the image that OpenCV takes for each of the result.
        rows, columns = np.arange(self.height, dtype=np.float32), np.arange(self.width, dtype=np.float32)
        row_H = mmcv.imresize(rows[:, None], (1, height), interpolation='nearest').reshape(-1).astype(int)
        column_W = mmcv.imresize(columns[None], (width, 1), interpolation='nearest').reshape(-1).astype(int)
        crops = []
        for top, left, mask_hw in self.crops:
            first_row, last_row = np.searchsorted(row_H, [top, top + mask_hw.shape[0]])
            first_column, last_column = np.searchsorted(column_W, [left, left + mask_hw.shape[1]])
            taken = np.ix_(row_H[first_row:last_row] - top, column_W[first_column:last_column] - left)
            crops.append(MaskCrop(int(first_row), int(first_column), mask_hw[taken]))
        return BoxedMasks(crops, height, width)

    def flip(self, flip_direction: str = 'horizontal') -> 'BoxedMasks':
        """Mirrors the masks; see mmdet's ``BaseInstanceMasks.flip``."""
        if flip_direction not in ('horizontal', 'vertical', 'diagonal'):
            raise ValueError(f'expected horizontal, vertical or diagonal, got {flip_direction!r}')
        crops = []
        for top, left, mask_hw in self.crops:
            if flip_direction != 'vertical':
                left, mask_hw = self.width - left - mask_hw.shape[1], mask_hw[:, ::-1]
            if flip_direction != 'horizontal':
                top, mask_hw = self.height - top - mask_hw.shape[0], mask_hw[::-1]
            crops.append(MaskCrop(top, left, mask_hw))
        return BoxedMasks(crops, self.height, self.width)

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> BitmapMasks:
        """Pads the masks below and to the right; see mmdet's ``BaseInstanceMasks.pad``."""
        return super().pad(out_shape, pad_val) if pad_val else BoxedMasks(self.crops, *out_shape)

    def crop(self, bbox: np.ndarray) -> 'BoxedMasks':
        """Crops the masks to ``bbox``, (x1, y1, x2, y2) in whole numbers; see mmdet's ``BaseInstanceMasks.crop``."""
        left, right = np.clip(bbox[0::2], 0, self.width).astype(int).tolist()
        top, bottom = np.clip(bbox[1::2], 0, self.height).astype(int).tolist()
        width, height = max(right - left, 1), max(bottom - top, 1)
        crops = []
        for crop in self.crops:
            above, before = max(top - crop.top, 0), max(left - crop.left, 0)
            below, after = max(top + height - crop.top, 0), max(left + width - crop.left, 0)
            crops.append(
                MaskCrop(
                    min(max(crop.top - top, 0), height),
                    min(max(crop.left - left, 0), width),
                    crop.mask_hw[above:below, before:after],
                )
            )
        return BoxedMasks(crops, height, width)

    @property
    def areas(self) -> np.ndarray:
        """The number of pixels of each mask, (K,)."""
        return np.array([np.count_nonzero(crop.mask_hw) for crop in self.crops], np.int64)

    def to_ndarray(self) -> np.ndarray:
        """The masks at the size of the image, (K, H, W) uint8."""
        return self.masks

    def get_bboxes(self, dst_type: str | type[BaseBoxes] = 'hbox') -> BaseBoxes:
        """The bounding box of each mask; see mmdet's ``BaseInstanceMasks.get_bboxes``."""
        if get_box_type(dst_type)[1] is not HorizontalBoxes:
            return super().get_bboxes(dst_type)
        box_K4 = np.zeros((len(self), 4), np.float32)
        for box_4, (top, left, mask_hw) in zip(box_K4, self.crops, strict=True):
            rows, columns = np.flatnonzero(mask_hw.any(1)), np.flatnonzero(mask_hw.any(0))
            if len(rows):
                box_4[:] = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
        return HorizontalBoxes(box_K4)

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> 'BoxedMasks':
        """Joins several sets of masks into one."""
        if not masks:
            raise ValueError('expected masks to join, got none')
        crops = [crop for one in masks for crop in cls.of(one).crops]
        return cls(crops, masks[0].height, masks[0].width)


def _crop(mask_HW: np.ndarray) -> MaskCrop:
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    if not len(rows):
        return MaskCrop(0, 0, np.zeros((0, 0), np.uint8))
    top, left = int(rows[0]), int(columns[0])
    return MaskCrop(top, left, mask_HW[top : rows[-1] + 1, left : columns[-1] + 1])
