"""The pull and push loss against loops written from the formulas (1) to (5)."""

import warnings

import pytest
import torch
from devices import assert_same, gradcheck
from mmengine.model import BaseModel
from mmseg.registry import MODELS
from references.discriminative import INF, pull_and_push
from references.peak_memory import peak_memory

from mmseg_instancenet.models.losses import DiscriminativeLoss, SphericalPairLoss, discriminative_terms


def random_batch(ids=(0, 1, 2, 3), classes=(0, 1, 2), images=2, dims=3, size=(6, 7), scale=2.0, seed=0):
    """Embeddings and label maps in which every pixel is drawn by itself: each id occurs with each class."""
    generator = torch.Generator().manual_seed(seed)
    shape = (images, *size)
    embeddings = torch.randn(images, dims, *size, generator=generator, dtype=torch.float64) * scale
    instance_map = torch.tensor(ids)[torch.randint(len(ids), shape, generator=generator)]
    class_map = torch.tensor(classes)[torch.randint(len(classes), shape, generator=generator)]
    return embeddings, instance_map, class_map


def check(embeddings, instance_map, class_map, device='cpu', **settings):
    expected = torch.tensor(pull_and_push(embeddings, instance_map, class_map, **settings), dtype=torch.float64)
    inputs = (x.to(device) for x in (embeddings, instance_map, class_map))
    terms = discriminative_terms(*inputs, **settings)
    torch.testing.assert_close(torch.stack(list(terms)).cpu(), expected, rtol=1e-10, atol=1e-10)
    return terms


def test_values_by_hand():
    embeddings = torch.tensor([[[[0.0, 0.6, 2.0, 2.0]]]])
    ids, classes = torch.tensor([[[1, 1, 2, 2]]]), torch.full((1, 1, 4), 5)
    # Means 0.3 and 2; both pixels of the first lie 0.3 from their mean.
    terms = discriminative_terms(embeddings, ids, classes)
    torch.testing.assert_close(torch.stack(list(terms)), torch.tensor([(0.1 + 0) / 2, 6 - 1.7, (0.3 + 2) / 2]))
    losses = DiscriminativeLoss(alpha=2, beta=3, gamma=0.5, loss_weight=10)(embeddings, ids, classes)
    torch.testing.assert_close(losses['loss_embedding'], torch.tensor(10 * (2 * 0.05 + 3 * 4.3 + 0.5 * 1.15)))


def test_default_weights_and_margins_are_the_papers():
    x, ids, classes = random_batch()
    pull, push, regularization = pull_and_push(x, ids, classes, pull_margin=0.2, push_margin=3, norm=2)
    assert min(pull, push, regularization) > 0.1
    total = DiscriminativeLoss()(x, ids, classes)['loss_embedding'].item()
    assert total == pytest.approx(pull + push + 0.001 * regularization)


@pytest.mark.parametrize('squared', [False, True])
@pytest.mark.parametrize('norm', [1, 1.5, 2, 3, INF])
def test_norms_and_squares(norm, squared, device):
    terms = check(*random_batch(), device, norm=norm, squared=squared, pull_margin=0.5, push_margin=1.5)
    assert min(terms) > 0.1


@pytest.mark.parametrize('background_is_instance', [False, True])
@pytest.mark.parametrize('class_agnostic', [False, True])
def test_classes_and_background(class_agnostic, background_is_instance, device):
    x, ids, classes = random_batch(ids=(-1, 0, 1, 2, 3), classes=(1, 2, 7, 255), images=3)
    classes = torch.where(ids == 0, 0, classes)
    check(x, ids, classes, device, class_agnostic=class_agnostic, background_is_instance=background_is_instance)


