"""What every class loss keeps for random label maps, and the values of plain references."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from label_batches import generators, seeds
from references.dice import dice_reference

from mmseg_instancenet.models.losses import BalancedLogisticLoss, ClassDiceLoss, WeightedCrossEntropyLoss

LOSSES = {
    'cross-entropy': WeightedCrossEntropyLoss(class_weight=[0.1, 1.0, 3.0]),
    'dice': ClassDiceLoss(eps=1e-9),  # the smoothing counts pixels
    'balanced logistic': BalancedLogisticLoss(),
}
each_loss = pytest.mark.parametrize('name', LOSSES)


@st.composite
def scored_maps(draw):
    """Logits for three classes (N, 3, H, W) and labels (N, H, W), possibly all ignored."""
    generator = generators(draw)
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    classes = torch.tensor(draw(st.lists(st.sampled_from([0, 1, 2, 255]), min_size=1, max_size=4, unique=True)))
    scores = 2 * torch.randn(shape[0], 3, *shape[1:], generator=generator)
    return scores, classes[torch.randint(len(classes), shape, generator=generator)]


def evaluate(name, scores, label):
    scores = scores.clone().requires_grad_()
    if name == 'balanced logistic':
        loss = LOSSES[name](scores[:, :1], torch.where(label == 2, 1, label))
    else:
        loss = LOSSES[name](scores, label)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(scores.grad).all()
    return loss.detach(), scores.grad


def same(actual, expected):
    for value, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-6)


@each_loss
@given(maps=scored_maps(), generator=seeds())
def test_order_of_pixels(name, maps, generator):
    loss, gradient = evaluate(name, *maps)
    order = torch.randperm(maps[1][0].numel(), generator=generator)
    moved = [value.flatten(-2)[..., order].view(value.shape) for value in (*maps, gradient)]
    same(evaluate(name, *moved[:2]), (loss, moved[2]))


@each_loss
@given(maps=scored_maps(), generator=seeds(), columns=st.integers(1, 4))
def test_more_ignored_pixels(name, maps, generator, columns):
    loss, gradient = evaluate(name, *maps)
    scores, label = maps
    extra = 100 * torch.randn(*scores.shape[:3], columns, generator=generator)
    ignored = torch.full((*label.shape[:2], columns), 255)
    more_loss, more_gradient = evaluate(name, torch.cat([scores, extra], 3), torch.cat([label, ignored], 2))
    same((more_loss, more_gradient[..., : label.shape[2]]), (loss, gradient))
    assert not more_gradient[..., label.shape[2] :].any()


@each_loss
@given(maps=scored_maps(), copies=st.integers(2, 3))
def test_every_pixel_several_times(name, maps, copies):
    loss, gradient = evaluate(name, *maps)
    copied_loss, copied_gradient = evaluate(name, *(value.repeat_interleave(copies, dim=-1) for value in maps))
    same((copied_loss, copied_gradient.unflatten(3, (-1, copies)).sum(4)), (loss, gradient))


@each_loss
@given(maps=scored_maps())
def test_the_value_is_that_of_the_plain_reference(name, maps):
    scores, label = maps
    known = label != 255
    if name == 'cross-entropy':
        weight = torch.tensor([0.1, 1.0, 3.0])
        expected = (
            F.cross_entropy(scores.movedim(1, 3)[known], label[known], weight) if known.any() else torch.tensor(0.0)
        )
    elif name == 'dice':
        expected = torch.tensor(dice_reference(scores, label, eps=1e-9))
    else:
        of_images = []
        for logits, labels in zip(scores[:, 0].double(), torch.where(label == 2, 1, label), strict=True):
            of_classes = [logits[labels == 1], -logits[labels == 0]]
            of_images.append(sum((1 + (-z).exp()).log().mean() / 2 for z in of_classes if len(z)))
        expected = torch.tensor([float(value) for value in of_images]).mean()
    same([evaluate(name, scores, label)[0]], [expected.float()])
