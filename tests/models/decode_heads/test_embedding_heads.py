"""The decode heads with an embedding branch."""

import cmath
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from devices import assert_same
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.models.decode_heads import DepthwiseSeparableASPPHead, FCNHead, PSPHead, UPerHead
from mmseg.registry import MODELS
from scipy.special import j0
from torch import nn

from mmseg_instancenet.models import EmbeddingFCNHead, EmbeddingHead, EmbeddingMixin, EmbeddingUPerHead
from mmseg_instancenet.models.decode_heads.position import rotate_by_position
from mmseg_instancenet.models.losses import discriminative_terms

NUM_CLASSES, DIMS = 3, 4
COMMON = {'channels': 6, 'num_classes': NUM_CLASSES, 'norm_cfg': {'type': 'BN'}}
HEADS = {
    'EmbeddingHead': (
        DepthwiseSeparableASPPHead,
        {'in_channels': 8, 'in_index': 1, 'c1_in_channels': 5, 'c1_channels': 2, 'dilations': (1, 2), **COMMON},
    ),
    'EmbeddingFCNHead': (FCNHead, {'in_channels': 5, 'in_index': 0, 'num_convs': 1, **COMMON}),
    'EmbeddingUPerHead': (UPerHead, {'in_channels': [5, 8], 'in_index': [0, 1], 'pool_scales': (1, 2), **COMMON}),
}


class EmbeddingPSPHead(EmbeddingMixin, PSPHead):
    """Another head of mmseg with the mixin, as its docstring describes."""


def build(name, **settings):
    torch.manual_seed(0)
    config = {'type': name, **HEADS[name][1], 'embedding_dims': DIMS, 'loss_embedding': {'type': 'DiscriminativeLoss'}}
    head = MODELS.build({**config, **settings})
    # mmseg's initial class weights are tiny, its batch norms trivial: make every part matter.
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


