"""The loss through iterations of mean shift, against the plain loss on iterations of the dense reference."""

import warnings

import pytest
import torch
from mmengine.model import BaseModel
from mmseg.registry import MODELS
from references.dense_mean_shift import dense_loops
from torch import nn

from mmseg_instancenet.models import CenterGrouping, MeanShiftGrouping, RecurrentLoss
from mmseg_instancenet.models.losses import (
    DiscriminativeLoss,
    SphericalPairLoss,
    discriminative_terms,
    number_instances,
    spherical_pair_terms,
)
from mmseg_instancenet.structures import EmbeddingMargins

# Kernels so soft that the loops move much; that groups reach each other is what the warning says.
pytestmark = pytest.mark.filterwarnings('ignore:MeanShiftGrouping. at concentration')

# The losses, and the kernel and concentration that go with each.
LOSSES = {
    'DiscriminativeLoss': (dict(class_agnostic=True, background_is_instance=True, push_margin=0.5), 'norm', 4),
    'SphericalPairLoss': (dict(margin=0.5, negative_weight=2.0), 'cosine', 10),
}


def build(name='SphericalPairLoss', loss=None, grouping=None, **settings):
    arguments, kernel, concentration = LOSSES[name]
    grouping = {'class_agnostic': True, 'kernel': kernel, 'concentration': concentration, **(grouping or {})}
    return RecurrentLoss(
        dict(type=name, **{**arguments, **(loss or {})}), dict(type='MeanShiftGrouping', **grouping), **settings
    )


def plain_loss(name, embeddings, ids, classes):
    """Total and parts of the loss itself, from its terms."""
    arguments = dict(LOSSES[name][0])
    if name == 'DiscriminativeLoss':
        terms = discriminative_terms(embeddings, ids, classes, **arguments)
        parts = dict(pull=terms.pull, push=terms.push, regularization=terms.regularization)
        return terms.pull + terms.push + 0.001 * terms.regularization, parts
    terms = spherical_pair_terms(embeddings, ids, classes, margin=arguments['margin'])
    return terms.positive + 2 * terms.negative, dict(positive=terms.positive, negative=terms.negative)


