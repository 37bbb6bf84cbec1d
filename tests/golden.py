"""Records what every config computes, and compares two records: proof that a change of the code changes no result.

::

    python tests/golden.py record work_dirs/golden/after.pt
    python tests/golden.py compare work_dirs/golden/before.pt work_dirs/golden/after.pt
    python tests/golden.py compare BEFORE AFTER --loss-tolerance 1e-5 --label-agreement 0.9998
    python tests/golden.py record AFTER --only digits       # those whose names contain this: seconds instead of minutes

A record holds, for each config at a small width with seed 0 on the CPU: the losses and the length of the gradient of one
training iteration, and for a few images the label map, boxes, classes and scores, with predicted and with true classes, and all
metrics. Records are compared on one machine, with one torch: others round differently. For the record of another commit,
check it out with ``git worktree add`` and run this file with PYTHONPATH set to that folder. Needs the real data
(INSTANCENET_TEST_DATA, or ../shared/data beside the repository).
"""

import argparse
import copy
import io
import json
import os
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmseg.registry import DATASETS, MODELS
from mmseg_configs import builds_on_mmsegs
from sklearn.metrics import adjusted_rand_score

from mmseg_instancenet.apis.analysis_run import images_of
from mmseg_instancenet.datasets.digits import write_digits
from mmseg_instancenet.datasets.voc import convert, find_sbd, find_voc

ROOT = Path(__file__).resolve().parents[1]
IMAGES = 3

SMALL_RESNET = {
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.backbone.init_cfg': None,
    'model.decode_head.channels': 32,
    'model.decode_head.in_channels': 256,
    'model.decode_head.c1_in_channels': 32,
    'model.decode_head.c1_channels': 16,
}
SMALL_UNET = {
    'model.backbone.base_channels': 4,
    'model.decode_head.in_channels': 32,
    'model.decode_head.channels': 8,
    'model.decode_head.c1_in_channels': 4,
    'model.decode_head.c1_channels': 4,
}
SMALL_PLAIN_UNET = {
    'model.backbone.base_channels': 4,
    'model.decode_head.in_channels': 4,
    'model.decode_head.channels': 8,
}
SMALL_TIMM = {'model.backbone.checkpoint_path': ''}  # random weights
SMALL_BOUNDARY = {
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.backbone.init_cfg': None,
    'model.decode_head.in_channels': (32, 64, 128, 256),
}
SLIDE = {'model.test_cfg.mode': 'slide', 'model.test_cfg.crop_size': (48, 48), 'model.test_cfg.stride': (24, 24)}
# Ways through the code that no config takes: name, config, options, with flips at test time.
VARIANTS = (
    ('digits in windows', 'instancenet_digits', SLIDE, False),
    ('digits with flips', 'instancenet_digits', {}, True),
    ('digits in windows with flips', 'recurrent-embedding_digits', SLIDE, True),
    ('digits by cosine', 'instancenet_digits', {'model.grouper.distance': 'cosine', 'model.grouper.threshold': 0.2}, False),
    ('digits, mean shift a class', 'recurrent-embedding_digits', {'model.grouper.class_agnostic': False}, False),
    ('digits, limited', 'instancenet_digits_per-class', {'model.grouper.max_instances': 4}, False),
)  # fmt: skip


