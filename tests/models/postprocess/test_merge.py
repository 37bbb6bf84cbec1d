import numpy as np
import torch

from mmseg_instancenet.models.postprocess.merge import match_groups, vote_groups


def plain_match(reference, labels):
    matches = {}
    for k in range(1, labels.max() + 1):
        for r in range(1, reference.max() + 1):
            a, b = (labels == k) & (reference >= 0), reference == r
            if (a | b).any() and (a & b).sum() / (a | b).sum() > 0.5:
                matches[k] = r
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
        actual = match_groups(torch.from_numpy(reference), torch.from_numpy(labels))
        assert {k: int(r) for k, r in enumerate(actual) if r} == expected
        found += len(expected)
    assert found > 20


def test_majority_wins_and_the_first_map_breaks_ties():
    first = torch.tensor([[1, 1, 1, 0, 2, 2]])
    second = torch.tensor([[7, 7, 0, 0, 3, 3]])
    third = torch.tensor([[2, 2, 0, 0, 1, 1]])
    united, names = vote_groups([first, second, third])
    assert united.tolist() == [[1, 1, 0, 0, 2, 2]]
    assert names[1][7] == 1 and names[1][3] == 2 and names[2][2] == 1 and names[2][1] == 2
    united, _ = vote_groups([first, second])
    assert united.tolist() == [[1, 1, 1, 0, 2, 2]]


def test_an_object_that_only_others_found_is_kept_by_majority():
    empty = torch.zeros(1, 4, dtype=torch.long)
    found = torch.tensor([[0, 1, 1, 0]])
    united, _ = vote_groups([empty, found, found])
    assert (united > 0).tolist() == [[False, True, True, False]]
