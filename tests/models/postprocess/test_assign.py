"""Assignment of the image's pixels to the groups of the head's map, against loops over the pixels."""

import math

import numpy as np
import pytest
import torch
from references.peak_memory import peak_memory
from scipy import ndimage

from mmseg_instancenet.models.groupers import CenterGrouping
from mmseg_instancenet.models.postprocess import NetworkPass
from mmseg_instancenet.models.postprocess.assign import _nearest_cell, assign_pixels
from mmseg_instancenet.structures import MapPlacement, group_means, group_statistics


def label_image(x_Dhw, labels_hw, region_hw, region_HW, placement, norm=2.0):
    """Groups of the part of the image that the map covers, and its rows and columns."""
    network_pass = NetworkPass(x_Dhw[:0], x_Dhw, placement)
    rows, columns = (network_pass.coverage(axis) for axis in (0, 1))
    statistics = group_statistics(x_Dhw, labels_hw, region_hw, norm)
    region_RS = region_HW[rows.pixels, columns.pixels]
    return assign_pixels(x_Dhw, labels_hw, region_hw, statistics, region_RS, rows, columns), rows.pixels, columns.pixels


TIE = 1e-4
"""Distances that differ by less are equal to float32."""


def covered(axis: int, length: int, placement: MapPlacement) -> dict[int, tuple[float, float]]:
    """Pixels that the map covers along an axis: where each lies on the map, and where its embedding is read.

    Nothing is read beyond the centre of the last cell that lies inside the image.
    """
    scale = placement.input_size[axis] / length
    inside = sum((cell + 0.5) * scale + placement.origin[axis] < placement.resized_size[axis] for cell in range(length))
    result = {}
    for pixel in range(placement.image_size[axis]):
        position = (pixel + 0.5) * placement.resized_size[axis] / placement.image_size[axis]
        if placement.flipped[axis]:
            position = placement.resized_size[axis] - position
        position -= placement.origin[axis]
        if 0 <= position <= placement.input_size[axis]:
            result[pixel] = position / scale, min(position / scale, max(inside, 1) - 0.5)
    return result


def between(position: float, length: int) -> list[tuple[int, float]]:
    """The cells around a position and their shares; the border is continued outside."""
    lower = math.floor(position - 0.5)
    offset = position - 0.5 - lower
    if offset == 0:
        return [(lower, 1.0)]
    assert 1e-6 < offset < 1 - 1e-6, 'choose sizes for which no pixel lies nearly on the centre of a cell'
    return [(min(max(lower, 0), length - 1), 1 - offset), (min(max(lower + 1, 0), length - 1), offset)]


def allowed_labels(x_Dhw, labels_hw, region_hw, region_HW, placement) -> dict[tuple[int, int], set[int]]:
    """For each covered pixel the labels that it may get: more than one only where distances are equal."""
    _, height, width = x_Dhw.shape
    center = {}
    for label in range(1, labels_hw.max() + 1):
        center[label] = x_Dhw[:, labels_hw == label].mean(1)
    result = {}
    for row, (true_v, v) in covered(0, height, placement).items():
        for column, (true_u, u) in covered(1, width, placement).items():
            region = region_HW[row, column]
            if region == 0:
                result[row, column] = {0}
                continue
            sum_D, weight, near = 0, 0, set()
            for cell_row, share_v in between(v, height):
                for cell_column, share_u in between(u, width):
                    label = int(labels_hw[cell_row, cell_column])
                    if label > 0 and region_hw[cell_row, cell_column] == region:
                        near.add(label)
                        sum_D = sum_D + share_v * share_u * x_Dhw[:, cell_row, cell_column]
                        weight += share_v * share_u
            if near:
                distance = {label: np.linalg.norm(sum_D / weight - center[label]) for label in near}
            else:
                # Either position: see test_nearest_cell_of_a_pixel_on_the_border.
                result[row, column] = set()
                for position in ((true_v, true_u), (v, u)):
                    gap = {}
                    for cell in np.argwhere((region_hw == region) & (labels_hw > 0)):
                        label = int(labels_hw[tuple(cell)])
                        gap[label] = min(math.dist(position, cell + 0.5), gap.get(label, math.inf))
                    best = min(gap.values(), default=0)
                    result[row, column] |= {label for label, d in gap.items() if d <= best + TIE} or {0}
                continue
            best = min(distance.values())
            result[row, column] = {label for label, d in distance.items() if d <= best + TIE}
    return result


