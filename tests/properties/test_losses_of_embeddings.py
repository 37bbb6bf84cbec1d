"""What every loss on embeddings keeps, in value and in gradient, for random label maps: and the values of plain references."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from label_batches import IDS, Batch, batches, permuted, rotation, seeds
from references.dense_mean_shift import dense_loops
from references.discriminative import pull_and_push
from references.soft_masks import mask_terms
from references.spherical_pair import pair_sums

from mmseg_instancenet.models import MeanShiftGrouping, RecurrentLoss  # noqa: F401  (in the registry)
from mmseg_instancenet.models.losses import discriminative_terms, soft_mask_terms, spherical_pair_terms

pytestmark = pytest.mark.filterwarnings('ignore:MeanShiftGrouping. at concentration')

ALL = {'class_agnostic': True, 'background_is_instance': True}
GROUPING = {'type': 'MeanShiftGrouping', 'class_agnostic': True, 'concentration': 5.0}


def discriminative(**settings):
    return lambda x, ids, classes: torch.stack(discriminative_terms(x, ids, classes, **settings))


def spherical(**settings):
    return lambda x, ids, classes: torch.stack(spherical_pair_terms(x, ids, classes, margin=0.5, **settings))


def soft(x, ids, classes):
    return torch.stack(soft_mask_terms(x, ids, classes))


def recurrent(kernel, loss):
    module = RecurrentLoss(loss, {**GROUPING, 'kernel': kernel}, loops=2)

    def terms(x, ids, classes):
        return module(x, ids, classes)['loss_embedding'][None]

    return terms


LOSSES = {
    'pull and push': discriminative(),
    'pull and push, all classes, squared L1': discriminative(**ALL, norm=1, squared=True),
    'pair loss of the paper': spherical(),
    "pair loss of the authors' code, class by class": spherical(
        variant='released', class_agnostic=False, background_is_instance=False
    ),
    'soft masks': soft,
    'loops of pull and push': recurrent('norm', {'type': 'DiscriminativeLoss', **ALL, 'gamma': 0.0}),
    'loops of the pair loss': recurrent('cosine', {'type': 'SphericalPairLoss', 'variant': 'released'}),
}
TRANSLATED = ['pull and push', 'pull and push, all classes, squared L1', 'soft masks', 'loops of pull and push']
ROTATED = [
    'pull and push',
    'pair loss of the paper',
    "pair loss of the authors' code, class by class",
    'loops of pull and push',
    'loops of the pair loss',
]
SPHERICAL = [name for name in ROTATED if 'pair' in name]
each_loss = pytest.mark.parametrize('name', LOSSES)


def evaluate(name, batch):
    """Terms, and the gradient of a sum of them with weights."""
    x = batch.x.clone().requires_grad_()
    terms = LOSSES[name](x, batch.ids, batch.classes)
    (terms * torch.tensor([1.0, 0.7, 0.3])[: len(terms)]).sum().backward()
    assert torch.isfinite(terms).all() and torch.isfinite(x.grad).all()
    return terms.detach(), x.grad


def same(actual, expected):
    for value, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-7, atol=1e-9)


@each_loss
@given(batch=batches(least_dims=3), generator=seeds())
def test_order_of_pixels(name, batch, generator):
    terms, gradient = evaluate(name, batch)
    other, order = permuted(batch, generator)
    same(evaluate(name, other), (terms, gradient.flatten(2)[..., order].view_as(gradient)))


@each_loss
@given(batch=batches(least_dims=3), generator=seeds())
def test_order_and_repetition_of_images(name, batch, generator):
    terms, gradient = evaluate(name, batch)
    order = torch.randperm(len(batch.x), generator=generator)
    same(evaluate(name, Batch(*(value[order] for value in batch))), (terms, gradient[order]))
    twice = Batch(*(torch.cat([value, value]) for value in batch))
    same(evaluate(name, twice), (terms, torch.cat([gradient, gradient]) / 2))


@each_loss
@given(batch=batches(least_dims=3), numbers=st.permutations([1, 2, 4, 255, 300, 65535, 2**31 + 1, 2**40]))
def test_other_ids(name, batch, numbers):
    ids = batch.ids.clone()
    for number, id_ in zip(numbers, IDS[2:], strict=False):
        ids[batch.ids == id_] = number
    same(evaluate(name, batch._replace(ids=ids)), evaluate(name, batch))


@each_loss
@given(batch=batches(least_dims=3), generator=seeds(), columns=st.integers(1, 4), by_class=st.booleans())
def test_more_ignored_pixels(name, batch, generator, columns, by_class):
    """Their values do not matter, and they get no gradient."""
    terms, gradient = evaluate(name, batch)
    images, dims, height, width = batch.x.shape
    extra = 100 * torch.randn(images, dims, height, columns, generator=generator).double()
    ids, classes = (torch.full((images, height, columns), value) for value in ((1, 255) if by_class else (-1, 1)))
    both = Batch(*(torch.cat(pair, dim=-1) for pair in zip(batch, (extra, ids, classes), strict=True)))
    more_terms, more_gradient = evaluate(name, both)
    same((more_terms, more_gradient[..., :width]), (terms, gradient))
    assert not more_gradient[..., width:].any()


@each_loss
@given(batch=batches(least_dims=3, most_pixels=4), copies=st.integers(2, 3))
def test_every_pixel_several_times(name, batch, copies):
    """The paper's pair loss has one over the number of pixels before it."""
    factor = 1 / copies if name == 'pair loss of the paper' else 1
    terms, gradient = evaluate(name, batch)
    terms_of_copies, gradient_of_copies = evaluate(
        name, Batch(*(value.repeat_interleave(copies, dim=-1) for value in batch))
    )
    summed = gradient_of_copies.unflatten(3, (-1, copies)).sum(4)
    same((terms_of_copies, summed), (terms * factor, gradient * factor))


