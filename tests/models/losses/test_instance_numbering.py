"""The numbering of the instances in a batch."""

import math

import pytest
import torch

from mmseg_instancenet.models.losses import number_instances
from mmseg_instancenet.models.losses.instance_numbering import box_gaps, instance_boxes
from mmseg_instancenet.structures import BACKGROUND_INSTANCE, IGNORED_CLASS, IGNORED_INSTANCE


def random_maps(ids, classes=(1, 2, 7), shape=(3, 5, 6), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.tensor(values)[torch.randint(len(values), shape, generator=generator)] for values in (ids, classes)
    )


def reference(instance_map, class_map, background_is_instance):
    """(image, class, id) -> flat positions, in the order in which they should be numbered."""
    pixels = {}
    flat = enumerate(zip(instance_map.flatten().tolist(), class_map.flatten().tolist(), strict=True))
    image_size = instance_map[0].numel()
    for position, (id_, class_) in flat:
        if id_ == -1 or class_ == 255 or (id_ == 0 and not background_is_instance):
            continue
        pixels.setdefault((position // image_size, class_, id_), []).append(position)
    return dict(sorted(pixels.items()))


def test_marks():
    assert (BACKGROUND_INSTANCE, IGNORED_INSTANCE, IGNORED_CLASS) == (0, -1, 255)


@pytest.mark.parametrize('background_is_instance', [False, True])
@pytest.mark.parametrize(
    'ids', [(0, 1, 2), (-1, 0, 1, 4), (0, 255, 300000001), (1, 2**40, 2**62, 2**63 - 1), (0,), (-1,)]
)
def test_against_a_dictionary(ids, background_is_instance):
    instance_map, class_map = random_maps(ids, classes=(0, 2, 7, 255))
    expected = reference(instance_map, class_map, background_is_instance)
    result = number_instances(instance_map, class_map, background_is_instance)
    assert result.image_K.tolist() == [image for image, _, _ in expected]
    assert result.class_K.tolist() == [class_ for _, class_, _ in expected]
    assert result.size_K.tolist() == [len(positions) for positions in expected.values()]
    assert result.pixel_P.tolist() == sorted(sum(expected.values(), []))
    boxes = instance_boxes(result, 5, 6)
    for number, positions in enumerate(expected.values()):
        assert result.pixel_P[result.instance_P == number].tolist() == positions
        rows, columns = zip(*((position // 6 % 5, position % 6) for position in positions), strict=True)
        assert boxes[number].tolist() == [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
    assert len(boxes) == len(expected)


def test_one_id_in_two_classes_or_images_is_two_instances():
    ids = torch.full((2, 2, 2), 9)
    classes = torch.tensor([[[1, 1], [2, 2]], [[1, 1], [1, 1]]])
    result = number_instances(ids, classes)
    assert result.image_K.tolist() == [0, 0, 1]
    assert result.class_K.tolist() == [1, 2, 1]
    assert result.size_K.tolist() == [2, 2, 4]


def test_small_integer_types():
    instance_map, class_map = random_maps((0, 1, 200), classes=(1, 80, 255))
    wide, small = number_instances(instance_map, class_map), number_instances(instance_map.int(), class_map.byte())
    assert all(torch.equal(a, b) for a, b in zip(wide, small, strict=True))


def test_errors():
    ids, classes = random_maps((0, 1))
    with pytest.raises(ValueError, match=r'one shape \(N, H, W\), got \(5, 6\) and \(5, 6\)'):
        number_instances(ids[0], classes[0])
    with pytest.raises(ValueError, match=r'got \(3, 5, 6\) and \(2, 5, 6\)'):
        number_instances(ids, classes[:2])
    with pytest.raises(ValueError, match='ids >= -1 and classes >= 0, got ids from -2'):
        number_instances(torch.where(ids == 1, -2, ids), classes)
    with pytest.raises(ValueError, match='classes from -1'):
        number_instances(ids, torch.where(classes == 1, -1, classes))


def test_box_gaps_by_hand():
    box = torch.tensor([[2, 2, 5, 5]])
    others = torch.tensor([[3, 3, 10, 10], [5, 2, 7, 5], [6, 2, 7, 5], [7, 0, 9, 2], [9, 8, 10, 10], [0, 0, 1, 1]])
    expected = [0, 0, 1, 2, 5, math.sqrt(2)]  # over each other, side by side, one pixel between, ..., 3 down 4 right
    torch.testing.assert_close(box_gaps(box, others), torch.tensor([expected]))
    torch.testing.assert_close(box_gaps(others, box), torch.tensor([expected]).T)


def test_box_gaps_never_exceed_the_distance_of_the_objects():
    instance_map = torch.zeros(1, 14, 14, dtype=torch.long)
    generator = torch.Generator().manual_seed(3)
    for id_ in range(1, 7):
        top, left = torch.randint(12, (2,), generator=generator).tolist()
        instance_map[0, top : top + 3, left : left + 2] = id_
    result = number_instances(instance_map, (instance_map > 0).long())
    boxes = instance_boxes(result, 14, 14)
    gaps = box_gaps(boxes, boxes)
    position_P2 = torch.stack([result.pixel_P // 14, result.pixel_P % 14], 1).float()
    between = 0
    for first in range(len(gaps)):
        for second in range(len(gaps)):
            a, b = position_P2[result.instance_P == first], position_P2[result.instance_P == second]
            # Between pixels: their steps apart less one in each direction.
            steps = (a[:, None] - b[None]).abs().sub(1).clamp(min=0).norm(dim=-1).min()
            assert gaps[first, second] <= steps + 1e-6
            between += int(gaps[first, second] > 0)
    assert between > 0