def features(images=2, size=(8, 12), device='cpu'):
    generator = torch.Generator().manual_seed(1)
    fine = torch.randn(images, 5, *size, generator=generator)
    coarse = torch.randn(images, 8, size[0] // 2, size[1] // 2, generator=generator)
    return [fine.to(device), coarse.to(device)]


def label_maps(images=2, size=(16, 24), device='cpu'):
    """Three objects of two classes, and an ignored corner."""
    ids, classes = torch.zeros(images, *size, dtype=torch.long), torch.zeros(images, *size, dtype=torch.long)
    for id_, (rows, columns, class_) in {
        1: ((0, 7), (0, 9), 1),
        4: ((7, 15), (3, 15), 1),
        300: ((3, 9), (16, 22), 2),
    }.items():
        ids[:, slice(*rows), slice(*columns)], classes[:, slice(*rows), slice(*columns)] = id_, class_
    ids[0, :, 20:], classes[0, :, 20:] = -1, 255
    return ids.to(device), classes.to(device)


def make_samples(ids, classes, **metainfo):
    samples = []
    for ids_HW, classes_HW in zip(ids, classes, strict=True):
        sample = DetDataSample(
            metainfo={'img_shape': tuple(ids_HW.shape), 'ori_shape': tuple(ids_HW.shape), **metainfo}
        )
        sample.gt_sem_seg = PixelData(data=classes_HW[None])
        sample.gt_instance_map = PixelData(data=ids_HW[None])
        samples.append(sample)
    return samples


def run(head, inputs=None, metas=None, size=None, origin=(0, 0)):
    """Class scores and embeddings of a pass; without a size the head's map has that of the network's input."""
    inputs = features() if inputs is None else inputs
    with head.branch.listening() as maps:
        scores = head(inputs)
    return scores, head.branch.embed(maps, metas or [{}] * len(scores), size or tuple(maps[0].shape[2:]), origin)


def record(module, arguments):
    """Appends the input of a module to a list."""
    return module.register_forward_pre_hook(lambda _, inputs: arguments.append(inputs[0].detach().clone()))


@pytest.mark.parametrize('name', HEADS)
def test_forward_is_mmsegs_head_and_the_embedding_of_the_same_features(name, device):
    head, (plain_type, config) = build(name).eval().to(device), HEADS[name]
    plain = plain_type(**config).eval().to(device)
    missing, extra = plain.load_state_dict(head.state_dict(), strict=False)
    assert not missing
    assert extra == ['conv_embedding.weight', 'conv_embedding.bias']

    seen = []
    record(head.conv_seg, seen)
    scores, embeddings = run(head, features(device=device))
    assert scores.shape[:2] == (2, NUM_CLASSES) and embeddings.shape[:2] == (2, DIMS)
    assert_same(scores, plain(features(device=device)))
    weight, bias = head.conv_embedding.weight[:, :, 0, 0].cpu(), head.conv_embedding.bias.cpu()
    expected = torch.einsum('dc,nchw->ndhw', weight, seen[0].cpu()) + bias[None, :, None, None]
    torch.testing.assert_close(embeddings.cpu(), expected)
    assert embeddings.std() > 0.1


def test_types_and_the_mixin_on_another_head():
    types = {
        'EmbeddingHead': EmbeddingHead,
        'EmbeddingFCNHead': EmbeddingFCNHead,
        'EmbeddingUPerHead': EmbeddingUPerHead,
    }
    for name, type_ in types.items():
        assert type(build(name)) is type_
        assert isinstance(build(name), EmbeddingMixin)
    head = EmbeddingPSPHead(in_channels=5, in_index=0, pool_scales=(1, 2), embedding_dims=2, **COMMON).eval()
    plain = PSPHead(in_channels=5, in_index=0, pool_scales=(1, 2), **COMMON).eval()
    plain.load_state_dict(head.state_dict(), strict=False)
    scores, embeddings = run(head)
    assert embeddings.shape[1] == 2
    assert torch.equal(scores, plain(features()))


@pytest.mark.parametrize('name', HEADS)
def test_dropout_acts_on_the_scores_alone(name):
    head = build(name, dropout_ratio=0.5).train()
    before, to_scores, to_embeddings = [], [], []
    for module, arguments in ((head.dropout, before), (head.conv_seg, to_scores), (head.conv_embedding, to_embeddings)):
        record(module, arguments)
    run(head)
    assert torch.equal(to_embeddings[0], before[0])
    dead, dropped = ((x == 0).all(3).all(2) for x in (before[0], to_scores[0]))
    assert (dropped & ~dead).any()
    assert not dropped.all()


@pytest.mark.parametrize('name', HEADS)
def test_loss(name, device):
    head = build(name).eval().to(device)
    losses = head.loss(features(device=device), make_samples(*label_maps(device=device)), None)
    losses = {key: value.cpu() for key, value in losses.items()}
    assert set(losses) == {'loss_ce', 'acc_seg', 'loss_embedding', 'pull', 'push', 'regularization'}

    scores, embeddings = (maps.cpu() for maps in run(head, features(device=device)))
    ids, classes = label_maps()
    at_label_size = F.interpolate(scores, size=(16, 24), mode='bilinear', align_corners=False)
    # mmseg's cross-entropy divides by all pixels, ignored ones too.
    cross_entropy = F.cross_entropy(at_label_size, classes, ignore_index=255, reduction='sum') / classes.numel()
    torch.testing.assert_close(losses['loss_ce'], cross_entropy)
    step = 16 // embeddings.shape[2]
    assert step in (2, 4)
    # The label under a cell's centre.
    small_ids, small_classes = (x[:, step // 2 :: step, step // 2 :: step] for x in (ids, classes))
    terms = discriminative_terms(embeddings, small_ids, small_classes)
    assert terms.push > 0.1
    torch.testing.assert_close(losses['loss_embedding'], terms.pull + terms.push + 0.001 * terms.regularization)
    total, _ = BaseModel.parse_losses(None, losses)
    torch.testing.assert_close(total, losses['loss_ce'] + losses['loss_embedding'])


@pytest.mark.parametrize('content', ['objects', 'background', 'ignored'])
@pytest.mark.parametrize('coordinates', [False, True])
@pytest.mark.parametrize('name', HEADS)
def test_every_parameter_gets_a_gradient(name, coordinates, content, device):
    head = build(name, coordinates=coordinates).train().to(device)
    ids, classes = label_maps(device=device)
    if content != 'objects':
        ids, classes = (torch.full_like(ids, v) for v in {'background': (0, 0), 'ignored': (-1, 255)}[content])
    losses = head.loss(features(device=device), make_samples(ids, classes), None)
    total, _ = BaseModel.parse_losses(None, losses)
    total.backward()
    assert torch.isfinite(total)
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
    assert bool(head.conv_embedding.weight.grad.any()) == (content == 'objects')
    assert bool(head.conv_seg.weight.grad.any()) == (content != 'ignored')


def test_several_class_losses_see_the_scores_alone():
    losses = [{'type': 'WeightedCrossEntropyLoss', 'class_weight': [0.1, 1, 2]}, {'type': 'ClassDiceLoss'}]
    head = build('EmbeddingFCNHead', loss_decode=losses)
    ids, classes = label_maps()
    result = head.loss(features(), make_samples(ids, classes), None)
    assert {'loss_ce', 'loss_dice', 'loss_embedding'} < set(result)
    total, _ = BaseModel.parse_losses(None, result)
    torch.testing.assert_close(total, result['loss_ce'] + result['loss_dice'] + result['loss_embedding'])


@pytest.mark.parametrize('name', HEADS)
def test_predict_gives_the_class_scores_alone(name):
    head = build(name).eval()
    metas = [{'img_shape': (16, 24)}] * 2
    scores = F.interpolate(head(features()), size=(16, 24), mode='bilinear', align_corners=False)
    torch.testing.assert_close(head.predict(features(), metas, {}), scores)


def test_errors():
    with pytest.raises(ValueError, match='embedding_dims >= 1, got 0'):
        build('EmbeddingHead', embedding_dims=0)
    with pytest.raises(ValueError, match=r'background included \(2\), got out_channels=1'):
        build(
            'EmbeddingFCNHead',
            num_classes=2,
            out_channels=1,
            loss_decode={'type': 'CrossEntropyLoss', 'use_sigmoid': True},
        )
    samples = make_samples(*label_maps())
    with pytest.raises(ValueError, match=r'EmbeddingFCNHead has no loss to train with.*loss_embedding=dict\(type='):
        build('EmbeddingFCNHead', loss_embedding=None).loss(features(), samples, None)
    for sample in samples:
        del sample.gt_instance_map
    with pytest.raises(ValueError, match='lack gt_instance_map; make them with the transforms MasksToMaps'):
        build('EmbeddingHead').loss(features(), samples, None)
    for sample in samples:
        del sample.gt_sem_seg
    with pytest.raises(ValueError, match='lack gt_sem_seg, gt_instance_map'):
        build('EmbeddingHead').loss(features(), samples, None)


def test_a_head_without_embedding_loss_predicts():
    head = build('EmbeddingFCNHead', loss_embedding=None).eval()
    assert torch.equal(head(features()), build('EmbeddingFCNHead').eval()(features()))


def test_embedding_is_initialised_with_xavier():
    head = EmbeddingFCNHead(in_channels=5, in_index=0, channels=60, num_classes=3, num_convs=1, embedding_dims=40)
    head.init_weights()
    weight = head.conv_embedding.weight
    bound = math.sqrt(6 / (60 + 40))
    assert 0.98 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert not head.conv_embedding.bias.any()
    # mmseg's own for the class scores.
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.3)


def test_pretrained_weights_of_the_head_outlive_the_initialisation(tmp_path):
    saved = build('EmbeddingFCNHead')
    torch.save({'state_dict': saved.state_dict()}, tmp_path / 'head.pth')
    head = build('EmbeddingFCNHead', init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'head.pth')})
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    head.init_weights()
    for name, value in saved.state_dict().items():
        assert torch.equal(head.state_dict()[name], value), name


