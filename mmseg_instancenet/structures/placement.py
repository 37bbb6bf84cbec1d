"""Positions of the pixels of one grid on another, and sampling of maps at these positions.

Grids: the *image* as it was on disk (original size), the *input* (the resized, flipped, padded image that enters the
network, or one window of it) and the *map* that the head returns. All positions are continuous, in units of cells,
with a cell's centre at +0.5, so that they agree with ``align_corners=False``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_FLIPS = {None: (False, False), 'horizontal': (False, True), 'vertical': (True, False), 'diagonal': (True, True)}


def map_size(x: Tensor) -> tuple[int, int]:
    """Height and width of a map or an image: the last two lengths of a tensor.

    Example:
        >>> map_size(torch.zeros(1, 3, 20, 30))
        (20, 30)
    """
    height, width = x.shape[-2:]
    return height, width


class MapPlacement(NamedTuple):
    """Position of a head's map on the image.

    Attributes:
        image_size: (height, width) of the image.
        resized_size: (height, width) of the resized image inside the input, without padding.
        input_size: (height, width) of the network's input: the padded image or one window of it.
        origin: (row, column) of the window's first pixel in the padded input; (0, 0) without windows.
        flipped: (vertically, horizontally).
    """

    image_size: tuple[int, int]
    resized_size: tuple[int, int]
    input_size: tuple[int, int]
    origin: tuple[int, int] = (0, 0)
    flipped: tuple[bool, bool] = (False, False)

    @classmethod
    def from_meta(cls, meta: dict, input_size: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> 'MapPlacement':
        """Reads the placement from the meta information of a data sample."""
        flipped = _FLIPS[meta.get('flip_direction') if meta.get('flip') else None]
        return cls(tuple(meta['ori_shape'][:2]), tuple(meta['img_shape'][:2]), input_size, origin, flipped)

    def image_to_map(self, axis: int, map_length: int, device: torch.device) -> tuple[Tensor, slice]:
        """The rows (axis 0) or columns (axis 1) of the image that the map covers, and their positions on the map."""
        pixels = torch.arange(self.image_size[axis], dtype=torch.float64) + 0.5
        position = pixels * self.resized_size[axis] / self.image_size[axis]
        if self.flipped[axis]:
            position = self.resized_size[axis] - position
        position = position - self.origin[axis]
        index = ((position >= 0) & (position <= self.input_size[axis])).nonzero().squeeze(1).tolist()
        span = slice(index[0], index[-1] + 1) if index else slice(0, 0)
        return (position[span] * map_length / self.input_size[axis]).to(device), span

    def keep_inside(self, axis: int, map_length: int, position_R: Tensor) -> Tensor:
        """Moves positions outside the image to the centre of its last cell, so that the padding is never read."""
        inside = int(self.map_to_image(axis, map_length, torch.device('cpu'))[1].sum())
        return position_R.clamp(max=max(inside, 1) - 0.5)

    def map_to_image(self, axis: int, map_length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The image's row (axis 0) or column (axis 1) at each cell of the map, and whether it lies inside the image."""
        cells = torch.arange(map_length, dtype=torch.float64, device=device) + 0.5
        position = cells * self.input_size[axis] / map_length + self.origin[axis]
        inside = position < self.resized_size[axis]
        if self.flipped[axis]:
            position = self.resized_size[axis] - position
        pixel = torch.floor(position * self.image_size[axis] / self.resized_size[axis]).long()
        return pixel.clamp(0, self.image_size[axis] - 1), inside


def input_size(meta: dict) -> tuple[int, int]:
    """(height, width) of the padded batch that held an image at the network's input, from its meta information."""
    return tuple(meta.get('batch_input_shape', meta.get('pad_shape', meta['img_shape']))[:2])