def batch(images=2, dims=3, size=(6, 7), seed=0, ignored=True):
    """Embeddings that half follow the instances; ids with gaps, two classes, background, and some ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([0, 0, 1, 4, 9])[torch.randint(5, (images, *size), generator=generator)]
    classes = torch.where(ids == 9, 2, (ids > 0).long())
    center = torch.randn(10, dims, generator=generator)
    embeddings = center[ids].movedim(3, 1) + 0.5 * torch.randn(images, dims, *size, generator=generator)
    if ignored:
        ids[:, 0, :2], classes[:, 2, 1] = -1, 255
    return embeddings, ids, classes


def counts_of(ids, classes, foreground_only=False):
    counts = (ids != -1) & (classes != 255)
    return counts & (ids != 0) if foreground_only else counts


def dense_maps(name, embeddings, counts, loops, region=None):
    """Maps (N, D, H, W) float64 before and after each loop, image by image and region by region, by the reference.

    Pixels that do not count are 0.
    """
    _, kernel, concentration = LOSSES[name]
    region = torch.ones_like(counts, dtype=torch.long) if region is None else region
    maps = [torch.zeros_like(embeddings, dtype=torch.float64).movedim(1, 3) for _ in range(loops + 1)]
    for image in range(len(embeddings)):
        for number in region[image].unique().tolist():
            inside = counts[image] & (region[image] == number)
            if inside.any():
                shifted = dense_loops(embeddings[image][:, inside].T, concentration, loops, kernel)
                where = (torch.tensor(image), *inside.nonzero(as_tuple=True))
                maps = [x.index_put(where, y) for x, y in zip(maps, shifted, strict=True)]
    return [x.movedim(3, 1) for x in maps]


@pytest.mark.parametrize('name', LOSSES)
def test_smoke(name):
    embeddings, ids, classes = batch()
    losses = build(name, loops=2)(embeddings.requires_grad_(), ids, classes)
    losses['loss_embedding'].backward()
    assert losses['loss_embedding'] > 0.01
    assert embeddings.grad.abs().max() > 1e-4
    # Pixels that are ignored neither enter nor attract.
    assert not embeddings.grad.movedim(1, 3)[~counts_of(ids, classes)].any()
    config = dict(type='RecurrentLoss', loss=dict(type=name), grouping=dict(type='MeanShiftGrouping'))
    assert type(MODELS.build(config)) is RecurrentLoss


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(loops=0), ValueError, 'loops >= 1, got 0; without loops, use the loss itself'),
        (dict(max_pixels=0), ValueError, 'max_pixels >= 1, or None for all, got 0'),
        (dict(name='DiscriminativeLoss', loss=dict(push_distance=5), max_pixels=9), ValueError, 'with push_distance'),
        (
            dict(name='DiscriminativeLoss', loss=dict(push_distance=5), foreground_only=True),
            ValueError,
            'push_distance',
        ),
        (dict(grouping=dict(max_loops=0)), ValueError, 'max_loops >= 1'),
    ],
)
def test_invalid_settings(settings, error, message):
    with pytest.raises(error, match=message):
        build(**settings)


def test_errors():
    with pytest.raises(TypeError, match='grouping with loops, such as MeanShiftGrouping, got CenterGrouping'):
        RecurrentLoss(dict(type='SphericalPairLoss'), dict(type='CenterGrouping'))
    with pytest.raises(TypeError, match='expected a loss that derives from EmbeddingLoss.*got ClassDiceLoss'):
        RecurrentLoss(dict(type='ClassDiceLoss'), dict(type='MeanShiftGrouping'))
    embeddings, ids, classes = batch()
    with pytest.raises(ValueError, match='expected instance and class maps of one shape'):
        build()(embeddings, ids[:, 1:], classes)
    embeddings[0, 0, 1, 1] = float('nan')
    with pytest.raises(ValueError, match='finite embeddings'):
        build()(embeddings, ids, classes)


@pytest.mark.parametrize('every_loop', [True, False])
@pytest.mark.parametrize('loops', [1, 3])
@pytest.mark.parametrize('name', LOSSES)
def test_is_the_sum_of_the_losses_of_dense_loops(name, loops, every_loop, device):
    embeddings, ids, classes = batch()
    exact = embeddings.double().requires_grad_()
    total, parts = 0, {}
    for loop, shifted in enumerate(dense_maps(name, exact, counts_of(ids, classes), loops)):
        if every_loop or loop == loops:
            value, of_loop = plain_loss(name, shifted, ids, classes)
            total = total + value
            parts.update({f'{part}_{loop}': v for part, v in of_loop.items()})
    total.backward()
    x = embeddings.to(device).requires_grad_()
    losses = build(name, loops=loops, every_loop=every_loop)(x, ids.to(device), classes.to(device))
    assert set(losses) == {'loss_embedding', *parts}
    for part, value in parts.items():
        assert float(losses[part]) == pytest.approx(float(value), abs=1e-5, rel=1e-4)
        assert not losses[part].requires_grad
    assert float(losses['loss_embedding']) == pytest.approx(float(total), rel=1e-4)
    losses['loss_embedding'].backward()
    assert (x.grad.cpu() - exact.grad).abs().max() < 1e-4 * exact.grad.abs().max()


@pytest.mark.parametrize('name', LOSSES)
def test_one_key_alone_is_trained_on(name):
    losses = build(name, loss=dict(loss_name='loss_pairs', loss_weight=0.5))(*batch())
    assert [key for key in losses if 'loss' in key] == ['loss_pairs']
    plain = build(name)(*batch())
    assert float(losses['loss_pairs']) == pytest.approx(float(plain['loss_embedding']) / 2)
    total, _ = BaseModel.parse_losses(None, losses)
    assert torch.equal(total, losses['loss_pairs'])


def test_margins_are_the_losses_own():
    assert build().margins(8) == EmbeddingMargins('cosine', 0.0, 1.0)
    assert build('DiscriminativeLoss').margins(8) == DiscriminativeLoss(push_margin=0.5).margins(8)
    derived = build(loss=dict(margin=None, num_instances=4)).margins(3)
    assert derived.between == pytest.approx(2 * (1 - 1 / 3))


@pytest.mark.parametrize('name', LOSSES)
def test_classes_that_are_grouped_apart_do_not_attract_each_other(name, device):
    """Not class-agnostic: each class's loops as if the others were not there, the background a class of its own."""
    embeddings, ids, classes = batch()
    exact = embeddings.double().requires_grad_()
    counts = counts_of(ids, classes)
    total = sum(plain_loss(name, x, ids, classes)[0] for x in dense_maps(name, exact, counts, 2, classes))
    total.backward()
    loss = build(name, grouping=dict(class_agnostic=False), loops=2)
    x, ids, classes = embeddings.to(device).requires_grad_(), ids.to(device), classes.to(device)
    losses = loss(x, ids, classes)
    assert float(losses['loss_embedding']) == pytest.approx(float(total), rel=1e-4)
    assert float(losses['loss_embedding']) != pytest.approx(
        float(build(name, loops=2)(x, ids, classes)['loss_embedding']), rel=1e-3
    )
    losses['loss_embedding'].backward()
    assert (x.grad.cpu() - exact.grad).abs().max() < 1e-4 * exact.grad.abs().max()


