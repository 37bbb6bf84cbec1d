"""The spherical pair loss against double loops over pixels, written from formula (2) and from the authors' gradient."""

import itertools
import math
import warnings

import pytest
import torch
from devices import gradcheck
from mmengine.model import BaseModel
from mmseg.registry import MODELS
from references.peak_memory import peak_memory
from references.spherical_pair import pair_sums

from mmseg_instancenet.models.losses import SphericalPairLoss, feasible_margin, pair_blocks, spherical_pair_terms
from mmseg_instancenet.models.losses.pair_blocks import hinged_pair_sum

VARIANTS = ['paper', 'released']


def random_batch(ids=(0, 1, 2, 3), classes=(0, 1, 2), images=2, dims=3, size=(5, 6), scale=2.0, seed=0):
    """Embeddings and label maps in which every pixel is drawn by itself: each id occurs with each class."""
    generator = torch.Generator().manual_seed(seed)
    shape = (images, *size)
    embeddings = torch.randn(images, dims, *size, generator=generator, dtype=torch.float64) * scale
    instance_map = torch.tensor(ids)[torch.randint(len(ids), shape, generator=generator)]
    class_map = torch.tensor(classes)[torch.randint(len(classes), shape, generator=generator)]
    return embeddings, instance_map, class_map


def random_sample(shape=(2, 5, 6), seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6


def check(embeddings, instance_map, class_map, margin=0.5, device='cpu', sample_NHW=None, **settings):
    """Values and gradients of both parts."""
    values, gradients = pair_sums(embeddings, instance_map, class_map, margin, sample_NHW=sample_NHW, **settings)
    x = embeddings.detach().clone().to(device).requires_grad_()
    sample_NHW = None if sample_NHW is None else sample_NHW.to(device)
    maps = instance_map.to(device), class_map.to(device)
    terms = spherical_pair_terms(x, *maps, margin=margin, sample_NHW=sample_NHW, **settings)
    for term, value, gradient in zip(terms, values, gradients, strict=True):
        assert term.item() == pytest.approx(value, rel=1e-10, abs=1e-14)
        (actual,) = torch.autograd.grad(term, x, retain_graph=True)
        torch.testing.assert_close(actual.cpu(), gradient, rtol=1e-9, atol=1e-12)
    return terms


def test_values_by_hand():
    # Directions of 0, 90 and 180 degrees: s = 1, 1/2, 0 with the first.
    x = torch.tensor([[[[3.0, 0.0, -0.5]], [[0.0, 2.0, 0.0]]]])
    ids, classes = torch.tensor([[[1, 1, 2]]]), torch.full((1, 1, 3), 5)
    # Paper: weights 1/2, 1/2, 1; both orders; 3 pixels.
    terms = spherical_pair_terms(x, ids, classes, margin=0.25)
    assert terms.positive.item() == pytest.approx(2 * (1 / 4) * (1 - 1 / 2) / 3)
    assert terms.negative.item() == pytest.approx(2 * (1 / 2) * (1 / 2 - 0.25) / 3)
    # Released: two instances, weights of the pairs sum to 4.
    terms = spherical_pair_terms(x, ids, classes, margin=0.25, variant='released')
    assert terms.positive.item() == pytest.approx(2 * (1 / 4) * (1 - 1 / 4) / 4)
    assert terms.negative.item() == pytest.approx(2 * (1 / 2) * (1 / 2 - 0.25) ** 2 / 4)
    losses = SphericalPairLoss(margin=0.25, positive_weight=2, negative_weight=3, loss_weight=10)(x, ids, classes)
    assert losses['loss_embedding'].item() == pytest.approx(10 * (2 * 1 / 12 + 3 * 1 / 12))


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'margin': 1.1}, r'margin in \[0, 1\].* got 1.1'),
        ({'margin': -0.1}, r'margin in \[0, 1\].* got -0.1'),
        ({'margin': None}, 'a margin, or num_instances'),
        ({'num_instances': 0}, 'num_instances >= 1, got 0'),
        ({'variant': 'published'}, "'paper', 'released'.*got 'published'"),
        ({'positive_weight': -1}, 'positive_weight >= 0, got -1'),
        ({'negative_weight': -0.5}, 'negative_weight >= 0, got -0.5'),
        ({'sample_ratio': 0}, 'sample_ratio above 0 and at most 1.* got 0'),
        ({'sample_ratio': 1.5}, 'got 1.5'),
        ({'max_samples': 0}, 'max_samples >= 1 .* got 0'),
        ({'loss_name': 'embedding'}, "contains 'loss'.*'embedding'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SphericalPairLoss(**settings)


def test_wrong_input():
    x, ids, classes = random_batch()
    with pytest.raises(ValueError, match=r'embeddings \(N, D, H, W\), got \(3, 5, 6\)'):
        spherical_pair_terms(x[0], ids, classes, margin=0.5)
    with pytest.raises(ValueError, match='floating point embeddings.*int64'):
        spherical_pair_terms(x.long(), ids, classes, margin=0.5)
    with pytest.raises(ValueError, match=r'instance map \(2, 5, 6\).*got \(2, 10, 12\).*resize_labels'):
        spherical_pair_terms(x, torch.zeros(2, 10, 12), classes, margin=0.5)
    with pytest.raises(ValueError, match=r'one shape.*\(2, 5, 6\) and \(2, 3, 6\)'):
        spherical_pair_terms(x, ids, classes[:, :3], margin=0.5)
    with pytest.raises(ValueError, match='D >= 2 .* got D = 1'):
        spherical_pair_terms(x[:, :1], ids, classes, margin=0.5)
    with pytest.raises(ValueError, match=r'bool sample \(2, 5, 6\), got \(2, 5, 6\) torch.int64'):
        spherical_pair_terms(x, ids, classes, margin=0.5, sample_NHW=ids)
    with pytest.raises(ValueError, match=r'got \(2, 5\) torch.bool'):
        spherical_pair_terms(x, ids, classes, margin=0.5, sample_NHW=ids[..., 0] > 0)
    with pytest.raises(ValueError, match='margin in'):
        spherical_pair_terms(x, ids, classes, margin=2)
    with pytest.raises(ValueError, match='variant'):
        spherical_pair_terms(x, ids, classes, margin=0.5, variant='')
    with pytest.raises(ValueError, match=r'instances of P pixels in all, got \(4, 2\), \(4,\) and 5 pixels'):
        hinged_pair_sum(torch.ones(4, 2), torch.ones(4), [[2, 3]], margin=0.5)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('id_', [-1, 0, 1])
def test_embeddings_that_are_not_finite(value, id_):
    x, ids, classes = random_batch()
    for maps in (ids, torch.full_like(ids, -1)):
        maps[0, 0, 0] = id_
        x[0, 0, 0, 0] = value
        with pytest.raises(ValueError, match='finite embeddings.*lower the learning rate'):
            spherical_pair_terms(x, maps, classes, margin=0.5)


def test_embeddings_whose_length_overflows():
    x, ids, classes = random_batch()
    x[0, 0, 0, 0] = 1e30
    check(x, ids, classes)
    with pytest.raises(ValueError, match='finite length in torch.float32'):
        spherical_pair_terms(x.float(), ids, classes, margin=0.5)


@pytest.mark.parametrize('sampled', [False, True])
@pytest.mark.parametrize('background_is_instance', [False, True])
@pytest.mark.parametrize('class_agnostic', [False, True])
@pytest.mark.parametrize('variant', VARIANTS)
def test_values_and_gradients(variant, class_agnostic, background_is_instance, sampled, device):
    x, ids, classes = random_batch(ids=(-1, 0, 1, 2, 300000001), classes=(1, 2, 7, 255))
    ids[0, 0, :3], classes[0, 0, :3] = torch.tensor([1, 1, 2]), 7
    terms = check(
        x,
        ids,
        torch.where(ids == 0, 0, classes),
        device=device,
        variant=variant,
        class_agnostic=class_agnostic,
        background_is_instance=background_is_instance,
        sample_NHW=random_sample() if sampled else None,
    )
    assert min(terms) > 1e-3


@pytest.mark.parametrize('margin', [0, 0.1, 0.5, 0.93, 1])
@pytest.mark.parametrize('variant', VARIANTS)
def test_margins(variant, margin):
    x, ids, classes = random_batch(dims=2)
    terms = check(x, ids, classes, margin=margin, variant=variant)
    assert (terms.negative > 0) == (margin < 1)


def test_switches_change_the_loss():
    x, ids, classes = random_batch(classes=(1, 2))
    plain = spherical_pair_terms(x, ids, classes, margin=0.5)
    for settings in (
        {'variant': 'released'},
        {'class_agnostic': False},
        {'background_is_instance': False},
        {'sample_NHW': random_sample()},
    ):
        other = spherical_pair_terms(x, ids, classes, **{'margin': 0.5, **settings})
        assert abs(other.positive - plain.positive) > 1e-3
        assert abs(other.negative - plain.negative) > 1e-3


def test_images_of_unequal_numbers_are_averaged():
    x, ids, classes = random_batch(images=4)
    ids[1], ids[2], ids[3, :2] = -1, 7, -1
    for variant in VARIANTS:
        together = torch.stack(list(check(x, ids, classes, variant=variant)))
        alone = [
            torch.stack(list(check(x[i : i + 1], ids[i : i + 1], classes[i : i + 1], variant=variant)))
            for i in range(4)
        ]
        torch.testing.assert_close(together, sum(alone) / 4)
        assert not alone[1].any()


@pytest.mark.parametrize('side', [1, 2, 7, 16, 64])
@pytest.mark.parametrize('variant', VARIANTS)
def test_blocks_of_any_size(monkeypatch, variant, side, device):
    monkeypatch.setattr(pair_blocks, '_CPU_BLOCK', side)
    monkeypatch.setattr(pair_blocks, '_GPU_BLOCK', side)
    x, ids, classes = random_batch(ids=(-1, 0, 0, 0, 0, *range(1, 9)), images=1, size=(7, 8))
    check(x, ids, classes, device=device, variant=variant)
    check(x, ids, classes, device=device, variant=variant, class_agnostic=False)


def test_every_pair_of_two_instances_lies_in_one_block():
    group_sizes = [[3, 1, 1, 9, 2, 2], [], [5], [1, 1], [4, 4, 4, 1]]
    instance_P, group_P = [], []
    for group, sizes in enumerate(group_sizes):
        for instance, size in enumerate(sizes):
            instance_P += [(group, instance)] * size
            group_P += [group] * size
    for side in (1, 2, 3, 4, 6, 100):
        seen = []
        for chunk in pair_blocks._row_chunks(group_sizes, side):
            rows = range(chunk.start, chunk.stop)
            assert 0 < len(rows) <= side
            if chunk.instances:
                assert sum(chunk.instances) == len(rows)
                seen += [pair for pair in itertools.combinations(rows, 2) if instance_P[pair[0]] != instance_P[pair[1]]]
            seen += itertools.product(rows, range(chunk.stop_of_instance, chunk.stop_of_group))
        expected = [
            (i, j)
            for i, j in itertools.combinations(range(len(group_P)), 2)
            if group_P[i] == group_P[j] and instance_P[i] != instance_P[j]
        ]
        assert sorted(seen) == expected


@pytest.mark.parametrize('variant', VARIANTS)
def test_many_pixels_against_dense_torch(variant, device):
    x, ids, classes = random_batch(ids=(0, 0, 0, *range(1, 6)), images=1, dims=16, size=(40, 41))
    x = x.float().requires_grad_()
    flat = ids.flatten()
    unit = torch.nn.functional.normalize(x.double()[0].flatten(1).T, dim=1)
    s, same = (1 + unit @ unit.T) / 2, flat[:, None] == flat[None]
    weight = 1 / same.double().sum(1)
    pairs = weight[:, None] * weight[None] / (len(flat) if variant == 'paper' else 36)
    power = 1 if variant == 'paper' else 2
    expected = [
        (pairs * (1 - s**power) * same).sum(),
        (pairs * (s - 0.55).clamp(min=0) ** power * ~same).sum(),
    ]
    terms = spherical_pair_terms(x.to(device), ids.to(device), classes.to(device), margin=0.55, variant=variant)
    for term, value in zip(terms, expected, strict=True):
        assert term.item() == pytest.approx(value.item(), rel=1e-5)
        (actual,) = torch.autograd.grad(term, x, retain_graph=True)
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        # The hinge of the paper's variant has a step: a pair at it may fall to either side.
        torch.testing.assert_close(actual, gradient, rtol=1e-3, atol=1e-3 * gradient.abs().max().item())


def test_tight_instances_keep_their_digits():
    # 1 - s of about 1e-9 between pixels of one instance: n^2 - |sum x|^2 would lose it in float32.
    generator = torch.Generator().manual_seed(0)
    x = torch.ones(1, 3, 40, 40) + 1e-4 * torch.randn(1, 3, 40, 40, generator=generator)
    ids = torch.ones(1, 40, 40, dtype=torch.long)
    for variant in VARIANTS:
        small = spherical_pair_terms(x, ids, ids, margin=0.5, variant=variant).positive.item()
        large = spherical_pair_terms(x.double(), ids, ids, margin=0.5, variant=variant).positive.item()
        assert small == pytest.approx(large, rel=1e-2)
        assert large > 0


@pytest.mark.parametrize('settings', [{}, {'class_agnostic': False}, {'background_is_instance': False}])
@pytest.mark.parametrize('variant', VARIANTS)
def test_gradient(variant, settings, device):
    _, ids, classes = (x.to(device) for x in random_batch(ids=(-1, 0, 1, 2), classes=(1, 2), size=(3, 4)))
    x = random_batch(size=(3, 4), dims=2)[0].to(device).requires_grad_()
    loss = SphericalPairLoss(margin=0.3, variant=variant, negative_weight=5, **settings)
    assert gradcheck(lambda x: loss(x, ids, classes)['loss_embedding'], x)


@pytest.mark.parametrize('dims', [2, 3, 64])
@pytest.mark.parametrize('sizes', [(1, 59), (10, 20, 30), (30, 30)])
def test_proposition_1(sizes, dims):
    """The sum over an instance's pairs of the similarities is at least 0, so its loss has bounds of no size and no D."""
    ids = torch.repeat_interleave(torch.arange(1, len(sizes) + 1), torch.tensor(sizes)).view(1, 6, 10)
    generator = torch.Generator().manual_seed(dims)
    count, pixels = len(sizes), 60
    spread = [torch.randn(1, dims, 6, 10, generator=generator) * 10**scale for scale in (-3, 0, 3)]
    spread += [x - x.mean() for x in spread] + [x.abs() for x in spread]
    for x in spread:
        positive = spherical_pair_terms(x, ids, ids, margin=0.5).positive
        assert 0 <= positive * pixels / count <= 0.5 + 1e-6
        positive = spherical_pair_terms(x, ids, ids, margin=0.5, variant='released').positive
        assert 0 <= positive * count <= 0.75 + 1e-6
    if all(size % 2 == 0 for size in sizes):
        # Opposite halves: the bound of the paper's variant.
        x = torch.randn(1, dims, 1, 1, generator=generator) * torch.tensor([1.0, -1.0]).repeat(30).view(1, 1, 6, 10)
        positive = spherical_pair_terms(x, ids, ids, margin=0.5).positive
        assert float(positive * pixels / count) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize('count, dims', [(4, 3), (6, 3), (5, 8), (16, 8)])
@pytest.mark.parametrize('variant', VARIANTS)
def test_no_loss_at_the_feasible_margin(variant, count, dims):
    if count <= dims + 1:
        centers = torch.linalg.svd(torch.eye(count) - 1 / count)[0][:, : count - 1]
        centers = torch.nn.functional.pad(centers, (0, dims - count + 1))
    else:
        centers = torch.cat([torch.eye(dims), -torch.eye(dims)])[:count]
    ids = torch.arange(1, count + 1).repeat(3)[None, None]
    x = centers.repeat(3, 1).T[None, :, None]
    margin = feasible_margin(count, dims)
    terms = spherical_pair_terms(x.double(), ids, ids, margin=margin + 1e-6, variant=variant, class_agnostic=True)
    assert terms.positive < 1e-10
    assert terms.negative == 0
    assert spherical_pair_terms(x, ids, ids, margin=margin - 0.01, variant=variant).negative > 1e-6


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('variant', VARIANTS)
def test_computes_in_float32(dtype, variant):
    # Squares of these overflow float16.
    x, ids, classes = random_batch(scale=500)
    x = x.to(dtype).requires_grad_()
    expected = spherical_pair_terms(x.detach().float(), ids, classes, margin=0.5, variant=variant)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        terms = spherical_pair_terms(x, ids, classes, margin=0.5, variant=variant)
        sum(terms).backward()
    for term, value in zip(terms, expected, strict=True):
        assert term.dtype == torch.float32
        assert term == value
    assert x.grad.dtype == dtype
    assert torch.isfinite(x.grad).all()
    assert x.grad.any()


def test_float64_stays():
    x, ids, classes = random_batch()
    assert all(term.dtype == torch.float64 for term in spherical_pair_terms(x, ids, classes, margin=0.5))


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('ids, class_', [(-1, 3), (5, 255), (-1, 255)])
def test_nothing_to_do_is_zero_and_touches_the_input(ids, class_, variant, device):
    x = random_batch()[0].float().to(device).requires_grad_()
    ids, classes = (torch.full((2, 5, 6), value, device=device) for value in (ids, class_))
    losses = SphericalPairLoss(variant=variant, sample_ratio=0.5)(x, ids, classes)
    assert losses['loss_embedding'] == losses['positive'] == losses['negative'] == 0
    losses['loss_embedding'].backward()
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize('variant', VARIANTS)
def test_one_instance_has_no_negative_part(variant):
    x, _, classes = random_batch()
    for ids in (torch.zeros(2, 5, 6, dtype=torch.long), torch.full((2, 5, 6), 9)):
        assert check(x, ids, classes, variant=variant).negative == 0
    assert spherical_pair_terms(
        x, torch.zeros_like(ids), classes, margin=0.5, variant=variant, background_is_instance=False
    ) == (0, 0)


@pytest.mark.parametrize('variant', VARIANTS)
def test_one_pixel_and_single_pixel_instances(variant):
    x = random_batch(size=(1, 1))[0]
    ids = torch.tensor([[[4]], [[0]]])
    assert check(x, ids, ids, variant=variant) == (0, 0)
    x = random_batch(size=(2, 3))[0]
    ids = torch.arange(1, 13).view(2, 2, 3)
    terms = check(x, ids, ids, variant=variant)
    assert terms.positive == 0
    assert terms.negative > 0


def test_ignored_pixels_are_in_the_graph():
    x, ids, classes = random_batch(images=2)
    first, second = (image[None].clone().requires_grad_() for image in x)
    ids[1] = -1
    sum(spherical_pair_terms(torch.cat([first, second]), ids, classes, margin=0.5)).backward()
    assert first.grad.any()
    assert second.grad is not None
    assert not second.grad.any()


@pytest.mark.parametrize('margin', [0.1, 0.7])
@pytest.mark.parametrize('variant', VARIANTS)
def test_vectors_of_length_zero(variant, margin):
    x, ids, classes = random_batch()
    x[:, :, 1:3] = 0
    terms = check(x, ids, classes, margin=margin, variant=variant)
    check(x, ids, classes, margin=margin, variant=variant, sample_NHW=random_sample())
    small = spherical_pair_terms(x.float(), ids, classes, margin=margin, variant=variant)
    torch.testing.assert_close(torch.stack(list(small)), torch.stack(list(terms)).float())
    check(torch.zeros_like(x), ids, classes, margin=margin, variant=variant)
    zeros = torch.zeros_like(x, dtype=torch.float32, requires_grad=True)
    sum(spherical_pair_terms(zeros, ids, classes, margin=margin, variant=variant)).backward()
    assert not zeros.grad.any()


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_collapse_has_no_gradient_but_is_left_once_disturbed(variant):
    ids = torch.arange(36).div(12, rounding_mode='floor').view(1, 6, 6)
    direction = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64).view(1, 3, 1, 1)
    lengths = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.5
    collapsed = (direction * lengths).requires_grad_()
    terms = spherical_pair_terms(collapsed, ids, ids, margin=0.5, variant=variant)
    assert terms.positive.item() == pytest.approx(0, abs=1e-12)
    # All pairs of two of the three instances at s = 1.
    expected = 6 * 0.5 / 36 if variant == 'paper' else 6 * 0.25 / 9
    assert terms.negative.item() == pytest.approx(expected)
    sum(terms).backward()
    assert collapsed.grad.abs().max() < 1e-12

    noise = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for spread in (1e-4, 1e-3):
        x = (direction + spread * noise).requires_grad_()
        sum(spherical_pair_terms(x, ids, ids, margin=0.5, variant=variant)).backward()
        gradients.append(x.grad.norm().item())
    assert gradients[1] == pytest.approx(10 * gradients[0], rel=0.1)
    x = (direction + 1e-3 * noise).requires_grad_()
    optimizer = torch.optim.SGD([x], lr=50 if variant == 'paper' else 10)
    for _ in range(300):
        optimizer.zero_grad()
        loss = sum(spherical_pair_terms(x, ids, ids, margin=0.5, variant=variant))
        loss.backward()
        optimizer.step()
    assert loss < 0.01 * expected