def random_scene(rng: np.random.Generator, size: tuple[int, int], image_size: tuple[int, int], dims: int = 3):
    """Regions 1 (groups 1 to 3) and 2 (groups 4, 5) on the map; on the image also region 3, which has no group."""
    region_hw = rng.choice([0, 1, 2], size, p=[0.4, 0.4, 0.2])
    while True:
        labels_hw = np.where(region_hw == 1, rng.integers(0, 4, size), np.where(rng.random(size) < 0.5, 4, 5))
        labels_hw[(region_hw == 0) | (rng.random(size) < 0.1)] = 0
        if set(labels_hw.ravel().tolist()) == {0, 1, 2, 3, 4, 5}:
            break
        region_hw = rng.choice([0, 1, 2], size, p=[0.4, 0.4, 0.2])
    x_Dhw = rng.normal(size=(dims, *size)).astype(np.float32)
    region_HW = rng.choice([0, 1, 2, 3], image_size, p=[0.2, 0.4, 0.3, 0.1])
    return x_Dhw, labels_hw, region_hw, region_HW


PLACEMENTS = {
    'quarter': MapPlacement((40, 56), (40, 56), (40, 56)),
    'enlarged input': MapPlacement((20, 24), (40, 48), (40, 48)),
    'padded': MapPlacement((37, 45), (33, 40), (48, 64)),
    'padded below only': MapPlacement((24, 40), (24, 40), (40, 40)),
    'flipped horizontally': MapPlacement((40, 56), (40, 56), (40, 56), flipped=(False, True)),
    'flipped vertically, padded': MapPlacement((37, 45), (33, 40), (48, 64), flipped=(True, False)),
    'flipped both ways, padded': MapPlacement((37, 45), (33, 40), (48, 64), flipped=(True, True)),
    'window in the middle': MapPlacement((60, 70), (60, 70), (32, 40), origin=(13, 9)),
    'window that reaches into the padding': MapPlacement((60, 70), (45, 51), (32, 40), origin=(20, 24)),
    'flipped window': MapPlacement((60, 70), (60, 70), (32, 40), origin=(13, 9), flipped=(True, True)),
}


@pytest.mark.parametrize('placement', PLACEMENTS.values(), ids=PLACEMENTS.keys())
def test_random_maps_against_loops(placement, device):
    rng = np.random.default_rng(0)
    grouped = 0
    for size in ((10, 14), (5, 7)):
        x_Dhw, labels_hw, region_hw, region_HW = random_scene(rng, size, placement.image_size)
        expected = allowed_labels(x_Dhw, labels_hw, region_hw, region_HW, placement)
        found, rows, columns = label_image(
            *(torch.from_numpy(array).to(device) for array in (x_Dhw, labels_hw, region_hw, region_HW)), placement
        )
        found = found.cpu()
        assert {(r, c) for r in range(rows.start, rows.stop) for c in range(columns.start, columns.stop)} == set(
            expected
        )
        assert found.dtype == torch.long
        assert found.shape == (rows.stop - rows.start, columns.stop - columns.start)
        for (row, column), allowed in expected.items():
            assert int(found[row - rows.start, column - columns.start]) in allowed, f'pixel {row}, {column}'
        # The loops leave little room: most pixels have one answer, ties occur where positions are clamped.
        assert np.mean([len(allowed) == 1 for allowed in expected.values()]) > 0.9
        grouped += sum(allowed != {0} for allowed in expected.values())
    assert grouped > 50


