"""The class losses for rare classes."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from devices import assert_same
from mmseg.registry import MODELS

from mmseg_instancenet.models.losses import ClassDiceLoss, WeightedCrossEntropyLoss


def random_batch(classes=(0, 1, 2, 255), num_classes=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, num_classes, 5, 6, generator=generator).to(dtype) * 2
    label = torch.tensor(classes)[torch.randint(len(classes), (2, 5, 6), generator=generator)]
    return scores, label


def dice_reference(scores, label, eps=1.0, weight=None, ignore_index=255):
    """One minus Dice for each class that is present, in Python floats."""
    num_classes = scores.shape[1]
    both, predicted, true = ([0.0] * num_classes for _ in range(3))
    weight = torch.ones(label.shape) if weight is None else weight
    for n, y, x in torch.cartesian_prod(*map(torch.arange, label.shape)).tolist():
        class_ = label[n, y, x].item()
        if class_ == ignore_index:
            continue
        w = weight[n, y, x].item()
        exponentials = [math.exp(value) for value in scores[n, :, y, x].tolist()]
        for c in range(num_classes):
            p = w * exponentials[c] / sum(exponentials)
            predicted[c] += p
            both[c] += p * (c == class_)
            true[c] += w * (c == class_)
    losses = [1 - (2 * b + eps) / (p + t + eps) for b, p, t in zip(both, predicted, true, strict=True) if t > 0]
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize('class_weight', [(1, 1, 1), (0.1, 1, 7.5), (1, 0, 2)])
def test_cross_entropy_is_torchs_weighted_mean(class_weight, device):
    scores, label = random_batch()
    known = label != 255
    expected = F.cross_entropy(scores.movedim(1, 3)[known], label[known], torch.tensor(class_weight).float())
    loss = MODELS.build({'type': 'WeightedCrossEntropyLoss', 'class_weight': class_weight, 'loss_weight': 3.0})
    actual = loss.to(device)(scores.to(device), label.to(device))
    torch.testing.assert_close(actual.cpu(), 3 * expected)


def test_cross_entropy_against_a_loop_with_pixel_weights(device):
    scores, label = random_batch()
    class_weight, pixel_weight = [0.5, 1.0, 4.0], torch.rand(2, 5, 6)
    total = norm = 0.0
    for n, y, x in (label != 255).nonzero().tolist():
        values, class_ = scores[n, :, y, x].tolist(), label[n, y, x].item()
        weight = class_weight[class_] * pixel_weight[n, y, x].item()
        total += weight * (math.log(sum(map(math.exp, values))) - values[class_])
        norm += weight
    loss = WeightedCrossEntropyLoss(class_weight).to(device)
    value = loss(scores.to(device), label.to(device), weight=pixel_weight.to(device)).item()
    assert value == pytest.approx(total / norm, rel=1e-5)


def test_dice_against_a_loop(device):
    scores, label = random_batch()
    inputs = scores.to(device), label.to(device)
    assert ClassDiceLoss()(*inputs).item() == pytest.approx(dice_reference(scores, label), rel=1e-5)
    loss = MODELS.build({'type': 'ClassDiceLoss', 'loss_weight': 0.5, 'eps': 0.01})
    assert loss(*inputs).item() == pytest.approx(0.5 * dice_reference(scores, label, eps=0.01), rel=1e-5)
    weight = torch.rand(2, 5, 6)
    value = ClassDiceLoss()(*inputs, weight=weight.to(device)).item()
    assert value == pytest.approx(dice_reference(scores, label, weight=weight), rel=1e-5)


def test_dice_counts_the_classes_that_are_present():
    scores, label = random_batch(classes=(0, 2), num_classes=5)
    assert ClassDiceLoss()(scores, label).item() == pytest.approx(dice_reference(scores, label), rel=1e-5)
    # A class of one pixel weighs as much as the rest together: all right but it, and the loss is near one half.
    label = torch.zeros(1, 20, 20, dtype=torch.long)
    label[0, 3, 3] = 1
    scores = torch.tensor([20.0, -20.0])[None, :, None, None].expand(1, 2, 20, 20)
    value = ClassDiceLoss(eps=1e-6)(scores, label).item()
    assert value == pytest.approx(0.5, abs=0.01)
    assert ClassDiceLoss(eps=1e-6)(torch.where(label[:, None] == 1, -scores, scores), label).item() < 1e-3


LOSSES = [WeightedCrossEntropyLoss((0.2, 1, 3)), ClassDiceLoss()]


@pytest.mark.parametrize('loss', LOSSES)
def test_ignored_pixels_have_no_influence(loss, device):
    loss = copy.deepcopy(loss).to(device)
    scores, label = (x.to(device) for x in random_batch())
    ignored = (label == 255)[:, None].expand_as(scores)
    other = torch.where(ignored, 30 - scores, scores).requires_grad_()
    expected = loss(scores, label)
    value = loss(other, label)
    assert_same(value, expected)
    value.backward()
    assert not other.grad[ignored].any()
    assert other.grad[~ignored].any()
    # Another mark for them, with which 255 is not special.
    torch.testing.assert_close(loss(scores, torch.where(label == 255, -7, label), ignore_index=-7), expected)


@pytest.mark.parametrize('loss', LOSSES)
def test_everything_ignored_is_zero_and_touches_the_input(loss, device):
    scores = random_batch()[0].to(device).requires_grad_()
    value = copy.deepcopy(loss).to(device)(scores, torch.full((2, 5, 6), 255, device=device))
    assert value == 0
    value.backward()
    assert scores.grad is not None
    assert not scores.grad.any()


def test_classes_of_weight_zero_are_zero():
    scores, label = random_batch(classes=(1, 255))
    assert WeightedCrossEntropyLoss((1, 0, 1))(scores.requires_grad_(), label) == 0


@pytest.mark.parametrize('loss', LOSSES)
def test_gradient(loss):
    scores, label = random_batch()
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(scores.shape, generator=generator)
    scores.requires_grad_()
    loss(scores, label).backward()
    with torch.no_grad():
        numeric = (loss(scores + 1e-2 * direction, label) - loss(scores - 1e-2 * direction, label)) / 2e-2
    torch.testing.assert_close((scores.grad * direction).sum(), numeric, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('loss', LOSSES)
def test_half_precision_computes_in_float32(loss, dtype):
    scores, label = random_batch(dtype=dtype)
    value = loss(scores, label)
    assert value.dtype == torch.float32
    assert value == loss(scores.float(), label)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert loss(scores.float(), label) == value


def test_settings():
    assert (WeightedCrossEntropyLoss((1, 2)).loss_name, ClassDiceLoss().loss_name) == ('loss_ce', 'loss_dice')
    for weights in ((), (1, -0.5)):
        with pytest.raises(ValueError, match='one weight >= 0 a class, background first'):
            WeightedCrossEntropyLoss(weights)
    scores, label = random_batch()
    with pytest.raises(ValueError, match='class_weight has 2 values, the head 3 classes'):
        WeightedCrossEntropyLoss((1, 2))(scores, label)


def test_class_weights_move_with_the_module_but_are_not_in_its_state():
    loss = WeightedCrossEntropyLoss((1, 2))
    assert not loss.state_dict()
    assert loss.to('meta').class_weight.device.type == 'meta'
