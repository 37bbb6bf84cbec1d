"""Label maps that are cut into tiles come back as the same objects; instances of tiles that differ follow the rules."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from mmseg_instancenet.outputs import InstanceResult, Stitcher, segment_tiled, tile_spans
from mmseg_instancenet.structures import RunLengthMasks, labels_to_rle


def result_of(labels: np.ndarray, scores=None, classes=None) -> InstanceResult:
    """A result with instances 1 .. K; their boxes are not looked at."""
    count = int(labels.max())
    scores = np.full(count, 0.5) if scores is None else np.array(scores)
    classes = np.zeros(count, int) if classes is None else np.array(classes)
    masks = RunLengthMasks(labels_to_rle(labels, count), labels.shape)
    return InstanceResult(labels.astype(np.int32), classes, scores, np.zeros((count, 4)), masks, ('a', 'b'), 'file')


def cut_out(tile: np.ndarray) -> InstanceResult:
    """The objects of a part of a label map, numbered anew in a random order, as a perfect network would find them."""
    numbers, labels = np.unique(np.append(0, tile), return_inverse=True)
    order = np.random.default_rng(len(numbers)).permutation(len(numbers) - 1) + 1
    return result_of(np.append(0, order)[labels[1:].reshape(tile.shape)])


def same_partition(found: np.ndarray, expected: np.ndarray) -> bool:
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs) and ((found > 0) == (expected > 0)).all()


def blobs(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Objects of a few pixels across that touch."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros(size, int)
    points = rng.integers(0, size[0] * size[1], 150)
    seeds.flat[points] = np.arange(1, len(points) + 1)
    distance, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    return np.where(distance < 6, seeds[tuple(nearest)], 0)


def snakes(size: tuple[int, int]) -> np.ndarray:
    """Two objects five pixels wide that wind from the top to the bottom, one in each half of the image, and touch."""
    labels = np.zeros(size, int)
    half = size[1] // 2
    for number, (left, right) in enumerate(((5, half), (half, size[1] - 5)), 1):
        for turn, top in enumerate(range(4, size[0] - 5, 11)):
            labels[top : top + 5, left:right] = number
            column = (left, right - 5)[turn % 2]
            labels[top : min(top + 16, size[0] - 5), column : column + 5] = number
    assert ndimage.label(labels == 1)[1] == ndimage.label(labels == 2)[1] == 1
    return labels


def large(size: tuple[int, int]) -> np.ndarray:
    """A ring larger than a tile, a disk in it and a row of small objects that touch the ring."""
    row, column = np.indices(size)
    radius = np.hypot(row - size[0] / 2, column - size[1] / 2)
    labels = np.where((radius < 95) & (radius > 70), 1, 0)
    labels[radius < 45] = 2
    for place in range(4):
        labels[size[0] // 2 - 3 : size[0] // 2 + 3, 150 + 12 * place : 162 + 12 * place] += 3 + place
    return labels


SCENES = {
    'blobs': blobs(0, (210, 260)),
    'blobs, one row of tiles': blobs(1, (60, 400)),
    'blobs, one column of tiles': blobs(2, (400, 60)),
    'snakes': snakes((210, 260)),
    'larger than a tile': large((220, 230)),
    'one object everywhere': np.ones((200, 200), int),
    'a stripe of each column': np.tile(np.arange(1, 201), (150, 1)),
    'nothing': np.zeros((130, 170), int),
    'one object in the last corner': np.pad(np.ones((3, 3), int), ((140, 0), (160, 0))),
}


@pytest.mark.parametrize('name', SCENES)
@pytest.mark.parametrize('tile, margin', [(64, 8), (96, 16), (100, 34), (1000, 64)])
def test_the_same_objects_as_in_the_whole_image(name, tile, margin):
    expected = SCENES[name]
    calls = []
    result = segment_tiled(cut_out, expected, tile, margin, progress=lambda done, total: calls.append((done, total)))
    assert same_partition(result.labels, expected)
    count = len(np.unique(expected[expected > 0]))
    assert len(result) == count == result.labels.max() and result.labels.dtype == np.int32
    assert result.scores.tolist() == pytest.approx([0.5] * count) and result.class_indices.tolist() == [0] * count
    masks = coco_mask.decode(list(result.masks)) if count else np.zeros((*expected.shape, 0))
    for number, (box, mask) in enumerate(zip(result.boxes.tolist(), masks.transpose(2, 0, 1), strict=True), 1):
        assert np.array_equal(mask, result.labels == number)
        if tile < 1000:
            rows, columns = mask.nonzero()
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    tiles = len(tile_spans(expected.shape[0], tile, margin)) * len(tile_spans(expected.shape[1], tile, margin))
    assert calls == ([(done, tiles) for done in range(1, tiles + 1)] if tiles > 1 else [])


def test_components_of_parts_are_joined():
    """In a tile an object may come in several pieces, each an instance: other tiles hold them together."""
    expected = snakes((210, 260))

    def pieces(tile):
        labels = np.zeros(tile.shape, int)
        for number in (1, 2):
            found, count = ndimage.label(tile == number)
            labels[found > 0] = found[found > 0] + labels.max()
        return result_of(labels)

    assert same_partition(segment_tiled(pieces, expected, 96, 16).labels, expected)


def test_without_a_margin_objects_end_at_the_seams():
    labels = np.ones((40, 100), int)
    result = segment_tiled(cut_out, labels, 64, 0)
    assert np.array_equal(result.labels, np.where(np.arange(100) < 64, 1, 2) * labels)


def test_one_tile_is_unchanged():
    labels = blobs(3, (64, 64))
    expected = cut_out(labels)
    result = segment_tiled(lambda tile: expected, labels, 64, 0)
    assert np.array_equal(result.labels, expected.labels)
    assert result.boxes is expected.boxes and result.masks is expected.masks and result.scores is expected.scores


def test_a_memory_map_holds_the_labels(tmp_path):
    labels = blobs(4, (150, 170))
    target = np.lib.format.open_memmap(tmp_path / 'labels.npy', 'w+', np.int32, labels.shape)
    target[:] = 77
    result = segment_tiled(cut_out, labels, 64, 16, labels_HW=target)
    assert result.labels is target
    target.flush()
    assert same_partition(np.load(tmp_path / 'labels.npy'), labels)


def stitch(first, second, scores=((0.2,) * 9, (0.6,) * 9), classes=((0,) * 9, (1,) * 9)):
    """Two tiles of one row, 96 pixels wide: columns 0 .. 63 and 32 .. 95; the core of the first ends at 48."""
    columns = tile_spans(96, 64, 16)
    assert [tuple(span) for span in columns] == [(0, 64, 0, 48), (32, 96, 48, 96)]
    labels = np.full((1, 96), -5, np.int32)
    stitcher = Stitcher(labels, tile_spans(1, 64, 16), columns)
    for place, (intervals, span) in enumerate(zip((first, second), columns, strict=True)):
        tile = np.zeros((1, 96), int)
        for number, (start, stop) in enumerate(intervals, 1):
            tile[:, start:stop] = number
        tile = tile[:, span.window]
        count = int(tile.max())
        stitcher.add(0, place, result_of(tile, scores[place][:count], classes[place][:count]))
    instances = stitcher.finish()
    changes = np.flatnonzero(np.diff(labels[0], prepend=0, append=0))
    runs = [
        (int(start), int(stop), int(labels[0, start]))
        for start, stop in zip(changes[:-1], changes[1:], strict=True)
        if labels[0, start]
    ]
    return runs, instances.score_K.tolist(), instances.class_K.tolist()


def test_a_whole_object_comes_from_the_tile_that_has_it_farthest_from_its_sides():
    # 12 pixels from the right side of the first window, 9 from the left side of the second.
    runs, scores, classes = stitch([(40, 52)], [(41, 54)])
    assert (runs, scores, classes) == ([(40, 52, 1)], pytest.approx([0.2]), [0])
    # 8 from the first's side, 10 from the second's: nothing is left of the first one's pixels.
    runs, scores, classes = stitch([(40, 56)], [(42, 57)])
    assert (runs, scores, classes) == ([(42, 57, 1)], pytest.approx([0.6]), [1])


def test_an_object_that_is_cut_off_in_both_tiles_is_made_of_both_cores():
    runs, scores, classes = stitch([(20, 64)], [(32, 78)])
    assert runs == [(20, 78, 1)]
    assert scores == pytest.approx([(28 * 0.2 + 30 * 0.6) / 58]) and classes == [1]
    assert stitch([(10, 64)], [(32, 78)])[2] == [0]  # 38 pixels of the first class, 30 of the second


def test_a_whole_object_is_preferred_to_one_that_is_cut_off():
    runs, scores, _ = stitch([(20, 60)], [(32, 61)])
    assert (runs, scores) == ([(20, 60, 1)], pytest.approx([0.2]))
    # Unless that one has more of it: the first tile ends where the second goes on.
    assert stitch([(30, 62)], [(32, 90)])[0] == [(30, 90, 1)]


def test_an_instance_that_one_tile_alone_has_found():
    assert stitch([(42, 53)], [])[0] == [
        (42, 53, 1)
    ]  # its middle lies in the core of its tile: whole, beyond the seam too
    assert stitch([(44, 55)], [])[0] == []  # its middle lies in the core of the other tile
    assert stitch([], [(44, 55)])[0] == [(44, 55, 1)]
    assert stitch([(40, 64)], [])[0] == [(40, 48, 1)]  # cut off


def test_touching_objects_stay_apart():
    assert stitch([(36, 48), (48, 58)], [(36, 48), (48, 58)])[0] == [(36, 48, 1), (48, 58, 2)]
    assert stitch([(0, 48), (48, 64)], [(32, 48), (48, 96)])[0] == [(0, 48, 1), (48, 96, 2)]


def test_a_pixel_of_two_objects_belongs_to_that_of_the_core():
    # One object of the first tile over a third of an object of the second, which is none of the two.
    assert stitch([(38, 54)], [(50, 60)])[0] == [(38, 50, 1), (50, 60, 2)]
    # Two objects of the second tile in one of the first: the larger is the same, and the other has its own core.
    assert stitch([(36, 58)], [(36, 50), (50, 58)])[0] == [(36, 50, 1), (50, 58, 2)]


def test_a_result_of_another_size_is_refused():
    image = np.zeros((64, 100), np.uint8)
    with pytest.raises(
        ValueError, match=r'expected the result of a tile at its own size \(64, 64\), got .* \(32, 32\)'
    ):
        segment_tiled(lambda tile: result_of(np.zeros((32, 32), int)), image, 64, 16)
    with pytest.raises(ValueError, match=r'expected a label map \(64, 100\) int32, got \(64, 100\) int64'):
        segment_tiled(cut_out, image, 64, 16, labels_HW=np.zeros((64, 100), np.int64))
