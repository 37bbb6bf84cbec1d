"""Draws embeddings on their sphere before and after mean shift, next to the image (Kong & Fowlkes 2018, figure 4).

::

    python tools/analysis/embedding_sphere.py configs/recurrent-embedding_3d_digits.py CHECKPOINT
    python tools/analysis/embedding_sphere.py CONFIG CHECKPOINT --loops 16 --count 6 --out sphere.png

Each point is the embedding of a pixel that the config's grouper would group, were the classes known, brought to length 1, in
the colour of its true instance. For D > 3 they are projected onto the three principal directions of the embeddings
before the first loop; the title gives their share of the squared length.
"""

import argparse
import os.path as osp
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from mmseg_instancenet.analysis.labelled_embeddings import labelled_embeddings, load_looping_model, shift_embeddings
from mmseg_instancenet.analysis.sphere import draw_sphere, sphere_axes
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.visualization import draw_instances


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, its grouper a MeanShiftGrouping')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--loops', type=int, default=10)
    parser.add_argument('--count', type=int, default=4, help='images of the test data')
    parser.add_argument('--out', help='image file; WORK_DIR/embedding_sphere.png unless given')
    add_common_arguments(parser)
    args = parser.parse_args()
    if min(args.loops, args.count) < 1:
        parser.error('expected --loops and --count of at least 1')
    return args


def main() -> None:
    args = parse_args()
    config = load_config(args)
    model, dataset = load_looping_model(config, args.checkpoint)
    count = min(args.count, len(dataset))
    figure = Figure(figsize=(10.5, 3.5 * count), layout='constrained')
    for row, labelled in enumerate(labelled_embeddings(model, dataset, count)):
        region_hw = labelled.regions(model.grouper)
        grouped_hw = region_hw > 0
        instance_P = labelled.instance_hw[grouped_hw].cpu().numpy()
        with torch.no_grad():
            x_PD = labelled.embeddings_Dhw[:, grouped_hw].T
            shifted = shift_embeddings(model.grouper, x_PD, region_hw[grouped_hw], args.loops)
        before_PD, after_PD = (F.normalize(shifted[loop], dim=1).cpu().numpy() for loop in (0, -1))
        axes_3 = sphere_axes(before_PD)
        axes = figure.add_subplot(count, 3, 3 * row + 1)
        axes.imshow(draw_instances(labelled.image_HW3, labelled.instance_HW))
        axes.set(xticks=[], yticks=[])
        axes.set_title(f'{len(np.unique(instance_P[instance_P > 0]))} instances', fontsize=10)
        # After the loops many points lie on one spot.
        shown = (('before', before_PD, 3), (f'after {args.loops} loops', after_PD, 14))
        for column, (title, x_PD, point_size) in enumerate(shown, start=2):
            axes = figure.add_subplot(count, 3, 3 * row + column, projection='3d')
            draw_sphere(axes, x_PD @ axes_3.direction_D3, instance_P, point_size)
            if before_PD.shape[1] > 3:
                title += f', 3 of {before_PD.shape[1]} directions ({100 * axes_3.share:.0f} %)'
            axes.set_title(title, fontsize=10)
    out = args.out or osp.join(config.work_dir, 'embedding_sphere.png')
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
    print(out)


if __name__ == '__main__':
    main()