def test_log_keys_are_not_counted_twice():
    x, ids, classes = random_batch()
    loss = SphericalPairLoss(0.4, positive_weight=2, negative_weight=5, loss_weight=0.5, loss_name='loss_pixels')
    losses = loss(x.requires_grad_(), ids, classes)
    assert list(losses) == ['loss_pixels', 'positive', 'negative']
    total, log = BaseModel.parse_losses(None, losses)
    assert total == losses['loss_pixels']
    expected, _ = pair_sums(x.detach(), ids, classes, margin=0.4)
    assert total.item() == pytest.approx(0.5 * (2 * expected[0] + 5 * expected[1]))
    for name, value in zip(('positive', 'negative'), expected, strict=True):
        assert log[name].item() == pytest.approx(value)
        assert not losses[name].requires_grad


def test_settings_reach_the_loss():
    settings = {'margin': 0.4, 'variant': 'released', 'class_agnostic': False, 'background_is_instance': False}
    x, ids, classes = random_batch()
    loss = MODELS.build({'type': 'SphericalPairLoss', **settings})
    assert isinstance(loss, SphericalPairLoss)
    expected, _ = pair_sums(x, ids, classes, **settings)
    result = loss(x, ids, classes)
    assert [result[k].item() for k in ('positive', 'negative')] == pytest.approx(expected)


