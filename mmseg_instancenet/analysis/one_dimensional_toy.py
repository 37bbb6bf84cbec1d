"""The one-dimensional toy of Recurrent Pixel Embedding (Kong & Fowlkes 2018, appendix B.2 and figure 13)."""

from itertools import islice

import torch
from torch import Tensor

from ..models.mean_shift import mean_shift

CLUSTERS = ((3.0, 0.2), (4.0, 0.3), (5.0, 0.1))
"""Mean and standard deviation of the three clusters."""

BANDWIDTH = 0.2
"""Bandwidth b of the Gaussian kernel, exp(-d^2 / (2 b^2))."""


def draw_points(points_a_cluster: int, generator: torch.Generator) -> Tensor:
    """Draws the three clusters of points, concatenated: (3 M,) float32.

    Example:
        >>> draw_points(1000, torch.Generator().manual_seed(0)).view(3, 1000).mean(1).round(decimals=1)
        tensor([3., 4., 5.])
    """
    return torch.cat(
        [mean + deviation * torch.randn(points_a_cluster, generator=generator) for mean, deviation in CLUSTERS]
    )


def ideal_spots(x_N: Tensor) -> Tensor:
    """The positions at which the regressor returns each point's target: 3 for points that start below 3.5, 5 for the
    others."""
    return torch.where(x_N < 3.5, 3.0, 5.0)


def regress(x_N: Tensor) -> Tensor:
    """The fixed regressor, 0.5 x - 0.5."""
    return 0.5 * x_N - 0.5


def shift_points(x_N: Tensor, loops: int) -> list[Tensor]:
    """The points after 0, 1, .., ``loops`` iterations of Gaussian blurring mean shift: ``loops`` + 1 tensors (N,).

    Example:
        >>> [after.tolist() for after in shift_points(torch.tensor([3.0, 5.0]), loops=1)]
        [[3.0, 5.0], [3.0, 5.0]]
    """
    shifted = mean_shift(x_N[None, :, None], concentration=BANDWIDTH**-2, kernel='norm')
    return [after_1N1[0, :, 0] for after_1N1 in islice(shifted, loops + 1)]


def squared_error(x_N: Tensor, spot_N: Tensor, loops: int, every_loop: bool) -> Tensor:
    r"""The toy's loss, a scalar: :math:`\sum_i (f(x_i^{(T)}) - f(x_i^*))^2` after T loops, or its sum over t = 0 .. T.

    f is :func:`regress`, :math:`x_i^*` the :func:`ideal_spots`. The sum over the points, not their mean: the paper gives
    "mean squared error", but divided by 3000 thirty updates of step 0.1 would move no point.
    """
    after = shift_points(x_N, loops)
    errors = [(regress(x) - regress(spot_N)).square().sum() for x in (after if every_loop else after[-1:])]
    return sum(errors, start=x_N.new_zeros(()))


def update_points(x_N: Tensor, loops: int, every_loop: bool, updates: int = 30, step: float = 0.1) -> Tensor:
    """Moves the points themselves down the gradient of :func:`squared_error`, through the loops: (``updates`` + 1, N).

    Time: ``updates`` x ``loops`` x N^2. Peak memory: linear in N x ``loops``, beside the result.

    Args:
        x_N: (N,) the points at first; they decide about the targets for good.
        loops: T >= 0; 0 updates without mean shift.
        every_loop: a loss after every loop and on the points themselves, or only one after the last loop.
        updates, step: of the gradient descent.

    Returns:
        The points before the first update, after it, .., after the last.

    Example:
        >>> x = torch.tensor([3.2, 4.0])
        >>> update_points(x, loops=0, every_loop=False, updates=1)  # 5 % of the way to 3 and to 5
        tensor([[3.2000, 4.0000],
                [3.1900, 4.0500]])
    """
    if x_N.dim() != 1 or not x_N.is_floating_point():
        raise ValueError(f'expected floating point numbers (N,), got {tuple(x_N.shape)} {x_N.dtype}')
    if loops < 0 or updates < 0:
        raise ValueError(f'expected loops >= 0 and updates >= 0, got {loops} and {updates}')
    spot_N = ideal_spots(x_N)
    steps = [x_N.detach()]
    for _ in range(updates):
        x_N = steps[-1].clone().requires_grad_()
        (gradient_N,) = torch.autograd.grad(squared_error(x_N, spot_N, loops, every_loop), x_N)
        steps.append(x_N.detach() - step * gradient_N)
    return torch.stack(steps)
