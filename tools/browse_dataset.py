"""Draws the images and maps that a network is trained on: the output of the pipeline of a config, with its random steps.

::

    python tools/browse_dataset.py configs/instancenet_unet_dsb2018.py --out work_dirs/samples
    python tools/browse_dataset.py CONFIG --split val --count 50 --out work_dirs/samples

Each file shows image, class map and instances, in which ignored pixels are grey. The images are spread evenly over the data set;
with a larger ``--count`` than the set has images, an image is drawn several times, each time as the random steps change it.
"""

import argparse
from pathlib import Path

import mmcv
import numpy as np
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmseg.registry import DATASETS

from mmseg_instancenet.apis.command_line import add_config_options, load_config
from mmseg_instancenet.visualization import draw_sample


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', type=Path, required=True, help='folder for the drawings; made if absent')
    parser.add_argument(
        '--split', default='train', choices=('train', 'val', 'test', 'tune'), help='dataloader of the config'
    )
    parser.add_argument('--count', type=int, default=20, help='number of drawings')
    add_config_options(parser)
    args = parser.parse_args()
    if args.count < 1:
        parser.error(f'--count: expected at least 1, got {args.count}')
    return args


def main() -> None:
    args = parse_args()
    config = load_config(args)
    loader = config.get(f'{args.split}_dataloader')
    if loader is None:
        raise SystemExit(f'{args.config} has no {args.split}_dataloader: choose another --split')
    init_default_scope('mmseg')
    set_random_seed(config.get('randomness', {}).get('seed') or 0)
    dataset = DATASETS.build(loader.dataset)
    if not len(dataset):
        raise SystemExit(f'the data set of {args.split}_dataloader has no image')
    metainfo = dataset.metainfo
    # mmdet's ConcatDataset has a list; all its sets have the same classes.
    palette = (metainfo if isinstance(metainfo, dict) else metainfo[0]).get('palette')
    preprocessor = config.model.get('data_preprocessor') or {}
    args.out.mkdir(parents=True, exist_ok=True)
    counts, ignored = [], []
    for place in range(args.count):
        sample = dataset[place * len(dataset) // args.count]
        inputs, data_sample = sample['inputs'], sample['data_samples']
        if isinstance(inputs, list):
            raise SystemExit('expected one image a sample, got several views: choose a config without TestTimeAug')
        drawing = draw_sample(inputs, data_sample, palette, preprocessor.get('bgr_to_rgb', False))
        name = f'{place:04d}_{Path(data_sample.get("img_path", "image")).stem}.png'
        mmcv.imwrite(drawing[..., ::-1], str(args.out / name))
        if 'gt_instance_map' in data_sample:
            instance_map_HW = data_sample.gt_instance_map.data[0].numpy()
            counts.append(len(np.unique(instance_map_HW[instance_map_HW > 0])))
            ignored.append(float((instance_map_HW < 0).mean()))
    print(f'{args.count} drawings in {args.out}, of a data set with {len(dataset)} images')
    if counts:
        print(
            f'instances an image: {min(counts)} to {max(counts)}, median {np.median(counts):g}; ignored: '
            f'{100 * np.mean(ignored):.1f} % of the pixels'
        )


if __name__ == '__main__':
    main()