def test_margin_from_the_number_of_instances():
    x, ids, classes = random_batch(dims=3)
    loss = SphericalPairLoss(margin=None, num_instances=7)
    assert loss.resolve_margin(3) == feasible_margin(7, 3) == pytest.approx(0.605, abs=1e-3)
    assert loss.resolve_margin(4) == 0.5
    expected, _ = pair_sums(x, ids, classes, margin=feasible_margin(7, 3))
    assert loss(x, ids, classes)['negative'].item() == pytest.approx(expected[1])
    with pytest.raises(ValueError, match='no exact margin is known for 20 instances in D = 3.* D >= 10'):
        SphericalPairLoss(margin=None, num_instances=20)(x, ids, classes)


@pytest.mark.parametrize('margin, count, needed', [(0.1, 9, '0.6667'), (0.49, 6, '0.5000'), (0.7, 20, '0.7820')])
def test_warns_once_of_a_margin_that_cannot_be_met(margin, count, needed):
    x, ids, classes = random_batch(dims=3)
    loss = SphericalPairLoss(margin=margin, num_instances=count)
    with pytest.warns(UserWarning, match=f'margin {margin} cannot be met by {count} instances in D = 3.*{needed}'):
        loss(x, ids, classes)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        loss(x, ids, classes)
        SphericalPairLoss(margin=0.5, num_instances=6)(x, ids, classes)
        SphericalPairLoss(margin=0.1)(x, ids, classes)