@pytest.mark.parametrize('name', HEADS)
def test_unit_length_scales_the_embeddings_alone(name):
    plain, head = build(name).eval(), build(name, unit_length=True).eval()
    (scores, embeddings), (plain_scores, plain_embeddings) = (run(m) for m in (head, plain))
    assert torch.equal(scores, plain_scores)
    expected = plain_embeddings / plain_embeddings.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(embeddings, expected)
    assert (plain_embeddings.norm(dim=1) - 1).abs().max() > 0.1


def test_unit_length_in_half_precision_is_computed_in_float32():
    head = build('EmbeddingFCNHead', unit_length=True).eval()
    with torch.no_grad():
        head.conv_embedding.weight *= 300  # squares beyond half precision
    with torch.autocast('cpu', dtype=torch.float16):
        embeddings = run(head)[1]
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2, 8, 12))


def test_unit_length_of_an_embedding_of_zero():
    """Features that a ReLU has put out: no direction, no gradient that would outweigh all others."""
    head = build('EmbeddingFCNHead', unit_length=True)
    with torch.no_grad():
        head.conv_embedding.bias.zero_()
    feature = torch.randn(1, COMMON['channels'], 4, 4)
    feature[..., 0] = 0
    embeddings = head.branch.embed([feature], [{}], (4, 4))
    assert not embeddings[..., 0].any()
    (embeddings * torch.randn_like(embeddings)).sum().backward()
    assert head.conv_embedding.bias.grad.abs().max() < 1e3