def small(config: Config, folder: Path) -> Config:
    """The config at a small width, on the data under ``folder``."""
    backbone, dataset = config.model.backbone.type, images_of(config.train_dataloader.dataset).type
    of_others = SMALL_RESNET if 'ResNet' in backbone else {}
    widths = {'UNet': SMALL_UNET, 'TIMMBackbone': SMALL_TIMM}.get(backbone, of_others)
    if backbone == 'UNet' and config.model.decode_head.type == 'EmbeddingFCNHead':
        widths = SMALL_PLAIN_UNET
    widths = SMALL_BOUNDARY if config.model.type == 'BoundarySegmentor' else widths
    config.merge_from_dict(copy.deepcopy(widths))
    if dataset == 'BSDSDataset':
        config.test_evaluator = dict(type='BoundaryMetric', thresholds=5)
    for images in (images_of(loader.dataset) for loader in (config.train_dataloader, config.test_dataloader)):
        images.data_root = str(folder)
        images.indices = IMAGES
        if dataset == 'BSDSDataset':
            images.splits = ['val']
        elif dataset == 'VOCInstanceDataset':
            images.ann_file = 'voc.json'
        elif dataset == 'CocoInstanceDataset' and folder.name == 'coco_mini':
            images.ann_file = 'val.json'
            images.data_prefix = dict(img='images/')
        for step in images.pipeline:
            if step['type'] == 'ResizeLongerSide':
                step['length'] = 161
            elif step['type'].endswith('RandomResize'):
                step['scale'] = (320, 320)
            elif step['type'] == 'mmdet.RandomCrop':
                step['crop_size'] = (160, 160)
    return config


def data_folders(data: Path, folder: Path) -> dict[str, Path]:
    """The folder with the files of each type of data set; VOC's and the digits' are written to ``folder``."""
    write_digits(folder / 'digits', num_train=IMAGES, num_val=IMAGES)
    voc = folder / 'voc'
    voc.mkdir()
    samples = data / 'voc_samples'
    found = {**find_sbd(samples / 'sbd_mat'), **find_voc(samples / 'voc_layout')}
    (voc / 'voc.json').write_text(json.dumps(convert(found.values(), voc)[0]))
    return {
        'DigitsDataset': folder / 'digits',
        'VOCInstanceDataset': voc,
        'BSDSDataset': data / 'bsds500',
        'CocoInstanceDataset': data / 'coco_mini',
        'dsb2018': data / 'dsb2018',
        'penn-fudan': data / 'penn_fudan',
    }


def one_iteration(model: torch.nn.Module, config: Config) -> dict:
    dataset = DATASETS.build(config.train_dataloader.dataset)
    set_random_seed(0)
    batch = pseudo_collate([dataset[index] for index in range(min(2, len(dataset)))])
    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    total, _ = model.parse_losses(losses)
    model.zero_grad()
    total.backward()
    lengths = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    values = {name: float(value if torch.is_tensor(value) else sum(value)) for name, value in losses.items()}
    return {**values, 'length of the gradient': float(torch.stack(lengths).norm())}


