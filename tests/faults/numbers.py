"""Numbers at the edge: half precision, embeddings of any size, many, tiny and no instances, strange ids and image sizes.

Losses and groupers run on tensors. The rows of files train a small U-Net for some iterations from label images that are written
to a folder, and predict with its checkpoint; where an error is expected, the tools run as programs. Trainings in float16 and
bfloat16 on a GPU are not measured: there was none.
"""

import contextlib
import io
import math
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from label_folders import write
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from programs import run_program
from torch import Tensor

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.apis import init_model, segment_image
from mmseg_instancenet.datasets.digits import write_digits

from .rows import Row

REPOSITORY = Path(__file__).parents[2]
ALL = {'class_agnostic': True, 'background_is_instance': True}
MEAN_SHIFT = {'type': 'MeanShiftGrouping', 'class_agnostic': True}
LOSSES = {
    'DiscriminativeLoss': {'type': 'DiscriminativeLoss'},
    'DiscriminativeLoss, squared, L1': {'type': 'DiscriminativeLoss', 'squared': True, 'norm': 1, **ALL},
    'DiscriminativeLoss, near pairs': {'type': 'DiscriminativeLoss', 'push_distance': 4.0},
    'SphericalPairLoss': {'type': 'SphericalPairLoss'},
    'SphericalPairLoss, released': {'type': 'SphericalPairLoss', 'variant': 'released'},
    'SoftMaskLoss': {'type': 'SoftMaskLoss'},
    'RecurrentLoss, cosine': {'type': 'RecurrentLoss', 'loss': {'type': 'SphericalPairLoss'}, 'grouping': MEAN_SHIFT},
    'RecurrentLoss, norm': {
        'type': 'RecurrentLoss',
        'loss': {'type': 'DiscriminativeLoss'},
        'grouping': {**MEAN_SHIFT, 'kernel': 'norm', 'concentration': 1.0},
    },
}
CLASS_LOSSES = {
    'WeightedCrossEntropyLoss': {'type': 'WeightedCrossEntropyLoss', 'class_weight': [0.1, 1.0, 3.0]},
    'ClassDiceLoss': {'type': 'ClassDiceLoss'},
    'BalancedLogisticLoss': {'type': 'BalancedLogisticLoss'},
}
GROUPERS = {
    'CenterGrouping, fixed': {'type': 'CenterGrouping', 'mode': 'fixed', 'class_agnostic': True},
    'CenterGrouping, shift': {'type': 'CenterGrouping', 'class_agnostic': True},
    'CenterGrouping, cosine': {
        'type': 'CenterGrouping', 'distance': 'cosine', 'threshold': 0.02, 'class_agnostic': True,
    },
    'MeanShiftGrouping, cosine': MEAN_SHIFT,
    'MeanShiftGrouping, norm': {**MEAN_SHIFT, 'kernel': 'norm', 'concentration': 1.0},
    'SeedGrouping': {'type': 'SeedGrouping', 'class_agnostic': True},
}  # fmt: skip
OF_DIRECTIONS = ('CenterGrouping, cosine', 'MeanShiftGrouping, cosine')


def rows() -> list[Row]:
    init_default_scope('mmseg')
    warnings.simplefilter('ignore')
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return [
            *_half_precision(),
            *_sizes_of_embeddings(),
            *_instances(),
            *_files(Path(folder)),
            *_diverged(Path(folder)),
            _properties(),
        ]


def _count(fault: str, outcome: str, results: dict[str, bool]) -> Row:
    """A row of many cases; the outcome names those that were not as promised."""
    wrong = [name for name, kept in results.items() if not kept]
    return Row(
        fault, len(results), len(results) - len(wrong), outcome + (f'; not so: {", ".join(wrong)}' if wrong else '')
    )


# Tensors


