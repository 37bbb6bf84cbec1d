"""Plots of metrics: losses and metrics of a training, recall against the number of proposals, mIoU against the width of a band,
accuracy against settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OKABE_ITO = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000', '#E69F00', '#56B4E9')
"""Colours that people with any kind of colour vision tell apart (Okabe and Ito, Color universal design, 2008)."""

_STYLES = (
    cycler(color=OKABE_ITO)
    + cycler(linestyle=['-', '--', '-.', ':', '-', '--', '-.'])
    + cycler(marker=['o', 's', '^', 'D', 'v', 'x', '+'])
)
_MARKERS = 8
"""On a curve, about."""
_LABEL_HEIGHT = 0.06
"""Distance of two names beside the axes, as a share of their height."""


def curve_figure(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Draws curves, each with a colour, a line style, a marker and its name beside its end; for the arguments and errors see
    :func:`plot_curves`.

    Example:
        >>> figure = curve_figure({'ours': ([1, 10, 60], [0.2, 0.5, 0.6])}, 'proposals', 'average recall')
        >>> figure.axes[0].get_xlabel()
        'proposals'
    """
    if not curves:
        raise ValueError('expected at least one curve, got none')
    for name, (xs, ys) in curves.items():
        if len(xs) != len(ys) or len(xs) == 0:
            raise ValueError(f'expected as many ys as xs and at least one, got {len(xs)} and {len(ys)} for {name!r}')
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.add_subplot()
    axes.set_prop_cycle(_STYLES)
    for name, (xs, ys) in curves.items():
        axes.plot(xs, ys, label=name, markersize=4, markevery=max(1, len(xs) // _MARKERS))
    if log_x:
        axes.set_xscale('log')
    if log_y:
        axes.set_yscale('log')
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(True, alpha=0.3)
    _name_ends(axes)
    return figure


def _name_ends(axes: Axes) -> None:
    """Writes the name of each line on the right of the axes, at the height of its right end, and joins the two by a thin line.

    Names that would overlap are moved apart; those of lines without a finite value are at the bottom, without a thin line.
    """
    axes.autoscale_view()  # matplotlib would set the limits, on which the heights depend, when it draws
    ends = []
    for line in axes.get_lines():
        xs, ys = (np.asarray(values, float) for values in line.get_data())
        finite = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys))
        right = finite[xs[finite].argmax()] if len(finite) else None  # the first one of falling xs
        point = None if right is None else (xs[right], ys[right])
        height = 0.0 if point is None else axes.transAxes.inverted().transform(axes.transData.transform(point))[1]
        ends.append((height, point, line))
    ends.sort(key=lambda end: end[0])
    for (_, point, line), height in zip(ends, _apart([end[0] for end in ends]), strict=True):
        axes.annotate(
            str(line.get_label()),
            (0, 0) if point is None else point,
            (1.04, height),
            textcoords='axes fraction',
            color=line.get_color(),
            va='center',
            annotation_clip=False,
            arrowprops=None
            if point is None
            else dict(arrowstyle='-', color=line.get_color(), linewidth=0.6, relpos=(0, 0.5), shrinkA=0),
        )


def _apart(heights: Sequence[float]) -> list[float]:
    """Ascending heights with at least ``_LABEL_HEIGHT`` between neighbours, moved as a whole below 1 where that is possible.

    Example:
        >>> [round(height, 2) for height in _apart([0.5, 0.51, 0.9])]
        [0.5, 0.56, 0.9]
    """
    moved: list[float] = []
    for height in heights:
        moved.append(height if not moved else max(height, moved[-1] + _LABEL_HEIGHT))
    limit = max(1.0, (len(moved) - 1) * _LABEL_HEIGHT)  # the lowest one stays at 0 or above
    for place in reversed(range(len(moved))):
        moved[place] = min(moved[place], limit)
        limit = moved[place] - _LABEL_HEIGHT
    return moved


def plot_curves(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    path: str,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Draws curves into one image file, without a display.

    Args:
        curves: for each name the xs and the ys, equally many; a NaN leaves a gap. Seven of them look different.
        x_label, y_label: of the axes, with their units.
        path: of the image; its ending names the format ('.png', '.pdf', '.svg'). Missing folders are made.
        log_x, log_y: logarithmic axes.

    Raises:
        ValueError: if there is no curve, or a curve has not as many ys as xs, or no point.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), 'curves.png')
        >>> plot_curves({'ours': ([1, 10, 60], [0.2, 0.5, 0.6])}, 'proposals', 'average recall', path, log_x=True)
        >>> os.path.getsize(path) > 0
        True
    """
    figure = curve_figure(curves, x_label, y_label, log_x, log_y)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


class SettingCurve(NamedTuple):
    """Metrics against one setting of the grouping.

    ``values`` of the setting ``name``, ascending, with as many ``aims`` and ``count_errors``; ``before`` and ``after`` are the
    values of the setting before the choice and after it.
    """

    name: str
    values: Sequence[float]
    aims: Sequence[float]
    count_errors: Sequence[float]
    before: float
    after: float


def plot_setting_curves(curves: Sequence[SettingCurve], aim: str, path: str | Path) -> None:
    """Draws a panel for each setting: the aim, solid with circles, and the count error, dashed with squares, which has the
    axis on the right. Vertical lines mark the chosen value (solid) and that of the config (dotted).

    Args:
        curves: at least one.
        aim: name of the aim; for ``count_error`` there is no second curve.
        path: of the image; its ending names the format ('.png', '.pdf', '.svg'). Missing folders are made.

    Raises:
        ValueError: if there is no curve, or a curve has not as many metrics as values, or no value.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), 'tuned.png')
        >>> curve = SettingCurve('min_size', [1, 8, 16], [0.5, 0.7, 0.6], [4.0, 2.0, 3.0], before=1, after=8)
        >>> plot_setting_curves([curve], 'accuracy_50', path)
        >>> os.path.getsize(path) > 0
        True
    """
    if not curves:
        raise ValueError('expected at least one curve, got none')
    for curve in curves:
        if not len(curve.values) == len(curve.aims) == len(curve.count_errors) > 0:
            raise ValueError(
                f'expected at least one value and as many metrics, got {len(curve.values)} values, {len(curve.aims)} aims and '
                f'{len(curve.count_errors)} count errors for {curve.name!r}'
            )
    figure = Figure(figsize=(4.5 * len(curves), 4), layout='constrained')
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, curve in zip(panels, curves, strict=True):
        lines = axes.plot(curve.values, curve.aims, 'o-', color='C0', label=aim)
        axes.set_xlabel(curve.name)
        axes.set_ylabel(aim)
        axes.grid(True, alpha=0.3)
        if aim != 'count_error':
            errors = axes.twinx()
            lines += errors.plot(
                curve.values, curve.count_errors, 's--', color='C1', fillstyle='none', label='count_error'
            )
            errors.set_ylabel('count_error (objects of an image)')
        lines.append(
            axes.axvline(curve.after, color='black', linestyle='-', linewidth=1, label=f'chosen: {curve.after:g}')
        )
        lines.append(axes.axvline(curve.before, color='black', linestyle=':', label=f'before: {curve.before:g}'))
        axes.legend(handles=lines, loc='upper center', bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize='small')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