@pytest.mark.parametrize('name', LOSSES)
def test_foreground_only_is_the_loss_on_the_foreground_alone(name):
    """Images with different numbers of foreground pixels, each against its foreground cut out as a row by hand."""
    embeddings, ids, classes = batch(images=3)
    ids[1, 3:], classes[1, 3:] = 0, 0
    embeddings.requires_grad_()
    losses = build(name, loops=2, foreground_only=True)(embeddings, ids, classes)
    losses['loss_embedding'].backward()
    total, gradient = 0, torch.zeros_like(embeddings)
    for image in range(3):
        inside = counts_of(ids, classes, foreground_only=True)[image]
        row = embeddings.detach()[image][:, inside].requires_grad_()
        alone = build(name, loops=2)(
            row[None, :, None], ids[image][inside][None, None], classes[image][inside][None, None]
        )
        (alone['loss_embedding'] / 3).backward()
        total += float(alone['loss_embedding']) / 3
        gradient[image][:, inside] = row.grad
    assert float(losses['loss_embedding']) == pytest.approx(total, rel=1e-4)
    assert (embeddings.grad - gradient).abs().max() < 1e-4 * gradient.abs().max()
    with_background = build(name, loops=2)(embeddings, ids, classes)
    assert float(with_background['loss_embedding']) != pytest.approx(total, rel=1e-2)


class Spy(nn.Module):
    """A loss that only records its arguments."""

    loss_name, class_agnostic = 'loss_embedding', False

    def __init__(self):
        super().__init__()
        self.calls, self.numbered = [], 0

    def margins(self, embedding_dims):
        return EmbeddingMargins('cosine', 0.0, 1.0)

    def number(self, instance_map_NHW, class_map_NHW):
        self.numbered += 1
        return number_instances(instance_map_NHW, class_map_NHW)

    def forward(self, embeddings_NDHW, instance_map_NHW, class_map_NHW, instances=None):
        self.calls.append((embeddings_NDHW, instance_map_NHW, class_map_NHW, instances))
        return {'loss_embedding': embeddings_NDHW.sum() * 0, 'part': torch.zeros(())}


def spied(**settings):
    loss = build(**settings)
    loss.loss = Spy()
    return loss