def test_switches_change_the_loss():
    x, ids, classes = random_batch(classes=(1, 2))
    classes = torch.where(ids == 0, 0, classes)
    plain = discriminative_terms(x, ids, classes)
    for settings in ({'class_agnostic': True}, {'squared': True}, {'norm': 1}):
        other = discriminative_terms(x, ids, classes, **settings)
        assert abs(other.pull - plain.pull) > 1e-3
        assert abs(other.push - plain.push) > 1e-3
    # The background, alone in its class, is pulled but has none to push.
    other = discriminative_terms(x, ids, classes, background_is_instance=True)
    assert other.pull > plain.pull + 1e-3
    assert other.push == plain.push
    agnostic = discriminative_terms(x, ids, classes, class_agnostic=True)
    other = discriminative_terms(x, ids, classes, class_agnostic=True, background_is_instance=True)
    assert abs(other.push - agnostic.push) > 1e-3


@pytest.mark.parametrize('count', [0, 1, 2, 40])
def test_number_of_instances(count):
    x, _, _ = random_batch(size=(10, 12))
    ids = torch.arange(240).view(2, 10, 12) % (count + 1)
    terms = check(x, ids, (ids > 0).long())
    assert (terms.push > 0) == (count > 1)
    assert (terms.pull > 0) == (terms.regularization > 0) == (count > 0)


@pytest.mark.parametrize('ids', [(0, 1, 4), (0, 255, 300000001), (1, 255, 300000001, 2**62)])
def test_gaps_in_ids_change_nothing(ids):
    x, instance_map, classes = random_batch(ids=ids)
    terms = check(x, instance_map, classes)
    renamed = torch.zeros_like(instance_map)
    for name, id_ in enumerate((i for i in ids if i > 0), start=5):
        renamed[instance_map == id_] = name
    torch.testing.assert_close(terms, discriminative_terms(x, renamed, classes))


def test_integer_types_of_the_maps():
    x, ids, classes = random_batch(classes=(1, 2, 255))
    expected = discriminative_terms(x, ids, classes)
    torch.testing.assert_close(discriminative_terms(x, ids.int(), classes.byte()), expected)
    agnostic = discriminative_terms(x, ids.int(), classes.byte(), class_agnostic=True)
    torch.testing.assert_close(agnostic, discriminative_terms(x, ids, classes, class_agnostic=True))


@pytest.mark.parametrize('class_agnostic', [False, True])
def test_ignored_pixels_have_no_influence(class_agnostic, device):
    x, ids, classes = (x.to(device) for x in random_batch(ids=(-1, 0, 1, 2, 3), classes=(1, 2, 255)))
    unlabelled = (ids == -1) | (classes == 255)
    assert 0 < unlabelled.sum() < unlabelled.numel()
    loss = DiscriminativeLoss(class_agnostic=class_agnostic, background_is_instance=True)
    expected = loss(x, ids, classes)
    assert expected['loss_embedding'] > 1

    # Other embeddings under them, other labels beside the mark: the same value to the bit, and no gradient there.
    other = torch.where(unlabelled[:, None], x * 100 - 50, x).requires_grad_()
    value = loss(other, ids, classes)['loss_embedding']
    assert_same(value, expected['loss_embedding'])
    value.backward()
    assert not other.grad.movedim(1, 3)[unlabelled].any()
    assert other.grad.movedim(1, 3)[~unlabelled].any()
    junk_ids = torch.where(classes == 255, 9, ids)
    junk_classes = torch.where((ids == -1) & (classes != 255), 6, classes)
    assert_same(loss(x, junk_ids, junk_classes)['loss_embedding'], expected['loss_embedding'])
    # Marked in one map or in both.
    both = loss(x, torch.where(unlabelled, -1, ids), torch.where(unlabelled, 255, classes))
    assert_same(both['loss_embedding'], expected['loss_embedding'])


def test_batch_is_the_mean_over_images():
    x, ids, classes = random_batch(images=3)
    ids[1] = 0
    alone = [discriminative_terms(x[i : i + 1], ids[i : i + 1], classes[i : i + 1]) for i in range(3)]
    assert alone[1].pull == alone[1].push == alone[1].regularization == 0
    for together, *parts in zip(discriminative_terms(x, ids, classes), *alone, strict=True):
        torch.testing.assert_close(together, sum(parts) / 3)