def test_unit_length_trains():
    loss = {'type': 'SphericalPairLoss', 'margin': 0.5}
    recurrent = {
        'type': 'RecurrentLoss',
        'loss': loss,
        'grouping': {'type': 'MeanShiftGrouping', 'class_agnostic': True},
        'loops': 2,
    }
    for config in (loss, recurrent):
        head = build('EmbeddingFCNHead', unit_length=True, loss_embedding=config)
        losses = head.loss(features(), make_samples(*label_maps()), None)
        total, _ = BaseModel.parse_losses(None, losses)
        torch.testing.assert_close(total, losses['loss_ce'] + losses['loss_embedding'])
        total.backward()
        assert head.conv_embedding.weight.grad.abs().max() > 1e-4


def test_hidden_layer_of_the_embedding_branch():
    head = build('EmbeddingFCNHead', hidden_channels=7, coordinates=True).eval()
    first, _, last = head.conv_embedding
    assert (first.in_channels, first.out_channels, last.out_channels) == (COMMON['channels'] + 2, 7, DIMS)
    entered = []
    record(head.conv_embedding, entered)
    embeddings = run(head)[1]
    expected = torch.einsum('nchw,dc->ndhw', entered[0], first.weight[:, :, 0, 0]) + first.bias[:, None, None]
    expected = torch.einsum('nchw,dc->ndhw', expected.clamp(min=0), last.weight[:, :, 0, 0]) + last.bias[:, None, None]
    torch.testing.assert_close(embeddings, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match='hidden_channels >= 1, or None'):
        build('EmbeddingFCNHead', hidden_channels=0)


def recorded(head):
    """Lists of the inputs of the convolutions of class scores and embedding."""
    lists = ([], [])
    for module, arguments in zip((head.conv_seg, head.conv_embedding), lists, strict=True):
        record(module, arguments)
    return lists


def grid(x, y, images=2):
    """(N, 2, h, w) with x growing to the right and y downwards."""
    return torch.stack(torch.meshgrid(torch.as_tensor(x), torch.as_tensor(y), indexing='xy')).expand(images, -1, -1, -1)


X, Y = (torch.arange(12) + 0.5) / 12, (torch.arange(8) + 0.5) / 8


def test_coordinates_enter_the_embedding_branch_alone():
    head = build('EmbeddingFCNHead', coordinates=True).eval()
    to_scores, to_embeddings = recorded(head)
    scores, embeddings = run(head)
    # Without a position the input is the whole image; the range is -10 to 10.
    torch.testing.assert_close(to_embeddings[0], torch.cat([to_scores[0], grid(20 * X - 10, 20 * Y - 10)], dim=1))
    weight, bias = head.conv_embedding.weight[:, :, 0, 0], head.conv_embedding.bias
    expected = torch.einsum('dc,nchw->ndhw', weight, to_embeddings[0]) + bias[None, :, None, None]
    torch.testing.assert_close(embeddings, expected)
    plain = FCNHead(**HEADS['EmbeddingFCNHead'][1]).eval()
    plain.load_state_dict(head.state_dict(), strict=False)
    assert torch.equal(scores, plain(features()))


