"""Measure of agreement between two groupings."""

from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from .comparison import DisagreementError

LEAST_INDEX = 0.999
"""Adjusted Rand index below which a grouping is not the same."""


def adjusted_rand_index(first_N: Tensor, second_N: Tensor) -> float:
    """scikit-learn's adjusted Rand index of two sets of labels: 1 = the same groups, about 0 = chance.

    Example:
        >>> import torch
        >>> adjusted_rand_index(torch.tensor([1, 1, 2]), torch.tensor([7, 7, 5]))
        1.0
    """
    return float(adjusted_rand_score(first_N.cpu().numpy(), second_N.cpu().numpy()))


def expect_index(index: float, what: str) -> None:
    """Raises DisagreementError if the adjusted Rand index is below :data:`LEAST_INDEX`."""
    if not index >= LEAST_INDEX:
        raise DisagreementError(
            f'{what}: expected an adjusted Rand index of at least {LEAST_INDEX}, got {index:.4f}; mend the grouping '
            'before timing it'
        )