@pytest.mark.parametrize('foreground_only', [False, True])
@pytest.mark.parametrize('max_pixels', [1, 5, 12, 40, 1000])
def test_max_pixels_draws_pixels_that_count_and_fills_up_with_ignored_ones(max_pixels, foreground_only):
    embeddings, ids, classes = batch(images=3)
    ids[1, 1:] = -1  # few pixels: four that count
    ids[1, 0, 3:] = torch.tensor([4, 4, 9, 0])
    classes[1, 0, 3:] = torch.tensor([1, 1, 2, 0])
    # Every pixel tells from its first coordinate where it comes from.
    embeddings[:, 0] = torch.arange(3 * 42).view(3, 6, 7) + 1.0
    counts = counts_of(ids, classes, foreground_only)
    per_image = counts.flatten(1).sum(1).tolist()
    loss = spied(name='DiscriminativeLoss', max_pixels=max_pixels, foreground_only=foreground_only, loops=1)
    torch.manual_seed(0)
    loss(embeddings, ids, classes)
    x, chosen_ids, chosen_classes, _ = loss.loss.calls[0]
    width = min(max_pixels, max(per_image))
    assert x.shape == (3, 3, 1, width) and chosen_ids.shape == chosen_classes.shape == (3, 1, width)
    for image in range(3):
        position = (x[image, 0, 0] - 1).long()
        assert len(position.unique()) == width  # none twice
        fills = chosen_ids[image, 0] == -1
        assert int((~fills).sum()) == min(width, per_image[image])
        assert counts.flatten()[position[~fills]].all()
        assert torch.equal(ids.flatten()[position[~fills]], chosen_ids[image, 0][~fills])
        assert torch.equal(classes.flatten()[position[~fills]], chosen_classes[image, 0][~fills])
        assert ((position >= 42 * image) & (position < 42 * (image + 1))).all()
    # All loops see one choice; a seed repeats it, another makes a new one.
    assert all(torch.equal(call[1], chosen_ids) for call in loss.loss.calls)
    torch.manual_seed(0)
    loss(embeddings, ids, classes)
    assert torch.equal(loss.loss.calls[2][0], x)
    torch.manual_seed(1)
    loss(embeddings, ids, classes)
    assert torch.equal(loss.loss.calls[4][0], x) == (max_pixels >= max(per_image))


def test_the_choice_of_pixels_is_uniform():
    embeddings, ids, classes = batch(images=1, ignored=False)
    embeddings[:, 0] = torch.arange(42).view(1, 6, 7) + 1.0
    loss = spied(name='DiscriminativeLoss', max_pixels=10, loops=1)
    torch.manual_seed(0)
    for _ in range(500):
        loss(embeddings, ids, classes)
    drawn = torch.cat([call[0][0, 0, 0] for call in loss.loss.calls[::2]]).long() - 1
    times = torch.bincount(drawn, minlength=42)
    # 500 x 10 / 42 = 119, with a standard deviation of 9.5.
    assert times.min() > 75 and times.max() < 165


def test_every_pixel_of_max_pixels_is_the_whole_image():
    embeddings, ids, classes = batch(images=1)
    count = int(counts_of(ids, classes).sum())
    whole = build('DiscriminativeLoss')(embeddings, ids, classes)
    chosen = build('DiscriminativeLoss', max_pixels=count)(embeddings, ids, classes)
    for key, value in whole.items():
        assert float(chosen[key]) == pytest.approx(float(value), rel=1e-4, abs=1e-6)


def test_instances_are_numbered_once_an_iteration(monkeypatch):
    embeddings, ids, classes = batch()
    loss = spied(loops=3)
    loss(embeddings, ids, classes)
    assert loss.loss.numbered == 1
    assert len(loss.loss.calls) == 4 and all(call[3] is loss.loss.calls[0][3] for call in loss.loss.calls)


@pytest.mark.parametrize('name', LOSSES)
def test_the_real_losses_take_the_numbers_as_they_are(name, monkeypatch):
    """One numbering in all: the check for the warning needs none where no ratio of sizes could matter."""
    calls = []

    def counting(*maps):
        calls.append(maps)
        return number_instances(*maps)

    for module in ('instance_numbering', 'recurrent', 'discriminative', 'spherical_pair'):
        monkeypatch.setattr(f'mmseg_instancenet.models.losses.{module}.number_instances', counting)
    far = dict(push_margin=50) if name == 'DiscriminativeLoss' else None
    build(name, loss=far, grouping=dict(concentration=100), loops=5)(*batch())
    assert len(calls) == 1


def test_samples_of_the_pair_loss(device):
    """The loss draws its own samples, in order, on dense loops over all pixels: the kernel does not use the sample."""
    embeddings, ids, classes = batch()
    loss = build(loss=dict(sample_ratio=0.4), loops=2)
    torch.manual_seed(5)
    actual = loss(embeddings.to(device), ids.to(device), classes.to(device))['loss_embedding']
    torch.manual_seed(5)
    pairs = SphericalPairLoss(margin=0.5, sample_ratio=0.4)
    samples = [pairs._draw(pairs.number(ids, classes), ids.shape) for _ in range(3)]
    expected = 0
    for x, sample in zip(dense_maps('SphericalPairLoss', embeddings, counts_of(ids, classes), 2), samples, strict=True):
        terms = spherical_pair_terms(x, ids, classes, margin=0.5, sample_NHW=sample)
        expected += float(terms.positive + 2 * terms.negative)
    assert float(actual) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('foreground_only', [False, True])
