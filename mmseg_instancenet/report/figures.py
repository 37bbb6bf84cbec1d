"""The plots of a report, as SVG in data URIs: readable in grey, by line styles and markers."""

import base64
import io

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..visualization import OKABE_ITO, curve_figure
from .measures import BINS, Measures, ScoreBin, ScoreCurve

_MAX_POINTS = 300
"""Of a curve in a drawing."""


def svg_uri(figure: Figure) -> str:
    """The figure as ``data:image/svg+xml``."""
    file = io.BytesIO()
    # Without date and random ids, so that equal figures are equal files.
    with rc_context({'svg.hashsalt': 'report'}):
        figure.savefig(file, format='svg', metadata={'Date': None})
    return 'data:image/svg+xml;base64,' + base64.b64encode(file.getvalue()).decode()


def draw_score_curve(curve: ScoreCurve) -> Figure:
    """Precision, recall, F1 and accuracy against the cut of the scores, and a line at the cut with the highest accuracy.

    Of a curve with more than 300 cuts 300 are drawn, evenly spread over the detections.
    """
    place = np.unique(np.linspace(0, len(curve.cut_U) - 1, min(len(curve.cut_U), _MAX_POINTS)).round().astype(int))
    cuts = curve.cut_U[place]
    named = {
        'TP / (TP + FP + FN)': curve.accuracy_U,
        'precision': curve.precision_U,
        'recall': curve.recall_U,
        'F1': curve.f1_U,
    }
    figure = curve_figure({name: (cuts, values[place]) for name, values in named.items()}, 'score cut', 'value')
    axes = figure.axes[0]
    axes.axvline(curve.cut_U[curve.best], color='0.4', linewidth=1)
    axes.plot(curve.cut_U[curve.best], curve.accuracy_U[curve.best], 'o', color=OKABE_ITO[0])
    axes.set_ylim(0, 1.02)
    return figure


def draw_counts(measures: Measures) -> Figure:
    """Predicted against true count of each image; the area of a point grows with the number of its images."""
    points, images = np.unique(np.stack([measures.true_N, measures.predicted_N], axis=1), axis=0, return_counts=True)
    figure = Figure(figsize=(5, 5), layout='constrained')
    axes = figure.add_subplot()
    end = max(1, points.max()) * 1.05
    axes.plot([0, end], [0, end], '--', color='0.4', linewidth=1, label='equal')
    # As pixels: thousands of points would make a large SVG.
    area = 25 * np.minimum(images, 16)
    axes.scatter(points[:, 0], points[:, 1], s=area, color=OKABE_ITO[0], edgecolors='white', alpha=0.8, rasterized=True)
    axes.set_xlim(-0.03 * end, end)
    axes.set_ylim(-0.03 * end, end)
    axes.set_aspect('equal')
    axes.set_xlabel('objects in the image')
    axes.set_ylabel('detections')
    axes.grid(True, alpha=0.3)
    axes.legend(loc='upper left')
    figure.set_dpi(120)
    return figure


def draw_calibration(bins: list[ScoreBin]) -> Figure:
    """Mean IoU and share of right detections against the mean score of each bin, and the detections of each bin below."""
    figure = Figure(figsize=(5, 5), layout='constrained')
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    score = [one.score for one in bins]
    above.plot([0, 1], [0, 1], '--', color='0.4', linewidth=1, label='equal to the score')
    above.plot(score, [one.iou for one in bins], 'o-', color=OKABE_ITO[0], label='mean IoU')
    above.plot(score, [one.right for one in bins], 's:', color=OKABE_ITO[1], label='share that is right')
    above.set_xlim(0, 1)
    above.set_ylim(0, 1.02)
    above.set_ylabel('mean IoU, share')
    above.legend()
    below.bar(
        [one.low for one in bins],
        [one.detections for one in bins],
        1 / BINS,
        align='edge',
        color='0.6',
        edgecolor='0.2',
    )
    below.set_xlabel('score')
    below.set_ylabel('detections')
    for axes in (above, below):
        axes.grid(True, alpha=0.3)
    return figure
