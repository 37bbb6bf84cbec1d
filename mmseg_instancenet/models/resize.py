"""Where the pixels of one grid lie on another, and reading maps there.

Grids: the *picture* as it was on disk (original size), the *input* (the resized, flipped, padded picture that enters the
network, or one window of it) and the *map* that the head returns. All positions are continuous, in units of cells,
with a cell's centre at +0.5, so that they agree with ``align_corners=False``.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_FLIPS = {None: (False, False), 'horizontal': (False, True), 'vertical': (True, False), 'diagonal': (True, True)}


class MapPlacement(NamedTuple):
    """Where a head's map lies on the picture.

    picture_size: (height, width) of the picture.
    image_size: (height, width) of the resized picture inside the input, without padding.
    input_size: (height, width) of what entered the network: the padded input or one window of it.
    origin: (row, column) of the window's first pixel in the padded input; (0, 0) without windows.
    flipped: (vertically, horizontally).
    """

    picture_size: tuple[int, int]
    image_size: tuple[int, int]
    input_size: tuple[int, int]
    origin: tuple[int, int] = (0, 0)
    flipped: tuple[bool, bool] = (False, False)

    @classmethod
    def from_meta(cls, meta: dict, input_size: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> 'MapPlacement':
        """The placement that the meta information of a data sample describes."""
        flipped = _FLIPS[meta.get('flip_direction') if meta.get('flip') else None]
        return cls(tuple(meta['ori_shape'][:2]), tuple(meta['img_shape'][:2]), input_size, origin, flipped)

    def picture_to_map(self, axis: int, map_length: int, device: torch.device) -> tuple[Tensor, slice]:
        """Which rows (axis 0) or columns (axis 1) of the picture the map covers, and where each lies on the map."""
        pixels = torch.arange(self.picture_size[axis], dtype=torch.float64) + 0.5
        position = pixels * self.image_size[axis] / self.picture_size[axis]
        if self.flipped[axis]:
            position = self.image_size[axis] - position
        position = position - self.origin[axis]
        index = ((position >= 0) & (position <= self.input_size[axis])).nonzero().squeeze(1).tolist()
        span = slice(index[0], index[-1] + 1) if index else slice(0, 0)
        return (position[span] * map_length / self.input_size[axis]).to(device), span

    def keep_inside(self, axis: int, map_length: int, position_R: Tensor) -> Tensor:
        """Moves positions to the centre of the last cell inside the picture, so that nothing is read from the padding."""
        inside = int(self.map_to_picture(axis, map_length, torch.device('cpu'))[1].sum())
        return position_R.clamp(max=max(inside, 1) - 0.5)

    def map_to_picture(self, axis: int, map_length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The picture's row (axis 0) or column (axis 1) under each cell of the map, and whether there is one."""
        cells = torch.arange(map_length, dtype=torch.float64, device=device) + 0.5
        position = cells * self.input_size[axis] / map_length + self.origin[axis]
        inside = position < self.image_size[axis]
        if self.flipped[axis]:
            position = self.image_size[axis] - position
        pixel = torch.floor(position * self.picture_size[axis] / self.image_size[axis]).long()
        return pixel.clamp(0, self.picture_size[axis] - 1), inside


def input_size(meta: dict) -> tuple[int, int]:
    """(height, width) of the padded batch that a picture entered the network in, from its meta information."""
    return tuple(meta.get('batch_input_shape', meta.get('pad_shape', meta['img_shape']))[:2])


def resize_labels(labels_NHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes label maps to the nearest label at each new cell's centre, exact for integers of any size.

    Args:
        labels_NHW: (..., H, W) of any dtype.
        size: (height, width).

    Example:
        >>> resize_labels(torch.tensor([[[1, 1, 1, 300000001]]]), (1, 2))
        tensor([[[        1, 300000001]]])
    """
    index = []
    for new, old in zip(size, labels_NHW.shape[-2:], strict=True):
        centers = (torch.arange(new, dtype=torch.float64, device=labels_NHW.device) + 0.5) * old / new
        index.append(torch.floor(centers).long().clamp(max=old - 1))
    return labels_NHW[..., index[0][:, None], index[1][None, :]]


def sample_bilinear(map_Dhw: Tensor, row_H: Tensor, column_W: Tensor) -> Tensor:
    """Reads a map at the grid of rows and columns, bilinearly, the rim continued outside: (D, H, W) float.

    Args:
        map_Dhw: (D, h, w).
        row_H, column_W: positions in cells, a cell's centre at +0.5.

    Example:
        >>> sample_bilinear(torch.tensor([[[0.0, 1.0]]]), torch.tensor([0.5]), torch.tensor([0.5, 1.0, 1.5]))
        tensor([[[0.0000, 0.5000, 1.0000]]])
    """
    height, width = map_Dhw.shape[1:]
    grid_HW2 = torch.empty(len(row_H), len(column_W), 2, dtype=map_Dhw.dtype, device=map_Dhw.device)
    grid_HW2[..., 0] = (column_W * (2 / width) - 1).to(map_Dhw.dtype)[None, :]
    grid_HW2[..., 1] = (row_H * (2 / height) - 1).to(map_Dhw.dtype)[:, None]
    return F.grid_sample(map_Dhw[None], grid_HW2[None], padding_mode='border', align_corners=False)[0]


def bilinear_neighbours(position_R: Tensor, length: int) -> list[tuple[Tensor, Tensor]]:
    """The two cells between whose centres each position lies, each with its weight; beyond the rim the same cell twice.

    Example:
        >>> bilinear_neighbours(torch.tensor([1.25]), 4)
        [(tensor([0]), tensor([0.2500])), (tensor([1]), tensor([0.7500]))]
    """
    lower_R = torch.floor(position_R - 0.5)
    share_R = position_R - 0.5 - lower_R
    lower_R = lower_R.long()
    return [(lower_R.clamp(0, length - 1), 1 - share_R), ((lower_R + 1).clamp(0, length - 1), share_R)]