@pytest.mark.parametrize('name', TRANSLATED)
@given(batch=batches(least_dims=3), generator=seeds())
def test_translation_of_euclidean_embeddings(name, batch, generator):
    """All terms but the regularisation."""
    offset = 3 * torch.randn(batch.x.shape[1], generator=generator).double()
    if name == 'soft masks':
        offset[-2:] = 0  # bandwidth and seed are no coordinates
    moved = batch._replace(x=batch.x + offset[:, None, None])
    count = 3 if name == 'soft masks' else 2
    same([LOSSES[name](*moved)[:count]], [LOSSES[name](*batch)[:count]])


@pytest.mark.parametrize('name', ROTATED)
@given(batch=batches(least_dims=3), generator=seeds())
def test_rotation(name, batch, generator):
    terms, gradient = evaluate(name, batch)
    turn = rotation(batch.x.shape[1], generator)
    turned = torch.einsum('ed,ndhw->nehw', turn, batch.x)
    same(evaluate(name, batch._replace(x=turned)), (terms, torch.einsum('ed,ndhw->nehw', turn, gradient)))


@pytest.mark.parametrize('name', SPHERICAL)
@given(batch=batches(least_dims=3), generator=seeds())
def test_lengths_of_spherical_embeddings(name, batch, generator):
    images, _, height, width = batch.x.shape
    scale = 10 ** (8 * torch.rand(images, 1, height, width, generator=generator).double() - 4)
    same([LOSSES[name](batch.x * scale, batch.ids, batch.classes)], [LOSSES[name](*batch)])


@given(batch=batches(), norm=st.sampled_from([1, 2, 3, float('inf')]), squared=st.booleans(), agnostic=st.booleans(),
       background=st.booleans(), push_distance=st.sampled_from([None, 0, 1.5]))  # fmt: skip
def test_pull_and_push_are_those_of_the_plain_reference(batch, norm, squared, agnostic, background, push_distance):
    settings = dict(norm=norm, squared=squared, class_agnostic=agnostic, background_is_instance=background,
                    push_distance=push_distance)  # fmt: skip
    expected = torch.tensor(pull_and_push(*batch, **settings), dtype=torch.float64)
    same([discriminative(**settings)(*batch)], [expected])


@given(batch=batches(most_pixels=4), variant=st.sampled_from(['paper', 'released']), agnostic=st.booleans(),
       background=st.booleans(), generator=seeds(), sampled=st.booleans())  # fmt: skip
def test_the_pair_loss_is_that_of_the_plain_reference(batch, variant, agnostic, background, generator, sampled):
    sample = torch.rand(batch.ids.shape, generator=generator) < 0.6 if sampled else None
    settings = dict(variant=variant, class_agnostic=agnostic, background_is_instance=background, sample_NHW=sample)
    values, gradients = pair_sums(*batch, margin=0.5, **settings)
    x = batch.x.clone().requires_grad_()
    terms = spherical(**settings)(x, batch.ids, batch.classes)
    terms.sum().backward()
    same([terms.detach(), x.grad], [torch.tensor(values, dtype=torch.float64), gradients.sum(0)])


@given(batch=batches(least_dims=3))
def test_soft_masks_are_those_of_the_plain_reference(batch):
    """The hinge leaves out pixels at which a mask is below 0.0005, and is lower by at most 0.001."""
    terms, expected = soft(*batch), mask_terms(*batch)
    same([terms[1:]], [expected[1:]])
    assert -1e-9 <= expected[0] - terms[0] <= 1e-3


@pytest.mark.parametrize('name', ['loops of pull and push', 'loops of the pair loss'])
@given(batch=batches(least_dims=3, most_pixels=4))
def test_loops_are_those_of_the_dense_reference(name, batch):
    kernel = 'norm' if 'push' in name else 'cosine'
    counts = (batch.ids != -1) & (batch.classes != 255)
    maps = [torch.zeros_like(batch.x).movedim(1, 3) for _ in range(3)]
    for image, inside in enumerate(counts):
        if inside.any():
            loops = dense_loops(batch.x[image][:, inside].T, 5.0, 2, kernel)
            for map_NHWD, shifted in zip(maps, loops, strict=True):
                map_NHWD[image][inside] = shifted
    total = 0
    for map_NHWD in maps:
        of_loop = batch._replace(x=map_NHWD.movedim(3, 1))
        if kernel == 'norm':
            total += sum(pull_and_push(*of_loop, **ALL)[:2])
        else:
            total += sum(pair_sums(*of_loop, margin=0.5, variant='released')[0])
    assert LOSSES[name](*batch).item() == pytest.approx(total, rel=1e-7, abs=1e-9)
