"""Plots of metrics: their drawings and refused input."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmseg_instancenet.visualization.curves import SettingCurve, curve_figure, plot_curves, plot_setting_curves


def test_writes_an_image_into_a_new_folder(tmp_path):
    path = tmp_path / 'new' / 'curves.png'
    plot_curves({'a': ([1, 2], [0.1, 0.2])}, 'x', 'y', str(path))
    image = cv2.imread(str(path))
    assert image.shape[1] > image.shape[0] > 300
    assert image.min() < 100  # not a blank page


@pytest.mark.parametrize(
    ('curves', 'message'),
    [
        ({}, 'at least one curve'),
        ({'a': ([1, 2], [0.5])}, "as many ys as xs and at least one, got 2 and 1 for 'a'"),
        ({'a': ([1], [0.5]), 'b': ([], [])}, "got 0 and 0 for 'b'"),
    ],
)
def test_refuses(tmp_path, curves, message):
    with pytest.raises(ValueError, match=message):
        plot_curves(curves, 'x', 'y', str(tmp_path / 'curves.png'))
    assert not (tmp_path / 'curves.png').exists()


@pytest.mark.parametrize('log_x', [False, True])
def test_draws_the_given_curves(tmp_path, monkeypatch, log_x):
    metrics = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, path, **kwargs: metrics.append(figure))
    curves = {'ours': ([1, 10, 100], [0.25, 0.5, float('nan')]), 'theirs': ([10], [0.5])}
    plot_curves(curves, 'proposals', 'recall', str(tmp_path / 'curves.png'), log_x=log_x)
    axes = metrics[0].axes[0]
    assert sorted(text.get_text() for text in axes.texts) == ['ours', 'theirs']
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('proposals', 'recall')
    assert axes.get_xscale() == ('log' if log_x else 'linear')
    for line, (xs, ys) in zip(axes.get_lines(), curves.values(), strict=True):
        assert list(line.get_xdata()) == xs and list(line.get_ydata())[:2] == ys[:2]
    # Nothing depends on the colour, and a single point is seen.
    assert [line.get_marker() for line in axes.get_lines()] == ['o', 's']
    assert [line.get_linestyle() for line in axes.get_lines()] == ['-', '--']


@pytest.mark.parametrize('log_y', [False, True])
def test_each_curve_has_its_name_at_the_height_of_its_end(log_y):
    """Two that end together are written apart, in the order of their ends; a last value of NaN is no end."""
    xs, nan = [1, 2, 3], float('nan')
    curves = {
        'high': (xs, [1, 1, 100]),
        'low': (xs, [1, 1, 1]),
        'close': (xs[::-1], [99.9, 1, 1]),  # from right to left
        'middle': (xs, [1, 10, nan]),
        'none': ([1], [nan]),
    }
    figure = curve_figure(curves, 'x', 'y', log_y=log_y)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    assert axes.get_yscale() == ('log' if log_y else 'linear')
    heights = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert [name for name, _ in sorted(heights.items(), key=lambda item: item[1])] == [
        'none',
        'low',
        'middle',
        'close',
        'high',
    ]
    end = {'low': (3, 1), 'middle': (2, 10), 'high': (3, 100), 'close': (3, 99.9)}
    assert {text.get_text(): text.xy for text in axes.texts if text.get_text() != 'none'} == end
    shares = axes.transAxes.inverted().transform(axes.transData.transform([end[name] for name in ('middle', 'close')]))
    np.testing.assert_allclose([heights['middle'], heights['close']], shares[:, 1], atol=0.02)
    written = sorted(heights.values())
    assert min(second - first for first, second in pairwise(written)) > 0.055
    # They lie on the right of the axes and inside of the figure.
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the thin line
    assert min(box.x0 for box in boxes) > axes.get_window_extent().x1
    assert max(box.x1 for box in boxes) <= figure.bbox.x1 + 1


@pytest.mark.parametrize('count', [2, 7, 30])
def test_many_names_stay_apart(count):
    figure = curve_figure({str(place): ([1], [0.5]) for place in range(count)}, 'x', 'y')
    heights = sorted(text.xyann[1] for text in figure.axes[0].texts)
    np.testing.assert_allclose(np.diff(heights), 0.06)
    assert heights[0] > -1e-9 and (heights[-1] <= 1 or count == 30)


CURVES = [
    SettingCurve('threshold', [0.5, 1, 2], [0.4, 0.7, 0.6], [5.0, 2.0, 3.0], before=0.5, after=1),
    SettingCurve('min_size', [1, 8], [0.7, 0.6], [2.0, 1.0], before=1, after=1),
]


@pytest.mark.parametrize('aim', ['accuracy_50', 'count_error'])
def test_draws_a_panel_for_each_setting(tmp_path, monkeypatch, aim):
    """Circles and squares, solid and dashed or dotted: nothing depends on the colour."""
    figures = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, path, **kwargs: figures.append(figure))
    plot_setting_curves(CURVES, aim, tmp_path / 'new/curves.png')
    (figure,) = figures
    panels = [axes for axes in figure.axes if axes.get_xlabel()]
    second = [axes for axes in figure.axes if not axes.get_xlabel()]
    assert [axes.get_xlabel() for axes in panels] == ['threshold', 'min_size']
    assert len(second) == (0 if aim == 'count_error' else 2)
    for axes, curve in zip(panels, CURVES, strict=True):
        drawn, after, before = axes.get_lines()
        assert (list(drawn.get_xdata()), list(drawn.get_ydata())) == (curve.values, curve.aims)
        assert (drawn.get_marker(), drawn.get_linestyle(), axes.get_ylabel()) == ('o', '-', aim)
        assert (after.get_xdata()[0], after.get_linestyle()) == (curve.after, '-')
        assert (before.get_xdata()[0], before.get_linestyle()) == (curve.before, ':')
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == [
            aim,
            *['count_error'] * len(second[:1]),
            f'chosen: {curve.after:g}',
            f'before: {curve.before:g}',
        ]
    for axes, curve in zip(second, CURVES, strict=False):
        (drawn,) = axes.get_lines()
        assert (list(drawn.get_xdata()), list(drawn.get_ydata())) == (curve.values, curve.count_errors)
        assert (drawn.get_marker(), drawn.get_linestyle()) == ('s', '--') and axes.get_ylabel().startswith(
            'count_error'
        )


@pytest.mark.parametrize(
    ('curves', 'message'),
    [
        ([], 'at least one curve'),
        ([CURVES[0]._replace(aims=[0.5])], "got 3 values, 1 aims and 3 count errors for 'threshold'"),
        ([CURVES[0]._replace(values=[], aims=[], count_errors=[])], 'got 0 values, 0 aims and 0 count errors'),
    ],
)
def test_refuses_setting_curves(tmp_path, curves, message):
    with pytest.raises(ValueError, match=message):
        plot_setting_curves(curves, 'AP', tmp_path / 'curves.png')
    assert not (tmp_path / 'curves.png').exists()
