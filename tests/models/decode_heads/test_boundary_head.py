"""The head for boundaries: embeddings from several stages and the layer that fuses them."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from torch import nn

from mmseg_instancenet.models import BoundaryHead
from mmseg_instancenet.models.losses import spherical_pair_terms

CHANNELS, DIMS, SIZE, FINE = (5, 8, 7), 3, (16, 24), (4, 6)


def build(fused=True, **settings):
    torch.manual_seed(0)
    config = {
        'type': 'BoundaryHead',
        'in_channels': CHANNELS,
        'in_index': (0, 2, 3),
        'embedding_dims': DIMS,
        'loss_embedding': {'type': 'SphericalPairLoss', 'margin': 0.3, 'variant': 'released'},
    }
    head = MODELS.build({**config, **settings})
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    head.conv_seg.requires_grad_(fused)
    head.set_phase('fusion' if fused else 'embedding')
    return head


def features(images=2, device='cpu'):
    """Four maps, of which the second is no stage of the head."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(CHANNELS[0], 4, 6), (3, 4, 6), (CHANNELS[1], 2, 3), (CHANNELS[2], 2, 3)]
    return [torch.randn(images, *size, generator=generator).to(device).requires_grad_() for size in sizes]


def label_map(images=2):
    """Lines of one pixel, none of them under the centre of a cell of the stages, and an ignored corner."""
    label = torch.zeros(images, *SIZE, dtype=torch.long)
    label[:, 5], label[-1, :, 9] = 1, 1
    label[0, 12:, 12:] = 255
    return label


def make_samples(label, instances=True):
    samples = []
    for label_HW in label:
        sample = DetDataSample(metainfo={'img_shape': tuple(label_HW.shape), 'ori_shape': tuple(label_HW.shape)})
        sample.gt_sem_seg = PixelData(data=label_HW[None])
        if instances:
            sample.gt_instance_map = PixelData(data=torch.where(label_HW == 255, -1, label_HW)[None])
        samples.append(sample)
    return samples


def unit(x_NDhw):
    return x_NDhw / x_NDhw.square().sum(1, keepdim=True).sqrt()


def stages_by_hand(head, inputs, size):
    """Unit vectors of each stage at a size, (N, D, H, W): the convolution as a sum of products."""
    result = []
    for convolution, x in zip(head.conv_embedding, (inputs[0], inputs[2], inputs[3]), strict=True):
        weight, bias = convolution.weight[:, :, 0, 0], convolution.bias
        embedding = torch.einsum('dc,nchw->ndhw', weight, x) + bias[None, :, None, None]
        for step in (FINE, size):
            embedding = F.interpolate(embedding, size=step, mode='bilinear', align_corners=False)
        result.append(unit(embedding))
    return result


def logits_by_hand(head, stages):
    """b + sum over the stages of w_s . x_s."""
    result = head.conv_seg.bias.expand(len(stages[0]), *stages[0].shape[2:])
    for stage, x_NDHW in enumerate(stages):
        weight = head.conv_seg.weight[0, DIMS * stage : DIMS * (stage + 1), 0, 0]
        result = result + torch.einsum('d,ndhw->nhw', weight, x_NDHW)
    return result


def total_of(losses):
    return BaseModel.parse_losses(None, losses)[0]


def test_smoke():
    head = build()
    assert type(head) is BoundaryHead
    output = head(features())
    assert output.shape == (2, len(CHANNELS) * DIMS, *FINE)
    assert head.directions(output).shape == (2, len(CHANNELS), DIMS, *FINE)
    assert head.fuse(output).shape == (2, 1, *FINE)
    assert {name for name, _ in head.named_parameters()} == {
        'conv_seg.weight', 'conv_seg.bias',
        *(f'conv_embedding.{stage}.{part}' for stage in range(3) for part in ('weight', 'bias')),
    }  # fmt: skip


def test_errors():
    with pytest.raises(ValueError, match='embedding_dims >= 2.*got 1'):
        build(embedding_dims=1)
    with pytest.raises(ValueError, match=r'in_channels for each stage of in_index, got \(5, 8\) for \(0, 1, 2\)'):
        build(in_channels=(5, 8), in_index=(0, 1, 2))
    with pytest.raises(ValueError, match="no loss_embedding to train with in the phase 'embedding'.*BoundaryPhaseHook"):
        build(fused=False, loss_embedding=None)
    with pytest.raises(ValueError, match="the phase 'embedding' or 'fusion', got 'both'"):
        build().set_phase('both')
    without = make_samples(label_map(), instances=False)
    with pytest.raises(ValueError, match='lack gt_instance_map; make them with the transforms BoundaryConsensus'):
        build(fused=False).loss(features(), without, None)
    assert total_of(build().loss(features(), without, None)) > 0  # the logistic loss needs none
    with pytest.raises(ValueError, match='lack gt_sem_seg, gt_instance_map'):
        build(fused=False).loss(features(), [DetDataSample()] * 2, None)


def test_values_of_the_forward_pass(device):
    head = build()
    expected = stages_by_hand(head, features(), FINE)
    logits = logits_by_hand(head, expected)
    head.to(device)
    output = head(features(device=device))
    torch.testing.assert_close(head.directions(output).cpu(), torch.stack(expected, dim=1))
    torch.testing.assert_close(head.fuse(output)[:, 0].cpu(), logits)


def test_predict_gives_the_logit_at_the_size_of_the_input():
    head, inputs = build(), features()
    expected = logits_by_hand(head, stages_by_hand(head, inputs, SIZE))
    for meta in ({'img_shape': (13, 20), 'batch_input_shape': SIZE}, {'img_shape': SIZE}):
        torch.testing.assert_close(head.predict(inputs, [meta] * 2, {})[:, 0], expected)


