"""The loss of soft masks against loops over instances written from its formulas, with the Lovasz hinge of one mask at a time."""

import math

import pytest
import torch
from devices import assert_same, gradcheck
from mmengine.model import BaseModel
from mmseg.registry import MODELS
from references.peak_memory import peak_memory
from references.soft_masks import mask_terms, plain_hinge

from mmseg_instancenet.models.losses import RecurrentLoss, SoftMaskLoss, soft_mask, soft_mask_terms
from mmseg_instancenet.models.losses.soft_mask import lovasz_hinges

INF = float('inf')


def random_batch(ids=(0, 1, 2, 3), classes=(1, 2), images=2, dims=4, size=(6, 7), seed=0):
    """Embeddings and label maps in which every pixel is drawn by itself: soft masks have all values from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    shape = (images, *size)
    embeddings = torch.randn(images, dims, *size, generator=generator, dtype=torch.float64)
    instance_map = torch.tensor(ids)[torch.randint(len(ids), shape, generator=generator)]
    class_map = torch.tensor(classes)[torch.randint(len(classes), shape, generator=generator)]
    return embeddings, instance_map, class_map


@pytest.fixture
def every_pair(monkeypatch):
    """No pair of a pixel and an instance is left out."""
    monkeypatch.setattr(soft_mask, '_NEGLIGIBLE', 1e-300)


def check(embeddings, instance_map, class_map, device='cpu', **settings):
    expected = mask_terms(embeddings, instance_map, class_map, **settings)
    terms = soft_mask_terms(*(x.to(device) for x in (embeddings, instance_map, class_map)), **settings)
    torch.testing.assert_close(torch.stack(list(terms)).cpu(), expected.cpu(), rtol=1e-10, atol=1e-10)
    return terms


def test_values_by_hand():
    # Instance 1 has the center 1, the mean bandwidth 0 and the mask exp(-1) at its pixels, as at the pixel 2 of the background.
    embeddings = torch.tensor([[0.0, 2.0, 2.0], [math.log(2), -math.log(2), 7.0], [0.0, 0.0, 0.0]])[None, :, None]
    ids = torch.tensor([[[1, 1, 0]]])
    terms = soft_mask_terms(embeddings.double(), ids, ids, foreground_weight=3.0)
    mask = math.exp(-1)
    # The larger errors 2 - 2 mask come first: losses 1/2 and 1/2, then nothing is left for the background's.
    overlap, spread = 2 - 2 * mask, math.log(2) ** 2
    seed = (2 * 3 * (0.5 - mask) ** 2 + 0.5**2) / 3
    assert [term.item() for term in terms] == pytest.approx([overlap, spread, seed], rel=1e-6)
    losses = SoftMaskLoss(2, 3, 5, foreground_weight=3, loss_weight=7)(embeddings.double(), ids, ids)
    assert losses['loss_embedding'].item() == pytest.approx(7 * (2 * overlap + 3 * spread + 5 * seed), rel=1e-6)


def test_hinge_by_hand():
    # Errors 1.5 (background), 1.2 and 0.5 (own): Jaccard losses 1 - 2/3, 1 - 1/3, 1 - 0/3. The second mask is right everywhere.
    mask = torch.tensor([0.4, 0.75, 0.75, 1.0, 0.0])
    own = torch.tensor([True, True, False, True, False])
    hinges = lovasz_hinges(mask, own, torch.tensor([0, 0, 0, 1, 1]), torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(hinges, torch.tensor([(1.5 + 1.2 + 0.5) / 3, 0.0]))


@pytest.mark.parametrize('seed', range(5))
def test_hinge_of_many_instances_in_any_order(seed, device):
    generator = torch.Generator().manual_seed(seed)
    mask, own = torch.rand(4, 30, generator=generator).double(), torch.rand(4, 30, generator=generator) < 0.3
    own[:, 0] = True
    expected = torch.stack([plain_hinge(*pair) for pair in zip(mask, own, strict=True)])
    order = torch.randperm(120, generator=generator)
    instance = torch.arange(4).repeat_interleave(30)
    inputs = [x.flatten()[order].to(device) for x in (mask, own, instance)]
    hinges = lovasz_hinges(*inputs, own.sum(1).double().to(device)).cpu()
    torch.testing.assert_close(hinges, expected, rtol=1e-12, atol=1e-12)
    # An upper bound of one minus the IoU of the masks above one half.
    inside = mask > 0.5
    assert (hinges >= 1 - (inside & own).sum(1) / (inside | own).sum(1)).all()


@pytest.mark.parametrize('block', [1, 100, 1 << 22])
@pytest.mark.parametrize('dims', [3, 4, 6])
def test_equals_the_formulas(dims, block, every_pair, monkeypatch, device):
    monkeypatch.setattr(soft_mask, '_BLOCK', block)
    terms = check(*random_batch(dims=dims), device, foreground_weight=0.3)
    assert min(terms) > 0.05
    check(*random_batch(ids=(-1, 0, 1, 2, 3, 4, 5), classes=(0, 1, 2, 255), dims=dims, images=3), device)


@pytest.mark.parametrize('seed', range(4))
def test_masks_below_the_negligible_lower_the_overlap_by_less_than_twice_that(seed, monkeypatch):
    x, ids, classes = random_batch(ids=tuple(range(12)), size=(12, 12), seed=seed)
    # The masks are near 1 at their own pixels and, at those of the second next object, between 0.0001 and 0.0005.
    x[:, :2] = x[:, :2] * 0.005 + ids[:, None]
    x[:, 2] *= 0.1
    expected = mask_terms(x, ids, classes)
    for negligible in (5e-4, 0.05):
        monkeypatch.setattr(soft_mask, '_NEGLIGIBLE', negligible)
        terms = soft_mask_terms(x, ids, classes)
        assert 0 < expected[0] - terms.overlap <= 2 * negligible
        torch.testing.assert_close(torch.stack(terms[1:]), expected[1:])


def test_pairs_that_no_mask_reaches_are_left_out():
    x_EP, index_P = torch.tensor([[0.0, 1.0, 2.0, 50.0]]), torch.tensor([0, 0, 1, 1])
    pixels, instances = soft_mask._reached_pairs(x_EP, index_P, torch.tensor([[0.5, 26.0]]), torch.tensor([1.0, 1.0]))
    assert sorted(zip(instances.tolist(), pixels.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 3)]


def test_gradient_equals_that_of_the_formulas(every_pair, device):
    x, ids, classes = random_batch(ids=(-1, 0, 1, 2, 3))
    weights = torch.tensor([0.7, 1.3, 2.1], dtype=torch.float64)
    first, second = x.clone().requires_grad_(), x.to(device).requires_grad_()
    (mask_terms(first, ids, classes) @ weights).backward()
    loss = SoftMaskLoss(*weights.tolist()).to(device)
    loss(second, ids.to(device), classes.to(device))['loss_embedding'].backward()
    assert first.grad.abs().max() > 0.01
    torch.testing.assert_close(second.grad.cpu(), first.grad, rtol=1e-9, atol=1e-12)


def test_gradient_equals_that_of_differences(every_pair, device):
    x, ids, classes = (v.to(device) for v in random_batch(ids=(-1, 0, 1, 2), size=(3, 4)))
    assert gradcheck(lambda x: soft_mask_terms(x, ids, classes)[:2], x.requires_grad_())
    # The masks are constants of the seed term: it is checked against changes of the seeds alone.
    rest, logit = x.detach()[:, :-1], x.detach()[:, -1:].clone().requires_grad_()
    assert gradcheck(lambda logit: soft_mask_terms(torch.cat([rest, logit], dim=1), ids, classes).seed, logit)


@pytest.mark.parametrize('term, values', [('overlap', [0, 1, 2]), ('spread', [2]), ('seed', [3])])
def test_gradient_flows_where_the_formulas_have_it(term, values):
    x, ids, classes = random_batch()
    x.requires_grad_()
    getattr(soft_mask_terms(x, ids, classes), term).backward()
    moved = x.grad.abs().amax((0, 2, 3)) > 1e-6
    assert moved.nonzero().flatten().tolist() == values
    # Pixels of instances have a gradient in each term, the background in those in which it occurs.
    inside = (ids > 0)[:, None].expand_as(x.grad)
    assert x.grad[inside].any()
    assert bool(x.grad[~inside].any()) == (term != 'spread')


@pytest.mark.parametrize('names', [(0, 1, 4, 9), (0, 255, 300000001, 2**62)])
def test_gaps_in_ids_change_nothing(names):
    x, ids, classes = random_batch()
    renamed = torch.tensor(names)[ids]
    torch.testing.assert_close(soft_mask_terms(x, renamed, classes), soft_mask_terms(x, ids, classes))


def test_integer_types_and_classes_change_nothing():
    x, ids, classes = random_batch(classes=(0, 1, 2))
    expected = soft_mask_terms(x, ids, classes)
    assert soft_mask_terms(x, ids.int(), classes.byte()) == expected
    assert soft_mask_terms(x, ids, torch.zeros_like(classes)) == expected


def test_ignored_pixels_have_no_influence(device):
    x, ids, classes = (v.to(device) for v in random_batch(ids=(-1, 0, 1, 2, 3), classes=(1, 2, 255)))
    unlabelled = (ids == -1) | (classes == 255)
    assert 0 < unlabelled.sum() < unlabelled.numel()
    loss = SoftMaskLoss()
    expected = loss(x, ids, classes)['loss_embedding']
    assert expected > 1
    # Other embeddings under them, other labels beside the mark: the same value to the bit, and no gradient there.
    other = torch.where(unlabelled[:, None], x * 100 - 50, x).requires_grad_()
    junk_ids = torch.where(classes == 255, 9, ids)
    value = loss(other, junk_ids, torch.where((ids == -1) & (classes != 255), 6, classes))['loss_embedding']
    assert_same(value, expected)
    value.backward()
    assert not other.grad.movedim(1, 3)[unlabelled].any()
    assert other.grad.movedim(1, 3)[~unlabelled].any()


def test_batch_is_the_mean_over_images():
    x, ids, classes = random_batch(images=4)
    ids[1], ids[2] = 0, -1
    alone = [soft_mask_terms(x[i : i + 1], ids[i : i + 1], classes[i : i + 1]) for i in range(4)]
    assert alone[2] == (0, 0, 0)
    for together, *parts in zip(soft_mask_terms(x, ids, classes), *alone, strict=True):
        torch.testing.assert_close(together, sum(parts) / 4)


def test_an_image_without_instances_has_the_seed_term_alone(device):
    x, ids, classes = (v.to(device) for v in random_batch(ids=(-1, 0)))
    x.requires_grad_()
    terms = check(x, ids.cpu(), classes.cpu(), device)
    assert terms.overlap == terms.spread == 0
    assert terms.seed > 0.1
    sum(terms).backward()
    assert x.grad[:, 3].any() and not x.grad[:, :3].any()


@pytest.mark.parametrize('id_, class_', [(-1, 0), (-1, 3), (0, 255), (5, 255)])
def test_nothing_to_do_is_zero_and_touches_the_input(id_, class_, device):
    x = random_batch()[0].float().to(device).requires_grad_()
    ids, classes = (torch.full((2, 6, 7), value, device=device) for value in (id_, class_))
    losses = SoftMaskLoss()(x, ids, classes)
    assert losses['loss_embedding'] == 0
    losses['loss_embedding'].backward()
    assert x.grad is not None
    assert not x.grad.any()


def test_single_pixel_instances_fill_their_masks(every_pair):
    x = random_batch(size=(2, 3))[0].requires_grad_()
    ids = torch.arange(1, 13).view(2, 2, 3)
    terms = check(x, ids, torch.ones_like(ids))
    assert terms.spread == 0 < terms.overlap
    sum(terms).backward()
    assert torch.isfinite(x.grad).all()
    # Alone on the map each is its own center: the mask is 1 there, and right.
    alone = torch.where(ids == 2, 2, -1)
    assert soft_mask_terms(x, alone, torch.ones_like(ids)).overlap == 0


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('bandwidth', [-1000.0, -100.0, 39.0, 100.0, 1000.0])
def test_bandwidths_that_exp_cannot_hold(bandwidth, dtype, device):
    x, ids, classes = random_batch(ids=(0, 1, 2, 3))
    ids[0, 0, 0] = 7  # an instance of one pixel: the distance 0 to its center, and a factor beyond all bounds
    x[:, 2] = bandwidth
    expected = mask_terms(x, ids, classes)  # in float64 exp(1000) is infinite, too
    x = x.to(device, dtype).requires_grad_()
    terms = soft_mask_terms(x, ids.to(device), classes.to(device))
    sum(terms).backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(term) for term in terms)
    if bandwidth < 1000:
        torch.testing.assert_close(torch.stack(list(terms)).double().cpu(), expected, rtol=1e-5, atol=1e-5)
    else:  # no mask but that of the single pixel contains anything
        assert terms.overlap > 1


@pytest.mark.parametrize('seed', range(3))
def test_small_distances_between_large_coordinates(seed, device):
    """Two objects 0.01 apart at 3000 pixels: float32 tells them apart, and the pixels of either lie in the mask of the other."""
    x, ids, classes = random_batch(ids=(0, 1, 2), images=1, size=(16, 16), seed=seed)
    x[:, :2] = 375 + x[:, :2] * 0.002 + (ids == 2)[:, None] * 0.01
    x[:, 2] = 9 + x[:, 2] * 0.1
    x = x.float()
    expected = mask_terms(x, ids, classes)
    terms = torch.stack(list(soft_mask_terms(x.to(device), ids.to(device), classes.to(device)))).cpu()
    torch.testing.assert_close(terms.double(), expected, rtol=2e-3, atol=1e-3)
    assert expected[0] > 0.5


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_computes_in_float32(dtype):
    x, ids, classes = random_batch()
    x = (x * 4).to(dtype).requires_grad_()
    expected = soft_mask_terms(x.detach().float(), ids, classes)
    terms = soft_mask_terms(x, ids, classes)
    for term, value in zip(terms, expected, strict=True):
        assert term.dtype == torch.float32
        assert term == value
    sum(terms).backward()
    assert x.grad.dtype == dtype
    assert torch.isfinite(x.grad).all() and x.grad.any()


def test_float64_stays():
    assert all(term.dtype == torch.float64 for term in soft_mask_terms(*random_batch()))


def test_autocast_changes_nothing():
    x, ids, classes = random_batch(dims=5)
    x = x.float()
    expected = soft_mask_terms(x, ids, classes)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = soft_mask_terms(x, ids, classes)
    assert inside == expected
    assert inside.overlap.dtype == torch.float32


def test_log_keys_are_not_counted_twice():
    x, ids, classes = random_batch()
    losses = SoftMaskLoss(loss_weight=0.5, loss_name='loss_pixels')(x.requires_grad_(), ids, classes)
    assert list(losses) == ['loss_pixels', 'overlap', 'spread', 'seed']
    total, log = BaseModel.parse_losses(None, losses)
    assert total == losses['loss_pixels']
    overlap, spread, seed = soft_mask_terms(x, ids, classes)
    assert total.item() == pytest.approx(0.5 * (overlap + 10 * spread + seed).item())
    for name, value in {'overlap': overlap, 'spread': spread, 'seed': seed}.items():
        assert log[name] == value
        assert not losses[name].requires_grad


def test_settings_reach_the_loss():
    settings = dict(overlap_weight=0.5, spread_weight=2.0, seed_weight=0.0, foreground_weight=0.0, loss_weight=3.0)
    loss = MODELS.build({'type': 'SoftMaskLoss', **settings})
    assert isinstance(loss, SoftMaskLoss)
    x, ids, classes = random_batch()
    result = loss(x, ids, classes)
    terms = soft_mask_terms(x, ids, classes, foreground_weight=0.0)
    assert result['loss_embedding'].item() == pytest.approx(3 * (0.5 * terms.overlap + 2 * terms.spread).item())
    assert result['seed'] == terms.seed


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'overlap_weight': -1}, 'overlap_weight >= 0, got -1'),
        ({'spread_weight': -0.1}, 'spread_weight >= 0, got -0.1'),
        ({'seed_weight': float('nan')}, 'seed_weight >= 0, got nan'),
        ({'foreground_weight': -2}, 'foreground_weight >= 0, got -2'),
        ({'loss_name': 'embedding'}, "contains 'loss'.*'embedding'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SoftMaskLoss(**settings)


def test_wrong_shapes():
    x, ids, classes = random_batch()
    with pytest.raises(ValueError, match='embedding, bandwidth and seed, got embedding_dims=2'):
        soft_mask_terms(x[:, :2], ids, classes)
    with pytest.raises(ValueError, match=r'embeddings \(N, D, H, W\), got \(4, 6, 7\)'):
        soft_mask_terms(x[0], ids, classes)
    with pytest.raises(ValueError, match=r'instance map \(2, 6, 7\).*got \(2, 12, 14\).*resize_labels'):
        soft_mask_terms(x, torch.zeros(2, 12, 14), classes)
    with pytest.raises(ValueError, match=r'one shape.*\(2, 6, 7\) and \(2, 3, 7\)'):
        soft_mask_terms(x, ids, classes[:, :3])


@pytest.mark.parametrize('value', [float('nan'), INF])
@pytest.mark.parametrize('channel', range(4))
@pytest.mark.parametrize('id_', [-1, 0, 1])
def test_values_that_are_not_finite(value, channel, id_):
    x, ids, classes = random_batch()
    ids[0, 0, 0] = id_
    x[0, channel, 0, 0] = value
    with pytest.raises(ValueError, match='finite embeddings.*lower the learning rate'):
        soft_mask_terms(x, ids, classes)


def test_no_loss_to_run_through_loops_of_mean_shift():
    with pytest.raises(TypeError, match='RecurrentLoss: expected a loss that derives from EmbeddingLoss.*SoftMaskLoss'):
        RecurrentLoss(dict(type='SoftMaskLoss'))


def test_memory_grows_with_the_pairs_that_masks_reach(monkeypatch):
    monkeypatch.setattr(soft_mask, '_BLOCK', 1 << 14)
    side, count = 64, 64
    cells = torch.arange(side) // (side // 8)
    ids = (cells[:, None] * 8 + cells + 1)[None]
    # Every instance is a point; the points lie far from each other, or all at one place.
    apart = torch.zeros(1, 4, side, side)
    apart[:, 0], together = ids * 10.0, torch.zeros(1, 4, side, side)
    assert len(ids.unique()) == count

    def train_step(x):
        x.requires_grad_()
        return lambda: sum(soft_mask_terms(x, ids, torch.ones_like(ids))).backward()

    train_step(apart)()
    peak_apart, peak_together = (peak_memory(train_step(x)) for x in (apart, together))
    pairs = count * side * side
    # The docstring's values.
    assert peak_together < 115 * pairs
    assert peak_apart < 14 * apart.numel() * 4 < peak_together / 15
