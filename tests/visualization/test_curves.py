"""``plot_curves``: its drawings and refused input."""

import cv2
import pytest
from matplotlib.figure import Figure

from mmseg_instancenet.visualization.curves import plot_curves


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
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['ours', 'theirs']
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('proposals', 'recall')
    assert axes.get_xscale() == ('log' if log_x else 'linear')
    for line, (xs, ys) in zip(axes.get_lines(), curves.values(), strict=True):
        assert list(line.get_xdata()) == xs and list(line.get_ydata())[:2] == ys[:2]
    # A single point is no line: without a marker nothing would be seen.
    assert axes.get_lines()[1].get_marker() == 'o'
