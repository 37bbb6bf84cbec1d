"""Matching of groups against loops over all pairs, and the votes of views by hand."""

import numpy as np
import pytest
import torch

from mmseg_instancenet.models.postprocess.merge import (
    LabelledView,
    match_or_add,
    match_views,
    unite_views,
)
from mmseg_instancenet.structures import overlapping_groups


def plain_match(reference, labels):
    matches = {}
    for k in range(1, labels.max() + 1):
        for r in range(1, reference.max() + 1):
            a, b = (labels == k) & (reference >= 0), reference == r
            if (a | b).any() and (a & b).sum() / (a | b).sum() > 0.5:
                matches[k] = (r, (a & b).sum() / (a | b).sum())
    return matches


def test_matches_are_those_above_half_iou():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(20):
        base = np.kron(rng.integers(0, 4, (3, 3)), np.ones((4, 4), int))
        reference, labels = base.copy(), (base + 1) % 4
        reference[:, :3] = -1
        noise = rng.random(labels.shape) < 0.3
        labels[noise] = rng.integers(0, 4, noise.sum())
        expected = plain_match(reference, labels)
        pairs = overlapping_groups(torch.from_numpy(reference), torch.from_numpy(labels))
        triples = zip(*(values.tolist() for values in pairs), strict=True)
        assert {k: (r, iou) for k, r, iou in triples} == {
            k: (r, pytest.approx(iou)) for k, (r, iou) in expected.items()
        }
        names = match_or_add(torch.from_numpy(reference), torch.from_numpy(labels), found=10).tolist()
        new = iter(range(11, 20))
        assert names == [0, *(expected[k][0] if k in expected else next(new) for k in range(1, labels.max() + 1))]
        found += len(expected)
    assert found > 20


def view(labels, *scores):
    return LabelledView(torch.tensor([labels]), torch.tensor(scores))


def unite(*views):
    labels_HW, score_K = unite_views(views)
    return labels_HW[0].tolist(), score_K.tolist()


def test_the_view_with_the_higher_score_decides_if_two_disagree():
    """Two objects in the first view, one in the second, none of which overlaps another by more than half."""
    two, one = [1, 1, 1, 2, 2, 2], [1] * 6
    assert unite(view(two, 0.9, 0.8), view(one, 0.6)) == (two, pytest.approx([0.45, 0.4, 0.3]))
    assert unite(view(two, 0.4, 0.3), view(one, 0.6))[0] == [3] * 6
    # Either order of the views gives the same objects.
    assert unite(view(one, 0.6), view(two, 0.9, 0.8))[0] == [2, 2, 2, 3, 3, 3]
    assert unite(view(one, 0.6), view(two, 0.4, 0.3))[0] == [1] * 6


def test_matched_groups_are_one_object_with_the_mean_of_their_scores():
    first, second = [1, 1, 1, 0, 2, 2], [3, 3, 0, 0, 1, 1]
    labels, scores = unite(view(first, 0.9, 0.5), view(second, 0.7, 0.1, 0.8))
    # Half of the views have the object at the third pixel.
    assert labels == [1, 1, 1, 0, 2, 2]
    assert scores[:2] == pytest.approx([0.85, 0.6])


def test_between_matched_objects_the_larger_sum_of_scores_wins():
    first, second = [1, 1, 1, 1, 2, 2, 2, 2], [1, 1, 1, 2, 2, 2, 2, 2]
    assert unite(view(first, 0.9, 0.5), view(second, 0.5, 0.6))[0] == first
    assert unite(view(first, 0.5, 0.5), view(second, 0.5, 0.6))[0] == second
    assert unite(view(first, 0.5, 0.5), view(second, 0.5, 0.5))[0] == first  # the earlier view among equals


@pytest.mark.parametrize('first', [True, False])
def test_an_object_of_one_of_two_views_is_kept_at_half_its_score(first):
    views = [view([0, 1, 1, 0], 0.6), view([0, 0, 0, 0])]
    assert unite(*(views if first else views[::-1])) == ([0, 1, 1, 0], pytest.approx([0.3]))


@pytest.mark.parametrize(('covered', 'kept'), [(2, True), (3, False)])
def test_an_object_of_one_view_is_dropped_where_kept_objects_cover_more_than_half_of_it(covered, kept):
    """Of its four pixels the object of both views covers two, or three."""
    large = [1] * 8 + [0] * 4
    first = view(large, 0.3)
    second = LabelledView(torch.tensor([[1] * (8 - covered) + [2] * 4 + [0] * covered]), torch.tensor([0.3, 0.9]))
    assert overlapping_groups(first.labels_HW, second.labels_HW).label_Q.tolist() == [1]
    labels, _ = unite(first, second)
    assert (2 in labels) == kept
    # Where both have a pixel, the surer one gets it.
    assert labels == ([1] * 6 + [2] * 4 + [0] * 2 if kept else large)


def test_the_majority_of_three_views_decides():
    empty, found = view([0, 0, 0, 0]), view([0, 1, 1, 0], 0.3)
    assert unite(empty, found, found)[0] == [0, 1, 1, 0]
    assert unite(empty, empty, view([0, 1, 1, 0], 0.9))[0] == [0, 0, 0, 0]


def test_two_groups_of_one_view_are_never_one_object():
    """The third view's first group matches the first view's object, its second group the second view's shifted copy of it."""
    maps = [[1] * 10 + [0] * 3, [0] * 3 + [1] * 10, [1] * 6 + [2] * 7]
    names = [of_view.tolist() for of_view in match_views([torch.tensor([labels]) for labels in maps])]
    assert names == [[0, 1], [0, 1], [0, 2, 1]]  # IoU 6 / 10 with the first, 7 / 10 with the second
    rng = np.random.default_rng(0)
    matched = 0
    for _ in range(30):
        base = np.kron(rng.integers(0, 5, (3, 3)), np.ones((4, 4), int))
        labels = [np.roll(base, shift, axis=1) for shift in rng.integers(-2, 3, 4)]
        names = match_views([torch.from_numpy(of_view) for of_view in labels])
        for of_view in names:
            assert of_view[0] == 0 and len(of_view.unique()) == len(of_view)
            matched += len(of_view)
        matched -= len(torch.cat(names).unique())
    assert matched > 100
