"""Every combination of backbone, neck and heads in the installed mmseg's zoo as an instance segmenter, by the four-line form.

From the root of the repository, all of them or those of some families::

    python tests/zoo.py
    python tests/zoo.py pspnet mask2former

Of each combination the smallest config is built with random weights. Tried are the losses and a finite gradient at every
parameter, on a batch of two images of different sizes, and a prediction with instances. A line for each, and exit status 1 if
one fails that is not among ``EXCEPTIONS``.
"""

import argparse
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import mmseg
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS

import mmseg_instancenet  # noqa: F401  (registers its components)

ZOO = Path(mmseg.__file__).parent / '.mim' / 'configs'

EXCEPTIONS = {
    'psanet': 'its head needs the operator psamask, which mmcv has compiled only',
    'san': 'another segmentor: its classes are texts',
    'vpd': 'it estimates depth and has no classes',
    'convnext': 'its backbone is in mmpretrain, which is not installed',
    'poolformer': 'its backbone is in mmpretrain, which is not installed',
}
"""Families that are not tried, and why."""

_SMALL = ('r18', 'tiny', '-t_', '_t_', 'mit-b0', 'b0', 'small', '-s_', 'ti16', '-b_', 'r50', 'base')
"""Parts of file names of small networks, the smallest first."""

_SIDES = {'mobilenet_v3': 400}
"""Input sizes of networks that do not take 128 pixels: LRASPP pools 49 x 49 cells."""


_ONE_SIZE = {
    'mobilenet_v3': 'its size is fixed, see above',
    'cgnet': "mmseg's CrossEntropyLoss with class_weight stops at ignored pixels, and padded ones are ignored",
    'pidnet': 'the same',
}
"""Families that are tried with two images of one size, and why."""


class Combination(NamedTuple):
    """A family and the types of its backbone, neck, decode heads and auxiliary heads."""

    family: str
    backbone: str
    neck: str
    heads: str
    auxiliary: str


def combinations(families: Sequence[str] = ()) -> dict[Combination, Path]:
    """The smallest config of every combination; of all families unless some are named."""
    found: dict[Combination, Path] = {}
    for path in sorted(ZOO.glob('*/*.py'), key=_size_by_name):
        family = path.parent.name
        if family in ('_base_', 'dsdl') or (families and family not in families):
            continue  # dsdl: the same models on other data
        model = Config.fromfile(path, import_custom_modules=False).model
        combination = Combination(family, *(_types(model.get(part)) for part in _PARTS))
        found.setdefault(combination, path)
    return dict(sorted(found.items()))


_PARTS = ('backbone', 'neck', 'decode_head', 'auxiliary_head')


def _size_by_name(path: Path) -> tuple[int, str]:
    return next((rank for rank, part in enumerate(_SMALL) if part in path.name), len(_SMALL)), path.name


def _types(config: dict | Sequence[dict] | None) -> str:
    if not config:
        return '-'
    return '+'.join(one['type'] for one in ([config] if isinstance(config, dict) else config))


def derive(path: Path) -> Config:
    """The config that a user writes, with random weights and the input of this test."""
    lines = f"""
_base_ = [{str(path)!r}]
custom_imports = dict(imports=['mmseg_instancenet'], allow_failed_imports=False)
model = dict(type='EmbeddingSegmentor', embedding=dict(dims=4, loss=dict(type='DiscriminativeLoss')),
             grouper=dict(type='CenterGrouping'))
"""
    return Config.fromstring(lines, '.py')


def without_weights(config: dict) -> None:
    """Removes, in place, the settings that load pretrained weights."""
    for key in [key for key in ('pretrained', 'checkpoint') if key in config]:
        config[key] = None
    if isinstance(config.get('init_cfg'), dict) and config['init_cfg'].get('type') == 'Pretrained':
        config['init_cfg'] = None
    for value in list(config.values()):
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, dict):
                without_weights(one)


