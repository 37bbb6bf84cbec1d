"""Points on the sphere: directions against singular values, and the colours of the drawing."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mmseg_instancenet.analysis.sphere import draw_sphere, sphere_axes
from mmseg_instancenet.visualization.drawing import distinct_color


@pytest.mark.parametrize('dims', [1, 2, 3])
def test_three_dimensions_and_fewer_are_shown_as_they_are(dims):
    x = np.random.default_rng(0).normal(size=(7, dims))
    direction, share = sphere_axes(x)
    np.testing.assert_array_equal(x @ direction, np.pad(x, ((0, 0), (0, 3 - dims))))
    assert share == 1


@pytest.mark.parametrize('dims', [4, 16])
def test_more_dimensions_are_projected_on_the_principal_directions(dims):
    rng = np.random.default_rng(dims)
    x = (rng.normal(size=(50, dims)) * np.linspace(1, 2, dims) + 1).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    direction, share = sphere_axes(x)
    _, singular, rows = np.linalg.svd(x.astype(float), full_matrices=False)
    np.testing.assert_allclose(np.abs((rows[:3] @ direction).diagonal()), 1, atol=1e-6)
    assert ((x @ direction).mean(0) >= 0).all()
    assert share == pytest.approx((singular[:3] ** 2).sum() / len(x), abs=1e-6)
    assert (np.linalg.norm(x @ direction, axis=1) <= 1 + 1e-6).all()


def test_no_points():
    assert sphere_axes(np.zeros((0, 5))).share == 1
    draw_sphere(Figure().add_subplot(projection='3d'), np.zeros((0, 3)), np.zeros(0, int))


def test_every_instance_in_its_color_the_far_side_pale():
    axes = Figure().add_subplot(projection='3d')
    points = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1], [-1, 0, 0], [0, 1, 0]], float)
    draw_sphere(axes, points, np.array([2, 4, 2, 4, 0]))
    drawn = {}
    for collection in axes.collections:
        x, y, z = (np.asarray(values).tolist() for values in collection._offsets3d)
        for point in zip(x, y, z, strict=True):
            color = tuple(collection.get_facecolor()[0])
            drawn.setdefault(point, []).append((color, float(collection.get_sizes()[0])))
    grey, second, fourth = (np.array(color) / 255 for color in ((150, 150, 150), distinct_color(1), distinct_color(3)))
    # Both on one spot are seen: the first drawn is larger.
    (red, red_size), (blue, blue_size) = drawn[1, 0, 0]
    np.testing.assert_allclose([red, blue], [[*second, 1], [*fourth, 1]])
    assert red_size > 1.5 * blue_size
    np.testing.assert_allclose(drawn[-1, 0, 0][0][0], [*fourth, 0.2])
    np.testing.assert_allclose(drawn[0, 1, 0][0][0], [*grey, 1])
    assert len(drawn[0, 0, 1]) == 1
