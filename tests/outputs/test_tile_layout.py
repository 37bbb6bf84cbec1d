"""The cores of tiles cover an axis once, with context around each of them."""

import numpy as np
import pytest

from mmseg_instancenet.outputs import tile_spans


def test_every_size():
    counts = set()
    for tile, margin in ((64, 0), (64, 16), (100, 20), (96, 5), (160, 64)):
        for length in range(1, 700):
            spans = tile_spans(length, tile, margin)
            counts.add(len(spans))
            covered = np.zeros(length, int)
            for span in spans:
                covered[span.core] += 1
                assert 0 <= span.start <= span.core_start < span.core_stop <= span.stop <= length
                assert span.stop - span.start <= tile and span.start % 32 == 0
                # The network gets the whole margin, or the image ends.
                assert span.core_start - span.start >= margin or span.start == 0
                assert span.stop - span.core_stop >= margin or span.stop == length
            assert (covered == 1).all()
            assert (len(spans) == 1) == (length <= tile)
    assert len(counts) > 9


@pytest.mark.parametrize(
    'arguments, message',
    [
        ((100, 159, 64), 'expected a tile of at least 2 x margin .* = 160 pixels, got 159 with a margin of 64'),
        ((0, 64, 0), 'expected a length of at least 1 and a margin of at least 0 pixels, got 0 and 0'),
        ((9, 64, -1), 'got 9 and -1'),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tile_spans(*arguments)
