"""Thinning of boundary maps by non-maximum suppression."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_RADIUS = 4
"""Radius of the triangle filter before curvature is measured, in pixels: wider than the irregularities of a line, narrower
than a corner."""

_TOLERANCE = 1.01
"""A pixel is kept if it is within 1 % of its neighbours, so that a flat top is not suppressed from both sides."""


def suppress_non_maxima(probability_HW: Tensor) -> Tensor:
    """Keeps the ridge lines of a boundary map and sets all other pixels to 0.

    A pixel stays if its value is no smaller than those at a distance of one pixel on either side *across* the ridge: along the
    direction in which the map, smoothed, curves most. This is the non-maximum suppression that published boundary
    detectors share (Canny's; as set in Dollar & Zitnick, "Fast Edge Detection Using Structured Forests", PAMI 2015).

    Args:
        probability_HW: (H, W) floating point, at least 0.

    Returns:
        (H, W): the value, or 0. Lines are one or two pixels wide; flat regions stay.

    Example:
        >>> suppress_non_maxima(torch.tensor([[0.1, 0.5, 0.9, 0.5, 0.1]]).repeat(5, 1))[0]
        tensor([0.0000, 0.0000, 0.9000, 0.0000, 0.0000])
    """
    if probability_HW.dim() != 2 or not probability_HW.is_floating_point():
        raise ValueError(
            f'expected a floating point map (H, W), got {tuple(probability_HW.shape)} {probability_HW.dtype}'
        )
    if min(probability_HW.shape) < 2:
        return probability_HW.clone()
    smooth_HW = _smooth(probability_HW)
    down_HW, right_HW = torch.gradient(smooth_HW)
    (yy_HW, yx_HW), (xy_HW, xx_HW) = torch.gradient(down_HW), torch.gradient(right_HW)
    # cos^2 a xx + 2 sin a cos a xy + sin^2 a yy, the curvature in direction a, is largest at this a and smallest at right
    # angles to it; on a crest (negative in sum) the smallest, on a flank and in a valley the largest is across the ridge.
    angle_HW = torch.atan2(xy_HW + yx_HW, xx_HW - yy_HW) / 2
    angle_HW = torch.where(xx_HW + yy_HW < 0, angle_HW + math.pi / 2, angle_HW)
    step_HW2 = torch.stack([angle_HW.cos(), angle_HW.sin()], dim=-1)  # (right, down), as grid_sample has it
    beside_2HW = _read(probability_HW, torch.stack([step_HW2, -step_HW2]))
    return torch.where(probability_HW * _TOLERANCE >= beside_2HW.amax(0), probability_HW, 0)


def _smooth(map_HW: Tensor) -> Tensor:
    """Triangle filter along both axes; the border is replicated outside."""
    weight = torch.cat([torch.arange(1, _RADIUS + 2), torch.arange(_RADIUS, 0, -1)]).to(map_HW) / (_RADIUS + 1) ** 2
    padded = F.pad(map_HW[None, None], (_RADIUS,) * 4, mode='replicate')
    return F.conv2d(F.conv2d(padded, weight[None, None, None, :]), weight[None, None, :, None])[0, 0]


def _read(map_HW: Tensor, step_KHW2: Tensor) -> Tensor:
    """Samples the map bilinearly at each pixel plus each of K offsets (right, down), in pixels: (K, H, W)."""
    height, width = map_HW.shape
    rows, columns = (torch.arange(length).to(map_HW) for length in (height, width))
    position_KHW2 = step_KHW2.clone()
    position_KHW2[..., 0] += columns
    position_KHW2[..., 1] += rows[:, None]
    scale = torch.tensor([2 / (width - 1), 2 / (height - 1)]).to(map_HW)
    maps = map_HW.expand(len(step_KHW2), 1, height, width)
    return F.grid_sample(maps, position_KHW2 * scale - 1, padding_mode='border', align_corners=True)[:, 0]
