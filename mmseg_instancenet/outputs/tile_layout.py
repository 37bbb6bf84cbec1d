"""How a large image is divided into tiles that overlap."""

from typing import NamedTuple

CELL_STEP = 32
"""Tiles begin at multiples of this many pixels. A network that halves an image up to five times then has the same cells in a tile
as in the whole image; cells in other places would give slightly other objects."""


class TileSpan(NamedTuple):
    """A tile along one axis, in pixels of the image.

    Attributes:
        start, stop: of the window that the network gets.
        core_start, core_stop: of the part that no other tile has; the cores of all tiles cover the axis once.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int

    @property
    def window(self) -> slice:
        """The pixels that the network gets."""
        return slice(self.start, self.stop)

    @property
    def core(self) -> slice:
        """The pixels that no other tile has."""
        return slice(self.core_start, self.core_stop)


def tile_spans(length: int, tile: int, margin: int) -> list[TileSpan]:
    """Divides an axis of an image into tiles.

    Each tile has at least ``margin`` pixels of context on both sides of its core, except at the ends of the image, and no tile
    is longer than ``tile``. The last one may be shorter. An axis of up to ``tile`` pixels is one tile.

    Args:
        length: of the axis, at least 1.
        tile: greatest length of a tile, margins included.
        margin: pixels of context on each side, at least 0. Neighbouring tiles share at least twice as many.

    Raises:
        ValueError: if the tile has no room for its margins and a core of 32 pixels.

    Example:
        >>> [tuple(span) for span in tile_spans(200, tile=96, margin=16)]
        [(0, 96, 0, 80), (64, 160, 80, 144), (128, 200, 144, 200)]
    """
    if length < 1 or margin < 0:
        raise ValueError(
            f'expected a length of at least 1 and a margin of at least 0 pixels, got {length} and {margin}'
        )
    step = (tile - 2 * margin) // CELL_STEP * CELL_STEP
    if step < CELL_STEP:
        raise ValueError(
            f'expected a tile of at least 2 x margin + {CELL_STEP} = {2 * margin + CELL_STEP} pixels, got {tile} with a '
            f'margin of {margin}: enlarge the tile, or lower the margin'
        )
    starts = [0]
    while starts[-1] + tile < length:
        starts.append(starts[-1] + step)
    half = (tile - step) // 2
    cores = [0, *(start + half for start in starts[1:]), length]
    return [
        TileSpan(start, min(start + tile, length), core_start, core_stop)
        for start, core_start, core_stop in zip(starts, cores, cores[1:], strict=False)
    ]