def test_margins_of_the_embedding():
    margins = SphericalPairLoss(margin=0.25).margins(3)
    # s = 1/4: cos = -1/2.
    assert (margins.distance, margins.within, margins.between) == ('cosine', 0, pytest.approx(1.5))
    assert SphericalPairLoss(margin=None, num_instances=6).margins(3).between == 1


def draw(loss, ids, classes):
    """The pixels that enter in the next call of a loss, (N, H, W) bool."""
    return loss._draw(loss.number(ids, classes), ids.shape)


def test_draw():
    _, ids, classes = random_batch(ids=(-1, 0, 1, 2), classes=(0, 1, 255), images=4, size=(20, 30))
    ids[3] = -1
    labelled = (ids != -1) & (classes != 255)
    assert draw(SphericalPairLoss(), ids, classes) is None
    for settings, number in [
        ({'sample_ratio': 0.2}, lambda n: math.ceil(0.2 * n)),
        ({'max_samples': 50}, lambda n: min(50, n)),
        ({'sample_ratio': 0.5, 'max_samples': 130}, lambda n: min(math.ceil(0.5 * n), 130)),
        ({'sample_ratio': 1.0}, lambda n: n),
        ({'max_samples': 10**9}, lambda n: n),
    ]:
        for background in (True, False):
            enters = labelled if background else labelled & (ids != 0)
            sample = draw(SphericalPairLoss(background_is_instance=background, **settings), ids, classes)
            assert sample.dtype == torch.bool
            assert sample.shape == ids.shape
            assert not (sample & ~enters).any()
            assert [int(s.sum()) for s in sample] == [number(int(e.sum())) for e in enters]