def test_coordinates_of_a_window():
    head = build('EmbeddingFCNHead', coordinates=True).eval()
    to_scores, to_embeddings = recorded(head)
    # The right half of an image of 16 x 24 that is seen at twice its size.
    meta = {'homography_matrix': [[2, 0, 0], [0, 2, 0], [0, 0, 1]], 'ori_shape': (16, 24), 'img_shape': (32, 48)}
    run(head, metas=[meta, meta], size=(32, 24), origin=(0, 24))
    torch.testing.assert_close(to_embeddings[0], torch.cat([to_scores[0], grid(10 * X, 20 * Y - 10)], dim=1))


# An image of 32 x 48, of which the lower right quarter was cropped.
CROPPED = {'homography_matrix': [[1, 0, -24], [0, 1, -16], [0, 0, 1]], 'ori_shape': (32, 48), 'img_shape': (16, 24)}


def test_coordinates_come_from_the_data_samples():
    head = build('EmbeddingFCNHead', coordinates=True).eval()
    _, to_embeddings = recorded(head)
    head.loss(features(), make_samples(*label_maps(), **CROPPED), None)
    run(head, metas=[CROPPED, CROPPED], size=(16, 24))
    # The same crop in a batch that was padded to twice its size.
    run(head, metas=[CROPPED, CROPPED], size=(32, 48))
    assert len(to_embeddings) == 3
    for seen, scale in zip(to_embeddings, (1, 1, 2), strict=True):
        torch.testing.assert_close(seen[:, -2:], grid(scale * 10 * X, scale * 10 * Y))


def test_each_image_of_a_batch_has_its_own_coordinates():
    head = build('EmbeddingFCNHead', coordinates=True).eval()
    _, to_embeddings = recorded(head)
    run(head, metas=[CROPPED, {'ori_shape': (16, 24), 'img_shape': (16, 24)}], size=(16, 24))
    torch.testing.assert_close(to_embeddings[0][:1, -2:], grid(10 * X, 10 * Y, images=1))
    torch.testing.assert_close(to_embeddings[0][1:, -2:], grid(20 * X - 10, 20 * Y - 10, images=1))


def added_position(name, images=2, **settings):
    """The values that ``pixels_per_unit`` adds to the embeddings: difference of the same head with and without it."""
    plain, head = build(name).eval(), build(name, pixels_per_unit=2.5, **settings).eval()
    (plain_scores, before), (scores, after) = (run(m, features(images)) for m in (plain, head))
    assert torch.equal(scores, plain_scores)
    return before, after


@pytest.mark.parametrize('name', HEADS)
def test_position_is_added_to_the_first_two_values(name):
    before, after = added_position(name)
    height, width = before.shape[2:]
    # Alone, the map counts as the input.
    expected = before.clone()
    for row in range(height):
        for column in range(width):
            expected[:, 0, row, column] += (column + 0.5) / 2.5
            expected[:, 1, row, column] += (row + 0.5) / 2.5
    torch.testing.assert_close(after, expected)
    assert torch.equal(after[:, 2:], before[:, 2:])


@pytest.mark.parametrize('size', [(8, 12), (16, 24), (32, 48), (30, 41)])
def test_position_is_in_pixels_of_the_input(size, device):
    """The head's map of 8 x 12 cells is up to a quarter of the input."""
    plain, head = (build('EmbeddingFCNHead', **s).eval().to(device) for s in ({}, {'pixels_per_unit': 4.0}))
    before = run(plain, features(device=device))[1]
    after = run(head, features(device=device), size=size)[1]
    x = torch.tensor([(column + 0.5) * size[1] / 12 / 4 for column in range(12)])
    y = torch.tensor([(row + 0.5) * size[0] / 8 / 4 for row in range(8)])
    torch.testing.assert_close(after[:, :2].cpu(), before[:, :2].cpu() + grid(x, y))
    assert_same(after[:, 2:], before[:, 2:])
    # Where the window lies in the whole input makes no difference.
    assert_same(run(head, features(device=device), size=size, origin=(5, 7))[1], after)