@pytest.mark.parametrize('flipped', [(False, True), (True, False), (True, True)])
def test_a_flipped_map_labels_the_image_as_the_map_itself_does(flipped):
    rng = np.random.default_rng(3)
    embeddings = torch.from_numpy(rng.normal(size=(3, 9, 12)))
    labels_hw = torch.from_numpy(rng.integers(1, 6, (9, 12)))
    region_hw, region_HW = torch.ones_like(labels_hw), torch.ones(36, 48, dtype=torch.long)
    placement = MapPlacement((36, 48), (36, 48), (36, 48))
    plain, *_ = label_image(embeddings, labels_hw, region_hw, region_HW, placement)
    axes = [axis - 2 for axis in (0, 1) if flipped[axis]]
    turned = [array.flip(axes) for array in (embeddings, labels_hw, region_hw)]
    again, *_ = label_image(*turned, region_HW, placement._replace(flipped=flipped))
    np.testing.assert_array_equal(plain.numpy(), again.numpy())
    assert set(plain.unique().tolist()) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize('flip', [False, True], ids=['left', 'right'])
def test_nearest_cell_of_a_pixel_on_the_border(flip):
    """The pixel lies at (0.375, 0.125) on the map: 1.19 from the centre of group 1's cell, 1.38 from group 2's."""
    labels_hw, region_HW = torch.zeros(4, 4, dtype=torch.long), torch.zeros(16, 16, dtype=torch.long)
    labels_hw[1, 0], labels_hw[0, 1], region_HW[1, 0] = 1, 2, 1
    if flip:
        labels_hw, region_HW = labels_hw.flip(1), region_HW.flip(1)
    placement = MapPlacement((16, 16), (16, 16), (16, 16))
    labels, *_ = label_image(torch.zeros(2, 4, 4), labels_hw, (labels_hw > 0).long(), region_HW, placement)
    np.testing.assert_array_equal(labels.numpy(), region_HW.numpy())


def test_embeddings_of_cells_without_a_group_do_not_matter():
    """Neither the background's nor those of groups that were dropped, however large."""
    x_Dhw, *others = (torch.from_numpy(array) for array in random_scene(np.random.default_rng(5), (9, 12), (36, 48)))
    placement = MapPlacement((36, 48), (36, 48), (36, 48))
    without_group = others[0] == 0
    assert without_group.sum() > 20
    changed = torch.where(without_group, 1000.0, x_Dhw)
    before, after = (label_image(x, *others, placement)[0] for x in (x_Dhw, changed))
    np.testing.assert_array_equal(before.numpy(), after.numpy())
    assert before.max() == 5


def test_pixel_on_the_centre_of_a_cell_joins_the_group_of_this_cell():
    """Its other neighbours have no weight, even if the mean of one of their groups is nearer."""
    x_Dhw = torch.tensor([[[0.0, 10.0, 10.0]]])  # the middle cell is like group 2, but belongs to group 1 (mean 5)
    labels_hw = torch.tensor([[1, 1, 2]])
    ones = torch.ones_like(labels_hw)
    labels, *_ = label_image(x_Dhw, labels_hw, ones, ones, MapPlacement((1, 3), (1, 3), (1, 3)))
    assert labels.tolist() == [[1, 1, 2]]


def test_region_without_a_group_stays_without():
    region_HW = torch.tensor([[1, 1, 2, 2], [3, 3, 0, 2]])
    labels, rows, columns = label_image(
        torch.zeros(2, 1, 2),
        torch.tensor([[1, 0]]),
        torch.tensor([[1, 2]]),
        region_HW,
        MapPlacement((2, 4), (2, 4), (2, 4)),
    )
    assert (rows, columns) == (slice(0, 2), slice(0, 4))
    assert labels.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]


def test_map_without_any_group(device):
    labels, *_ = label_image(
        torch.zeros(2, 2, 2, device=device),
        torch.zeros(2, 2, dtype=torch.long, device=device),
        torch.ones(2, 2, dtype=torch.long, device=device),
        torch.ones(8, 8, dtype=torch.long, device=device),
        MapPlacement((8, 8), (8, 8), (8, 8)),
    )
    assert labels.shape == (8, 8) and not labels.any()


def test_sliver_joins_the_nearest_cell_of_its_region():
    """A class that the map misses where it is thin: its pixels join its only group, the nearer of two if there are."""
    labels_hw, region_hw = torch.zeros(1, 10, dtype=torch.long), torch.zeros(1, 10, dtype=torch.long)
    labels_hw[0, [0, 9]] = torch.tensor([1, 2])
    region_hw[0, [0, 9]] = 5
    region_HW = torch.full((4, 40), 5)
    labels, *_ = label_image(torch.zeros(3, 1, 10), labels_hw, region_hw, region_HW, MapPlacement(*[(4, 40)] * 3))
    assert labels.tolist() == [[1] * 20 + [2] * 20] * 4


