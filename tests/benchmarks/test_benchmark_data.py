import pytest
import torch

from benchmarks.data import margin_groups, mixed_groups, noisy_groups, spread_centers


@pytest.mark.parametrize('dims', [4, 16])
def test_shares_and_sizes(dims):
    data = mixed_groups(20000, dims, num_groups=31, seed=3, num_classes=3)
    assert data.x_ND.shape == (20000, dims)
    assert data.x_ND.dtype == torch.float32
    torch.testing.assert_close(data.x_ND.norm(dim=1), torch.ones(20000))
    assert int(data.is_mixed_N.sum()) == 2000
    pure = mixed_groups(20000, dims, num_groups=31, seed=3, mixed_share=0.0)
    assert not pure.is_mixed_N.any()
    count_K = torch.bincount(pure.group_N)
    assert count_K.tolist()[0] == 10000, 'background'
    assert len(count_K) == 31
    # Log-uniform over 1:100: the mean of the range on a logarithmic scale is 10 times the smallest.
    sizes_K = count_K[1:].double().sort().values
    assert 20 < sizes_K[-1] / sizes_K[0] < 120
    assert sizes_K.log().diff().max() < 1.5
    assert 0.48 < (data.group_N == 0).double().mean() < 0.52


def test_groups_of_at_least_one_pixel_and_all_pixels():
    for seed in range(20):
        count_K = torch.bincount(mixed_groups(63, 4, num_groups=31, seed=seed, mixed_share=0.0).group_N)
        assert count_K.min() >= 1
        assert len(count_K) == 31
        assert count_K.sum() == 63


def test_pixels_lie_around_their_centers():
    data = mixed_groups(20000, 16, num_groups=5, seed=0)
    center_KD = torch.stack([data.x_ND[(data.group_N == k) & ~data.is_mixed_N].mean(0) for k in range(5)])
    distance_N = (data.x_ND - center_KD[data.group_N]).norm(dim=1)
    assert 0.08 < distance_N[~data.is_mixed_N].median() < 0.11, 'noise of 0.1 / sqrt(D) a coordinate'
    nearest_N = torch.cdist(data.x_ND, center_KD).argmin(1)
    assert (nearest_N == data.group_N)[~data.is_mixed_N].all()
    assert (nearest_N == data.group_N)[data.is_mixed_N].double().mean() > 0.9, 'the nearer of the two'
    # A quarter of the mixed pixels have a share in (3/8, 5/8): far from both centres.
    second_N = torch.cdist(data.x_ND, center_KD).kthvalue(2, dim=1).values
    between_N = distance_N > 0.6 * second_N
    assert 0.15 < between_N[data.is_mixed_N].double().mean() < 0.6
    assert between_N[~data.is_mixed_N].double().mean() < 0.01


def test_groups_with_noise_alone():
    data = noisy_groups(20000, 64, num_groups=20, seed=0)
    count_K = torch.bincount(data.group_N)
    assert count_K[0] == 0 and len(count_K) == 21 and count_K[1:].min() > 850 and count_K.max() < 1150
    center_KD = torch.stack([data.x_ND[data.group_N == k].mean(0) for k in range(1, 21)])
    distance_N = (data.x_ND - center_KD[data.group_N - 1]).norm(dim=1)
    assert 0.15 < distance_N.median() < 0.165, 'noise of 0.02 a coordinate, 0.16 in all'
    assert not data.is_mixed_N.any() and (data.class_N == 1).all()


def test_classes_in_turn():
    data = mixed_groups(1000, 4, num_groups=6, seed=0, num_classes=2)
    class_of_group = {int(k): set(data.class_N[data.group_N == k].tolist()) for k in range(6)}
    assert class_of_group == {0: {0}, 1: {1}, 2: {2}, 3: {1}, 4: {2}, 5: {1}}


def test_the_same_in_every_run_and_different_by_seed():
    first, again, other = (mixed_groups(100, 4, 5, seed) for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.x_ND, other.x_ND)
    # Of torch's CPU generator, whose numbers do not change from version to version.
    state = torch.get_rng_state()
    mixed_groups(100, 4, 5, 0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('count, dims, largest', [(31, 16, 0.5), (5, 4, 0.5), (31, 4, 0.65), (2, 2, 0.5), (6, 3, 0.5)])
def test_centers_keep_apart(count, dims, largest):
    center_KD = spread_centers(count, dims, torch.Generator().manual_seed(0))
    torch.testing.assert_close(center_KD.norm(dim=1), torch.ones(count))
    assert (center_KD @ center_KD.T - 2 * torch.eye(count)).max() <= largest


def test_margins_of_the_discriminative_loss():
    data = margin_groups(5000, 4, num_groups=21, seed=0, mixed_share=0.0)
    center_KD = torch.stack([data.x_ND[data.group_N == k].mean(0) for k in range(21)])
    assert torch.pdist(center_KD).min() == pytest.approx(6, abs=0.3)
    distance_N = (data.x_ND - center_KD[data.group_N]).norm(dim=1)
    assert 0.15 < distance_N.median() < 0.22


def test_refuses_impossible_settings():
    with pytest.raises(ValueError, match='at least 62 pixels for 31 groups, got 61'):
        mixed_groups(61, 4, 31, 0)
    with pytest.raises(ValueError, match='at least 2 groups and D >= 2, got 1 groups and D = 4'):
        mixed_groups(100, 4, 1, 0)
