"""Statistics of objects: their sizes, which of them touch, and how many are left on the map on which the embedding is
trained.

Shapes: K masks of one image, P pairs of masks.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import mmcv
import numpy as np
import torch

from ...structures import VOID, BoxedMasks, resize_labels
from ..transforms.masks_to_maps import masks_to_maps

Size = tuple[int, int]
"""(height, width)."""


class Grids(NamedTuple):
    """The sizes of an image in training: of the network's input, and of the map of its embeddings."""

    input: Size
    map: Size


class Measures(NamedTuple):
    """Measures of the K masks of an image.

    Attributes:
        pixel_K: (K,) int64, pixels of the mask.
        touch_K: (K,) bool, whether a pixel of another object of its class is among the eight neighbours of one of its pixels.
        cell_K: (K,) int64, cells of the embedding's map.
        apart_K: (K,) bool, whether it has a cell there and touches no object of its class that it does not touch in the image.
    """

    pixel_K: np.ndarray
    touch_K: np.ndarray
    cell_K: np.ndarray
    apart_K: np.ndarray


def touching_pairs(instance_map: np.ndarray, labels_K: np.ndarray) -> np.ndarray:
    """The pairs of objects of one class that touch: two of their pixels are 8-neighbours.

    Args:
        instance_map: (H, W) integers, object k as k + 1; other values <= 0 are no objects.
        labels_K: (K,) class of each.

    Returns:
        (P, 2) int64, the smaller number first, each pair once.

    Example:
        >>> touching_pairs(np.array([[1, 0, 2], [0, 3, 3]]), np.array([0, 0, 0])).tolist()
        [[0, 2], [1, 2]]
    """
    count = max(len(labels_K), 1)
    height, width = instance_map.shape
    # Padded by a column and a row of 0, and one more pixel: positions outside the map are no objects.
    ids = np.zeros((height + 2) * (width + 1), np.int32)
    ids[: height * (width + 1)].reshape(height, width + 1)[:, :width] = instance_map
    inside = np.zeros((height, width + 1), bool)
    inside[:, :width] = instance_map > 0
    pixel_J = np.flatnonzero(inside)
    own_J = ids[pixel_J]
    codes = []
    for step in (1, width, width + 1, width + 2):  # right, down left, down, down right
        other_J = ids[pixel_J + step]
        meet_J = (own_J != other_J) & (other_J > 0)
        pair_2P = np.stack([own_J[meet_J], other_J[meet_J]]).astype(np.int64) - 1
        codes.append(pair_2P.min(0) * count + pair_2P.max(0))
    code_P = np.unique(np.concatenate(codes))
    pair_P2 = np.stack([code_P // count, code_P % count], axis=1)
    return pair_P2[labels_K[pair_P2[:, 0]] == labels_K[pair_P2[:, 1]]]


def measure_objects(masks: BoxedMasks, labels_K: np.ndarray, ignored_K: np.ndarray, grids: Grids | None) -> Measures:
    """Measures the objects of an image on the map that training uses (:func:`masks_to_maps`).

    On the embedding's map an object has the cells that a training gives it. One exception: of masks that overlap and have all but
    the same size, a training may lay the other one on top, as it compares their sizes after the resize.

    Args:
        masks: K, at the size of the image.
        labels_K: (K,) classes.
        ignored_K: (K,) bool; ignored masks touch nothing and have no cells.
        grids: of the image; its own size for both unless given.
    """
    count = len(labels_K)
    instance_map = masks_to_maps(masks, labels_K, ignored_K)[1]
    pair_P2 = touching_pairs(instance_map, labels_K)
    touch_K = np.isin(np.arange(count), pair_P2)
    grids = grids or Grids(instance_map.shape, instance_map.shape)
    on_map, pair_on_map_P2 = instance_map, pair_P2
    if grids != (instance_map.shape, instance_map.shape):
        sampled = (_sampled(*lengths) for lengths in zip(instance_map.shape, *grids, strict=True))
        on_map = instance_map[np.ix_(*sampled)]
        pair_on_map_P2 = touching_pairs(on_map, labels_K)
    cell_K = np.bincount(on_map[on_map > 0] - 1, minlength=count)
    known = set(map(tuple, pair_P2.tolist()))
    merged = {place for pair in pair_on_map_P2.tolist() if tuple(pair) not in known for place in pair}
    apart_K = cell_K > 0
    apart_K[list(merged)] = False
    return Measures(masks.areas, touch_K, cell_K, apart_K)


@lru_cache
def _sampled(length: int, input_length: int, map_length: int) -> np.ndarray:
    """The row (or column) of the image under each row of the map: both resizes take the nearest one."""
    rows = np.arange(length, dtype=np.float32)[:, None]
    in_input = mmcv.imresize(rows, (1, input_length), interpolation='nearest').reshape(-1, 1)
    return resize_labels(torch.from_numpy(in_input), (map_length, 1)).reshape(-1).long().numpy()


class ObjectStatistics:
    """Collects the measures of the objects of a set, class by class.

    Args:
        classes: names; labels are places in this list, -1 is void.
        grids_of: the grids of an image of a size; ``None`` where no embedding is trained.
    """

    def __init__(self, classes: Sequence[str], grids_of: Callable[[Size], Grids] | None) -> None:
        self.classes, self.grids_of = classes, grids_of
        self._measures: dict[int, list[np.ndarray]] = defaultdict(list)
        self._ignored: dict[int, int] = defaultdict(int)

    def add(self, masks: BoxedMasks, labels_K: np.ndarray, ignored_K: np.ndarray) -> np.ndarray:
        """Measures the objects of an image; for the arguments see :func:`measure_objects`.

        Returns:
            (K,) int64, pixels of each mask.
        """
        size = masks.height, masks.width
        measures = measure_objects(masks, labels_K, ignored_K, self.grids_of and self.grids_of(size))
        row_K4 = np.stack([measures.pixel_K, measures.touch_K, measures.cell_K > 0, measures.apart_K], axis=1)
        for label in set(labels_K.tolist()):
            of_class_K = labels_K == label
            self._measures[label].append(row_K4[of_class_K & ~ignored_K])
            self._ignored[label] += int((of_class_K & ignored_K).sum())
        return measures.pixel_K

    def table(self) -> str:
        """The statistics as text: one line for each class with annotations, and one for all classes if there are
        several.

        Columns: objects; ignored ones; pixels of the smallest, the middle and the largest object; the share that touches another
        object of its class; the share that has a cell on the embedding's map; the share that does and touches no object there
        that it does not touch in the image.
        """
        if not self._measures:
            return 'no object of the classes'
        lines_of = [
            (self.classes[label] if label >= 0 else VOID, np.concatenate(rows), self._ignored[label])
            for label, rows in sorted(self._measures.items())
        ]
        if len(lines_of) > 1:
            _, rows, ignored = zip(*lines_of, strict=True)
            lines_of.append(('all', np.concatenate(rows), sum(ignored)))
        width = max(5, *(len(name) for name, _, _ in lines_of))
        head = f'{"class":<{width}}  objects  ignored  pixels: least   median     most  touching'
        lines = [head + ('  on the map  apart there' if self.grids_of else '')]
        for name, row_K4, ignored in lines_of:
            line = f'{name:<{width}}  {len(row_K4):>7}  {ignored:>7}'
            if len(row_K4):
                pixel_K = row_K4[:, 0]
                touching, on_map, apart = 100 * row_K4[:, 1:].mean(0)
                line += f'  {pixel_K.min():>13}  {np.median(pixel_K):>7.0f}  {pixel_K.max():>7}  {touching:>6.1f} %'
                if self.grids_of:
                    line += f'  {on_map:>8.1f} %  {apart:>9.1f} %'
            lines.append(line)
        return '\n'.join(lines)