def test_image_is_the_sum_over_classes():
    x, ids, classes = random_batch(images=1)
    alone = [discriminative_terms(x, torch.where(classes == c, ids, -1), classes) for c in (0, 1, 2)]
    for together, *parts in zip(discriminative_terms(x, ids, classes), *alone, strict=True):
        torch.testing.assert_close(together, sum(parts))


def scattered_objects():
    """Five objects on a 12 x 12 map; two of the first class touch, the others lie 2, 5 and more pixels apart."""
    ids, classes = torch.zeros(1, 12, 12, dtype=torch.long), torch.zeros(1, 12, 12, dtype=torch.long)
    for id_, (rows, columns, class_) in enumerate(
        [((0, 3), (0, 3), 1), ((0, 3), (3, 5), 1), ((5, 7), (0, 2), 1), ((10, 12), (10, 12), 1), ((4, 8), (4, 8), 2)],
        start=1,
    ):
        ids[:, slice(*rows), slice(*columns)] = id_
        classes[:, slice(*rows), slice(*columns)] = class_
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, 12, 12, generator=generator, dtype=torch.float64), ids, classes


@pytest.mark.parametrize('push_distance', [0, 1.9, 2, 2.3, 5, 9.0, 100])
def test_push_distance(push_distance, device):
    x, ids, classes = scattered_objects()
    check(x, ids, classes, device, push_distance=push_distance)
    check(x, ids, classes, device, push_distance=push_distance, class_agnostic=True, norm=1, squared=True)


def test_push_distance_chooses_the_near_pairs():
    x, ids, classes = scattered_objects()
    mean = [x[0, :, ids[0] == k].mean(1) for k in range(1, 5)]
    near = discriminative_terms(x, ids, classes, push_distance=0).push
    torch.testing.assert_close(near, 6 - (mean[0] - mean[1]).norm())
    at_two = discriminative_terms(x, ids, classes, push_distance=2).push
    torch.testing.assert_close(at_two, 6 - ((mean[0] - mean[1]).norm() + (mean[0] - mean[2]).norm()) / 2)
    everything = discriminative_terms(x, ids, classes, push_distance=100).push
    torch.testing.assert_close(everything, discriminative_terms(x, ids, classes).push)
    far = torch.where((ids == 1) | (ids == 4), ids, 0)
    assert discriminative_terms(x, far, classes, push_distance=3).push == 0


@pytest.mark.parametrize(
    'settings', [{}, {'norm': 1}, {'norm': 3, 'squared': True}, {'norm': INF}, {'push_distance': 1}]
)
def test_gradient(settings, device):
    _, ids, classes = (x.to(device) for x in random_batch(ids=(-1, 0, 1, 2), classes=(1, 2), size=(3, 4)))
    x = random_batch(size=(3, 4), dims=2)[0].to(device).requires_grad_()
    loss = DiscriminativeLoss(gamma=0.7, pull_margin=0.3, background_is_instance=True, **settings)
    assert gradcheck(lambda x: loss(x, ids, classes)['loss_embedding'], x)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_computes_in_float32(dtype):
    # Squares of these overflow float16.
    x, ids, classes = random_batch(scale=500)
    x = x.to(dtype).requires_grad_()
    expected = discriminative_terms(x.detach().float(), ids, classes)
    terms = discriminative_terms(x, ids, classes)
    for term, value in zip(terms, expected, strict=True):
        assert term.dtype == torch.float32
        assert term == value
        assert torch.isfinite(term)
    (terms.pull + terms.regularization).backward()
    assert x.grad.dtype == dtype
    assert torch.isfinite(x.grad).all()
    assert x.grad.any()


