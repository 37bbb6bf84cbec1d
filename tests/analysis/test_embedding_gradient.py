"""Gradients through iterations of mean shift: against differences of a plain reference, and where they are large."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmseg_instancenet.analysis.embedding_gradient import gradient_by_loop, near_another_instance
from mmseg_instancenet.analysis.labelled_embeddings import LabelledEmbeddings
from mmseg_instancenet.models import DiscriminativeLoss, MeanShiftGrouping, SphericalPairLoss


def labelled(embeddings, instances, classes=None) -> LabelledEmbeddings:
    ids = torch.as_tensor(instances)
    classes = (ids != 0).long() if classes is None else torch.as_tensor(classes)
    return LabelledEmbeddings(np.zeros((*ids.shape, 3), np.uint8), ids.numpy(), embeddings, ids, classes)


def two_groups(noise: float, seed: int, side: int = 24) -> LabelledEmbeddings:
    """Two instances left and right of a straight boundary, 120 degrees apart with noise; the two columns of pixels on either
    side of the boundary lie anywhere between them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.ones(side, side, dtype=torch.long)
    ids[:, side // 2 :] = 2
    part = (ids == 2).float()
    part[:, side // 2 - 2 : side // 2 + 2] = 0.25 + 0.5 * torch.rand(side, 4, generator=generator)
    angle = part * math.radians(120)
    embeddings = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)])
    return labelled(embeddings + noise * torch.randn(3, side, side, generator=generator), ids)


def test_smoke():
    norm = gradient_by_loop(two_groups(0.1, 0, side=8), SphericalPairLoss(), MeanShiftGrouping(class_agnostic=True), 2)
    assert norm.shape == (3, 8, 8) and (norm > 0).any(2).any(1).all()


def test_refuses_a_radius_of_nothing():
    with pytest.raises(ValueError, match='expected a radius >= 1 pixel, got 0'):
        near_another_instance(np.zeros((2, 2), int), 0)


@pytest.mark.parametrize('radius', [1, 2, 3])
def test_near_another_instance(radius):
    rng = np.random.default_rng(radius)
    ids = np.kron(rng.integers(-1, 4, (4, 5)), np.ones((5, 4), int)) * np.where(rng.random((20, 20)) < 0.02, -1, 1)
    ids[ids < 0] = -1
    expected = np.zeros(ids.shape, bool)
    for row in range(20):
        for column in range(20):
            for other_row in range(20):
                for other_column in range(20):
                    own, other = ids[row, column], ids[other_row, other_column]
                    near = (row - other_row) ** 2 + (column - other_column) ** 2 <= radius**2
                    expected[row, column] |= near and -1 != own != other != -1
    assert expected.any() and not expected.all()
    np.testing.assert_array_equal(near_another_instance(ids, radius), expected)


def plain_loss(x_PD, ids, loops: int, concentration: float, margin: float) -> float:
    """The paper's pair loss after loops of mean shift, pair by pair."""
    x = F.normalize(x_PD, dim=1)
    for _ in range(loops):
        kernel = torch.exp(concentration * x @ x.T)
        x = F.normalize(kernel @ x / kernel.sum(1, keepdim=True), dim=1)
    total = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            similarity = (1 + float(x[i] @ x[j])) / 2
            weight = 1 / (ids.count(ids[i]) * ids.count(ids[j]))
            total += weight * ((1 - similarity) if ids[i] == ids[j] else max(0.0, similarity - margin))
    return total / len(x)


def test_gradient_is_the_slope_of_a_plain_reference():
    """The background and ignored pixels enter neither the kernel nor the loss, and a sampling loss uses all others."""
    instances = torch.tensor([[0, 3, 3], [7, -1, 7]])
    classes = torch.tensor([[0, 2, 2], [1, 2, 1]])
    embeddings = torch.randn(3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    grouped = instances > 0
    loss = SphericalPairLoss(margin=0.2, background_is_instance=True)
    norm = gradient_by_loop(
        labelled(embeddings, instances, classes), loss, MeanShiftGrouping(5.0, class_agnostic=True), loops=2
    )
    assert (norm[:, ~grouped] == 0).all()
    x, ids = embeddings[:, grouped].T, instances[grouped].tolist()
    for loop in range(3):
        slope = torch.zeros_like(x)
        for index in np.ndindex(*x.shape):
            step = torch.zeros_like(x)
            step[index] = 1e-6
            slope[index] = (plain_loss(x + step, ids, loop, 5, 0.2) - plain_loss(x - step, ids, loop, 5, 0.2)) / 2e-6
        torch.testing.assert_close(norm[loop, grouped], slope.norm(dim=1), atol=1e-7, rtol=1e-5)


def test_classes_are_shifted_apart_unless_class_agnostic():
    embeddings = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0))
    instances, classes = [[1, 1, 2, 2]], [[1, 1, 2, 2]]
    loss = SphericalPairLoss(margin=0.0, class_agnostic=False)
    both = gradient_by_loop(labelled(embeddings, instances, classes), loss, MeanShiftGrouping(2.0), 1)
    alone = gradient_by_loop(labelled(embeddings, [[1, 1, -1, -1]], classes), loss, MeanShiftGrouping(2.0), 1)
    # Half the pixels, and half the normaliser, but nothing of the other class.
    torch.testing.assert_close(both[:, :, :2] * 2, alone[:, :, :2])


@pytest.mark.parametrize('loss', [SphericalPairLoss(), DiscriminativeLoss(push_distance=3.0)])
def test_image_without_instances_has_no_gradient(loss):
    norm = gradient_by_loop(
        labelled(torch.randn(3, 4, 5), torch.zeros(4, 5, dtype=torch.long)), loss, MeanShiftGrouping(), 2
    )
    assert torch.equal(norm, torch.zeros(3, 4, 5))


@pytest.mark.parametrize('variant', ['paper', 'released'])
@pytest.mark.parametrize('noise', [0.1, 0.2])
@pytest.mark.parametrize('seed', range(3))
def test_loops_focus_the_gradient_on_the_boundary(variant, noise, seed):
    """The paper: through mean shift the gradient focuses on uncertain regions, e.g. boundaries, and is small for errors that the
    loops will mend. So it is for embeddings whose groups lie beyond the margin and whose noise is the bandwidth or less."""
    image = two_groups(noise, seed)
    grouping = MeanShiftGrouping(concentration=25, class_agnostic=True)
    norm = gradient_by_loop(image, SphericalPairLoss(margin=0.5, variant=variant), grouping, loops=2)
    near = torch.from_numpy(near_another_instance(image.instance_hw.numpy(), 2))
    assert float(near.float().mean()) == pytest.approx(4 / 24)
    share = norm[:, near].sum(1) / norm.sum((1, 2))
    assert (share[1:] > share[0] + 0.05).all(), share
    assert norm[1][~near].mean() < norm[0][~near].mean()
