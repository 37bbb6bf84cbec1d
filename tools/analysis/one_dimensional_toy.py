"""Draws the effect of gradients through iterations of mean shift on one-dimensional points (Kong & Fowlkes 2018,
appendix B.2 and figure 13).

::

    python tools/analysis/one_dimensional_toy.py
    python tools/analysis/one_dimensional_toy.py --loops 1 2 --points 300 --out work_dirs/toy.png

1000 points each from N(3, 0.2), N(4, 0.3) and N(5, 0.1) are themselves moved down a gradient, 30 times with a step of
0.1: that of the squared error of a fixed regressor, 0.5 x - 0.5, whose targets are 3 for points that start below 3.5
and 5 for the others. The loss is computed on the points as they are, or after loops of Gaussian mean shift (bandwidth
0.2): after the last loop, or after every one. Drawn: the points before and after, after five loops without any training,
and the way of 100 of them. Printed: the distance of the points from their targets, before and after five loops. Less than
a minute on one CPU core.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mmseg_instancenet.analysis.one_dimensional_toy import draw_points, ideal_spots, shift_points, update_points

COLORS = {'start': '0.6', 'last': 'tab:blue', 'every': 'tab:orange'}
BINS = torch.linspace(2, 6, 121).numpy()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--loops', type=int, nargs='+', default=[1, 3, 5], help='of mean shift, one row each')
    parser.add_argument('--points', type=int, default=1000, help='of each cluster')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', default='work_dirs/one_dimensional_toy.png', help='image file')
    args = parser.parse_args()
    if min(args.loops) < 1 or args.points < 1:
        parser.error(f'expected --loops and --points of at least 1, got {args.loops} and {args.points}')
    return args


def draw_histogram(axes: Axes, title: str, points: dict[str, tuple[str, Tensor]]) -> None:
    """Draws a histogram. ``points``: for each name of the legend a colour and (N,) numbers."""
    for name, (color, x_N) in points.items():
        # With an edge, so that a bin with nearly all points is visible.
        axes.hist(x_N.numpy(), bins=BINS, color=color, alpha=0.6, label=name, edgecolor=color, linewidth=0.8)
    axes.set(title=title, xlabel='x', ylabel='points', yscale='log', xlim=(2, 6), ylim=(0.7, 5 * len(x_N)))
    for spot in (3, 5):
        axes.axvline(spot, color='black', linewidth=0.8, linestyle=':')
    axes.legend(fontsize=7, loc='upper left')


def draw_trajectories(axes: Axes, title: str, x_UN: Tensor, shown_M: Tensor, color: str) -> None:
    axes.plot(x_UN[:, shown_M].numpy(), color=color, linewidth=0.6, alpha=0.7)
    axes.set(title=title, xlabel='update', ylabel='x', ylim=(2, 6))
    for spot in (3, 5):
        axes.axhline(spot, color='black', linewidth=0.8, linestyle=':')


def report(name: str, x_N: Tensor, spot_N: Tensor) -> None:
    errors = [(x - spot_N).abs() for x in (x_N, shift_points(x_N, 5)[-1])]
    print(
        f'{name:<30} ' + '   '.join(f'mean {error_N.mean():.4f}  largest {error_N.max():.3f}' for error_N in errors),
        flush=True,
    )


def main() -> None:
    args = parse_args()
    generator = torch.Generator().manual_seed(args.seed)
    x_N = draw_points(args.points, generator)
    spot_N = ideal_spots(x_N)
    shown_M = torch.randperm(len(x_N), generator=generator)[:100]
    rows = len(args.loops) + 1
    figure = Figure(figsize=(15, 3.2 * rows), layout='constrained')
    grid = figure.subplots(rows, 4)

    print(f'{"distance to the ideal spot":<30} {"of the points":<33}after five loops')
    report('start', x_N, spot_N)
    without_UN = update_points(x_N, loops=0, every_loop=False)
    report('no loops', without_UN[-1], spot_N)
    draw_histogram(grid[0, 0], 'no training', {'points': (COLORS['start'], x_N)})
    shifted_N = shift_points(x_N, 5)[-1]
    draw_histogram(grid[0, 1], 'no training, after 5 loops', {'points': (COLORS['start'], shifted_N)})
    draw_trajectories(grid[0, 2], 'trained without loops', without_UN, shown_M, 'tab:green')
    draw_histogram(grid[0, 3], 'trained without loops', {'points': ('tab:green', without_UN[-1])})
    for axes, loops in zip(grid[1:], args.loops, strict=True):
        number = f'{loops} loop{"s" if loops > 1 else ""}'
        updates = {name: update_points(x_N, loops, every_loop=name == 'every') for name in ('last', 'every')}
        names = {'last': 'loss after the last', 'every': 'loss after every loop'}
        for name, x_UN in updates.items():
            report(f'{number}, {names[name]}', x_UN[-1], spot_N)
        ends = {names[name]: (COLORS[name], x_UN[-1]) for name, x_UN in updates.items()}
        after = {name: (color, shift_points(x, 5)[-1]) for name, (color, x) in ends.items()}
        draw_histogram(axes[0], f'trained through {number}', ends)
        draw_histogram(axes[1], f'trained through {number}, after 5 loops', after)
        for one, (name, x_UN) in zip(axes[2:], updates.items(), strict=True):
            draw_trajectories(one, f'{number}, {names[name]}', x_UN, shown_M, COLORS[name])
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=100)
    print(args.out)


if __name__ == '__main__':
    main()