def test_float64_stays():
    x, ids, classes = random_batch()
    assert all(term.dtype == torch.float64 for term in discriminative_terms(x, ids, classes))


@pytest.mark.parametrize('norm', [2, 3])
def test_autocast_changes_nothing(norm):
    x, ids, classes = random_batch(scale=3)
    x, loss = x.float(), DiscriminativeLoss(norm=norm)
    expected = loss(x, ids, classes)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = loss(x, ids, classes)
    for name, value in expected.items():
        assert inside[name].dtype == torch.float32
        assert inside[name] == value


@pytest.mark.parametrize('ids, class_', [(0, 0), (0, 3), (-1, 3), (5, 255), (-1, 255)])
def test_nothing_to_do_is_zero_and_touches_the_input(ids, class_, device):
    x = random_batch()[0].float().to(device).requires_grad_()
    ids, classes = (torch.full((2, 6, 7), value, device=device) for value in (ids, class_))
    losses = DiscriminativeLoss()(x, ids, classes)
    assert losses['loss_embedding'] == 0
    losses['loss_embedding'].backward()
    assert x.grad is not None
    assert not x.grad.any()


def test_pixels_without_instance_are_in_the_graph():
    x, ids, classes = random_batch(images=2)
    first, second = (image[None].clone().requires_grad_() for image in x)
    ids[1] = -1
    discriminative_terms(torch.cat([first, second]), ids, classes).push.backward()
    assert first.grad.any()
    assert not second.grad.any()


@pytest.mark.parametrize('value', [0.0, 1.5])
@pytest.mark.parametrize('squared', [False, True])
@pytest.mark.parametrize('norm', [1, 1.5, 2, 3, INF])
def test_equal_embeddings_have_a_finite_gradient(norm, squared, value):
    _, ids, classes = random_batch()
    x = torch.full((2, 3, 6, 7), value, requires_grad=True)
    losses = DiscriminativeLoss(norm=norm, squared=squared)(x, ids, classes)
    # Three instances each of three classes: every center lies on every other.
    assert losses['push'].item() == pytest.approx(3 * (36 if squared else 6), rel=1e-5)
    losses['loss_embedding'].backward()
    assert torch.isfinite(x.grad).all()


def test_single_pixel_instances_are_not_pulled():
    x = random_batch(size=(2, 3))[0]
    ids = torch.arange(1, 13).view(2, 2, 3)
    terms = check(x, ids, torch.ones_like(ids))
    assert terms.pull == 0
    assert terms.push > 0


def test_log_keys_are_not_counted_twice():
    x, ids, classes = random_batch()
    losses = DiscriminativeLoss(loss_weight=0.5, loss_name='loss_pixels')(x.requires_grad_(), ids, classes)
    assert list(losses) == ['loss_pixels', 'pull', 'push', 'regularization']
    total, log = BaseModel.parse_losses(None, losses)
    assert total == losses['loss_pixels']
    expected = pull_and_push(x, ids, classes)
    assert total.item() == pytest.approx(0.5 * (expected[0] + expected[1] + 0.001 * expected[2]))
    for name, value in zip(('pull', 'push', 'regularization'), expected, strict=True):
        assert log[name].item() == pytest.approx(value)
        assert not losses[name].requires_grad


