"""Coordinates of pixels in embeddings: added to two values, or as a rotation."""

import torch
from torch import Tensor


def add_position(embeddings_NDhw: Tensor, position_2hw: Tensor) -> Tensor:
    """Adds x and y to the first two embedding values (Novotny et al., ECCV 2018, equation 4).

    Args:
        embeddings_NDhw: (N, D, h, w) floating point, D >= 2.
        position_2hw: (2, h, w): x, then y.

    Example:
        >>> add_position(torch.zeros(1, 3, 1, 1), torch.tensor([[[5.0]], [[7.0]]])).flatten()
        tensor([5., 7., 0.])
    """
    rest_Rhw = embeddings_NDhw.new_zeros(embeddings_NDhw.shape[1] - 2, *embeddings_NDhw.shape[2:])
    return embeddings_NDhw + torch.cat([position_2hw, rest_Rhw])


def rotate_by_position(embeddings_NDhw: Tensor, position_2hw: Tensor) -> Tensor:
    r"""Rotates embeddings on the sphere by the position of their pixels; the counterpart of :func:`add_position` for
    unit vectors.

    Values f and F + f, with F = D / 2, are turned as one pair by the angle

    .. math:: x \cos(\pi f / F) + y \sin(\pi f / F), \quad f = 0, .., F - 1

    the position along one of F directions. The length stays, and the cosine of two embeddings depends on the difference of
    their positions alone. Two embeddings that are equal before, with pairs of equal lengths, have the cosine :math:`J_0(r)` at
    a distance r of up to about F (a Bessel function: 1 at 0, right angles at r = 2.4, from there on between -0.41 and 0.31).
    Beyond, it depends on the direction between them too, and higher values occur.

    Args:
        embeddings_NDhw: (N, D, h, w) floating point, D even; with D = 2 only x turns them.
        position_2hw: (2, h, w): x, then y, in radians.

    Raises:
        ValueError: if D is odd.

    Example:
        >>> turned = rotate_by_position(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([[[torch.pi / 2]], [[9.0]]]))
        >>> turned.flatten().round(decimals=4).abs()
        tensor([0., 1.])
    """
    # torch.jit, by which MMEngine counts operations, cannot trace divmod.
    count = embeddings_NDhw.shape[1] // 2
    if embeddings_NDhw.shape[1] % 2:
        raise ValueError(f'expected an even number of embedding values, got embeddings {tuple(embeddings_NDhw.shape)}')
    direction_F = torch.arange(count, device=embeddings_NDhw.device) * (torch.pi / count)
    x_hw, y_hw = position_2hw
    angle_Fhw = direction_F.cos()[:, None, None] * x_hw + direction_F.sin()[:, None, None] * y_hw
    first_NFhw, second_NFhw = embeddings_NDhw.split(count, dim=1)
    cos_Fhw, sin_Fhw = angle_Fhw.cos(), angle_Fhw.sin()
    return torch.cat(
        [first_NFhw * cos_Fhw - second_NFhw * sin_Fhw, first_NFhw * sin_Fhw + second_NFhw * cos_Fhw], dim=1
    )
