"""scikit-learn's clustering methods with usual settings."""

import torch
from sklearn.cluster import HDBSCAN, MeanShift
from torch import Tensor


def flat_bandwidth(concentration: float, dims: int) -> float:
    r"""The radius of MeanShift's flat kernel with the same width as the Gaussian one: :math:`\sqrt{(D + 2) / \delta}`.

    Within a ball of radius h in D dimensions a coordinate has the variance h^2 / (D + 2); the kernel's is 1 / delta.

    Example:
        >>> round(flat_bandwidth(100.0, 16), 3)
        0.424
    """
    return ((dims + 2) / concentration) ** 0.5


def mean_shift_labels(x_ND: Tensor, bandwidth: float, bin_seeding: bool) -> Tensor:
    """scikit-learn's MeanShift: (N,) int64 labels 0, 1, ..

    On one thread, its default: each of its worker processes is sent the whole search tree with every seed, which costs
    more than a second core saves.
    """
    return torch.from_numpy(MeanShift(bandwidth=bandwidth, bin_seeding=bin_seeding).fit_predict(x_ND.numpy())).long()


def hdbscan_labels(x_ND: Tensor) -> Tensor:
    """scikit-learn's HDBSCAN with default settings: (N,) int64 labels 0, 1, ..; -1 = noise, which counts as one more
    group."""
    return torch.from_numpy(HDBSCAN().fit_predict(x_ND.numpy())).long()