def test_settings_reach_the_loss():
    settings = {
        'pull_margin': 0.6,
        'push_margin': 1.2,
        'norm': 1,
        'squared': True,
        'class_agnostic': True,
        'background_is_instance': True,
        'push_distance': 1,
    }
    x, ids, classes = random_batch(size=(4, 4))
    loss = MODELS.build({'type': 'DiscriminativeLoss', **settings})
    assert isinstance(loss, DiscriminativeLoss)
    expected = pull_and_push(x, ids, classes, **settings)
    result = loss(x, ids, classes)
    assert [result[k].item() for k in ('pull', 'push', 'regularization')] == pytest.approx(expected)


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'alpha': -1}, 'alpha >= 0, got -1'),
        ({'beta': -0.1}, 'beta >= 0, got -0.1'),
        ({'gamma': -1}, 'gamma >= 0'),
        ({'pull_margin': -0.2}, 'pull_margin >= 0, got -0.2'),
        ({'push_margin': -3}, 'push_margin >= 0, got -3'),
        ({'push_distance': -1}, 'push_distance >= 0 pixels or None'),
        ({'norm': 0.5}, 'norm of order >= 1, got 0.5'),
        ({'loss_name': 'embedding'}, "contains 'loss'.*'embedding'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        DiscriminativeLoss(**settings)


def test_wrong_shapes():
    x, ids, classes = random_batch()
    with pytest.raises(ValueError, match=r'embeddings \(N, D, H, W\), got \(3, 6, 7\)'):
        discriminative_terms(x[0], ids, classes)
    with pytest.raises(ValueError, match='floating point embeddings.*int64'):
        discriminative_terms(x.long(), ids, classes)
    with pytest.raises(ValueError, match=r'instance map \(2, 6, 7\).*got \(2, 12, 14\).*resize_labels'):
        discriminative_terms(x, torch.zeros(2, 12, 14), classes)
    with pytest.raises(ValueError, match=r'one shape.*\(2, 6, 7\) and \(2, 3, 7\)'):
        discriminative_terms(x, ids, classes[:, :3])


@pytest.mark.parametrize('value', [float('nan'), INF])
@pytest.mark.parametrize('id_', [-1, 0, 1])
def test_embeddings_that_are_not_finite(value, id_):
    x, ids, classes = random_batch()
    for maps in (ids, torch.zeros_like(ids)):
        maps[0, 0, 0] = id_
        x[0, 0, 0, 0] = value
        with pytest.raises(ValueError, match='finite embeddings.*lower the learning rate'):
            discriminative_terms(x, maps, classes)


@pytest.mark.parametrize('push_distance', [None, 10])
@pytest.mark.parametrize('norm', [2, 1])
def test_memory_grows_with_pixels_and_with_pairs_of_instances_alone(norm, push_distance):
    side, many = 128, 256
    x = torch.randn(1, 4, side, side, requires_grad=True)
    # As many labelled pixels in both: 2 or 256 blocks.
    blocks = torch.arange(side) // (side // 16)
    many_ids = (blocks[:, None] * 16 + blocks + 1)[None]
    two_ids = (many_ids > many // 2) + 1
    loss = DiscriminativeLoss(norm=norm, push_distance=push_distance)

    def train_step(ids):
        return lambda: loss(x, ids, torch.ones_like(ids))['loss_embedding'].backward()

    train_step(two_ids)()
    peak_two, peak_many = peak_memory(train_step(two_ids)), peak_memory(train_step(many_ids))
    # The docstring's values a pair; one value for each instance and pixel would be 128 a pair.
    assert peak_many - peak_two < (18 if push_distance is None else 35) * 4 * many * (many - 1) / 2
    assert peak_memory(lambda: torch.zeros(many, side * side)) > 4 * (peak_many - peak_two)
    assert peak_two < 6.5 * x.numel() * 4


@pytest.mark.parametrize('loss', [DiscriminativeLoss, SphericalPairLoss])
def test_warns_that_class_by_class_nothing_is_pushed_away_from_the_background(loss):
    with pytest.warns(
        UserWarning, match='background_is_instance=True with class_agnostic=False.*Set class_agnostic=True'
    ):
        module = loss(background_is_instance=True, class_agnostic=False)
    ids = torch.tensor([[[0, 0, 7, 7]]])
    losses = module(torch.ones(1, 2, 1, 4), ids, (ids > 0).long())
    assert losses['push' if loss is DiscriminativeLoss else 'negative'] == 0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        loss(background_is_instance=True, class_agnostic=True)
        loss(background_is_instance=False, class_agnostic=False)
