"""Plots the similarity of pixels of one and of two instances, by iteration of mean shift (Kong & Fowlkes 2018, figure
12).

::

    python tools/analysis/similarity_by_loop.py configs/recurrent-embedding_digits.py CHECKPOINT
    python tools/analysis/similarity_by_loop.py CONFIG CHECKPOINT --loops 5 --count 200 --pairs 2000 --out similarity.png

Pairs of pixels are drawn such that every instance counts alike, as in the loss, among the pixels that the config's grouper
would group, were the classes known: the same pairs after every loop. Drawn: histograms of their calibrated cosine
similarity, (1 + cos) / 2. Printed: its mean and quantiles.
"""

import argparse
import os.path as osp
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mmseg_instancenet.analysis.labelled_embeddings import (
    labelled_embeddings,
    load_looping_model,
    loss_on_embeddings,
    shift_embeddings,
)
from mmseg_instancenet.analysis.pair_similarity import calibrated_similarities, draw_pairs
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.models import SphericalPairLoss

KINDS = {'one instance': 'tab:blue', 'two instances': 'tab:red'}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, its grouper a MeanShiftGrouping')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--loops', type=int, default=10)
    parser.add_argument('--count', type=int, default=50, help='images of the test data')
    parser.add_argument('--pairs', type=int, default=1000, help='of each kind and image')
    parser.add_argument('--seed', type=int, default=0, help='of the pairs')
    parser.add_argument('--out', help='image file; WORK_DIR/similarity_by_loop.png unless given')
    add_common_arguments(parser)
    args = parser.parse_args()
    if min(args.loops, args.count, args.pairs) < 1:
        parser.error('expected --loops, --count and --pairs of at least 1')
    return args


def draw(similarity_TM: dict[str, Tensor], margin: float | None, path: str) -> None:
    """Draws curves of similarity. ``similarity_TM``: for each kind of pair its similarities after 0 .. T iterations, (T
    + 1, M)."""
    count = len(next(iter(similarity_TM.values())))
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows + 0.5), layout='constrained')
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for loop, axes in enumerate(grid.flat):
        if loop >= count:
            axes.set_axis_off()
            continue
        for (kind, color), values_TM in zip(KINDS.items(), similarity_TM.values(), strict=True):
            weights = torch.full_like(values_TM[loop], 100 / max(values_TM.shape[1], 1))
            axes.hist(
                values_TM[loop].numpy(),
                bins=50,
                range=(0, 1),
                weights=weights.numpy(),
                color=color,
                alpha=0.55,
                label=kind,
            )
        if margin is not None:
            axes.axvline(margin, color='black', linewidth=0.8, linestyle=':', label='margin')
        axes.set(
            title='no loop' if loop == 0 else f'{loop} loop{"s" if loop > 1 else ""}', yscale='log', ylim=(0.01, 150)
        )
        axes.grid(True, alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel('% of the pairs')
    for column in range(columns):
        # The lowest that is drawn in this column.
        axes = grid[(count - 1 - column) // columns, column]
        axes.set_xlabel('similarity')
        axes.tick_params(labelbottom=True)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc='outside upper center', ncols=3)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main() -> None:
    args = parse_args()
    config = load_config(args)
    model, dataset = load_looping_model(config, args.checkpoint)
    generator = torch.Generator().manual_seed(args.seed)
    parts: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    with torch.no_grad():
        for labelled in labelled_embeddings(model, dataset, args.count):
            region_hw = labelled.regions(model.grouper)
            grouped_hw = region_hw > 0
            pairs = draw_pairs(labelled.instance_hw[grouped_hw], region_hw[grouped_hw], args.pairs, generator)
            x_PD = labelled.embeddings_Dhw[:, grouped_hw].T
            shifted = shift_embeddings(model.grouper, x_PD, region_hw[grouped_hw], args.loops)
            for kind, pairs_M2 in zip(KINDS, pairs, strict=True):
                parts[kind].append(torch.stack([calibrated_similarities(x, pairs_M2).cpu() for x in shifted]))
    similarity_TM = {kind: torch.cat(of_images, dim=1) for kind, of_images in parts.items()}
    print(f'{"similarity":<24}{"pairs":>8}{"mean":>8}' + ''.join(f'{f"{100 * q:g} %":>8}' for q in QUANTILES))
    for kind, values_TM in similarity_TM.items():
        for loop, values_M in enumerate(values_TM):
            if len(values_M) == 0:
                print(f'{kind}: no such pair in these images')
                break
            metrics = [values_M.mean(), *np.quantile(values_M, QUANTILES)]
            print(f'{kind + f", loop {loop}":<24}{len(values_M):>8}' + ''.join(f'{value:8.3f}' for value in metrics))
    loss = loss_on_embeddings(model)
    margin = loss.resolve_margin(model.branch.dims) if isinstance(loss, SphericalPairLoss) else None
    out = args.out or osp.join(config.work_dir, 'similarity_by_loop.png')
    draw(similarity_TM, margin, out)
    print(out)


if __name__ == '__main__':
    main()