def sample_bilinear(map_Dhw: Tensor, row_H: Tensor, column_W: Tensor) -> Tensor:
    """Samples a map bilinearly at a grid of rows and columns; the border is replicated outside: (D, H, W) float.

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
    """The two cells around each position, each with its weight; beyond the border the same cell twice.

    Example:
        >>> bilinear_neighbours(torch.tensor([1.25]), 4)
        [(tensor([0]), tensor([0.2500])), (tensor([1]), tensor([0.7500]))]
    """
    lower_R = torch.floor(position_R - 0.5)
    share_R = position_R - 0.5 - lower_R
    lower_R = lower_R.long()
    return [(lower_R.clamp(0, length - 1), 1 - share_R), ((lower_R + 1).clamp(0, length - 1), share_R)]


def image_coordinates(
    metas: Sequence[dict],
    input_size: tuple[int, int],
    map_size: tuple[int, int],
    device: torch.device,
    origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Position of each cell in its whole image, -1 to 1 from left to right and from top to bottom in the network's
    input.

    A flipped or turned image counts as an image of its own: its coordinates too run from left to right. With those of the
    image before the flip, the features, which hold nothing of the flip, could not make up for the change of position within an
    object. Of a rotation by any angle, the nearest multiple of 90 degrees counts as a turn.

    Args:
        metas: of each image ``homography_matrix`` (3 x 3, from the image as it was on disk to the network's input, as
            mmdet's transforms record it) and ``ori_shape``. An empty dict means that the input is the whole image.
        input_size: (height, width) of the network's input, or of the current window.
        map_size: (h, w) of the map.
        device: of the result.
        origin: (row, column) of the window in the input.

    Returns:
        (N, 2, h, w) float32: x, then y. Cells in the padding lie outside -1 .. 1.

    Example:
        >>> image_coordinates([{}], (2, 4), (1, 2), torch.device('cpu'))[0, 0]
        tensor([[-0.5000,  0.5000]])
    """
    # While torch.jit traces, sizes are tensors, which numpy does not take.
    (height, width), (rows, columns) = (tuple(map(int, size)) for size in (input_size, map_size))
    y = (np.arange(rows) + 0.5) * height / rows + origin[0]
    x = (np.arange(columns) + 0.5) * width / columns + origin[1]
    point_3M = np.stack([*np.meshgrid(x, y), np.ones((rows, columns))]).reshape(3, -1)
    coordinates_N2M = np.empty((len(metas), 2, rows * columns), np.float32)
    for index, meta in enumerate(metas):
        image_height, image_width = meta.get('ori_shape', (height, width))
        to_input = meta.get('homography_matrix')
        # mmdet's transforms record the matrix when they first change something. mmseg's record none: a crop of an enlarged image
        # may have the size of the original again, and only the factor shows it.
        untouched = (
            not meta.get('flip')
            and tuple(meta.get('img_shape', ())) == tuple(meta.get('ori_shape', ()))
            and np.all(np.equal(meta.get('scale_factor', 1), 1))
        )
        if to_input is None and untouched:
            to_input = np.eye(3)
        if to_input is None:
            raise ValueError(
                "coordinates=True needs 'homography_matrix' in the data samples: use mmdet's transforms (mmdet.Resize, "
                'mmdet.RandomFlip, mmdet.RandomCrop) before MasksToMaps, RandomCropMaps and the like after it, and pack with '
                'PackInstanceMaps, or set coordinates=False; got only '
                f'{sorted(meta)}'
            )
        position_3M = np.linalg.inv(np.asarray(to_input, np.float64)) @ point_3M
        position_2M = position_3M[:2] / position_3M[2:]
        coordinates_2M = position_2M * 2 / np.array([[image_width], [image_height]]) - 1
        coordinates_N2M[index] = _nearest_turn(np.asarray(to_input)[:2, :2]) @ coordinates_2M
    return torch.from_numpy(coordinates_N2M.reshape(len(metas), 2, rows, columns)).to(device)


def _nearest_turn(matrix_22: np.ndarray) -> np.ndarray:
    """The flip or quarter turn nearest to a matrix: one of eight signed permutations, (2, 2).

    Example:
        >>> _nearest_turn(np.array([[0.1, 2.0], [-1.5, 0.2]])).tolist()
        [[0.0, 1.0], [-1.0, 0.0]]
    """
    size_22 = np.abs(matrix_22)
    exchanged = size_22[0, 1] + size_22[1, 0] > size_22[0, 0] + size_22[1, 1]
    return np.where(matrix_22 < 0, -1.0, 1.0) * (np.eye(2)[::-1] if exchanged else np.eye(2))
