"""Joins the instances of overlapping tiles to those of the whole image, tile after tile.

Shapes: K instances of the whole image or of a tile, M instances of all tiles ("parts"; part 0 is the background), R S rows and
columns of a tile's window.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from ..structures import MaskCrop, covering_groups, overlapping_groups, split_components
from .instance_result import InstanceResult
from .tile_layout import TileSpan

_WHOLE_SHARE = 0.9
"""A part that has less than this of the pixels of the object's largest part is not the whole object: another tile has found more
of it."""


class StitchedInstances(NamedTuple):
    """Score (K,) float32 and class (K,) int64 of the instances 1 .. K of the label map."""

    score_K: np.ndarray
    class_K: np.ndarray


class _SeamPart(NamedTuple):
    """An instance of a tile that reaches into the pixels that the tile shares with another one.

    tile: (row, column) of it.
    area: pixels.
    clearance: pixels between its bounding box and the nearest side of the window that another tile continues; 0 = cut off there.
    in_core: whether the middle of its bounding box lies in the core of the tile.
    reaches_below: whether it reaches into pixels that the next row of tiles has too.
    outside: its pixels outside the core, of an instance that is not cut off and has any.
    """

    tile: tuple[int, int]
    area: int
    clearance: int
    in_core: bool
    reaches_below: bool
    outside: MaskCrop | None


class Stitcher:
    """Writes the label map of a whole image from the instances of its tiles, which come row by row from the left to the right.

    - Two instances of neighbouring tiles are one object if their IoU is above 1/2 in the pixels that both tiles share
      (:func:`overlapping_groups`). Two are also one object if one of them is cut off by the side of its window, and more than
      half of a connected piece of it at that side lies in the other one: an arm of a bent object. Objects are joined through
      any number of tiles in this way, so that one may be larger than a tile.
    - An object that some tile has whole is taken from that tile, the one in which it lies farthest from the sides of the window
      where the image goes on. It is not taken whole if another tile has found more of it, by a ninth.
    - Any other object consists of its parts in the cores of the tiles.
    - An instance that only one tile has found is taken if it is cut off, as its part in the core of the tile, or if the middle of
      its bounding box lies in the core. It is left out if its middle lies in the core of another tile, which has not found it.
    - Where two objects claim a pixel, it belongs to that of the tile whose core it lies in.
    - The score of an object is the mean of the scores of its parts, weighted by their pixels in the result; its class is that of
      most of these pixels.

    Peak memory besides the label map: the labels of two tiles, those of the shared pixels along one row of tiles (4 bytes each),
    the masks of instances at the seams of two rows, and a few numbers for each part.

    Args:
        labels_HW: (H, W) int32, the label map to be written; in memory or a memory map. Every pixel is written.
        rows, columns: tiles along both axes, of :func:`tile_spans`.

    Example:
        >>> from mmseg_instancenet.outputs.tile_layout import tile_spans
        >>> from mmseg_instancenet.structures import RunLengthMasks
        >>> image = np.zeros((1, 96), np.int32)
        >>> image[:, 20:40], image[:, 70:80] = 1, 2
        >>> stitched, rows, columns = np.zeros_like(image), tile_spans(1, 64, 16), tile_spans(96, 64, 16)
        >>> stitcher = Stitcher(stitched, rows, columns)
        >>> for place, span in enumerate(columns):
        ...     labels = image[:, span.window].copy()
        ...     classes, scores = np.zeros(2, np.int64), np.ones(2, np.float32)
        ...     part = InstanceResult(labels, classes, scores, np.zeros((2, 4)), RunLengthMasks(), ('nucleus',))
        ...     stitcher.add(0, place, part)
        >>> stitcher.finish().score_K.tolist(), bool((stitched == image).all())
        ([1.0, 1.0], True)
    """

    def __init__(self, labels_HW: np.ndarray, rows: Sequence[TileSpan], columns: Sequence[TileSpan]) -> None:
        size = (rows[-1].stop, columns[-1].stop)
        if labels_HW.shape != size or labels_HW.dtype != np.int32:
            raise ValueError(f'expected a label map {size} int32, got {labels_HW.shape} {labels_HW.dtype}')
        self._labels_HW, self._rows, self._columns = labels_HW, rows, columns
        self._same = _SameObjects()
        self._scores: list[np.ndarray] = [np.zeros(1, np.float32)]
        self._classes: list[np.ndarray] = [np.zeros(1, np.int64)]
        self._dropped: list[int] = []
        self._open: dict[int, _SeamPart] = {}
        self._below: dict[int, np.ndarray] = {}
        self._right = np.zeros((0, 0), np.int32)

    def add(self, row: int, column: int, result: InstanceResult) -> None:
        """Takes the instances of the next tile, in pixels of its window.

        Raises:
            ValueError: if the result has another size than the window.
        """
        rows, columns = self._rows[row], self._columns[column]
        size = (rows.stop - rows.start, columns.stop - columns.start)
        if result.labels.shape != size:
            raise ValueError(
                f'expected the result of a tile at its own size {size}, got a label map {result.labels.shape}: the function '
                'that runs a tile must not resize its result'
            )
        first = len(self._same)
        self._same.add(len(result))
        self._scores.append(result.scores.astype(np.float32))
        self._classes.append(result.class_indices.astype(np.int64))
        part_RS = np.where(result.labels > 0, result.labels + np.int32(first - 1), 0).astype(np.int32)

        if row:
            above = self._below[column]
            self._join(above, part_RS[: len(above)], axis=0)
        if column:
            self._join(self._right, part_RS[:, : self._right.shape[1]], axis=1)
        self._labels_HW[rows.core, columns.core] = part_RS[_inside(rows), _inside(columns)]
        self._list_seam_parts(row, column, result.labels, first)

        if row + 1 < len(self._rows):
            self._below[column] = part_RS[self._rows[row + 1].start - rows.start :].copy()
        if column + 1 < len(self._columns):
            self._right = part_RS[:, self._columns[column + 1].start - columns.start :].copy()
        else:
            self._settle(is_last_row=row + 1 == len(self._rows))

    def finish(self, block: int = 1 << 20) -> StitchedInstances:
        """Numbers the objects 1 .. K in the label map, after the last tile.

        Args:
            block: the map is walked through twice in blocks of rows of about this many pixels.
        """
        root_M = self._same.roots()
        root_M[self._dropped] = 0
        pixels_M = np.zeros(len(root_M), np.int64)
        height, width = self._labels_HW.shape
        step = max(1, block // width)
        blocks = [slice(top, top + step) for top in range(0, height, step)]
        for rows in blocks:
            pixels_M += np.bincount(self._labels_HW[rows].reshape(-1), minlength=len(root_M))
        pixels_M[root_M == 0] = 0
        pixels_of_root_M = np.bincount(root_M, pixels_M, len(root_M))
        number_M = np.where(pixels_of_root_M > 0, np.cumsum(pixels_of_root_M > 0), 0).astype(np.int32)[root_M]
        for rows in blocks:
            self._labels_HW[rows] = number_M[self._labels_HW[rows]]

        count = int(number_M.max())
        score_M, class_M = np.concatenate(self._scores), np.concatenate(self._classes)
        weight_K = np.bincount(number_M, pixels_M, count + 1)[1:]
        score_K = np.bincount(number_M, pixels_M * score_M, count + 1)[1:] / weight_K
        pixels_KC = np.zeros((count + 1, int(class_M.max()) + 1))
        np.add.at(pixels_KC, (number_M, class_M), pixels_M)
        return StitchedInstances(score_K.astype(np.float32), pixels_KC[1:].argmax(1))

    def _join(self, before_RS: np.ndarray, part_RS: np.ndarray, axis: int) -> None:
        """Joins the parts of a tile with those of the tile before it along an axis, where both have the same pixels."""
        if part_RS.size == 0:  # tiles without a margin
            return
        before, part = torch.from_numpy(before_RS).long(), torch.from_numpy(part_RS).long()
        overlaps = overlapping_groups(before, part)
        pairs = [*zip(overlaps.reference_Q.tolist(), overlaps.label_Q.tolist(), strict=True)]
        for whole, cut, line in ((before, part, 0), (part, before, -1)):
            arms = split_components(cut)
            at_side = set(arms.select(axis, line).unique().tolist())
            part_of_arm = torch.zeros(int(arms.max()) + 1, dtype=torch.long)
            part_of_arm[arms.reshape(-1)] = cut.reshape(-1)
            covers = covering_groups(whole, arms)
            for arm, other in zip(covers.label_Q.tolist(), covers.reference_Q.tolist(), strict=True):
                if arm in at_side:
                    pairs.append((int(part_of_arm[arm]), other))
        for first, second in pairs:
            self._same.join(first, second)

    def _list_seam_parts(self, row: int, column: int, labels_RS: np.ndarray, first: int) -> None:
        """Lists the instances of a tile that reach into pixels that another tile has too."""
        rows, columns = self._rows[row], self._columns[column]
        above, below = _shared(self._rows, row)
        before, after = _shared(self._columns, column)
        area_K = np.bincount(labels_RS.reshape(-1))
        for place, box in enumerate(ndimage.find_objects(labels_RS)):
            if box is None:  # other instances cover it
                continue
            (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
            sides = (
                (top, above),
                (labels_RS.shape[0] - bottom, below),
                (left, before),
                (labels_RS.shape[1] - right, after),
            )
            distances = [distance for distance, shared in sides if shared]
            if not any(distance < shared for distance, shared in sides):
                continue
            mask_hw = labels_RS[box] == place + 1
            mask_hw[_inside(rows, top), _inside(columns, left)] = False
            self._open[first + place] = _SeamPart(
                tile=(row, column),
                area=int(area_K[place + 1]),
                clearance=min(distances),
                in_core=_has(rows, (top + bottom) / 2) and _has(columns, (left + right) / 2),
                reaches_below=labels_RS.shape[0] - bottom < below,
                outside=MaskCrop(rows.start + top, columns.start + left, mask_hw)
                if min(distances) and mask_hw.any()
                else None,
            )

    def _settle(self, is_last_row: bool) -> None:
        """Decides, after a row of tiles, on the seam parts of objects to which no later tile can add."""
        groups: dict[int, list[int]] = {}
        for part in self._open:
            groups.setdefault(self._same.find(part), []).append(part)
        chosen = []
        for parts in groups.values():
            if not is_last_row and any(self._open[part].reaches_below for part in parts):
                continue
            settled = {part: self._open.pop(part) for part in parts}
            whole = _whole_part(settled)
            if whole is not None:
                self._dropped += [part for part in parts if part != whole]
                chosen.append((whole, settled[whole].outside))
            elif len(parts) == 1 and settled[parts[0]].clearance:
                self._dropped += parts
        is_free_M = np.zeros(len(self._same), bool)
        is_free_M[[0, *self._dropped]] = True
        for whole, outside in chosen:
            if outside is not None:
                region_hw = self._labels_HW[outside.box]
                region_hw[outside.mask_hw & is_free_M[region_hw]] = whole


def _whole_part(parts: dict[int, _SeamPart]) -> int | None:
    """The part that stands for the whole object, if there is one among the parts of an object."""
    # Two instances of one tile that others have joined: neither is the whole.
    if len({seam.tile for seam in parts.values()}) < len(parts):
        return None
    largest = max(seam.area for seam in parts.values())
    candidates = [
        part
        for part, seam in parts.items()
        if seam.clearance and (seam.in_core or len(parts) > 1) and seam.area >= _WHOLE_SHARE * largest
    ]
    return max(candidates, key=lambda part: parts[part].clearance, default=None)


def _shared(spans: Sequence[TileSpan], place: int) -> tuple[int, int]:
    """How many pixels a tile has in common with the one before it and the one after it, 0 at the ends."""
    before = spans[place - 1].stop - spans[place].start if place else 0
    after = spans[place].stop - spans[place + 1].start if place + 1 < len(spans) else 0
    return before, after


def _inside(span: TileSpan, start: int = 0) -> slice:
    """The core of a tile in pixels of its window, or of the part of the window from ``start`` on."""
    first = span.start + start
    return slice(max(span.core_start - first, 0), max(span.core_stop - first, 0))


def _has(span: TileSpan, position: float) -> bool:
    """Whether a position in the window lies in the core of the tile."""
    return span.core_start <= span.start + position < span.core_stop


class _SameObjects:
    """Which parts are one object (union-find): the root of an object is its first part. Part 0 is the background."""

    def __init__(self) -> None:
        self._parent = [0]

    def __len__(self) -> int:
        return len(self._parent)

    def add(self, count: int) -> None:
        """Adds parts, each an object of its own."""
        self._parent += range(len(self), len(self) + count)

    def find(self, part: int) -> int:
        """The root of a part."""
        while self._parent[part] != part:
            self._parent[part] = part = self._parent[self._parent[part]]
        return part

    def join(self, first: int, second: int) -> None:
        """Makes the objects of two parts one."""
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[high] = low

    def roots(self) -> np.ndarray:
        """The root of every part, (M,) int64."""
        return np.array([self.find(part) for part in range(len(self))])
