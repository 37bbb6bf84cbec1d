"""Where a map's cells lie in the whole picture."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def picture_coordinates(
    metas: Sequence[dict],
    input_size: tuple[int, int],
    map_size: tuple[int, int],
    device: torch.device,
    origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Position of each cell in its whole picture, -1 to 1 from left to right and from top to bottom as the network sees it.

    A flipped picture counts as a picture of its own: its coordinates too run from left to right. With those of the picture
    before the flip, the features, which do not know about the flip, could not make up for the change of position within
    an object.

    Args:
        metas: of each picture ``homography_matrix`` (3 x 3, from the picture as it was on disk to the network's input, as
            mmdet's transforms record it) and ``ori_shape``. An empty dict means that the input is the whole picture.
        input_size: (height, width) of the network's input, or of the window that is looked at.
        map_size: (h, w) of the map.
        device: of the result.
        origin: (row, column) of the window in the input.

    Returns:
        (N, 2, h, w) float32: x, then y. Cells in the padding lie outside -1 .. 1.

    Example:
        >>> picture_coordinates([{}], (2, 4), (1, 2), torch.device('cpu'))[0, 0]
        tensor([[-0.5000,  0.5000]])
    """
    (height, width), (rows, columns) = input_size, map_size
    y = (np.arange(rows) + 0.5) * height / rows + origin[0]
    x = (np.arange(columns) + 0.5) * width / columns + origin[1]
    point_3M = np.stack([*np.meshgrid(x, y), np.ones((rows, columns))]).reshape(3, -1)
    coordinates_N2M = np.empty((len(metas), 2, rows * columns), np.float32)
    for index, meta in enumerate(metas):
        picture_height, picture_width = meta.get('ori_shape', input_size)
        to_input = meta.get('homography_matrix')
        # mmdet's transforms record the matrix when they first change something.
        untouched = not meta.get('flip') and tuple(meta.get('img_shape', ())) == tuple(meta.get('ori_shape', ()))
        if to_input is None and untouched:
            to_input = np.eye(3)
        if to_input is None:
            raise ValueError(
                "coordinates=True needs 'homography_matrix' in the data samples: use mmdet's transforms (mmdet.Resize, "
                'mmdet.RandomFlip, mmdet.RandomCrop) and pack with PackInstanceMaps, or set coordinates=False; got only '
                f'{sorted(meta)}'
            )
        position_3M = np.linalg.inv(np.asarray(to_input, np.float64)) @ point_3M
        position_2M = position_3M[:2] / position_3M[2:]
        coordinates_2M = position_2M * 2 / np.array([[picture_width], [picture_height]]) - 1
        seen_reversed = np.sign(np.diag(to_input)[:2])[:, None]
        coordinates_N2M[index] = coordinates_2M * seen_reversed
    return torch.from_numpy(coordinates_N2M.reshape(len(metas), 2, rows, columns)).to(device)
