"""Copies a trained model into the package, where ``init_model('NAME')`` finds it: config, float16 weights and metafile.

::

    python tools/ship_model.py CONFIG CHECKPOINT nuclei --results RESULTS.json --data 'Data Science Bowl 2018' \\
        --licence CC0-1.0 --command 'python tools/train.py CONFIG' --time '16 minutes on 2 cores of a Xeon' --check IMAGE
    python tools/ship_model.py CONFIG CHECKPOINT NAME --results counting/SBD=0.9 --out FOLDER ...   # not into the package

``RESULTS.json`` is what ``tools/test.py`` leaves in its work dir (``DATE/DATE.json``). ``--check`` compares the instances
that the shipped model finds in images with those of the float32 weights. Settings that tools/tune.py has stored beside the
checkpoint are written into the shipped config.
"""

import argparse
import hashlib
import inspect
import io
import json
import os.path as osp
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from mmengine.config import Config
from mmengine.runner import Runner
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmseg_instancenet.apis import init_model, segment_image, shipped
from mmseg_instancenet.apis.model_files import read_config
from mmseg_instancenet.engine import load_weights_only

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 5_000_000
# The settings of a config that our tools read, except those of a single run.
KEPT = {*inspect.signature(Runner.__init__).parameters, 'custom_imports', 'tta_model', 'tta_pipeline', 'tune_dataloader'} - {
    'work_dir', 'load_from', 'resume', 'launcher', 'experiment_name', 'cfg'
}  # fmt: skip


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of the training')
    parser.add_argument('checkpoint', help='checkpoint file of the training')
    parser.add_argument('name', help='name of the shipped model')
    parser.add_argument(
        '--results', nargs='+', required=True, help='JSON file, or KEY=VALUE; of the test data of the config'
    )
    parser.add_argument('--data', required=True, help='name of the training data')
    parser.add_argument('--licence', required=True, help='licence of the training data, as SPDX writes it')
    parser.add_argument('--command', required=True, help='the command that trained the model')
    parser.add_argument('--time', required=True, help='how long the training took, and on what machine')
    parser.add_argument(
        '--collection', default='InstanceNet', help='collection of configs/metafile.yml; InstanceNet unless given'
    )
    parser.add_argument('--out', type=Path, default=shipped.FOLDER, help='folder; that of the package unless given')
    parser.add_argument(
        '--check', nargs='+', default=[], metavar='IMAGE', help='images to compare float16 with float32 on'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.name.isidentifier():
        raise SystemExit(f'expected a name of letters, digits and _, got {args.name!r}')
    try:
        config = read_config(args.config, args.checkpoint)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    shipped_config = without_machine(config)
    metrics = read_results(args.results)
    checkpoint = load_weights_only(args.checkpoint, map_location='cpu')
    weights = weights_of(checkpoint)
    model = init_model(config, device='cpu')
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise SystemExit(f'expected the weights of {args.config}, got others in {args.checkpoint}: {error}') from error
    content = write_weights(to_half(weights), dataset_meta(checkpoint, config))
    parameters = sum(values.numel() for values in model.parameters())
    meta = metafile(args, shipped_config, metrics, checkpoint, content, parameters)

    args.out.mkdir(parents=True, exist_ok=True)
    files = {ending: args.out / f'{args.name}.{ending}' for ending in ('py', 'pth', 'yml')}
    files['pth'].write_bytes(content)
    write_config(shipped_config, files['py'], args.name)
    files['yml'].write_text(yaml.safe_dump(meta, sort_keys=False, allow_unicode=True, width=120))
    for path in files.values():
        print(f'{path}: {path.stat().st_size} bytes')

    shipped.FOLDER = args.out  # init_model looks there
    half = init_model(args.name, device='cpu')
    for image in args.check:
        first, second = (segment_image(m, image).pred_instance_map.data[0].cpu().numpy() for m in (model, half))
        share = share_of_equal_pixels(first, second)
        print(
            f'{image}: {first.max()} objects in float32, {second.max()} shipped, {100 * share:.3f} % of the pixels equal'
        )


def read_results(arguments: list[str]) -> dict[str, float]:
    """Reads metrics by name from JSON files and KEY=VALUE; times are left out.

    Raises:
        SystemExit: if an argument is neither, or a value is no number.
    """
    metrics = {}
    for argument in arguments:
        key, equals, value = argument.partition('=')
        try:
            found = json.loads(Path(argument).read_text()) if osp.isfile(argument) else {key: float(value)}
            metrics.update({name: round(float(value), 4) for name, value in found.items()})
        except (AttributeError, TypeError, ValueError) as error:
            raise SystemExit(f'--results: expected KEY=NUMBER or a JSON file of such pairs, got {argument}') from error
    return {name: value for name, value in metrics.items() if name not in ('time', 'data_time')}


def weights_of(checkpoint: dict) -> dict[str, Tensor]:
    """The weights of a checkpoint; after a training with EMAHook the averaged weights, which the hook saves in
    ``state_dict``."""
    if 'ema_state_dict' in checkpoint:
        print('weights: averaged by EMAHook')
    else:
        print('weights: as trained; no EMAHook was there')
    return checkpoint.get('state_dict', checkpoint)


def to_half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts floating-point tensors to float16; integers are unchanged.

    Raises:
        SystemExit: if a value is not finite, or too large for float16.
    """
    halves = {}
    for name, values in weights.items():
        if not values.isfinite().all():
            raise SystemExit(f'expected finite weights, got NaN or infinity in {name}: take an earlier checkpoint')
        half = values.half() if values.is_floating_point() else values
        if not half.isfinite().all():
            largest = values.abs().max().item()
            raise SystemExit(f'expected weights up to 65504, the largest of float16, got {largest:g} in {name}')
        halves[name] = half.clone()  # a view would be saved with its whole base tensor
    return halves


def dataset_meta(checkpoint: dict, config: Config) -> dict:
    """Names and colours of the classes, from a checkpoint or a config."""
    meta = checkpoint.get('meta', {}).get('dataset_meta') or config.test_dataloader.dataset.get('metainfo', {})
    return {key: list(meta[key]) for key in ('classes', 'palette') if key in meta}


def write_weights(weights: dict[str, Tensor], meta: dict) -> bytes:
    """Serialises weights and meta information to the content of a checkpoint file.

    Raises:
        SystemExit: if it is too large for the package.
    """
    buffer = io.BytesIO()
    torch.save(dict(meta=dict(dataset_meta=meta), state_dict=weights), buffer)
    content = buffer.getvalue()
    torch.load(io.BytesIO(content), weights_only=True)  # raises if anything but weights came in
    if len(content) > MAX_BYTES:
        raise SystemExit(f'expected at most {MAX_BYTES} bytes, got {len(content)}: ship a narrower network')
    return content


def without_machine(config: Config) -> Config:
    """The config without settings of a single run or machine, and without variables that are never read.

    A data set with an absolute path has one below ``data/`` instead.

    Raises:
        SystemExit: if a path of this machine is left.
    """
    tree = {key: value for key, value in config.to_dict().items() if key in KEPT}
    roots = {text.rstrip('/') for path, text in strings(tree) if path[-1:] == ('data_root',) and is_of_machine(text)}

    def moved(value):
        if isinstance(value, dict):
            return {key: moved(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(moved(inner) for inner in value)
        for root in sorted(roots, key=len, reverse=True):
            if isinstance(value, str) and f'{value}/'.startswith(f'{root}/'):
                return f'data/{osp.basename(root)}{value[len(root) :]}'
        return value

    tree = moved(tree)
    left = ['.'.join(map(str, path)) + f'={text}' for path, text in strings(tree) if is_of_machine(text)]
    if left:
        raise SystemExit(f'expected a config without paths of this machine, got {", ".join(left)}: make them relative')
    return Config(tree)


def strings(value, path: tuple = ()) -> Iterator[tuple[tuple, str]]:
    """Yields all strings of a nested dictionary, each with the keys that lead to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, (dict, list, tuple)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from strings(inner, (*path, key))


def is_of_machine(text: str) -> bool:
    return osp.isabs(text) or text.startswith('~')


def write_config(config: Config, path: Path, name: str) -> None:
    path.write_text(
        f'"""The shipped model {name!r}, complete; written by tools/ship_model.py."""\n\n{config.pretty_text}'
    )
    style = ['--config', ROOT / 'pyproject.toml', '--quiet']
    if subprocess.run([sys.executable, '-m', 'ruff', 'format', *style, path], check=False).returncode:
        print(f'ruff did not format {path}: install it and run `ruff format {path}`')


def metafile(
    args: argparse.Namespace, config: Config, metrics: dict, checkpoint: dict, content: bytes, parameters: int
) -> dict:
    """Builds the entry of a model in ``configs/metafile.yml``, with the origin of the weights."""
    index = yaml.safe_load((ROOT / 'configs/metafile.yml').read_text())
    papers = {collection['Name']: collection['Paper'] for collection in index['Collections']}
    if args.collection not in papers:
        raise SystemExit(f'--collection: expected one of {sorted(papers)}, got {args.collection!r}')
    data = config.test_dataloader.dataset
    metadata = {
        'Training Data': args.data,
        'Training Data Licence': args.licence,
        'Training Command': args.command,
        'Training Seed': config.get('randomness', {}).get('seed', 'not fixed'),
        'Training Time': args.time,
        'Epochs': checkpoint.get('meta', {}).get('epoch', 'not recorded'),
        'Weights Averaged': 'ema_state_dict' in checkpoint,
        'Parameters': parameters,
        'File Size (bytes)': len(content),
        'SHA256': hashlib.sha256(content).hexdigest(),
    }
    model = {
        'Name': args.name,
        'In Collection': args.collection,
        'Paper': papers[args.collection],
        'Config': f'{args.name}.py',
        'Weights': f'{args.name}.pth',
        'Metadata': metadata,
        'Results': [
            {
                'Task': 'Instance Segmentation',
                'Dataset': f'{args.data}, {data.get("ann_file", "test")}',
                'Metrics': metrics,
            }
        ],
    }
    return {'Models': [model]}


def share_of_equal_pixels(first_HW: np.ndarray, second_HW: np.ndarray) -> float:
    """Share of the pixels on which two instance maps agree (0 = no instance), independent of the numbering of the
    instances.

    Each instance of the first map has at most one of the second as its partner, so that most pixels agree.
    """
    overlap = np.zeros((first_HW.max() + 1, second_HW.max() + 1), np.int64)
    np.add.at(overlap, (first_HW, second_HW), 1)
    partners = linear_sum_assignment(overlap[1:, 1:], maximize=True)
    return float((overlap[0, 0] + overlap[1:, 1:][partners].sum()) / first_HW.size)


if __name__ == '__main__':
    main()