def test_position_comes_with_the_data_samples():
    """In a loss from the labels' size, in a prediction from that of the input."""
    head = build('EmbeddingFCNHead', pixels_per_unit=4.0).eval()
    plain = build('EmbeddingFCNHead').eval()
    before = run(plain)[1]
    ids, classes = label_maps()
    losses = head.loss(features(), make_samples(ids, classes), None)
    x, y = (torch.arange(12) + 0.5) * 2 / 4, (torch.arange(8) + 0.5) * 2 / 4
    expected = torch.cat([before[:, :2] + grid(x, y), before[:, 2:]], dim=1)
    terms = discriminative_terms(expected, ids[:, 1::2, 1::2], classes[:, 1::2, 1::2])
    torch.testing.assert_close(losses['pull'], terms.pull)
    torch.testing.assert_close(losses['push'], terms.push)
    torch.testing.assert_close(losses['regularization'], terms.regularization)
    torch.testing.assert_close(run(head, size=(32, 48))[1][:, :2], before[:, :2] + grid(2 * x, 2 * y))


@pytest.mark.parametrize('hidden_channels', [None, 7])
def test_position_under_bfloat16_keeps_the_digits_of_float32(hidden_channels):
    head = build('EmbeddingFCNHead', pixels_per_unit=3.0, hidden_channels=hidden_channels).eval()
    plain = build('EmbeddingFCNHead', hidden_channels=hidden_channels).eval()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = run(head, size=(2048, 3072))[1]
        before = run(plain)[1]
    assert before.dtype == torch.bfloat16 and output.dtype == torch.float32
    position = output[:, :2] - before[:, :2].float()
    # Beside 1023, bfloat16 would round to multiples of 4.
    expected = grid((torch.arange(12) + 0.5) * 256 / 3, (torch.arange(8) + 0.5) * 256 / 3)
    torch.testing.assert_close(position, expected, rtol=0, atol=2e-4)


def test_position_with_coordinates_and_a_hidden_layer_trains():
    head = build('EmbeddingFCNHead', pixels_per_unit=3.0, coordinates=True, hidden_channels=5).train()
    losses = head.loss(features(), make_samples(*label_maps(), **CROPPED), None)
    total, _ = BaseModel.parse_losses(None, losses)
    total.backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert head.conv_embedding[-1].weight.grad.abs().max() > 1e-4


