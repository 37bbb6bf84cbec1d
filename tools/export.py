"""Writes a model to files that need neither PyTorch nor OpenMMLab: model.onnx, and the programs that find objects with it.

::

    python tools/export.py nuclei --out exported/model.onnx                     # a model of the package
    python tools/export.py work_dirs/my_run --out exported/model.onnx           # the best checkpoint of a training
    python tools/export.py CONFIG CHECKPOINT --out exported/model.onnx --check  # compares on the images of test_dataloader
    python exported/predict.py IMAGES --out results                             # anywhere with numpy, onnxruntime and Pillow

It needs pip install -e '.[export]' and torch 2.6 or newer. Settings that tools/tune.py has stored beside the checkpoint are used.
docs/export.md names the models that can be exported, and what the files do.

``--check`` runs the model and the files on the images of ``test_dataloader``, those of ``--images`` at most, and prints the
differences, the metrics of both and the times. With OpenVINO installed it also prints the time of the network there.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData, PixelData
from mmseg.registry import DATASETS

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.export import Instances, compare_instances, write_exported
from mmseg_instancenet.models import EmbeddingSegmentor
from mmseg_instancenet.structures import ClassMap, RunLengthMasks, labels_to_rle

MAIN_METRICS = ('coco/segm_mAP_all', 'coco/segm_mAP_50', 'counting/accuracy_50')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='name of a shipped model, folder of a training, or config file')
    parser.add_argument(
        'checkpoint', nargs='?', help="in place of the shipped weights or of the training's best checkpoint"
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        help='ONNX file; predict.py, grouping.py and mean_shift.py are written beside it',
    )
    parser.add_argument('--check', action='store_true', help='compare the files with the model')
    parser.add_argument('--images', type=int, help='so many images at most for --check')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help="settings in place of the config's: key=value"
    )
    args = parser.parse_args()
    if args.out.suffix != '.onnx':
        parser.error(f'--out: expected a file that ends in .onnx, got {args.out}')
    if args.images is not None and args.images < 1:
        parser.error(f'--images: expected at least 1, got {args.images}')
    return args


def main() -> None:
    args = parse_args()
    try:
        inferencer = InstanceInferencer(args.model, args.checkpoint, 'cpu', args.cfg_options)
        program = write_exported(inferencer.model, inferencer.cfg, args.out)
    except (FileNotFoundError, ImportError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(f'{args.out} ({args.out.stat().st_size / 1e6:.1f} MB) written; {program} finds objects with it')
    if args.check:
        check(inferencer.model, inferencer.cfg, args.out, program, args.images)


def check(model: EmbeddingSegmentor, config: Config, onnx_file: Path, program_file: Path, count: int | None) -> None:
    """Prints the differences between a model and its files, and the times of both."""
    dataset = DATASETS.build(config.test_dataloader.dataset)
    program = load_program(program_file)
    exported = program.Model(onnx_file, threads=torch.get_num_threads())
    openvino = openvino_network(onnx_file)
    evaluators = {name: Evaluator(config.test_evaluator) for name in ('torch', 'exported')}
    for evaluator in evaluators.values():
        evaluator.dataset_meta = dataset.metainfo
    differences, worst = [], (1.0, '')
    seconds = defaultdict(list)
    indices = np.linspace(0, len(dataset) - 1, min(count or len(dataset), len(dataset))).round().astype(int).tolist()
    for index in indices:
        batch = pseudo_collate([dataset[index]])
        path = batch['data_samples'][0].img_path
        with Stopwatch(seconds['torch, network']), torch.inference_mode():
            data = model.data_preprocessor(batch)
            views = model.views(**data)
        with Stopwatch(seconds['torch, objects']), torch.inference_mode():
            sample = model.assemble(data['data_samples'][0], views)
        with Stopwatch(seconds['predict.py, reading']):
            inputs = program.inputs(exported.settings, path)
        with Stopwatch(seconds['predict.py, network']):
            outputs = exported.session.run(None, inputs)
        with Stopwatch(seconds['predict.py, objects']):
            labels_HW, objects = program.find_objects(exported.settings, *outputs)
        if openvino is not None:
            with Stopwatch(seconds['OpenVINO, network']):
                openvino(inputs)
        names, found = exported.settings['classes'], sample.pred_instances
        difference = compare_instances(
            Instances(
                sample.pred_instance_map.data[0].numpy(),
                [names[label] for label in found.labels],
                found.scores.tolist(),
            ),
            Instances(labels_HW, [row['class'] for row in objects], [row['score'] for row in objects]),
        )
        differences.append(difference)
        worst = min(worst, (difference.lowest_iou, path))
        samples = {'torch': sample, 'exported': with_objects(sample, labels_HW, objects, outputs[0], names)}
        for name, evaluator in evaluators.items():
            evaluator.process([samples[name]])
    total, same, _, other_classes, _ = map(sum, zip(*differences, strict=True))
    print(f'\n{len(indices)} images, {total} instances')
    print(f'  the same (IoU above .99, one class): {same} = {same / max(total, 1):.2%}')
    print(f'  lowest IoU: {worst[0]:.4f} {worst[1]}')
    print(f'  other classes: {other_classes}; largest difference of a score: {max(d.score for d in differences):.2g}')
    metrics = {name: evaluator.evaluate(len(indices)) for name, evaluator in evaluators.items()}
    print_metrics(metrics['torch'], metrics['exported'])
    print(f'\nmilliseconds an image, medians of {len(indices)}, {torch.get_num_threads()} threads')
    # The class map at the image's size is part of the network in model.onnx, and of the objects in torch.
    for name in ('torch', 'predict.py'):
        both = zip(seconds[f'{name}, network'], seconds[f'{name}, objects'], strict=True)
        seconds[f'{name}, both'] = [sum(pair) for pair in both]
    for name, values in sorted(seconds.items()):
        print(f'  {name:<22}{1e3 * statistics.median(values):>9.1f}')


def print_metrics(first: dict[str, float], second: dict[str, float]) -> None:
    """Prints the metrics that differ, and the main ones."""
    print(f'\n{"metric":<36}{"torch":>10}{"exported":>10}{"difference":>12}')
    equal = 0
    for name, value in first.items():
        other = second.get(name, np.nan)
        if name in MAIN_METRICS or not np.isclose(value, other, rtol=0, atol=5e-5, equal_nan=True):
            print(f'{name:<36}{value:>10.4f}{other:>10.4f}{other - value:>12.4f}')
        else:
            equal += 1
    print(f'{equal} other metrics are equal to four digits')


class Stopwatch:
    """Appends the seconds that a block takes to a list."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def load_program(path: Path) -> ModuleType:
    """Imports predict.py from its file, and the programs beside it."""
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location('exported_predict', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def openvino_network(onnx_file: Path):
    """The network compiled by OpenVINO, on as many threads as torch, in float32; ``None`` where OpenVINO is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    settings = {'INFERENCE_NUM_THREADS': torch.get_num_threads(), 'INFERENCE_PRECISION_HINT': 'f32'}
    return openvino.Core().compile_model(onnx_file, 'CPU', settings)


def with_objects(
    sample: DetDataSample, labels_HW: np.ndarray, objects: list[dict], class_HW: np.ndarray, names: list[str]
) -> DetDataSample:
    """A copy of a prediction with the objects of predict.py in place of the model's."""
    copied = DetDataSample(metainfo=sample.metainfo)
    for name in ('gt_sem_seg', 'gt_instance_map', 'gt_instances', 'ignored_instances'):
        if name in sample:
            copied.set_field(sample.get(name), name)
    copied.pred_sem_seg = ClassMap(metainfo=sample.pred_sem_seg.metainfo, data=torch.from_numpy(class_HW)[None].long())
    copied.set_field(PixelData(data=torch.from_numpy(labels_HW)[None].long()), 'pred_instance_map', dtype=PixelData)
    boxes = [[row[side] for side in ('x1', 'y1', 'x2', 'y2')] for row in objects]
    copied.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor([row['score'] for row in objects], dtype=torch.float32),
        labels=torch.tensor([names.index(row['class']) for row in objects], dtype=torch.long),
        masks=RunLengthMasks(labels_to_rle(labels_HW, len(objects)), labels_HW.shape),
    )
    return copied


if __name__ == '__main__':
    main()
