"""Groups that cover most of another one, against loops; pairs by IoU are tested with the windows that they join."""

import numpy as np
import torch

from mmseg_instancenet.structures import covering_groups


def test_covering_groups_against_loops():
    rng, found = np.random.default_rng(0), 0
    for _ in range(30):
        reference = np.kron(rng.integers(-1, 4, (4, 4)), np.ones((3, 3), int))
        labels = np.kron(rng.integers(0, 5, (3, 3)), np.ones((4, 4), int))
        expected = set()
        for label in range(1, 5):
            inside = (labels == label) & (reference >= 0)
            for other in range(1, 4):
                if (inside & (reference == other)).sum() > inside.sum() / 2:
                    expected.add((label, other))
        covers = covering_groups(torch.from_numpy(reference), torch.from_numpy(labels))
        assert set(zip(covers.label_Q.tolist(), covers.reference_Q.tolist(), strict=True)) == expected
        assert len(covers.label_Q) == len(expected)
        found += len(expected)
    assert found > 10


def test_half_is_not_covered():
    covers = covering_groups(torch.tensor([[1, 2, 0, -1]]), torch.tensor([[3, 3, 4, 4]]))
    assert covers.label_Q.tolist() == []