@pytest.mark.parametrize('max_pixels', [None, 3])
@pytest.mark.parametrize('content', ['ignored', 'background', 'one instance', 'one pixel'])
@pytest.mark.parametrize('name', LOSSES)
def test_nothing_to_do_is_zero_and_touches_the_embeddings(name, content, max_pixels, foreground_only, device):
    torch.manual_seed(0)
    embeddings = torch.randn(2, 3, 4, 5).to(device).requires_grad_()
    ids, classes = (torch.full((2, 4, 5), value, device=device) for value in (-1, 255))
    if content == 'background':
        ids, classes = ids * 0, classes * 0
    elif content == 'one instance':
        ids, classes = torch.full_like(ids, 7), torch.full_like(ids, 1)
    elif content == 'one pixel':
        ids[1, 2, 3], classes[1, 2, 3] = 7, 1
    loss = build(name, loss=dict(background_is_instance=False), max_pixels=max_pixels, foreground_only=foreground_only)
    losses = loss(embeddings, ids, classes)
    losses['loss_embedding'].backward()
    assert torch.isfinite(losses['loss_embedding'])
    assert embeddings.grad is not None and torch.isfinite(embeddings.grad).all()
    if content in ('ignored', 'background'):
        assert losses['loss_embedding'] == 0 and not embeddings.grad.any()
    one = torch.randn(1, 3, 1, 1).to(device).requires_grad_()
    labels = torch.ones(1, 1, 1, dtype=torch.long, device=device)
    alone = loss(one, labels, labels)['loss_embedding']
    alone.backward()
    assert torch.isfinite(alone) and torch.isfinite(one.grad).all()


def test_an_empty_image_among_others():
    embeddings, ids, classes = batch()
    ids[1], classes[1] = -1, 255
    together = build()(embeddings, ids, classes)['loss_embedding']
    alone = build()(embeddings[:1], ids[:1], classes[:1])['loss_embedding']
    assert float(together) == pytest.approx(float(alone) / 2, rel=1e-4)


@pytest.mark.parametrize('name', LOSSES)
def test_autocast_changes_nothing(name):
    embeddings, ids, classes = batch()
    expected = build(name)(embeddings, ids, classes)['loss_embedding']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        actual = build(name)(embeddings, ids, classes)['loss_embedding']
    assert torch.equal(actual, expected)


def test_gradcheck():
    embeddings, ids, classes = batch(images=1, size=(3, 3))
    loss = build(loops=2)

    def run(x):
        return loss(x, ids, classes)['loss_embedding']

    assert torch.autograd.gradcheck(run, embeddings.double().requires_grad_())


def test_gradient_descent_through_loops_pulls_instances_apart():
    torch.manual_seed(0)
    ids = torch.zeros(1, 8, 8, dtype=torch.long)
    ids[:, :, 4:], ids[:, :4, :4] = 1, 9
    embeddings = torch.randn(1, 3, 8, 8).requires_grad_()
    loss = RecurrentLoss(
        dict(type='SphericalPairLoss'), dict(type='MeanShiftGrouping', concentration=25, class_agnostic=True)
    )
    optimizer = torch.optim.Adam([embeddings], 0.1)
    history = []
    for _ in range(60):
        total = loss(embeddings, ids, (ids > 0).long())['loss_embedding']
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(float(total))
    assert history[-1] < 0.05 * history[0]
    labels = MeanShiftGrouping(25)(embeddings.detach()[0], torch.ones(8, 8, dtype=torch.long))
    assert len(set(zip(ids.flatten().tolist(), labels.flatten().tolist(), strict=True))) == int(labels.max()) == 3


def large_background(class_of_small):
    """95 pixels of background and five instances of one: six axes."""
    ids = torch.zeros(1, 10, 10, dtype=torch.long)
    ids[0, 9, 5:] = torch.arange(1, 6)
    embeddings = torch.eye(16)[ids].movedim(3, 1)
    return embeddings, ids, (ids > 0).long() * class_of_small


