"""Benchmark of a training iteration with embedding branch and loss, against mmseg's plain DeepLabV3+ on the same
images.

::

    python -m benchmarks.training

Both are configs/instancenet_r50_coco.py's network with its optimizer, all of it trained, from random weights; the plain one
has no embedding branch and no loss on it. Images and labels are drawn (:func:`benchmarks.data.mixed_groups`). On a GPU also a
batch of 16 images in the half precision that ``tools/train.py --amp`` chooses.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from mmseg_instancenet.engine import use_mixed_precision

from .command_line import benchmark_parser, report
from .comparison import Agreement, DisagreementError, compare
from .data import mixed_groups
from .losses import make_batch
from .machine import available_bytes, devices
from .measure import Candidate
from .networks import OUR_CONFIG, build_ours, labelled_batch, our_config
from .results import OURS, Row, not_measured

NAME = 'training'
PLAIN = 'mmseg DeepLabV3+'
NUM_INSTANCES = 10
AMP_IMAGES = 16
_AMP_BYTES = 30e9
"""Free memory of a GPU below which the batch of :data:`AMP_IMAGES` is left out: four images in float32 take 7.5e9."""


def plain_config(config: ConfigDict) -> ConfigDict:
    """The config of the same network in mmseg: without embeddings, their loss and grouping."""
    plain = Config(config.to_dict())
    for name in ('grouper', 'group_scorer'):
        plain.pop(name)
    for name in ('embedding_dims', 'loss_embedding'):
        plain.decode_head.pop(name)
    plain.merge_from_dict({'type': 'EncoderDecoder', 'decode_head.type': 'DepthwiseSeparableASPPHead'})
    plain.test_cfg = dict(mode='whole')
    return plain


def measure_rows(side: int, images: int, quick: bool) -> list[Row]:
    """Rows of our network and the plain one on a batch of ``images`` images of ``side`` by ``side`` pixels, on every
    device; on a GPU also of :data:`AMP_IMAGES` images in mixed precision."""
    rows = []
    for device in devices():
        rows += one_case(side, images, quick, device)
    if 'cuda' not in devices():
        return [*rows, not_measured(NAME, 'all', None, OURS, 'cuda', 'torch sees no GPU')]
    free = available_bytes('cuda')
    if quick or free is None or free >= _AMP_BYTES:
        return rows + one_case(side, images if quick else AMP_IMAGES, quick, 'cuda', amp=True)
    reason = f'{free / 1e9:.1f} GB of the GPU are free, {_AMP_BYTES / 1e9:.0f} are expected'
    return [*rows, not_measured(NAME, '--amp', AMP_IMAGES, OURS, 'cuda', reason)]


def one_case(side: int, images: int, quick: bool, device: str, amp: bool = False) -> list[Row]:
    """Rows of both networks on one batch; with ``amp`` in the half precision that ``tools/train.py --amp`` chooses."""
    config = our_config(quick)
    drawn = make_batch(mixed_groups, images, 4, side, NUM_INSTANCES, 'cpu')
    batch = labelled_batch(drawn.instance_map_NHW, drawn.class_map_NHW)
    models = {OURS: build_ours(config, device), PLAIN: build_ours(plain_config(config), device)}
    candidates = [Candidate(method, _Step(model.train(), batch, amp)) for method, model in models.items()]

    def agree(outputs: dict[str, dict[str, Tensor]]) -> dict[str, Agreement]:
        ours, plain = ({name for name in outputs[method] if 'loss_' in name} for method in (OURS, PLAIN))
        if ours - plain != {'decode.loss_embedding'} or plain - ours:
            raise DisagreementError(
                'expected the losses of the plain network and decode.loss_embedding from ours, got '
                f'{sorted(ours)} and {sorted(plain)}'
            )
        return {method: {'class loss': float(losses['decode.loss_ce'])} for method, losses in outputs.items()}

    setting = f'{OUR_CONFIG}, {images} x 3 x {side} x {side}, {NUM_INSTANCES} instances each{", --amp" * amp}'
    rows = compare(NAME, setting, images, device, candidates, agree)
    overhead = 100 * (rows[0].seconds / rows[1].seconds - 1)
    return [dataclasses.replace(rows[0], note=f'{overhead:+.1f} % on the plain network'), rows[1]]


class _Step:
    """A training iteration: forward, losses, backward and a step of the optimizer."""

    def __init__(self, model: nn.Module, batch: dict[str, list], amp: bool) -> None:
        self.model, self.batch = model, batch
        config = Config({'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'Adam', 'lr': 0.001}}})
        if amp:
            use_mixed_precision(config)
        self.optimizer = build_optim_wrapper(model, config.optim_wrapper)

    def __call__(self) -> dict[str, Any]:
        # The preprocessor pads the label maps of the samples in place.
        batch = {'inputs': self.batch['inputs'], 'data_samples': [one.clone() for one in self.batch['data_samples']]}
        return self.model.train_step(batch, self.optimizer)


def main(arguments: Sequence[str] | None = None) -> None:
    args = benchmark_parser(__doc__).parse_args(arguments)
    side, images = (33, 2) if args.quick else (513, 4)
    report(NAME, measure_rows(side, images, args.quick), args.out)


if __name__ == '__main__':
    main()
