"""Projects embeddings onto a sphere and draws them (Kong & Fowlkes 2018, figure 4)."""

from typing import NamedTuple

import numpy as np
from mpl_toolkits.mplot3d import Axes3D

from ..visualization.drawing import distinct_color

_VIEW = (25, 40)
"""Elevation and azimuth of the viewer, in degrees: no axis hides another."""


class SphereAxes(NamedTuple):
    """Three directions to project embeddings onto, (D, 3), and their share of the sum of squares, 0 .. 1."""

    direction_D3: np.ndarray
    share: float


def sphere_axes(x_PD: np.ndarray) -> SphereAxes:
    """The axes of the embedding for D <= 3 (missing ones are 0), its three principal directions from the origin for D >
    3.

    From the origin and not from the mean, so that unit vectors stay within the unit ball.

    Example:
        >>> round(sphere_axes(np.diag([3.0, 2.0, 2.0, 1.0])).share, 3)  # 17 of 18
        0.944
    """
    dims = x_PD.shape[1]
    if dims <= 3:
        return SphereAxes(np.eye(dims, 3), 1.0)
    square_D, direction_DD = np.linalg.eigh(x_PD.T.astype(np.float64) @ x_PD)
    direction_D3, total = direction_DD[:, ::-1][:, :3], square_D.sum()
    # The sign of a direction is arbitrary: choose the one with most points on the side of the viewer.
    direction_D3 = direction_D3 * np.where((x_PD @ direction_D3).sum(0) < 0, -1, 1)
    return SphereAxes(direction_D3, float(square_D[-3:].sum() / total) if total > 0 else 1.0)


def draw_sphere(axes: Axes3D, point_P3: np.ndarray, instance_P: np.ndarray, point_size: float = 4.0) -> None:
    """Draws points on a unit sphere, each instance in the colour of :func:`draw_instances`; the far side is pale.

    The instances' points are drawn one smaller than the other, the smallest last: points in one place appear
    as rings.

    Args:
        axes: with ``projection='3d'``.
        point_P3: (P, 3), within the unit ball.
        instance_P: (P,) integers >= 0; 0, the background, is grey.
        point_size: area of the smallest points, in points of print squared.
    """
    angle = np.linspace(0, 2 * np.pi, 73)
    for height in np.deg2rad([-60, -30, 0, 30, 60]):
        ring = np.cos(height) * np.cos(angle), np.cos(height) * np.sin(angle), np.full_like(angle, np.sin(height))
        axes.plot(*ring, color='0.85', linewidth=0.5)
    for azimuth in np.deg2rad(np.arange(0, 180, 30)):
        axes.plot(np.cos(azimuth) * np.cos(angle), np.sin(azimuth) * np.cos(angle), np.sin(angle), color='0.85', lw=0.5)
    elevation, azimuth = np.deg2rad(_VIEW)
    towards_3 = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    ids, rank_P = np.unique(instance_P, return_inverse=True)
    color_K3 = np.array([distinct_color(index - 1) if index else (150, 150, 150) for index in ids]).reshape(-1, 3) / 255
    size_K = point_size * (1 + 0.5 * np.arange(len(ids))[::-1]) ** 2
    near_P = point_P3 @ towards_3 >= 0
    for on_side_P, alpha in ((~near_P, 0.2), (near_P, 1.0)):
        for rank, (color, size) in enumerate(zip(color_K3, size_K, strict=True)):
            shown_P = on_side_P & (rank_P == rank)
            x, y, z = point_P3[shown_P].T
            axes.scatter(x, y, z, color=color, s=size, alpha=alpha, linewidths=0, depthshade=False, zorder=3)
    # Draw points over lines, and later artists over earlier ones, instead of in matplotlib's order of depth.
    axes.computed_zorder = False
    axes.view_init(*_VIEW)
    axes.set_box_aspect((1, 1, 1), zoom=1.45)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    axes.set_axis_off()