def build(path: Path, side: int) -> torch.nn.Module:
    """The network of a config as an instance segmenter, on the CPU."""
    config = derive(path)
    without_weights(config.model)
    backbone = config.model.backbone
    if 'img_size' in backbone and backbone.type in ('BEiT', 'MAE'):
        backbone.img_size = (side, side)  # their position codes have the size of the input
    if config.model.data_preprocessor.get('size') is not None:
        config.model.data_preprocessor.size = (side, side)  # to which it pads in training
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    return revert_sync_batchnorm(model)


def batch(model: torch.nn.Module, side: int, one_size: bool) -> dict:
    """Two images of random pixels, of different sizes unless ``one_size``, each with three objects."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(side, side), (side, side)] if one_size else [(side * 3 // 4, side), (side, side * 3 // 4)]
    num_classes = model.num_classes
    samples, images = [], []
    for height, width in sizes:
        ids, classes = torch.zeros(2, 1, height, width, dtype=torch.long)
        for number, (top, left) in enumerate([(4, 4), (height // 2, 8), (8, width // 2)], start=1):
            part = (0, slice(top, top + height // 3), slice(left, left + width // 3))
            ids[part], classes[part] = number, 1 + number % (num_classes - 1)
        sample = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width)))
        sample.gt_sem_seg, sample.gt_instance_map = PixelData(data=classes), PixelData(data=ids)
        if any('PID' in type(head).__name__ for head in model.heads):
            sample.gt_edge_map = PixelData(data=(ids > 0).long())
        samples.append(sample)
        images.append(torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8))
    return {'inputs': images, 'data_samples': samples}


def try_one(path: Path) -> dict[str, torch.Tensor]:
    """Checks losses, gradients and instances; returns the losses. An exception describes the fault."""
    side, one_size = _SIDES.get(path.parent.name, 128), path.parent.name in _ONE_SIZE
    model = build(path, side).train()
    data = model.data_preprocessor(batch(model, side, one_size), training=True)
    losses = model(**data, mode='loss')
    total, logs = model.parse_losses(losses)
    assert torch.isfinite(total), {name: float(value) for name, value in logs.items()}
    assert float(logs['decode.loss_embedding']) > 0
    total.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (parameter.grad is None or not torch.isfinite(parameter.grad).all()):
            raise AssertionError(f'{name} has {"no" if parameter.grad is None else "an infinite"} gradient')
    model.eval()
    with torch.no_grad():
        for classes in ('predicted', 'ground_truth'):
            model.test_cfg['classes'] = classes
            results = model.test_step(batch(model, side, one_size))
    for result, sample in zip(results, batch(model, side, one_size)['data_samples'], strict=True):
        assert len(result.pred_instances) > 0
        assert torch.equal(result.pred_sem_seg.data, sample.gt_sem_seg.data)
        assert result.pred_instance_map.data.shape == sample.gt_instance_map.data.shape
    return losses


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('families', nargs='*', help="folders of mmseg's configs; all unless given")
    families = parser.parse_args(arguments).families
    warnings.simplefilter('ignore')
    init_default_scope('mmseg')
    MMLogger.get_instance('zoo', log_level='ERROR')  # else the initialisation of every parameter is a line
    failed, began = 0, time.perf_counter()
    for combination, path, outcome in outcomes(families):
        failed += outcome.startswith('FAILED')
        print(f'{outcome:<60} {" ".join(combination)} {path.name}', flush=True)
    print(f'{failed} failed, {time.perf_counter() - began:.0f} s')
    return int(failed > 0)


def outcomes(families: Sequence[str]) -> Iterator[tuple[Combination, Path, str]]:
    """Every combination and its outcome."""
    for combination, path in combinations(families).items():
        if combination.family in EXCEPTIONS:
            yield combination, path, f'left out: {EXCEPTIONS[combination.family]}'
            continue
        began = time.perf_counter()
        try:
            try_one(path)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = str(error).replace('\n', ' ')[:300]
            yield combination, path, f'FAILED {type(error).__name__}: {message} ({where.filename}:{where.lineno})'
        else:
            yield combination, path, f'ok {time.perf_counter() - began:.1f} s'


if __name__ == '__main__':
    sys.exit(main())