def test_pixels_join_by_the_norm_of_the_grouping():
    """Between two cells, at L1 distances 4.0 and 4.4 from their groups' means; by L2 the second is nearer."""
    first, second, between = [0.0, 0.0], [6.2, 2.2], [4.0, 0.0]
    # The two cells beside the pixel both have the embedding between; the rest of their groups makes the means.
    cells = [*[first] * 400, between, between, *[second] * 400]
    x_Dhw = torch.tensor(cells).T[:, None, :]
    labels_hw = torch.tensor([[1] * 401 + [2] * 401])
    ones, placement = torch.ones_like(labels_hw), MapPlacement((1, 802 * 4), (1, 802 * 4), (1, 802 * 4))
    ones_HW = torch.ones(1, 802 * 4, dtype=torch.long)
    by_norm = {norm: label_image(x_Dhw, labels_hw, ones, ones_HW, placement, norm)[0][0] for norm in (1, 2)}
    middle = slice(401 * 4 - 1, 401 * 4 + 1)  # the last pixel over the first cell and the first over the second
    assert by_norm[1][middle].tolist() == [1, 1]
    assert by_norm[2][middle].tolist() == [2, 2]


def test_pixels_are_joined_block_by_block(monkeypatch):
    rng = np.random.default_rng(3)
    placement = PLACEMENTS['padded']
    scene = [torch.from_numpy(array) for array in random_scene(rng, (10, 14), placement.image_size)]
    expected, *_ = label_image(*scene, placement)
    monkeypatch.setattr('mmseg_instancenet.models.postprocess.assign._BLOCK', 40)
    assert torch.equal(label_image(*scene, placement)[0], expected)


def test_memory_does_not_grow_with_the_embedding():
    """Twelve values for each pixel and blocks; three copies of pixels x D would be 201 MB."""
    x_Dhw = torch.randn(64, 64, 64)
    labels_hw = torch.arange(4096).view(64, 64) // 1024 + 1
    ones, ones_HW = torch.ones_like(labels_hw), torch.ones(512, 512, dtype=torch.long)
    placement = MapPlacement((512, 512), (512, 512), (512, 512))
    label_image(x_Dhw, labels_hw, ones, ones_HW, placement)
    assert peak_memory(lambda: label_image(x_Dhw, labels_hw, ones, ones_HW, placement)) < 100 * 2**20


def test_group_means():
    rng = np.random.default_rng(4)
    x_Dhw, labels_hw = rng.normal(size=(4, 6, 5)), rng.integers(0, 4, (6, 5))
    means = group_means(torch.from_numpy(x_Dhw), torch.from_numpy(labels_hw), 4).numpy()
    assert (means[3] == 0).all()  # no pixel has label 4
    for label in range(1, 4):
        np.testing.assert_allclose(means[label - 1], x_Dhw[:, labels_hw == label].mean(1), atol=1e-12)


# Two objects that touch: the interpolated embeddings along their border belong to neither.


SIDE = 64
EMBEDDINGS = np.array([[0, 0], [0, 0], [5, 0], [2.5, 0.0]])
"""Of no object, two touching squares, and an object elsewhere that lies just between them."""


def touching_squares(third: bool) -> np.ndarray:
    objects = np.zeros((SIDE, SIDE), np.int64)
    objects[15:49, 9:31] = 1
    objects[15:49, 31:54] = 2
    if third:
        objects[53:62, 2:14] = 3
    return objects


def at_cells(image: np.ndarray) -> np.ndarray:
    return image[2::4, 2::4]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize('third', [False, True])
