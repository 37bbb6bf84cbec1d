"""Blurring mean shift against the dense kernel matrix, written from equation (3) in float64."""

import math

import pytest
import torch
from devices import slack
from programs import run_program
from references.dense_mean_shift import blobs, clusters, dense_loops, take
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmseg_instancenet.models.mean_shift import mean_shift
from mmseg_instancenet.models.mean_shift.iteration import kernel_mean

KERNELS = ['cosine', 'norm']


def masses(count, seed=1):
    mass = torch.rand(count, generator=torch.Generator().manual_seed(seed)) + 0.1
    mass[::7] = 0
    return mass


def test_smoke_and_the_first_are_the_inputs_own():
    x = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])
    assert torch.allclose(next(mean_shift(x, 10)), torch.tensor([[[0.6, 0.8], [0.0, 1.0]]]))
    assert torch.equal(next(mean_shift(x, 10, kernel='norm')), x)


def test_by_hand():
    # Right angles: K is e^delta on the diagonal and 1 elsewhere.
    x = torch.eye(2)[None]
    after = take(mean_shift(x, math.log(3)), 2)[1][0, 0]
    assert after.tolist() == pytest.approx([3 / math.sqrt(10), 1 / math.sqrt(10)], abs=1e-6)
    # Two apart on a line, one of them three times as heavy: K = e^-2.
    x, mass = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[1.0, 3.0]])
    after = take(mean_shift(x, 1, kernel='norm', mass_NP=mass), 2)[1][0]
    k = 3 * math.exp(-2)
    assert float(after[0]) == pytest.approx(2 * k / (1 + k), abs=1e-6)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(concentration=0), 'concentration > 0, got 0'),
        (dict(concentration=float('nan')), 'concentration > 0, got nan'),
        (dict(step_size=0), r'step_size in \(0, 1\], got 0'),
        (dict(step_size=1.5), r'step_size in \(0, 1\], got 1.5'),
        (dict(kernel='flat'), "'cosine' or 'norm', got 'flat'"),
        (dict(mass_NP=torch.ones(2, 3)), r'masses \(1, 3\), one a pixel, got \(2, 3\)'),
        (dict(mass_NP=-torch.ones(1, 3)), 'masses >= 0'),
        (dict(mass_NP=torch.full((1, 3), float('nan'))), 'masses >= 0'),
        (dict(x_NPD=torch.zeros(3, 2)), r'\(N, P, D\), got \(3, 2\)'),
        (dict(x_NPD=torch.zeros(1, 3, 2, dtype=torch.long)), r'floating point.*int64'),
    ],
)
def test_bad_input_is_refused_with_the_first_embeddings(settings, message):
    with pytest.raises(ValueError, match=message):
        next(mean_shift(**{'x_NPD': torch.ones(1, 3, 2), 'concentration': 1.0, **settings}))


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('concentration', [1, 10, 100])
@pytest.mark.parametrize('dims', [3, 16, 64])
@pytest.mark.parametrize(('step_size', 'with_mass'), [(1.0, False), (0.5, False), (1.0, True), (0.5, True)])
def test_equals_the_dense_reference(dims, concentration, kernel, step_size, with_mass, device):
    """Values and gradients, three loops, every one of them in the sum that is differentiated."""
    x = blobs(dims)
    mass = masses(len(x)) if with_mass else None
    direction = torch.randn(4, *x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    exact = x.double().requires_grad_()
    expected = dense_loops(exact, concentration, 3, kernel, step_size, mass)
    sum((a * b).sum() for a, b in zip(expected, direction, strict=True)).backward()
    x.requires_grad_()
    loops = mean_shift(
        x[None].to(device),
        concentration,
        kernel=kernel,
        step_size=step_size,
        mass_NP=None if mass is None else mass[None].to(device),
    )
    actual = [y[0].cpu() for y in take(loops, 4)]
    sum((a * b).sum() for a, b in zip(actual, direction.float(), strict=True)).backward()
    assert actual[-1].dtype == torch.float32
    assert (expected[-1] - expected[0]).abs().max() > 0.02  # something moved
    for a, b in zip(actual, expected, strict=True):
        assert (a.double() - b).abs().max() < 1e-5 * slack(device)
    tolerance = (1e-4 if concentration == 100 else 1e-5) * slack(device)
    assert (x.grad.double() - exact.grad).abs().max() < tolerance * exact.grad.abs().max()


def test_float64_agrees_to_its_own_rounding():
    x = blobs(5).double()
    expected = dense_loops(x, 30, 2)[-1]
    assert (take(mean_shift(x[None], 30), 3)[-1][0] - expected).abs().max() < 1e-12


@pytest.mark.parametrize('kernel', KERNELS)
def test_stable_at_a_high_concentration(kernel):
    x = blobs(16, count=200).requires_grad_()
    loops = take(mean_shift(x[None], 1000, kernel=kernel), 4)
    loops[-1].square().sum().backward()
    assert all(torch.isfinite(y).all() for y in loops)
    assert torch.isfinite(x.grad).all()
    expected = dense_loops(x.detach(), 1000, 3, kernel)[-1]
    assert (loops[-1][0] - expected).abs().max() < 1e-4
    # Lengths of 4: exp(1000 x . x) is far beyond any floating point number.
    far = (4 * blobs(16, count=50)).requires_grad_()
    last = take(mean_shift(far[None], 1000, kernel=kernel), 3)[-1]
    last.sum().backward()
    assert torch.isfinite(last).all() and torch.isfinite(far.grad).all()


@pytest.mark.parametrize('kernel', KERNELS)
def test_autocast_changes_nothing(kernel):
    x = blobs(16)[None]
    expected = take(mean_shift(x, 100, kernel=kernel), 3)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        actual = take(mean_shift(x, 100, kernel=kernel), 3)
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_are_computed_in_float32(dtype):
    x = blobs(16)[None].to(dtype).requires_grad_()
    last = take(mean_shift(x, 1000), 3)[-1]
    assert torch.equal(last, take(mean_shift(x.float(), 1000), 3)[-1])
    last.sum().backward()
    assert x.grad.dtype == dtype and torch.isfinite(x.grad).all()


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('step_size', [1.0, 0.5])
def test_gradcheck_through_two_loops(kernel, step_size):
    x = blobs(3, count=9).double()[None].requires_grad_()
    mass = masses(9)[None].double()

    def run(x):
        return take(mean_shift(x, 10, kernel=kernel, step_size=step_size, mass_NP=mass), 3)[-1]

    assert torch.autograd.gradcheck(run, x)


def test_gradient_flows_through_every_loop():
    """Through queries, keys and values: it differs from that of each loop by itself, started from a detached input."""
    x = blobs(4).requires_grad_()
    take(mean_shift(x[None], 20), 4)[-1][0, 0, 0].backward()
    y = take(mean_shift(x.detach()[None], 20), 3)[-1].requires_grad_()
    take(mean_shift(y, 20), 2)[-1][0, 0, 0].backward()
    assert (x.grad - y.grad[0]).abs().max() > 0.1 * x.grad.abs().max()
    assert (x.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize('kernel', KERNELS)
def test_pixels_without_mass_attract_none(kernel):
    x = blobs(5, count=60)
    counts = torch.arange(60) % 3 > 0
    direction = torch.randn(60, 5, generator=torch.Generator().manual_seed(4)) * counts[:, None]
    results = []
    for stranger in (0.3, -40.0):
        y = torch.where(counts[:, None], x, stranger * x + 1).requires_grad_()
        last = take(mean_shift(y[None], 20, kernel=kernel, mass_NP=counts[None]), 3)[-1][0]
        (last * direction).sum().backward()
        assert torch.isfinite(last).all()
        assert not y.grad[~counts].any()
        results.append((last[counts], y.grad[counts]))
    alone = x[counts].requires_grad_()
    last = take(mean_shift(alone[None], 20, kernel=kernel), 3)[-1][0]
    (last * direction[counts]).sum().backward()
    for value, gradient in results:
        torch.testing.assert_close(value, last, rtol=1e-4, atol=1e-4 if kernel == 'norm' else 1e-5)
        torch.testing.assert_close(gradient, alone.grad, rtol=1e-3, atol=1e-3 if kernel == 'norm' else 1e-4)


@pytest.mark.parametrize('kernel', KERNELS)
def test_batches_equal_single_images(kernel):
    x = torch.stack([blobs(6, seed=seed) for seed in range(3)])
    mass = torch.stack([masses(120, seed) for seed in range(3)])
    together = take(mean_shift(x, 25, mass_NP=mass, kernel=kernel), 3)[-1]
    for index in range(3):
        alone = take(mean_shift(x[index : index + 1], 25, mass_NP=mass[index : index + 1], kernel=kernel), 3)[-1]
        torch.testing.assert_close(together[index], alone[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('count', [1, 5])
def test_nothing_or_one_pixel_to_attract(count, kernel, device):
    x = blobs(3, count=count).to(device).requires_grad_()
    for mass in (None, torch.zeros(1, count, device=device)):
        loops = take(mean_shift(x[None], 100, kernel=kernel, mass_NP=mass), 3)
        x.grad = None
        loops[-1].sum().backward()
        assert torch.isfinite(loops[-1]).all() and torch.isfinite(x.grad).all()
    if count == 1:
        torch.testing.assert_close(loops[-1], loops[0])


@pytest.mark.parametrize('kernel', KERNELS)
def test_images_without_a_pixel(kernel):
    x = torch.zeros(2, 0, 3, requires_grad=True)
    last = take(mean_shift(x, 100, kernel=kernel), 3)[-1]
    last.sum().backward()
    assert last.shape == x.grad.shape == (2, 0, 3)


def test_an_embedding_of_length_zero_gets_no_gradient():
    x = blobs(3, count=5)
    x[2] = 0
    x.requires_grad_()
    last = take(mean_shift(x[None], 100), 3)[-1]
    (last * torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert torch.isfinite(last).all() and not x.grad[2].any()
    assert 0 < x.grad.abs().max() < 100


def spread_clusters(spread, seed):
    """Six clusters in pairs, four bandwidths apart in a pair; the pairs in a box whose diagonal is ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    cluster = torch.randint(6, (200,), generator=generator)
    place = torch.randn(3, 2, generator=generator)
    place = place / (place.amax(0) - place.amin(0)).norm() * (spread - 8)
    center = torch.stack([place[index // 2] + torch.tensor([4.0 * (index % 2), 0.0]) for index in range(6)])
    return center[cluster] + 0.5 * torch.randn(200, 2, generator=generator)


@pytest.mark.parametrize('seed', range(3))
def test_rounding_errors_within_the_limits_of_the_spread(seed):
    x = spread_clusters(480, seed).requires_grad_()
    direction = torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    exact = x.detach().double().requires_grad_()
    (dense_loops(exact, 1, 2, 'norm')[-1] * direction).sum().backward()
    (take(mean_shift(x[None], 1, kernel='norm'), 3)[-1][0] * direction).sum().backward()
    assert (x.grad - exact.grad).norm() < 0.05 * exact.grad.norm()
    far = spread_clusters(2900, seed)
    expected = dense_loops(far, 1, 2, 'norm')[-1]
    assert (take(mean_shift(far[None], 1, kernel='norm'), 3)[-1][0] - expected).abs().max() < 0.1


@pytest.mark.parametrize(('spread', 'with_gradient'), [(560, True), (3400, False), (1e5, True)])
def test_a_spread_that_float32_does_not_resolve_is_computed_in_float64(spread, with_gradient):
    x = spread_clusters(spread, 0)
    actual = take(mean_shift(x[None].requires_grad_(with_gradient), 1, kernel='norm'), 3)[-1][0]
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, dense_loops(x.double(), 1, 2, 'norm')[-1], rtol=1e-9, atol=1e-4)
    assert take(mean_shift(x[None], 1), 2)[-1].dtype == torch.float32  # only directions count
    assert take(mean_shift(x[None], 1e-6, kernel='norm'), 2)[-1].dtype == torch.float32  # a wider bandwidth


def test_a_spread_that_float64_does_not_resolve_is_refused():
    x = spread_clusters(1e9, 0)[None]
    with pytest.raises(ValueError, match=r'at most 6.95e\+07 bandwidths, got .*diverged'):
        next(mean_shift(x, 1, kernel='norm'))


def test_pixels_without_mass_do_not_cost_digits_however_far_away():
    x = blobs(4, count=60)
    expected = take(mean_shift(x[None, 20:], 20, kernel='norm'), 3)[-1][0]
    far = torch.cat([torch.full((20, 4), 1e5), x[20:]]).requires_grad_()
    actual = take(mean_shift(far[None], 20, kernel='norm', mass_NP=(torch.arange(60) >= 20)[None]), 3)[-1][0]
    torch.testing.assert_close(actual[20:], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kernel', KERNELS)
def test_a_place_far_away_is_like_any_other(kernel):
    """Only differences count for the Gaussian kernel, only directions for the other."""
    x = blobs(3)[None]
    moved = x + 100 if kernel == 'norm' else x * 100
    expected = take(mean_shift(x, 25, kernel=kernel), 3)[-1]
    actual = take(mean_shift(moved, 25, kernel=kernel), 3)[-1]
    torch.testing.assert_close(actual - 100 if kernel == 'norm' else actual, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize('kernel', KERNELS)
def test_kernel_mean_of_other_queries(kernel):
    """Written out, with other queries than keys."""
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, count, 3, generator=generator) for count in (5, 7))
    mass = torch.rand(2, 7, generator=generator) + 0.1
    actual = kernel_mean(query, key, 2.0, kernel, mass.log())
    for b in range(2):
        for m in range(5):
            weights = []
            for n in range(7):
                q, k = query[b, m].tolist(), key[b, n].tolist()
                log_kernel = sum(i * j for i, j in zip(q, k, strict=True))
                if kernel == 'norm':
                    log_kernel = -sum((i - j) ** 2 for i, j in zip(q, k, strict=True)) / 2
                weights.append(float(mass[b, n]) * math.exp(2 * log_kernel))
            expected = [sum(w * float(key[b, n, d]) for n, w in enumerate(weights)) / sum(weights) for d in range(3)]
            assert actual[b, m].tolist() == pytest.approx(expected, abs=1e-5)


def test_many_embeddings_in_training_equal_the_dense_reference():
    """No pair is left out in training, however many embeddings there are: values and gradient of one iteration."""
    x = clusters(4200, 3)[0]
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    results = []
    for y, iterate in (
        (x.double().requires_grad_(), lambda y: dense_loops(y, 100, 1)[1]),
        (x.clone().requires_grad_(), lambda y: take(mean_shift(y[None], 100), 2)[1][0]),
    ):
        shifted = iterate(y)
        (shifted * direction).sum().backward()
        results.append((shifted.detach(), y.grad))
    (expected, expected_gradient), (actual, gradient) = results
    assert (actual - expected).abs().max() < 1e-5
    assert (gradient - expected_gradient).abs().max() < 1e-4 * expected_gradient.abs().max()


PEAK = """
import resource, torch
from mmseg_instancenet.models.mean_shift import mean_shift

def run(count, **settings):
    x = torch.randn(1, count, 16, requires_grad=True)
    loops = mean_shift(x, 100, **settings)
    next(loops)
    next(loops).square().sum().backward()

run(512)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(4096)
run(4096, kernel='norm')
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_is_linear_in_the_pixels(tmp_path):
    """One iteration forward and backward at 4,096 pixels, the input included; the kernel matrix alone would be 64 MiB."""
    (tmp_path / 'peak.py').write_text(PEAK)
    assert float(run_program(tmp_path / 'peak.py').split()[-1]) < 16


@pytest.mark.parametrize('kernel', ['cosine', 'norm'])
@pytest.mark.parametrize('dims', [4, 5, 16])
def test_a_transposed_map_does_not_fall_back_to_the_matrix(dims, kernel):
    """Embeddings of a map (D, P) as (P, D): a fused kernel, which alone is allowed here, takes rows that lie together."""
    x_DP = torch.nn.functional.normalize(torch.randn(dims, 50, generator=torch.Generator().manual_seed(0)), dim=0)
    x_1PD = x_DP.T[None]
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        fused_1PD = kernel_mean(x_1PD, x_1PD, 10.0, kernel)
    logits_PP = x_DP.T @ x_DP * 10 if kernel == 'cosine' else -5 * torch.cdist(x_DP.T, x_DP.T).square()
    torch.testing.assert_close(fused_1PD[0], logits_PP.softmax(1) @ x_DP.T, atol=2e-6, rtol=1e-5)