def test_the_warning_of_groups_that_reach_each_other():
    def loss_at(concentration, **settings):
        foreground_only = settings.pop('foreground_only', False)
        grouping = dict(type='MeanShiftGrouping', concentration=concentration, **{'class_agnostic': True, **settings})
        return RecurrentLoss(dict(type='SphericalPairLoss'), grouping, foreground_only=foreground_only)

    for loss in (
        loss_at(100),
        loss_at(25),
        loss_at(6, foreground_only=True),
        loss_at(6, class_agnostic=False),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            loss(*large_background(1))
    loss = loss_at(6)
    with pytest.warns(UserWarning, match='at concentration 6 a group 95 times as large.*0.24 times.*apart by 1'):
        loss(*large_background(1))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        loss(*large_background(1))  # once
    # Within one class the same sizes do meet.
    with pytest.warns(UserWarning, match='a group 95 times'):
        loss_at(6, class_agnostic=False)(*large_background(0))


def test_without_a_grouping_it_takes_the_models_grouper():
    embeddings, ids, classes = batch()
    loss = RecurrentLoss(dict(type='SphericalPairLoss'))
    with pytest.raises(ValueError, match='RecurrentLoss has no grouping.*EmbeddingSegmentor'):
        loss(embeddings, ids, classes)
    grouper = MeanShiftGrouping(25, class_agnostic=True)
    loss.set_grouper(grouper)
    assert loss.grouping is grouper
    expected = RecurrentLoss(
        dict(type='SphericalPairLoss'), dict(type='MeanShiftGrouping', concentration=25, class_agnostic=True)
    )(embeddings, ids, classes)
    assert torch.equal(loss(embeddings, ids, classes)['loss_embedding'], expected['loss_embedding'])
    with pytest.raises(
        TypeError, match='expected a grouping with loops, such as MeanShiftGrouping, got CenterGrouping'
    ):
        RecurrentLoss(dict(type='SphericalPairLoss')).set_grouper(CenterGrouping())


def test_a_grouping_that_differs_from_the_grouper_is_logged(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmseg_instancenet.models.losses.recurrent.print_log', lambda message, logger: lines.append(message)
    )
    loss = RecurrentLoss(dict(type='SphericalPairLoss'), dict(type='MeanShiftGrouping', concentration=25))
    own = loss.grouping
    loss.set_grouper(MeanShiftGrouping(25))
    assert lines == [] and loss.grouping is own
    loss.set_grouper(MeanShiftGrouping(100, min_size=10))
    assert lines == [
        "RecurrentLoss: its grouping differs from the model's grouper in min_size 1 (grouper: 10), concentration 25 "
        '(grouper: 100)'
    ]
    assert loss.grouping is own
    loss.set_grouper(CenterGrouping(threshold=0.3))
    assert 'concentration 25 (grouper: None)' in lines[-1]


@pytest.mark.parametrize('foreground_only', [False, True])
@pytest.mark.parametrize('class_agnostic', [False, True])
def test_iterations_for_drawings_are_dense_loops_over_the_class_map(class_agnostic, foreground_only, device):
    embeddings = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(1))
    classes = torch.randint(3, (6, 7), generator=torch.Generator().manual_seed(2))
    classes[0, :2], classes[5] = 255, 0
    loss = build(grouping=dict(class_agnostic=class_agnostic), loops=2, foreground_only=foreground_only)
    found = loss.iterations(embeddings.to(device), classes.to(device)).cpu()
    assert found.shape == (3, 3, 6, 7)
    counts = (classes != 255) & ((classes > 0) | (not foreground_only))
    for region in [counts] if class_agnostic else [counts & (classes == value) for value in range(3)]:
        if region.any():
            expected = dense_loops(embeddings[:, region].T, loss.grouping.kernel_settings.concentration, loops=2)
            torch.testing.assert_close(found[:, :, region].mT.double(), torch.stack(expected), atol=1e-5, rtol=0)
    assert (found[:, :, ~counts] == 0).all()
    assert (found[1] - found[0]).abs().max() > 0.01


def test_iterations_without_a_pixel_are_zero():
    loss = build(foreground_only=True, loops=2)
    found = loss.iterations(torch.randn(3, 4, 5), torch.zeros(4, 5, dtype=torch.long))
    assert found.shape == (3, 3, 4, 5) and (found == 0).all()
