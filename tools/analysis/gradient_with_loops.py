"""Draws maps of the gradient of the embedding loss, with and without iterations of mean shift (Kong & Fowlkes 2018,
figure 5).

::

    python tools/analysis/gradient_with_loops.py configs/recurrent-embedding_digits.py CHECKPOINT
    python tools/analysis/gradient_with_loops.py CONFIG CHECKPOINT --loops 5 --count 100 --out gradient.png

The config's embedding loss (that within a RecurrentLoss) is applied to the network's embeddings, or only after 1, 2, .. loops
of the config's grouper over the pixels that it would group, were the classes known. Drawn: the length of the gradient at
each initial embedding, as a share of the image's. Printed: the share that goes to pixels near another instance,
over all images, beside the share of these pixels.
"""

import argparse
import os.path as osp
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from mmseg_instancenet.analysis.embedding_gradient import gradient_by_loop, near_another_instance
from mmseg_instancenet.analysis.labelled_embeddings import labelled_embeddings, load_looping_model, loss_on_embeddings
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.visualization import draw_instances


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, its grouper a MeanShiftGrouping')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--loops', type=int, default=3, help='the most loops')
    parser.add_argument('--radius', type=int, default=2, help='pixels of the map that count as near')
    parser.add_argument('--count', type=int, default=50, help='images of the test data that are looked at')
    parser.add_argument('--rows', type=int, default=4, help='of them that are drawn')
    parser.add_argument('--out', help='image file; WORK_DIR/gradient_with_loops.png unless given')
    add_common_arguments(parser)
    args = parser.parse_args()
    if min(args.loops, args.radius, args.count, args.rows) < 1:
        parser.error('expected --loops, --radius, --count and --rows of at least 1')
    return args


def draw(rows: list, path: str) -> None:
    """Draws maps of gradients. ``rows``: images with their instances, the grouped pixels (h, w) and the norms (T + 1,
    h, w) of their gradients."""
    loops = len(rows[0][2]) - 1
    figure = Figure(figsize=(2.4 * (loops + 2) + 0.8, 2.5 * len(rows)), layout='constrained')
    grid = figure.subplots(len(rows), loops + 2, squeeze=False)
    for axes, (image, grouped_hw, norm_Thw) in zip(grid, rows, strict=True):
        axes[0].imshow(image)
        total_T11 = norm_Thw.sum((1, 2), keepdims=True)
        percent_Thw = 100 * norm_Thw / np.where(total_T11 > 0, total_T11, 1)
        # One scale for an image; a few extreme pixels do not set it.
        highest = np.percentile(percent_Thw[:, grouped_hw], 99) if grouped_hw.any() else 1
        for one, percent_hw in zip(axes[1:], percent_Thw, strict=True):
            shown = one.imshow(
                np.ma.masked_array(percent_hw, ~grouped_hw), cmap='viridis', vmin=0, vmax=max(highest, 1e-6)
            )
            one.set_facecolor('0.93')
        figure.colorbar(shown, ax=list(axes), label='% of the gradient', extend='max', shrink=0.9)
        for one in axes:
            one.set(xticks=[], yticks=[])
    titles = ['true instances', 'no loop', *(f'{loop} loop{"s" if loop > 1 else ""}' for loop in range(1, loops + 1))]
    for one, title in zip(grid[0], titles, strict=True):
        one.set_title(title, fontsize=10)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main() -> None:
    args = parse_args()
    config = load_config(args)
    model, dataset = load_looping_model(config, args.checkpoint)
    loss = loss_on_embeddings(model)
    near_T, all_T = torch.zeros(2, args.loops + 1, dtype=torch.float64)
    num_near = num_all = 0
    rows = []
    for labelled in labelled_embeddings(model, dataset, args.count):
        norm_Thw = gradient_by_loop(labelled, loss, model.grouper, args.loops).cpu()
        grouped_hw = (labelled.regions(model.grouper) > 0).cpu()
        near_hw = near_another_instance(torch.where(grouped_hw, labelled.instance_hw.cpu(), -1).numpy(), args.radius)
        near_T += norm_Thw[:, torch.from_numpy(near_hw)].sum(1)
        all_T += norm_Thw.sum((1, 2))
        num_near, num_all = num_near + int(near_hw.sum()), num_all + int(grouped_hw.sum())
        if len(rows) < args.rows:
            image = draw_instances(labelled.image_HW3, labelled.instance_HW)
            rows.append((image, grouped_hw.numpy(), norm_Thw.numpy()))
    print(
        f'{num_near} of {num_all} grouped pixels ({100 * num_near / max(num_all, 1):.1f} %) lie within {args.radius} of '
        'another instance; they receive'
    )
    for loop, (near, total) in enumerate(zip(near_T.tolist(), all_T.tolist(), strict=True)):
        share = f'{100 * near / total:5.1f} %' if total > 0 else '    -  '
        print(f'loops {loop}: {share} of the gradient (length in all {total:.4g})')
    out = args.out or osp.join(config.work_dir, 'gradient_with_loops.png')
    draw(rows, out)
    print(out)


if __name__ == '__main__':
    main()
