"""The logistic loss of boundaries, against plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from devices import gradcheck
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_instancenet.models.losses import balanced_logistic


def by_hand(logits, label):
    """The formula, pixel by pixel."""
    images = []
    for image, truth in zip(logits.tolist(), label.tolist(), strict=True):
        of_class = {0: [], 1: []}
        for row, true_row in zip(image, truth, strict=True):
            for z, y in zip(row, true_row, strict=True):
                if y != 255:
                    of_class[y].append(math.log1p(math.exp(-z if y == 1 else z)))
        images.append(sum(sum(values) / len(values) / 2 for values in of_class.values() if values))
    return sum(images) / len(images)


def make_case(images=3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, 6, 7, generator=generator, dtype=torch.float64) * 3
    label = (torch.rand(images, 6, 7, generator=generator) < 0.2).long()
    label[0, :2] = 255
    return logits, label


def test_smoke():
    loss = MODELS.build({'type': 'BalancedLogisticLoss'})
    assert loss.loss_name == 'loss_logistic'
    assert loss(torch.zeros(2, 1, 3, 4), torch.zeros(2, 3, 4, dtype=torch.long)).shape == ()


def test_errors():
    logits, label = make_case()
    with pytest.raises(ValueError, match=r'one shape \(N, H, W\), got \(3, 6, 7\) torch.float64 and \(3, 6\)'):
        balanced_logistic(logits, label[:, :, 0])
    with pytest.raises(ValueError, match=r'expected labels 0, 1 or 255 \(ignore\), got \[-1, 2\]'):
        balanced_logistic(logits, torch.tensor([-1, 0, 1, 2, 255, 0, 1]).expand_as(logits))
    with pytest.raises(ValueError, match='NaN or infinity'):
        balanced_logistic(logits * math.inf, label)
    with pytest.raises(ValueError, match=r'logits \(N, 1, H, W\), got \(3, 2, 6, 7\)'):
        MODELS.build({'type': 'BalancedLogisticLoss'})(logits[:, None].repeat(1, 2, 1, 1), label)


def test_value(device):
    logits, label = make_case()
    expected = by_hand(logits, label)
    logits, label = logits.to(device), label.to(device)
    assert balanced_logistic(logits, label).item() == pytest.approx(expected, abs=1e-12)
    loss = MODELS.build({'type': 'BalancedLogisticLoss', 'loss_weight': 0.3})
    assert loss(logits[:, None], label).item() == pytest.approx(0.3 * expected, abs=1e-12)
    # With another label to ignore.
    label[label == 255] = 7
    assert balanced_logistic(logits, label, ignore_index=7).item() == pytest.approx(expected, abs=1e-12)


def test_is_holistically_nested_edge_detections_loss_up_to_a_factor():
    """Equation 2 of Xie & Tu: the share of the other class as weight of each pixel."""
    logits, label = make_case(images=1)
    labelled = label != 255
    share = (label == 1).sum() / labelled.sum()
    weight = torch.where(label == 1, 1 - share, share)[labelled]
    theirs = F.binary_cross_entropy_with_logits(logits[labelled], label[labelled].double(), weight, reduction='mean')
    factor = 2 * share * (1 - share)
    torch.testing.assert_close(balanced_logistic(logits, label), theirs / factor.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(('value', 'expected'), [(255, 0.0), (0, math.log(2) / 2), (1, math.log(2) / 2)])
def test_images_of_one_label(value, expected, device):
    logits = torch.zeros(2, 4, 5, requires_grad=True, device=device)
    loss = balanced_logistic(logits, torch.full((2, 4, 5), value, device=device))
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert torch.isfinite(logits.grad).all()
    assert bool(logits.grad.any()) == (value != 255)


def test_gradient(device):
    logits, label = (x.to(device) for x in make_case())
    logits.requires_grad_()
    assert gradcheck(lambda x: balanced_logistic(x, label), logits)
    (gradient,) = torch.autograd.grad(balanced_logistic(logits, label), logits)
    assert not gradient[label == 255].any()
    # Both classes pull alike where the network knows nothing yet.
    zero = torch.zeros_like(logits, requires_grad=True)
    (gradient,) = torch.autograd.grad(balanced_logistic(zero, label), zero)
    for of_image, truth in zip(gradient, label, strict=True):
        assert of_image[truth == 1].sum().item() == pytest.approx(-1 / 4 / len(label))
        assert of_image[truth == 0].sum().item() == pytest.approx(1 / 4 / len(label))


def test_extreme_logits_stay_finite_also_in_half_precision():
    logits = torch.tensor([[[6e4, -6e4, 0.0]]]).half().requires_grad_()
    loss = balanced_logistic(logits, torch.tensor([[[0, 1, 1]]]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((59999 + (59999 + math.log(2)) / 2) / 2, rel=1e-3)
    assert torch.isfinite(logits.grad).all()


def test_in_a_head_of_mmseg():
    head = dict(type='FCNHead', in_channels=3, channels=4, num_convs=1, num_classes=2, out_channels=1, threshold=0.5)
    head['loss_decode'] = dict(type='BalancedLogisticLoss', use_sigmoid=True, loss_weight=2.0)
    logits, label = make_case()
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label_HW[None])) for label_HW in label]
    losses = MODELS.build(head).loss_by_feat(logits[:, None], samples)
    assert losses['loss_logistic'].item() == pytest.approx(2 * by_hand(logits, label), rel=1e-5)
    with pytest.raises(ValueError, match='balances the pixels itself, and the head has a pixel sampler'):
        MODELS.build(head['loss_decode'])(logits[:, None], label, weight=torch.ones(label.shape))