def test_draw_repeats_with_the_seed_and_is_uniform():
    _, ids, classes = random_batch(ids=(-1, 0, 1, 2), images=1)
    loss = SphericalPairLoss(sample_ratio=0.3)
    torch.manual_seed(5)
    draws = torch.stack([draw(loss, ids, classes)[0] for _ in range(1000)])
    torch.manual_seed(5)
    assert torch.equal(draws[:3], torch.stack([draw(loss, ids, classes)[0] for _ in range(3)]))
    assert not torch.equal(draws[0], draws[1])
    frequency = draws.double().mean(0)[ids[0] != -1]
    # A standard deviation is 0.0145.
    torch.testing.assert_close(frequency, torch.full_like(frequency, 0.3), rtol=0, atol=0.07)


def test_forward_uses_the_drawn_pixels():
    x, ids, classes = random_batch()
    loss = SphericalPairLoss(sample_ratio=0.5, max_samples=12, variant='released')
    torch.manual_seed(3)
    sample = draw(loss, ids, classes)
    torch.manual_seed(3)
    drawn = loss(x, ids, classes)
    expected, _ = pair_sums(x, ids, classes, variant='released', sample_NHW=sample)
    assert [drawn[name].item() for name in ('positive', 'negative')] == pytest.approx(expected)
    assert loss(x, ids, classes)['loss_embedding'] != drawn['loss_embedding']


@pytest.mark.parametrize('variant', VARIANTS)
def test_memory_is_linear_in_the_pixels(variant):
    x = torch.randn(1, 16, 64, 64, requires_grad=True)
    loss = SphericalPairLoss(variant=variant)

    def train_step(ids):
        return lambda: loss(x, ids, torch.ones_like(ids))['loss_embedding'].backward()

    for count in (2, 100):
        step = train_step((torch.arange(64 * 64) % count).view(1, 64, 64))
        step()
        # The docstring's figure; a matrix of pixels by pixels would be 64 MiB more.
        assert peak_memory(step) < 12 * x.numel() * 4 + 2**20