def test_touching_squares_are_two_groups_without_a_group_between(third):
    objects = touching_squares(third)
    region_HW = torch.from_numpy((objects > 0).astype(np.int64))
    region_hw = torch.from_numpy((at_cells(objects) > 0).astype(np.int64))
    x_Dhw = torch.from_numpy(EMBEDDINGS[at_cells(objects)]).permute(2, 0, 1).float()
    labels_hw = CenterGrouping(threshold=1.2)(x_Dhw, region_hw)
    found = label_image(x_Dhw, labels_hw, region_hw, region_HW, MapPlacement(*[(SIDE, SIDE)] * 3))[0].numpy()

    count = 3 if third else 2
    assert set(found[objects > 0].tolist()) == set(range(1, count + 1))
    assert (found[objects == 0] == 0).all()
    for index in range(1, count + 1):
        own = objects == index
        label = np.bincount(found[own]).argmax()
        assert iou(found == label, own) > 0.9
        _, pieces = ndimage.label(found == label, np.ones((3, 3)))
        assert pieces == 1
    squares = (objects == 1) | (objects == 2)
    assert len(set(found[squares].tolist())) == 2, 'a group of its own along the border'


def test_the_border_would_join_the_third_object_without_the_restriction_to_near_cells():
    """Shows that the test above can fail: on the border the nearest of all centres is the third object's."""
    objects = touching_squares(True)
    x_Dhw = torch.from_numpy(EMBEDDINGS[at_cells(objects)]).permute(2, 0, 1).float()
    x_DHW = torch.nn.functional.interpolate(x_Dhw[None], size=(SIDE, SIDE), mode='bilinear')[0].numpy()
    distance = [np.linalg.norm(x_DHW - EMBEDDINGS[index][:, None, None], axis=0) for index in (1, 2, 3)]
    nearest = np.argmin(distance, axis=0) + 1
    assert ((nearest == 3) & (objects > 0) & (objects < 3)).sum() > 20


def test_padded_image_ignores_what_lies_under_the_padding():
    """Cells under the padding belong to other groups; at most the pixels next to them are affected."""
    labels_hw = torch.tensor([[1, 1, 2, 2], [1, 1, 2, 2]])
    x_Dhw = labels_hw[None].float()
    placement = MapPlacement(image_size=(8, 8), resized_size=(8, 8), input_size=(8, 16))
    region_HW = torch.ones(8, 8, dtype=torch.long)
    labels, rows, columns = label_image(x_Dhw, labels_hw, torch.ones_like(labels_hw), region_HW, placement)
    assert (rows, columns) == (slice(0, 8), slice(0, 8))
    assert (labels == 1).all()


def test_window_labels_only_the_pixels_under_it():
    labels_hw = torch.tensor([[1, 2]])
    placement = MapPlacement(image_size=(6, 20), resized_size=(6, 20), input_size=(4, 8), origin=(1, 10))
    labels, rows, columns = label_image(
        labels_hw[None].float(), labels_hw, torch.ones_like(labels_hw), torch.ones(6, 20, dtype=torch.long), placement
    )
    assert (rows, columns) == (slice(1, 5), slice(10, 18))
    assert labels.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]] * 4


@pytest.mark.parametrize('radii', [(4, 16), (1, 2), ()])
def test_the_nearest_cell_may_be_near_or_far(radii, monkeypatch, device):
    """Twenty grouped cells on a map of 60 x 80: from some pixels the nearest is more than 16 cells away."""
    monkeypatch.setattr('mmseg_instancenet.models.postprocess.assign._RADII', radii)
    rng = np.random.default_rng(2)
    cells, region = rng.choice(4800, 20, replace=False), np.arange(1, 21) % 2 + 1
    labels_hw, region_hw = np.zeros(4800, int), np.zeros(4800, int)
    labels_hw[cells], region_hw[cells] = np.arange(1, 21), region
    position = rng.uniform((0, 0), (60, 80), (50, 2))
    wanted = rng.integers(1, 4, 50)  # region 3 has no group
    maps = (torch.from_numpy(map_hw.reshape(60, 80)).to(device) for map_hw in (labels_hw, region_hw))
    points = torch.from_numpy(position).float().to(device)
    found = _nearest_cell(*maps, torch.from_numpy(wanted).to(device), points).tolist()
    center = np.stack(np.divmod(cells, 80), 1) + 0.5
    distance = np.linalg.norm(position[:, None] - center, axis=2)
    distance[wanted[:, None] != region] = np.inf
    assert found == [0 if number == 3 else int(row.argmin()) + 1 for number, row in zip(wanted, distance, strict=True)]
    nearest = distance.min(1)
    assert (nearest < 4).any() and (nearest[wanted < 3] > 16).any()