def test_position_of_two_embedding_dimensions():
    head, plain = (build('EmbeddingFCNHead', embedding_dims=2, **s).eval() for s in ({'pixels_per_unit': 1}, {}))
    position = run(head)[1] - run(plain)[1]
    torch.testing.assert_close(position, grid(torch.arange(12) + 0.5, torch.arange(8) + 0.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize('value', [0, -1, float('nan')])
def test_pixels_per_unit_that_does_not_fit(value):
    with pytest.raises(ValueError, match=f'pixels_per_unit > 0, or None for no position, got {value}'):
        build('EmbeddingFCNHead', pixels_per_unit=value)


@pytest.mark.parametrize(('dims', 'unit_length'), [(1, False), (1, True), (2, True), (3, True), (5, True)])
def test_position_does_not_fit_the_embedding(dims, unit_length):
    message = f'pixels_per_unit.*got embedding_dims={dims} and unit_length={unit_length}'
    with pytest.raises(ValueError, match=message):
        build('EmbeddingFCNHead', pixels_per_unit=3.0, embedding_dims=dims, unit_length=unit_length)
    # Without a position any number of values fits.
    build('EmbeddingFCNHead', embedding_dims=dims, unit_length=unit_length)


# The position that turns embeddings of unit length.


def turned_complex(embeddings, position):
    """The pairs as complex numbers, each times exp(i angle), one at a time, in float64."""
    images, dims, height, width = embeddings.shape
    pairs, result = dims // 2, np.empty(embeddings.shape)
    for image, pair, row, column in np.ndindex(images, pairs, height, width):
        number = complex(embeddings[image, pair, row, column], embeddings[image, pairs + pair, row, column])
        direction = math.pi * pair / pairs
        x, y = position[:, row, column]
        number *= cmath.exp(1j * (x * math.cos(direction) + y * math.sin(direction)))
        result[image, [pair, pairs + pair], row, column] = number.real, number.imag
    return torch.from_numpy(result)


def random_embeddings(dims, size=(5, 7), images=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(images, dims, *size, generator=generator, dtype=torch.float64)
    return F.normalize(embeddings, dim=1), torch.randn(2, *size, generator=generator, dtype=torch.float64) * 10


@pytest.mark.parametrize('dims', [2, 4, 6, 16])
def test_rotation_against_complex_numbers(dims, device):
    embeddings, position = random_embeddings(dims)
    expected = turned_complex(embeddings.numpy(), position.numpy())
    turned = rotate_by_position(embeddings.to(device).float(), position.to(device).float())
    assert turned.dtype == torch.float32
    torch.testing.assert_close(turned.cpu().double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(turned.norm(dim=1), torch.ones(2, 5, 7, device=device))
    # Any length stays.
    turned = rotate_by_position(3 * embeddings.to(device).float(), position.to(device).float())
    torch.testing.assert_close(turned.cpu().double(), 3 * expected, rtol=0, atol=3e-5)
    unmoved = rotate_by_position(embeddings, torch.zeros_like(position))
    assert torch.equal(unmoved, embeddings)


def test_rotation_of_a_vector_without_direction_and_of_an_odd_number_of_values():
    assert not rotate_by_position(torch.zeros(1, 4, 2, 2), torch.ones(2, 2, 2)).any()
    with pytest.raises(ValueError, match=r'even number of embedding values, got embeddings \(1, 5, 2, 2\)'):
        rotate_by_position(torch.zeros(1, 5, 2, 2), torch.ones(2, 2, 2))


def test_cosine_of_turned_embeddings_depends_on_the_difference_of_positions_alone():
    embeddings, position = random_embeddings(8)
    first, moved = (
        rotate_by_position(embeddings, position + torch.tensor(s).view(2, 1, 1)) for s in ((0, 0), (31, -17))
    )
    assert (first - moved).abs().max() > 0.5
    cosines = [torch.einsum('di,dj->ij', x[0].flatten(1), x[0].flatten(1)) for x in (first, moved)]
    torch.testing.assert_close(*cosines)
    # It does depend on that.
    before = torch.einsum('di,dj->ij', embeddings[0].flatten(1), embeddings[0].flatten(1))
    assert (before - cosines[0]).abs().max() > 0.5


@pytest.mark.parametrize(('dims', 'reach'), [(16, 8.0), (32, 16.0), (512, 100.0)])
def test_cosine_of_equal_embeddings_is_a_bessel_function_of_their_distance(dims, reach):
    """Pairs of equal lengths and any angle, on a circle of directions, up to a distance of D / 2."""
    pairs = dims // 2
    angle = torch.rand(pairs, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 7
    embedding = torch.cat([angle.cos(), angle.sin()]) / pairs**0.5
    distance = torch.linspace(0, reach, 101, dtype=torch.float64)[:, None]
    direction = torch.linspace(0, 2 * math.pi, 24, dtype=torch.float64)[None]
    position = torch.stack([distance * direction.cos(), distance * direction.sin()])
    turned = rotate_by_position(embedding.view(1, dims, 1, 1).expand(1, dims, 101, 24), position)[0]
    cosine = torch.einsum('d,drc->rc', embedding, turned)
    expected = torch.from_numpy(j0(distance.numpy())).expand(101, 24)
    torch.testing.assert_close(cosine, expected, rtol=0, atol=0.005)
    beyond = expected[distance[:, 0] > 2.405]
    assert beyond.min() > -0.41 and beyond.max() < 0.31


@pytest.mark.parametrize('name', HEADS)
def test_head_turns_the_embeddings_of_unit_length(name):
    plain, head = (build(name, unit_length=True, **s).eval() for s in ({}, {'pixels_per_unit': 2.5}))
    (plain_scores, before), (scores, after) = (run(m) for m in (plain, head))
    assert torch.equal(scores, plain_scores)
    height, width = before.shape[2:]
    # Alone, the map counts as the input.
    x, y = (torch.arange(width) + 0.5) / 2.5, (torch.arange(height) + 0.5) / 2.5
    expected = turned_complex(before.detach().double().numpy(), grid(x, y)[0].double().numpy())
    torch.testing.assert_close(after.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(after.norm(dim=1), torch.ones(2, height, width))
    # From the convolution's own output.
    entered = []
    record(head.conv_embedding, entered)
    run(head)
    raw = head.conv_embedding(entered[0])
    assert (raw.norm(dim=1) - 1).abs().max() > 0.1
    torch.testing.assert_close(after, rotate_by_position(F.normalize(raw, dim=1), grid(x, y)[0]))


@pytest.mark.parametrize('size', [(8, 12), (32, 48), (30, 41)])
def test_rotation_is_in_pixels_of_the_input(size, device):
    settings = {'unit_length': True, 'embedding_dims': 8}
    plain, head = (build('EmbeddingFCNHead', **settings, **s).eval().to(device) for s in ({}, {'pixels_per_unit': 4.0}))
    before = run(plain, features(device=device))[1]
    after = run(head, features(device=device), size=size)[1]
    x = torch.tensor([(column + 0.5) * size[1] / 12 / 4 for column in range(12)])
    y = torch.tensor([(row + 0.5) * size[0] / 8 / 4 for row in range(8)])
    expected = turned_complex(before.detach().cpu().double().numpy(), grid(x, y)[0].double().numpy())
    torch.testing.assert_close(after.cpu().double(), expected, rtol=0, atol=1e-5)
    # Where the window lies in the whole input makes no difference.
    assert_same(run(head, features(device=device), size=size, origin=(5, 7))[1], after)


def test_rotation_comes_with_the_data_samples_and_trains():
    head = build(
        'EmbeddingFCNHead',
        pixels_per_unit=4.0,
        unit_length=True,
        loss_embedding={'type': 'SphericalPairLoss', 'margin': 0.5},
    )
    plain = build('EmbeddingFCNHead', unit_length=True).eval()
    ids, classes = label_maps()
    losses = head.eval().loss(features(), make_samples(ids, classes), None)
    position = grid((torch.arange(12) + 0.5) * 2 / 4, (torch.arange(8) + 0.5) * 2 / 4)[0]
    expected = rotate_by_position(run(plain)[1], position)
    expected = head.loss_embedding(expected, ids[:, 1::2, 1::2], classes[:, 1::2, 1::2])
    torch.testing.assert_close(losses['loss_embedding'], expected['loss_embedding'])
    assert losses['loss_embedding'] > 1e-3
    total, _ = BaseModel.parse_losses(None, losses)
    total.backward()
    assert head.conv_embedding.weight.grad.abs().max() > 1e-4


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_rotation_in_half_precision_keeps_the_digits_of_float32(dtype):
    """Beside an angle of 1023, bfloat16 would round to multiples of 4 radians."""
    plain, head = (build('EmbeddingFCNHead', unit_length=True, **s).eval() for s in ({}, {'pixels_per_unit': 3.0}))
    with torch.autocast('cpu', dtype=dtype):
        after = run(head, size=(2048, 3072))[1]
        before = run(plain)[1]
    assert after.dtype == before.dtype == torch.float32
    position = grid((torch.arange(12.0) + 0.5) * 256 / 3, (torch.arange(8.0) + 0.5) * 256 / 3)[0]
    expected = turned_complex(before.detach().double().numpy(), position.double().numpy())
    torch.testing.assert_close(after.double(), expected, rtol=0, atol=5e-4)
