"""The score of an instance against loops over its pixels, and the regressor against known weights."""

import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from scipy import ndimage
from torch import nn

from mmseg_instancenet.models import ScoreRegressor
from mmseg_instancenet.models.postprocess import make_instances
from mmseg_instancenet.models.scorers.score_regressor import (
    FEATURES,
    fit_ridge,
    instance_features,
    simple_score,
    vote_classes,
)
from mmseg_instancenet.structures import labels_to_boxes


def random_image(seed, count=5, classes=4):
    """Labels in which groups of several pieces and groups at the border occur, classes, probabilities, group scores."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, count + 1, (6, 5)), np.ones((3, 4), int))
    labels[0, :count] = np.arange(1, count + 1)  # without gaps
    maps = labels, rng.integers(1, classes, labels.shape), rng.random(labels.shape).astype(np.float32)
    return (*(torch.from_numpy(values) for values in maps), torch.from_numpy(rng.random(count).astype(np.float32)))


def plain_features(labels, classes, probability, group_score, num_classes):
    height, width = labels.shape
    rows = []
    for k, g in enumerate(group_score, 1):
        pixels = [(r, c) for r in range(height) for c in range(width) if labels[r, c] == k]
        votes = [sum(classes[p] == c for p in pixels) for c in range(num_classes)]
        voted = votes.index(max(votes))
        agreement = sum(float(probability[p]) for p in pixels if classes[p] == voted) / len(pixels)
        _, parts = np.unique(ndimage.label(labels == k, np.ones((3, 3)))[0][labels == k], return_counts=True)
        rs, cs = [r for r, _ in pixels], [c for _, c in pixels]
        box = (max(rs) - min(rs) + 1) * (max(cs) - min(cs) + 1)
        rows.append(
            {
                'score': g * agreement,
                'group_score': g,
                'agreement': agreement,
                'class_share': max(votes) / len(pixels),
                'area': len(pixels) / (height * width),
                'side': (len(pixels) / (height * width)) ** 0.5,
                'connectedness': parts.max() / len(pixels),
                'extent': len(pixels) / box,
                'border': float(min(rs) == 0 or min(cs) == 0 or max(rs) == height - 1 or max(cs) == width - 1),
            }
        )
    return np.array([[row[name] for name in FEATURES] for row in rows])


def features_of(labels, classes, probability, group_score, num_classes=4):
    count = len(group_score)
    votes = vote_classes(labels, classes, probability, count, num_classes)
    return instance_features(labels, labels_to_boxes(labels, count), group_score, votes)


def test_smoke():
    regressor = ScoreRegressor()
    regressor.fit(torch.rand(20, len(FEATURES)), torch.rand(20))
    image = random_image(0)
    assert make_instances(*reorder(image), regressor).scores.shape == (5,)


def reorder(image):
    """The arguments in the order of make_instances."""
    labels, classes, probability, group_score = image
    return labels, group_score, vote_classes(labels, classes, probability, len(group_score), 4)


@pytest.mark.parametrize(
    ('features', 'target', 'ridge', 'message'),
    [
        (torch.rand(5), torch.rand(5), 0, r'features \(M, F\).*got \(5,\)'),
        (torch.rand(5, 2), torch.rand(4), 0, r'got \(5, 2\) and \(4,\)'),
        (torch.rand(1, 2), torch.rand(1), 0, 'M >= 2'),
        (torch.rand(5, 2), torch.full((5,), float('nan')), 0, 'finite'),
        (torch.full((5, 2), float('inf')), torch.rand(5), 0, 'finite'),
        (torch.rand(5, 2), torch.rand(5), -1, 'ridge >= 0, got -1'),
    ],
)
def test_input_that_cannot_be_fitted(features, target, ridge, message):
    with pytest.raises(ValueError, match=message):
        fit_ridge(features, target, ridge)


@pytest.mark.parametrize('seed', range(4))
def test_features_against_loops(seed):
    image = random_image(seed)
    expected = plain_features(*(values.numpy() for values in image), num_classes=4)
    features = features_of(*image)
    assert features.dtype == torch.float32
    np.testing.assert_allclose(features.numpy(), expected, atol=1e-6)
    assert (expected.std(0) > 0).sum() >= len(FEATURES) - 1  # only the border may be everywhere


def test_features_by_hand():
    """A group of two pieces, diagonal neighbours being one piece, away from the border."""
    labels = torch.zeros(6, 8, dtype=torch.long)
    labels[2, 1:4] = 1
    labels[3, 4] = 1
    labels[2, 6] = 1
    classes, probability = labels * 3, labels * 0.5
    classes[2, 6] = 2
    features = features_of(labels, classes, probability.float(), torch.tensor([0.9]))[0]
    values = dict(zip(FEATURES, features.tolist(), strict=True))
    assert values == pytest.approx(
        {
            'score': 0.9 * 4 * 0.5 / 5,
            'group_score': 0.9,
            'agreement': 4 * 0.5 / 5,
            'class_share': 4 / 5,
            'area': 5 / 48,
            'side': (5 / 48) ** 0.5,
            'connectedness': 4 / 5,
            'extent': 5 / 12,
            'border': 0,
        }
    )


def test_known_weights_are_recovered():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(300, 4, generator=generator) * torch.tensor([1.0, 100.0, 0.01, 1.0])
    features[:, 3] = 0.7  # no feature
    weight = torch.tensor([0.5, -0.02, 30.0, 0.0])
    found, bias = fit_ridge(features, features @ weight + 0.25, ridge=0)
    torch.testing.assert_close(found.float(), weight, rtol=1e-4, atol=1e-5)
    assert float(bias) == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize('ridge', [1e-3, 0.5])
def test_ridge_equals_the_normal_equations(ridge):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 3)) * [1, 10, 0.1] + 4, rng.normal(size=50)
    centered = x - x.mean(0)
    expected = np.linalg.solve(centered.T @ centered / 50 + ridge * np.diag(x.var(0)), centered.T @ (y - y.mean()) / 50)
    weight, bias = fit_ridge(torch.from_numpy(x), torch.from_numpy(y), ridge)
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-8)
    assert float(bias) == pytest.approx(y.mean() - x.mean(0) @ expected)


def test_ridge_shares_between_equal_features():
    x = torch.rand(40, 1)
    weight, _ = fit_ridge(x.expand(-1, 2), 2 * x.squeeze(1), ridge=1e-6)
    torch.testing.assert_close(weight.float(), torch.ones(2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('seed', range(3))
def test_unfitted_is_the_simple_formula(seed):
    image = random_image(seed)
    regressor = ScoreRegressor()
    assert not regressor.fitted
    simple, unfitted = (make_instances(*reorder(image), scorer) for scorer in (None, regressor))
    assert torch.equal(simple.scores, unfitted.scores)
    expected = plain_features(*(values.numpy() for values in image), num_classes=4)[:, FEATURES.index('score')]
    np.testing.assert_allclose(simple.scores.numpy(), expected, atol=1e-6)
    votes = vote_classes(*image[:3], len(image[3]), 4)
    assert torch.equal(simple_score(image[3], votes), simple.scores)


def test_fitted_scores_are_linear_in_the_features_and_all_else_stays():
    image = random_image(3)
    regressor = ScoreRegressor()
    generator = torch.Generator().manual_seed(0)
    regressor.weight.copy_(torch.rand(len(FEATURES), generator=generator))
    regressor.bias.fill_(0.125)
    assert regressor.fitted
    simple, fitted = (make_instances(*reorder(image), scorer) for scorer in (None, regressor))
    expected = plain_features(*(values.numpy() for values in image), num_classes=4) @ regressor.weight.numpy() + 0.125
    np.testing.assert_allclose(fitted.scores.numpy(), expected, rtol=1e-5)
    assert torch.equal(simple.labels, fitted.labels) and torch.equal(simple.bboxes, fitted.bboxes)
    assert simple.masks == fitted.masks


def test_no_instance_has_no_score():
    empty = torch.zeros(3, 4)
    regressor = ScoreRegressor()
    regressor.weight.fill_(1)
    assert make_instances(*reorder((empty.long(), empty.long(), empty, torch.zeros(0))), regressor).scores.shape == (0,)


def test_the_weights_are_in_the_models_state():
    model = nn.ModuleDict({'instance_scorer': ScoreRegressor(), 'head': nn.Linear(2, 2)})
    model['instance_scorer'].fit(torch.rand(20, len(FEATURES)), torch.rand(20))
    state = model.state_dict()
    assert sorted(state) == ['head.bias', 'head.weight', 'instance_scorer.bias', 'instance_scorer.weight']
    assert not any('instance_scorer' in name for name, _ in model.named_parameters())  # no optimizer moves them
    other = nn.ModuleDict({'instance_scorer': ScoreRegressor(), 'head': nn.Linear(2, 2)})
    other.load_state_dict(state)
    assert torch.equal(other['instance_scorer'].weight, state['instance_scorer.weight'])
    assert torch.equal(other['instance_scorer'].bias, state['instance_scorer.bias'])


def test_a_checkpoint_without_a_regressor_is_valid(caplog):
    model = nn.ModuleDict({'instance_scorer': ScoreRegressor(), 'head': nn.Linear(2, 2)})
    old = {name: value for name, value in model.state_dict().items() if name.startswith('head')}
    assert not model.load_state_dict(old, strict=True).missing_keys
    load_state_dict(model, old, strict=True)  # mmengine's, which raises for a missing key
    assert not caplog.records
    assert not model['instance_scorer'].fitted


def test_an_incomplete_regressor_is_refused():
    model = nn.ModuleDict({'instance_scorer': ScoreRegressor()})
    with pytest.raises(RuntimeError, match='instance_scorer.bias'):
        model.load_state_dict({'instance_scorer.weight': torch.zeros(len(FEATURES))})
    with pytest.raises(RuntimeError, match='size mismatch for instance_scorer.weight'):
        model.load_state_dict({'instance_scorer.weight': torch.zeros(3), 'instance_scorer.bias': torch.zeros(())})