def test_images(model: torch.nn.Module, config: Config, with_flips: bool) -> dict:
    dataset_config = copy.deepcopy(config.test_dataloader.dataset)
    if with_flips:
        dataset_config.pipeline = config.tta_pipeline
        model = MODELS.build(ConfigDict(config.tta_model, module=model))
    dataset = DATASETS.build(dataset_config)
    evaluator = Evaluator(config.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    set_random_seed(0)
    images = []
    for index in range(len(dataset)):
        with torch.no_grad():
            (sample,) = model.eval().test_step(pseudo_collate([dataset[index]]))
        fields = {name: sample.get(name).data for name in ('pred_boundary', 'pred_instance_map') if name in sample}
        if 'pred_instances' in sample:
            instances = sample.pred_instances
            fields.update({name: instances[name].clone() for name in ('bboxes', 'scores', 'labels')})
            fields['masks'] = [mask['counts'] for mask in instances.masks]
            fields['classes'] = sample.pred_sem_seg.data
        images.append(fields)
        evaluator.process(data_samples=[sample], data_batch={})
    with redirect_stdout(io.StringIO()):
        metrics = evaluator.evaluate(len(dataset))
    numbers = {name: float(value) for name, value in metrics.items() if not isinstance(value, dict)}  # not whole curves
    return {'images': images, 'metrics': numbers}


def record_config(name: str, folders: dict[str, Path], options: dict, with_flips: bool) -> dict:
    config = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    config.merge_from_dict(copy.deepcopy(options))
    of_name = [part for part in ('dsb2018', 'penn-fudan') if part in name]
    kind = of_name[0] if of_name else images_of(config.train_dataloader.dataset).type
    config = small(config, folders[kind])
    set_random_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    result = {'losses': one_iteration(model, config)}
    result['predicted'] = test_images(model, config, with_flips)
    if config.model.type != 'BoundarySegmentor':
        model.test_cfg['classes'] = 'ground_truth'
        result['ground_truth'] = test_images(model, config, with_flips)
    return result


def record(path: str, only: str) -> None:
    data = Path(os.environ.get('INSTANCENET_TEST_DATA', ROOT.parent / 'shared' / 'data'))
    init_default_scope('mmseg')
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    results = {}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        folders = data_folders(data, Path(folder))
        files = sorted((ROOT / 'configs').glob('*.py'))
        # Those on networks of mmseg's are tried by tests/zoo.py; their widths are not set here.
        configs = [(file.stem, file.stem, {}, False) for file in files if not builds_on_mmsegs(file)]
        for title, name, options, with_flips in (*configs, *VARIANTS):
            if only in title:
                results[title] = record_config(name, folders, options, with_flips)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(results, path)
    for title, result in results.items():
        for classes in ('predicted', 'ground_truth'):
            if classes in result:
                counts = [len(image.get('scores', ())) for image in result[classes]['images']]
                print(f'{title}, {classes}: {counts} instances; {result["losses"]}')


def differences(before: dict, after: dict, loss_tolerance: float, label_agreement: float) -> list[str]:
    """A line for each value that differs by more than it may."""
    lines = []
    for title in sorted({*before} & {*after}):
        first, second = before[title], after[title]
        for name in sorted({*first['losses'], *second['losses']}):
            values = first['losses'].get(name, np.nan), second['losses'].get(name, np.nan)
            if not abs(values[0] - values[1]) <= loss_tolerance * abs(values[0]):
                lines.append(f'{title}: {name} {values[0]} became {values[1]}')
        for classes in ('predicted', 'ground_truth'):
            if classes in first:
                changes = _of_images(first[classes], second[classes], label_agreement)
                lines += [f'{title}, {classes}: {line}' for line in changes]
    return lines


def _of_images(first: dict, second: dict, label_agreement: float) -> list[str]:
    lines = []
    for index, (one, other) in enumerate(zip(first['images'], second['images'], strict=True)):
        if 'pred_instance_map' in one and label_agreement < 1:
            agreement = adjusted_rand_score(one['pred_instance_map'].flatten(), other['pred_instance_map'].flatten())
            if agreement < label_agreement:
                lines.append(f'image {index}: adjusted Rand index {agreement:.5f} of the instance maps')
            continue
        for name in one:
            same = torch.equal(one[name], other[name]) if torch.is_tensor(one[name]) else one[name] == other[name]
            if not same:
                lines.append(f'image {index}: {name} differs')
    if label_agreement == 1 and first['metrics'] != second['metrics']:
        changed = {
            name: (value, second['metrics'].get(name))
            for name, value in first['metrics'].items()
            if value != second['metrics'].get(name) and not (np.isnan(value) and np.isnan(second['metrics'].get(name)))
        }
        if changed or first['metrics'].keys() != second['metrics'].keys():
            lines.append(f'metrics differ: {changed}')
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    recording = commands.add_parser('record')
    recording.add_argument('path')
    recording.add_argument('--only', default='', help='part of the names of the configs and variants to record')
    comparing = commands.add_parser('compare')
    comparing.add_argument('before')
    comparing.add_argument('after')
    comparing.add_argument('--loss-tolerance', type=float, default=0.0, help='relative; 0 for equal to the last bit')
    comparing.add_argument('--label-agreement', type=float, default=1.0, help='lowest adjusted Rand index; 1 for equal')
    args = parser.parse_args()
    if args.command == 'record':
        record(args.path, args.only)
        return
    records = [torch.load(path, weights_only=True) for path in (args.before, args.after)]
    lines = differences(*records, args.loss_tolerance, args.label_agreement)
    print('\n'.join(lines) or f'no difference in {len({*records[0]} & {*records[1]})} configs and variants')
    raise SystemExit(bool(lines))


if __name__ == '__main__':
    main()
