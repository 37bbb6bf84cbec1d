"""Writes a trained model's embeddings and class maps for the first images of its test set.

::

    python -m benchmarks.write_embeddings configs/recurrent-embedding_digits.py CHECKPOINT \
        work_dirs/benchmarks/embeddings/digits.pt
    python -m benchmarks.write_embeddings CONFIG CHECKPOINT OUT.pt --images 50 --cfg-options KEY=VALUE

``python -m benchmarks.grouping`` then groups whatever lies in work_dirs/benchmarks/embeddings.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from torch.utils.data import Dataset

from mmseg_instancenet.apis import init_model
from mmseg_instancenet.models import EmbeddingSegmentor

from .embedding_files import ImageEmbeddings, TrainedEmbeddings, save_embeddings


def run_network(model: EmbeddingSegmentor, dataset: Dataset, index: int) -> ImageEmbeddings:
    """Embeddings and predicted classes of one image of a test set, on the CPU."""
    packed = dataset[index]
    batch = model.data_preprocessor({'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}, False)
    sample = batch['data_samples'][0]
    with torch.no_grad():
        ((network_pass,),) = views = model.views(batch['inputs'], batch['data_samples'])
        class_HW, _ = model.classify(sample, views, 'predicted')
    embeddings_Dhw, class_map_hw = network_pass.on_image(class_HW)
    return ImageEmbeddings(embeddings_Dhw.cpu(), class_map_hw.cpu())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=Path, help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', type=Path, help='file to write, .pt')
    parser.add_argument('--images', type=int, default=20, help='how many, from the first')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help="settings in place of the config's")
    args = parser.parse_args(arguments)
    config = Config.fromfile(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    # Windows would give several passes, whose embeddings cannot be compared.
    config.model.test_cfg = dict(config.model.get('test_cfg') or {}, mode='whole')
    model = init_model(config, args.checkpoint, device='cuda:0' if torch.cuda.is_available() else 'cpu')
    init_default_scope('mmseg')
    dataset = DATASETS.build(config.test_dataloader.dataset)
    images = [run_network(model, dataset, index) for index in range(min(args.images, len(dataset)))]
    grouper = ConfigDict(config.model.grouper).to_dict()
    save_embeddings(TrainedEmbeddings(args.config.stem, grouper, images), args.out)
    print(f'{len(images)} images of {args.config.stem} in {args.out}')


if __name__ == '__main__':
    main()
