import numpy as np
import pytest
import torch

from mmseg_instancenet.models import SilhouetteScorer
from mmseg_instancenet.structures import group_statistics


def scores_of(scorer, embeddings, labels, regions, norm=2.0):
    embeddings = embeddings.float()
    return scorer(embeddings, labels, group_statistics(embeddings, labels, regions, norm))


def plain_scores(embeddings, labels, regions, scale, half_size, norm=2):
    groups = range(1, labels.max() + 1)
    centers = {k: embeddings[:, labels == k].mean(1) for k in groups}
    region = {k: regions[labels == k][0] for k in groups}
    scores = []
    for k in groups:
        values = []
        for x in embeddings[:, labels == k].T:
            own = np.linalg.norm(x - centers[k], ord=norm)
            others = [np.linalg.norm(x - centers[j], ord=norm) for j in groups if j != k and region[j] == region[k]]
            values.append(max(0.0, 1 - own / min([scale, *others])))
        scores.append(np.mean(values) * len(values) / (len(values) + half_size))
    return scores


@pytest.mark.parametrize('norm', [1, 2, np.inf])
@pytest.mark.parametrize('seed', range(4))
def test_equals_the_formula(seed, norm):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, (9, 8))
    labels[0, :6] = range(6)
    regions = np.where(labels > 3, 2, 1) * (labels > 0)
    embeddings = rng.normal(size=(3, 9, 8)) * 0.4 + labels * 0.8
    for half_size in (0, 8):
        scores = scores_of(
            SilhouetteScorer(1.5, half_size), *map(torch.from_numpy, (embeddings, labels, regions)), norm
        )
        expected = plain_scores(embeddings, labels, regions, 1.5, half_size, norm)
        np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)
        assert scores.numpy().std() > 0.01


def test_no_group():
    empty = torch.zeros(2, 2, dtype=torch.long)
    assert scores_of(SilhouetteScorer(), torch.randn(3, 2, 2), empty, empty).tolist() == []


def test_scale_has_to_be_positive():
    with pytest.raises(ValueError, match='scale > 0.*0'):
        SilhouetteScorer(scale=0)


@pytest.mark.parametrize('norm', [1, 2, np.inf])
def test_many_groups_far_from_the_origin(norm):
    """Sixty groups, of which most have several others nearby: each pixel is compared with all that matter."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(61), 20)).reshape(20, 61)
    regions = np.where(labels % 3 == 0, 2, 1) * (labels > 0)
    center = rng.uniform(0, 6, (2, 61)) + 80
    embeddings = (center[:, labels] + rng.normal(size=(2, 20, 61)) * 0.5).astype(np.float32)
    scores = scores_of(SilhouetteScorer(2.0), *map(torch.from_numpy, (embeddings, labels, regions)), norm)
    expected = plain_scores(embeddings.astype(float), labels, regions, 2.0, 8, norm)
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-4)
    assert 0.05 < np.min(expected) + 0.05 < np.max(expected) - 0.1