def test_first_phase_is_the_pair_loss_of_each_stage_at_the_size_of_the_labels(device):
    head, inputs, label = build(fused=False), features(), label_map()
    losses = build(fused=False).to(device).loss(features(device=device), make_samples(label.to(device)), None)
    losses = {name: value.cpu() for name, value in losses.items()}
    assert set(losses) == {f'{name}_{s}' for name in ('loss_embedding', 'positive', 'negative') for s in range(3)}
    expected = 0
    for stage, x_NDHW in enumerate(stages_by_hand(head, inputs, SIZE)):
        ids = torch.where(label == 255, -1, label)
        terms = spherical_pair_terms(x_NDHW, ids, label, margin=0.3, variant='released')
        assert terms.positive > 0.01
        assert terms.negative > 0.01
        torch.testing.assert_close(losses[f'loss_embedding_{stage}'], terms.positive + terms.negative)
        torch.testing.assert_close(losses[f'positive_{stage}'], terms.positive)
        expected = expected + terms.positive + terms.negative
    torch.testing.assert_close(total_of(losses), expected)


def test_second_phase_is_the_balanced_logistic_loss_of_the_fused_embeddings(device):
    head, inputs, label = build(), features(), label_map()
    losses = build().to(device).loss(features(device=device), make_samples(label.to(device)), None)
    assert set(losses) == {'loss_logistic'}
    expected = 0
    for z, y in zip(logits_by_hand(head, stages_by_hand(head, inputs, SIZE)), label, strict=True):
        of_boundary, of_background = torch.log1p(torch.exp(-z[y == 1])), torch.log1p(torch.exp(z[y == 0]))
        expected += (of_boundary.mean() + of_background.mean()) / 4
    torch.testing.assert_close(losses['loss_logistic'].cpu(), expected)


@pytest.mark.parametrize('value', [None, 0, 1, 255])
@pytest.mark.parametrize('fused', [False, True])
def test_every_parameter_that_is_trained_gets_a_gradient(fused, value, device):
    """Also of images without boundaries, without background, and without any label."""
    head, inputs = build(fused).to(device), features(device=device)
    label = label_map() if value is None else torch.full((2, *SIZE), value)
    losses = head.loss(inputs, make_samples(label.to(device)), None)
    total_of(losses).backward()
    for name, parameter in head.named_parameters():
        if not fused and name.startswith('conv_seg'):
            assert parameter.grad is None
            continue
        assert torch.isfinite(parameter.grad).all(), name
        if value is None:
            assert parameter.grad.any(), name
        if value == 255:
            assert not parameter.grad.any(), name
    for stage in (0, 2, 3):
        assert bool(inputs[stage].grad.any()) == (value != 255)
    assert inputs[1].grad is None


@pytest.mark.parametrize('fused', [False, True])
def test_a_line_of_one_pixel_is_learnt_though_no_cell_has_its_label(fused):
    """The nearest labels at a quarter of the size hold no boundary at all."""
    head, label = build(fused, in_channels=(5,), in_index=(0,)), label_map(images=1)
    label[label == 255] = 0
    assert not label[:, 2::4, 2::4].any()
    x = features(images=1)[0].detach()
    optimizer = torch.optim.Adam([p for p in head.parameters() if p.requires_grad] + [x.requires_grad_()], lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(total_of(head.loss([x], make_samples(label), None)))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


def test_loops_of_mean_shift_as_loss():
    """Not the paper's way to boundaries, but a loss on embeddings like any other."""
    loss = {
        'type': 'RecurrentLoss',
        'loops': 1,
        'grouping': {'type': 'MeanShiftGrouping', 'class_agnostic': True},
        'loss': {'type': 'SphericalPairLoss'},
    }
    losses = build(fused=False, loss_embedding=loss).loss(features(), make_samples(label_map()), None)
    assert {'loss_embedding_2', 'positive_0_2', 'negative_1_0'} < set(losses)
    assert total_of(losses) > 0


def test_half_precision():
    head, inputs = build(), features()
    with torch.autocast('cpu', torch.bfloat16):
        loss = total_of(head.loss(inputs, make_samples(label_map()), None))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(total_of(head.loss(inputs, make_samples(label_map()), None)).item(), rel=0.05)


def test_initialisation():
    head = MODELS.build({'type': 'BoundaryHead', 'in_channels': (400, 60), 'in_index': (0, 1), 'embedding_dims': 20})
    head.init_weights()
    for convolution, channels in zip(head.conv_embedding, (400, 60), strict=True):
        bound = math.sqrt(6 / (channels + 20))
        assert 0.97 * bound < convolution.weight.abs().max() <= bound
        assert not convolution.bias.any()
    assert 0 < head.conv_seg.weight.abs().max() < 0.1


def test_frozen_parameters_do_not_change_the_phase():
    head, label = build(), label_map()
    assert (
        build().phase == MODELS.build({'type': 'BoundaryHead', 'in_channels': (5,), 'in_index': (0,)}).phase == 'fusion'
    )
    expected = head.loss(features(), make_samples(label), None)
    head.conv_seg.requires_grad_(False)
    losses = head.loss(features(), make_samples(label), None)
    assert list(losses) == ['loss_logistic'] and losses['loss_logistic'].equal(expected['loss_logistic'])
    head.set_phase('embedding')
    names = [name for name in head.loss(features(), make_samples(label), None) if name.startswith('loss')]
    assert names == [f'loss_embedding_{stage}' for stage in range(3)]
