"""The class losses for rare classes."""

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from devices import assert_same
from mmengine import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from references.dice import dice_reference

from mmseg_instancenet.models.losses import BalancedLogisticLoss, ClassDiceLoss, WeightedCrossEntropyLoss


def random_batch(classes=(0, 1, 2, 255), num_classes=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, num_classes, 5, 6, generator=generator).to(dtype) * 2
    label = torch.tensor(classes)[torch.randint(len(classes), (2, 5, 6), generator=generator)]
    return scores, label


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


@pytest.mark.parametrize('classes', [(1,), (2, 255), (255,)])
def test_dice_of_one_class_and_of_none(classes):
    scores, label = random_batch(classes=classes)
    expected = dice_reference(scores, label)
    assert (expected > 0.2) == (classes != (255,))
    assert ClassDiceLoss()(scores, label).item() == pytest.approx(expected, rel=1e-5)


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


LOSSES = [WeightedCrossEntropyLoss((0.2, 1, 3)), WeightedCrossEntropyLoss(), ClassDiceLoss()]


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


def test_without_class_weights_all_pixels_count_alike():
    scores, label = random_batch()
    value = WeightedCrossEntropyLoss()(scores, label)
    torch.testing.assert_close(value, F.cross_entropy(scores, label, ignore_index=255))
    of_mmseg = MODELS.build(dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True))
    torch.testing.assert_close(value, of_mmseg(scores, label, ignore_index=255))
    nothing = WeightedCrossEntropyLoss()(scores.requires_grad_(), torch.full_like(label, 255))
    assert nothing == 0 and nothing.requires_grad
    # A pixel sampler's weights.
    weight = torch.rand(label.shape)
    equal = WeightedCrossEntropyLoss((1.0, 1.0, 1.0))(scores, label, weight=weight)
    assert torch.equal(WeightedCrossEntropyLoss()(scores, label, weight=weight), equal)


def test_class_weights_of_a_file(tmp_path):
    (tmp_path / 'weights.json').write_text(json.dumps([0.2, 1, 3]))
    loss = WeightedCrossEntropyLoss(str(tmp_path / 'weights.json'))
    assert torch.equal(loss.class_weight, WeightedCrossEntropyLoss((0.2, 1, 3)).class_weight)


WORDS = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.5)
"""How the configs of mmseg give their class loss."""


@pytest.mark.parametrize('name', ['WeightedCrossEntropyLoss', 'ClassDiceLoss'])
def test_a_config_of_mmseg_needs_another_name_alone(name, tmp_path):
    head = dict(type='FCNHead', in_channels=3, channels=4, num_convs=1, num_classes=3, loss_decode=WORDS)
    Config(dict(decode_head=head)).dump(tmp_path / 'base.py')
    (tmp_path / 'child.py').write_text(f"_base_ = ['base.py']\ndecode_head = dict(loss_decode=dict(type='{name}'))\n")
    built = MODELS.build(Config.fromfile(tmp_path / 'child.py').decode_head)
    loss = built.loss_decode
    assert (type(loss).__name__, loss.loss_weight, loss.use_sigmoid) == (name, 0.5, False)
    scores, label = random_batch()
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label_HW[None])) for label_HW in label]
    losses = built.loss_by_feat(scores, samples)
    assert torch.equal(losses[loss.loss_name], MODELS.build(dict(type=name, loss_weight=0.5))(scores, label))


@pytest.mark.parametrize(
    ('loss', 'settings', 'message'),
    [
        (
            WeightedCrossEntropyLoss,
            dict(use_sigmoid=True),
            "one softmax .* use_sigmoid=False, got True; .*mmseg's Cross",
        ),
        (ClassDiceLoss, dict(use_sigmoid=True), 'one softmax .* use_sigmoid=False, got True'),
        (BalancedLogisticLoss, dict(use_sigmoid=False), 'one logit .* use_sigmoid=True, got False; .*CrossEntropyLoss'),
        (WeightedCrossEntropyLoss, dict(avg_non_ignore=False), 'avg_non_ignore=True, got False'),
        (ClassDiceLoss, dict(avg_non_ignore=False), 'avg_non_ignore=True, got False'),
        (BalancedLogisticLoss, dict(avg_non_ignore=False), 'avg_non_ignore=True, got False'),
    ],
)
def test_unsupported_settings(loss, settings, message):
    with pytest.raises(ValueError, match=f'{loss.__name__} .*{message}'):
        loss(**settings)


def test_class_weights_move_with_the_module_but_are_not_in_its_state():
    loss = WeightedCrossEntropyLoss((1, 2))
    assert not loss.state_dict()
    assert loss.to('meta').class_weight.device.type == 'meta'
