"""Plots of metrics: average recall against the number of proposals, mIoU against the width of a band."""

from collections.abc import Sequence
from pathlib import Path

from cycler import cycler
from matplotlib.figure import Figure

OKABE_ITO = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000', '#E69F00', '#56B4E9')
"""Colours that people with any kind of colour vision tell apart (Okabe and Ito, Color universal design, 2008)."""

_STYLES = cycler(color=OKABE_ITO) + cycler(linestyle=['-', '--', '-.', ':', '-', '--', '-.'])


def curve_figure(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str, log_x: bool = False
) -> Figure:
    """Draws curves, each in a colour and a line style of its own; for the arguments and errors see :func:`plot_curves`.

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
        axes.plot(xs, ys, marker='o' if len(xs) == 1 else None, label=name)
    if log_x:
        axes.set_xscale('log')
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(True, alpha=0.3)
    axes.legend()
    return figure


def plot_curves(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    path: str,
    log_x: bool = False,
) -> None:
    """Draws curves into one image file, without a display.

    Args:
        curves: for each name (of the legend) the xs and the ys, equally many; a NaN leaves a gap.
        x_label, y_label: of the axes, with their units.
        path: of the image; its ending names the format ('.png', '.pdf', '.svg'). Missing folders are made.
        log_x: logarithmic x axis.

    Raises:
        ValueError: if there is no curve, or a curve has not as many ys as xs, or no point.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), 'curves.png')
        >>> plot_curves({'ours': ([1, 10, 60], [0.2, 0.5, 0.6])}, 'proposals', 'average recall', path, log_x=True)
        >>> os.path.getsize(path) > 0
        True
    """
    figure = curve_figure(curves, x_label, y_label, log_x)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