def _maps(generator: torch.Generator, side: int = 16) -> tuple[Tensor, Tensor]:
    """Instance and class maps of two images: background, objects with gaps in their ids, ignored pixels."""
    ids = torch.tensor([0, 1, 4, 255, 300, 65535])[torch.randint(6, (2, side // 4, side // 4), generator=generator)]
    ids = ids.repeat_interleave(4, 1).repeat_interleave(4, 2)
    classes = torch.where(ids > 200, 2, (ids > 0).long())
    ids[0, 0], classes[0, 0], classes[1, :, 0] = -1, 255, 255
    return ids, classes


def _evaluate(name: str, x: Tensor, ids: Tensor, classes: Tensor, bfloat16: bool = False) -> tuple[Tensor, Tensor]:
    """Value and gradient; ``bfloat16``: the forward pass is under autocast, as MMEngine's is."""
    x = x.clone().requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=bfloat16):
        loss = MODELS.build(LOSSES[name])(x, ids, classes)['loss_embedding']
    loss.backward()
    return loss.detach(), x.grad


def _near(actual: Sequence[Tensor], exact: Sequence[Tensor], gradient: float = 2e-3) -> bool:
    """Whether value and gradient are those of float64, up to rounding."""
    value, slope = (one.double() for one in actual)
    finite = bool(torch.isfinite(value) and torch.isfinite(slope).all())
    near = abs(float(value - exact[0])) <= 2e-4 * abs(float(exact[0])) + 1e-6
    return finite and near and bool((slope - exact[1]).norm() <= gradient * exact[1].norm() + 1e-6)


def _half_precision() -> Iterator[Row]:
    results = {}
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        ids, classes = _maps(generator)
        x = torch.randn(2, 4, 16, 16, generator=generator).bfloat16()
        for name in LOSSES:
            expected = _evaluate(name, x.float(), ids, classes)
            value, gradient = _evaluate(name, x, ids, classes, bfloat16=True)
            same = [torch.equal(value, expected[0]), torch.equal(gradient, expected[1].bfloat16())]
            results[f'{name} {seed}'] = value.dtype == torch.float32 and all(same)
        for name, config in CLASS_LOSSES.items():
            loss = MODELS.build(config)
            scores, label = (x[:, :1], (ids > 0).long()) if 'Logistic' in name else (x[:, :3], classes)
            with torch.autocast('cpu', dtype=torch.bfloat16):
                value = loss(scores, label)
            results[f'{name} {seed}'] = value.dtype == torch.float32 and torch.equal(value, loss(scores.float(), label))
    outcome = 'value and gradient are those of float32 on the same inputs, to the last bit (on a CPU)'
    yield _count('losses on bfloat16 embeddings and scores under autocast, 10 batches each', outcome, results)
    results = {}
    for seed in range(10):
        x = torch.randn(4, 24, 24, generator=torch.Generator().manual_seed(seed)).bfloat16()
        for name, config in GROUPERS.items():
            with torch.autocast('cpu', dtype=torch.bfloat16):
                labels = MODELS.build(config)(x)
            results[f'{name} {seed}'] = torch.equal(labels, MODELS.build(config)(x.float()))
    yield _count(
        'groupers on bfloat16 embeddings under autocast, 10 maps each', 'the groups are those of float32', results
    )


def _refuses(call: Callable[[], object], message: str) -> bool:
    try:
        call()
    except ValueError as error:
        return message in str(error)
    return False


def _sizes_of_embeddings() -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    ids, classes = _maps(generator)
    x = torch.randn(2, 4, 16, 16, generator=generator)
    for size in (1e4, 1e-8):
        results = {
            name: _near(_evaluate(name, x * size, ids, classes), _evaluate(name, x.double() * size, ids, classes))
            for name in LOSSES
        }
        yield _count(f'embeddings of size {size:g}: losses', 'value and gradient are those of float64', results)
    far = x * 1e9
    grouper = MODELS.build(GROUPERS['MeanShiftGrouping, norm'])
    results = {
        'RecurrentLoss': _refuses(lambda: _evaluate('RecurrentLoss, norm', far, ids, classes), 'bandwidths, got'),
        'MeanShiftGrouping': _refuses(lambda: grouper(far[0]), 'bandwidths, got'),
    }
    outcome = 'refused: not even float64, which takes over from float32, resolves the spread in bandwidths'
    yield _count('embeddings of size 1e9: mean shift by the Euclidean kernel', outcome, results)
    equal = torch.full_like(x, 0.7)
    # At a distance of 0 any direction of length 1 is a gradient of the distance: only its finiteness is asked for.
    results = {
        name: _near(_evaluate(name, equal, ids, classes), _evaluate(name, equal.double(), ids, classes), math.inf)
        for name in LOSSES
    }
    yield _count('embeddings that are all equal: losses', 'the value is that of float64, the gradient finite', results)
    clusters, true = _clusters(3, (24, 24))
    results = {}
    for size in (1e4, 1e-8):
        for name, config in GROUPERS.items():
            if size == 1e4 and name == 'MeanShiftGrouping, norm':
                continue
            labels = MODELS.build(config)(_for(name, clusters * size))
            apart = size > 1 or name in OF_DIRECTIONS  # at 1e-8 all lie within every threshold
            results[f'{name} {size:g}'] = _same_groups(labels, true if apart else torch.zeros_like(true))
    for name, config in GROUPERS.items():
        labels = MODELS.build(config)(_for(name, torch.full_like(clusters, 0.7)))
        results[f'{name} equal'] = bool((labels == 1).all())
    yield _count(
        'three clusters of size 1e4 and 1e-8, and all equal: groupers',
        'three groups, or one where all lie within the threshold',
        results,
    )
    results = {}
    for value in (math.nan, math.inf, -math.inf):
        broken = x.clone()
        broken[1, 2, 5, 6] = value
        for name in LOSSES:
            results[f'{name} {value}'] = _refuses(partial(_evaluate, name, broken, ids, classes), 'finite')
        for name, config in GROUPERS.items():
            results[f'{name} {value}'] = _refuses(partial(MODELS.build(config), broken[1]), 'finite')
    yield _count('one value NaN, infinity or minus infinity: losses and groupers', 'refused with a ValueError', results)


def _clusters(count: int, size: tuple[int, int], dims: int = 4) -> tuple[Tensor, Tensor]:
    """Equal embeddings in each of ``count`` groups of pixels (D, h, w), in different directions, and the groups (h, w)."""
    generator = torch.Generator().manual_seed(0)
    center = 8 * torch.nn.functional.normalize(torch.randn(count, dims, generator=generator), dim=1)
    true = torch.arange(size[0] * size[1]).view(size) % count
    return center[true].movedim(2, 0), true


def _for(name: str, x_Dhw: Tensor) -> Tensor:
    """With a bandwidth (of a soft mask of 0.8 pixels) and a seed where the grouper reads them."""
    ones = torch.ones_like(x_Dhw[:1])
    return torch.cat([x_Dhw, ones * 0.0, ones]) if name == 'SeedGrouping' else x_Dhw


def _same_groups(labels: Tensor, true: Tensor) -> bool:
    pairs = torch.stack([labels.flatten(), true.flatten()]).unique(dim=1)
    return pairs.shape[1] == len(labels.unique()) == len(true.unique()) and bool((labels > 0).all())


def _instances() -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.arange(45 * 45).view(45, 45).repeat_interleave(2, 0).repeat_interleave(2, 1)[None] + 1
    blocks[blocks > 2000] = 0
    singles = torch.arange(20 * 20).view(1, 20, 20)
    cases = {
        '2,000 instances in an image of 90 x 90': blocks,
        'every pixel of 20 x 20 an instance of its own': singles + 1,
        'one instance that fills the image': torch.full((1, 16, 16), 300),
        'an image of 1 x 1 with an instance': torch.ones(1, 1, 1, dtype=torch.long),
        'an image of 1 x 4000 with 100 instances': torch.arange(4000).view(1, 1, 4000) // 40 + 1,
        'an image of 4001 x 3 with 127 instances': (torch.arange(4001)[:, None] // 32 + 1).expand(4001, 3)[None],
    }
    results = {}
    for fault, ids in cases.items():
        x, classes = torch.randn(1, 5, *ids.shape[1:], generator=generator), (ids > 0).long()
        large = ids.numel() > 1000
        for name in LOSSES:
            if large and name.startswith('Recurrent'):
                continue  # float64 takes too long
            results[f'{name}: {fault}'] = _near(
                _evaluate(name, x, ids, classes), _evaluate(name, x.double(), ids, classes)
            )
    yield _count(f'{"; ".join(cases)}: losses', 'value and gradient are those of float64', results)
    results = {}
    for count, size in (
        (2000, (90, 90)),
        (200, (10, 20)),
        (1, (16, 16)),
        (1, (1, 1)),
        (50, (1, 4000)),
        (50, (4001, 3)),
    ):
        x, true = _clusters(count, size, dims=16)
        for name, config in GROUPERS.items():
            labels = MODELS.build(config)(_for(name, x * (4 if 'norm' not in name else 2)))
            results[f'{name} {count} {size}'] = _same_groups(labels, true)
    yield _count(
        '2,000 clusters on a map of 90 x 90, 200 of one pixel each, one alone, maps of 1 x 1, 1 x 4000 and 4001 x 3: groupers',
        'the groups are the clusters',
        results,
    )
    ids, classes = _maps(generator)
    x = torch.randn(2, 4, 16, 16, generator=generator)
    numbered = torch.unique(ids, return_inverse=True)[1] - 1  # -1, 0, 1, 2, ..
    results = {}
    for name in LOSSES:
        pair = [_evaluate(name, x, value, classes) for value in (ids, numbered)]
        results[name] = all(torch.allclose(one, other, rtol=1e-5, atol=1e-7) for one, other in zip(*pair, strict=True))
    yield _count(
        'ids 1, 4, 255, 300 and 65535 in one map: losses', 'value and gradient are those of ids 1 to 5', results
    )
    results = {}
    for name in LOSSES:
        for fault, (id_, class_) in {'ignored by id': (-1, 1), 'ignored by class': (300, 255)}.items():
            value, gradient = _evaluate(name, x, torch.full_like(ids, id_), torch.full_like(ids, class_))
            results[f'{name} {fault}'] = float(value) == 0 and not gradient.any()
        value, gradient = _evaluate(name, x, torch.zeros_like(ids), torch.zeros_like(ids))
        results[f'{name} background'] = bool(torch.isfinite(value) and torch.isfinite(gradient).all())
    yield _count(
        'instances of ignored pixels alone, and a batch of background alone: losses',
        '0 with a gradient of 0 where all is ignored; finite where all is background',
        results,
    )


# Files


def _write_set(folder: Path, masks: Sequence[np.ndarray]) -> Path:
    for number, mask in enumerate(masks):
        image = np.random.default_rng(number).integers(0, 256, (*mask.shape, 3), np.uint8)
        write(folder / f'images/{number}.png', image)
        write(folder / f'masks/{number}.png', mask.astype(np.uint16))
    return folder


def _config(folder: Path, work_dir: Path, loss: str, crop: bool = False) -> Config:
    """A training of the digits' network, small, on a folder of label images: two iterations of two images."""
    config = Config.fromfile(
        REPOSITORY / f'configs/{"recurrent-embedding" if loss == "pairs" else "instancenet"}_digits.py'
    )
    head = {'channels': 8, 'num_classes': 2, 'loss_decode': {'class_weight': [0.5, 1.0]}}
    if loss == 'pairs':
        head.update(in_channels=32, c1_in_channels=4, c1_channels=4)
    else:
        head.update(in_channels=4)
    config.merge_from_dict({'model': {'backbone': {'base_channels': 4}, 'decode_head': head}})
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'LoadInstanceMasks'}, {'type': 'MasksToMaps'}]
    if crop:
        pipeline.append({'type': 'RandomCropMaps', 'margin': 40})  # 8 x 8 of 48 x 48 pixels
    data = {'type': 'LabelImageDataset', 'data_root': f'{folder}/', 'metainfo': {'classes': ('object',)}}
    config.train_dataloader.batch_size = 2
    config.train_dataloader.dataset = {**data, 'pipeline': [*pipeline, {'type': 'PackInstanceMaps'}]}
    config.update(
        val_dataloader=None, val_cfg=None, val_evaluator=None, param_scheduler=[], log_level='ERROR',
        work_dir=str(work_dir), experiment_name=work_dir.name, randomness={'seed': 0},
        log_processor={'by_epoch': False},
    )  # fmt: skip
    config.train_cfg = {'type': 'IterBasedTrainLoop', 'max_iters': 4 if crop else 2}
    config.train_dataloader.sampler = {'type': 'InfiniteSampler', 'shuffle': True}
    config.default_hooks.checkpoint = {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 4 if crop else 2}
    return config


def _train(config: Config) -> bool:
    """Whether all losses and weights are finite."""
    runner = Runner.from_cfg(config)
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    weights = runner.model.state_dict().values()
    return bool(np.isfinite(losses).all()) and all(bool(torch.isfinite(value).all()) for value in weights)


def _predict(config: Config, image: Path, size: tuple[int, int]) -> bool:
    """Whether the API's two ways give one label map of the image's size."""
    file = next(Path(config.work_dir).glob('iter_*.pth'))
    inferencer, model = InstanceInferencer(config, str(file), device='cpu'), init_model(config, str(file), device='cpu')
    result, sample = inferencer(str(image)), segment_image(model, image)
    return result.labels.shape == size and np.array_equal(result.labels, sample.pred_instance_map.data[0].numpy())


def _files(folder: Path) -> Iterator[Row]:
    ids = np.zeros((24, 24), int)
    for number, id_ in enumerate((1, 4, 255, 300, 65535)):
        ids[4 * number : 4 * number + 3, 2:20] = id_
    corner = np.zeros((48, 48), int)
    corner[:2, :2] = 1
    many = np.zeros((90, 90), int)
    many[::2, ::2] = np.arange(1, 45 * 45 + 1).reshape(45, 45)
    many[many > 2000] = 0
    run = np.arange(4000) // 40 + 1
    long = np.where(run % 4 == 0, run, 0)
    sets = {
        'label images of 1 x 1': [np.ones((1, 1), int)] * 2,
        '1 x 4000': [long[None]] * 2,
        '4001 x 3': [np.append(long, 0)[:, None].repeat(3, 1)] * 2,
        'with ids 1, 4, 255, 300 and 65535': [ids] * 2,
        'with one object that fills them': [np.full((24, 24), 300)] * 2,
        'with 2,000 objects': [many] * 2,
        'with an object at every pixel': [np.arange(1, 257).reshape(16, 16)] * 2,
        'without an object in any': [np.zeros((24, 24), int)] * 2,
        'cropped, so that nearly all crops lose their only object': [corner] * 2,
    }  # fmt: skip
    trained, predicted = {}, {}
    for place, (fault, masks) in enumerate(sets.items()):
        data = _write_set(folder / f'set{place}', masks)
        for loss in ('pull and push', 'pairs'):
            config = _config(data, folder / f'run{place}-{loss[:5]}', loss, crop='cropped' in fault)
            trained[f'{fault}, {loss}'] = _train(config)
            predicted[f'{fault}, {loss}'] = _predict(config, data / 'images/0.png', masks[0].shape)
    yield _count(
        f'training on {"; ".join(sets)} (DiscriminativeLoss, and RecurrentLoss of pairs)',
        'losses and weights are finite',
        trained,
    )
    yield _count(
        'prediction of an image of each of these, by InstanceInferencer and segment_image',
        'one label map of its size by both',
        predicted,
    )


def _diverged(folder: Path) -> Iterator[Row]:
    write_digits(folder / 'digits', num_train=8, num_val=2)
    small = [
        'model.backbone.base_channels=4', 'model.decode_head.in_channels=4', 'model.decode_head.channels=8',
        f'train_dataloader.dataset.data_root={folder}/digits', 'train_dataloader.batch_size=2',
        'default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=1',
    ]  # fmt: skip
    digits, names = 'configs/instancenet_digits.py', r'images \S+/train/\d+\.png, \S+/train/\d+\.png'
    causes = {
        'a learning rate of 1e30': ('optim_wrapper.optimizer.lr=1e30', f'iteration 2, {names}'),
        'a class loss that overflows': (
            'model.decode_head.loss_decode.loss_weight=1e39',
            f'got loss .*iteration 1, {names}',
        ),
    }
    results = {}
    for place, (cause, (option, message)) in enumerate(causes.items()):
        work_dir = folder / f'diverged{place}'
        options = ['--work-dir', work_dir, '--cfg-options', *small, option]
        output = run_program('tools/train.py', digits, *options, succeeds=False)
        written = (work_dir / f'iter_{2 - place}.pth').exists()
        results[cause] = bool(re.search(f'ValueError.*{message}', output, re.S)) and not written
    outcome = (
        'the program ends with a ValueError that names iteration and images, and saves no checkpoint of that iteration'
    )
    yield _count(f'training that diverges: {" and ".join(causes)}', outcome, results)
    config = Config.fromfile(REPOSITORY / digits)
    config.merge_from_dict({key: int(value) for key, value in (option.split('=') for option in small[:3])})
    file, results = folder / 'small.py', {}
    config.dump(str(file))
    for name in (
        'decode_head.conv_seg.weight',
        'decode_head.conv_embedding.weight',
        'backbone.encoder.0.0.convs.0.conv.weight',
    ):
        torch.manual_seed(0)
        model = MODELS.build(config.model)
        weights = model.state_dict()
        # Everything is foreground, so that embeddings are looked at.
        weights['decode_head.conv_seg.bias'][1] = 100
        weights[name].view(-1)[0] = math.nan
        meta = {'dataset_meta': {'classes': tuple('0123456789')}}
        torch.save({'meta': meta, 'state_dict': weights}, folder / 'nan.pth')
        arguments = [
            file,
            folder / 'digits/val',
            '--checkpoint',
            folder / 'nan.pth',
            '--out',
            folder / f'out-{name}',
            '--device',
            'cpu',
        ]
        output = run_program('tools/predict.py', *arguments, succeeds=False)
        results[name] = bool(re.search(r'expected finite .*image \S+/val/\d+\.png', output))
    yield _count(
        'prediction with a checkpoint in which one weight is NaN (classes, embedding, backbone)',
        'the program ends with an error that names the image',
        results,
    )


def _properties() -> Row:
    """The property tests of the suite, with many new examples."""
    examples = 20
    run = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests/properties'],
        cwd=REPOSITORY, capture_output=True, text=True,
        env={**os.environ, 'INSTANCENET_EXAMPLES': str(examples), 'PYTHONPATH': str(REPOSITORY)},
    )  # fmt: skip
    passed, failed = (int((re.search(rf'(\d+) {word}', run.stdout) or [0, 0])[1]) for word in ('passed', 'failed'))
    if not passed:
        raise RuntimeError(f'the property tests did not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}')
    outcome = 'values are those of plain references; order, ids, translation, rotation, repeated and ignored pixels change none'
    failures = re.findall(r'^FAILED (\S+)', run.stdout, re.M)
    return Row(
        f'{passed + failed} properties of losses, groupers and metrics, {examples} random examples each',
        examples * (passed + failed),
        examples * passed,
        outcome + (f'; not so: {", ".join(failures)}' if failures else ''),
    )
