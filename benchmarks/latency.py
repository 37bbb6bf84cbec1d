"""Benchmark of the seconds from an image to its instances: ours, mmdet's Mask R-CNN and SOLOv2, all on ResNet-50 with
random weights.

::

    python -m benchmarks.latency

Each model's ``test_step`` on one image that needs no resizing: normalisation, network, post-processing, masks at the image's
size. Random weights find untypical numbers of objects, and post-processing costs what it finds, so two are measured
twice:

- ours: with what its head returns replaced, after it was computed, by drawn embeddings and classes of 20 objects, which is
  what the others are compared with; and as it is.
- Mask R-CNN: with the score threshold of its config, which hardly a random score passes; and with a threshold of 0, which fills
  the config's limit of 100 objects an image.

SOLOv2 is measured with its own thresholds alone, which no random score passes: at 0 it makes a mask of each of its 300,000
candidates. Its time is then the network's.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .command_line import benchmark_parser, report
from .comparison import Agreement, compare
from .data import margin_groups
from .machine import devices
from .measure import Candidate
from .networks import OUR_CONFIG, build_mmdet, build_ours, image_batch, our_config
from .results import OURS, Row, not_measured

NAME = 'latency'

OUR_RANDOM = 'ours, random output'

OURS_MIXED = 'ours, mixed precision'
"""As ours, the network in float16 on a GPU and in bfloat16 on a CPU."""

MMDET_MODELS = {
    'Mask R-CNN': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', 'test_cfg.rcnn.score_thr'),
    'SOLOv2': ('solov2/solov2_r50_fpn_1x_coco.py', None),
}
"""Config below mmdet's folder, and where it has a score threshold to be set to 0."""

_NUM_OBJECTS = 20
_SURE = 10.0
"""Class score, before the softmax, that leaves no doubt."""


def measure_rows(side: int, quick: bool) -> list[Row]:
    """Measures every model on an image of ``side`` by ``side`` pixels, on every device."""
    rows = []
    for device in devices():
        rows += _one_device(side, quick, device)
    if 'cuda' not in devices():
        rows.append(not_measured(NAME, 'all', None, OURS, 'cuda', 'torch sees no GPU'))
    return rows


def _one_device(side: int, quick: bool, device: str) -> list[Row]:
    setting = f'{side} x {side}'
    config = our_config(quick)
    models: dict[str, nn.Module] = {name: build_ours(config, device).eval() for name in (OURS, OUR_RANDOM)}
    replace_output(models[OURS])
    notes = {
        OURS: f'{OUR_CONFIG}, random weights, scores and embeddings replaced by drawn objects',
        OUR_RANDOM: f'{OUR_CONFIG}, random weights',
    }
    failures = []
    # The small network of a quick run has nothing to be compared with.
    for name, (config_file, threshold) in ({} if quick else MMDET_MODELS).items():
        variants = {name: {}} if threshold is None else {name: {}, f'{name}, score >= 0': {threshold: 0.0}}
        for method, settings in variants.items():
            try:
                models[method] = build_mmdet(config_file, settings, device)
            except Exception as error:
                failures.append(not_measured(NAME, setting, side, method, device, f'{type(error).__name__}: {error}'))
            notes[method] = f'{config_file}, random weights'
    batch = image_batch(side)
    found: dict[str, int] = {}

    def agree(outputs: dict[str, Any]) -> dict[str, Agreement]:
        # There is no common result; the objects that were found explain the time.
        found.update({method: len(output[0].pred_instances) for method, output in outputs.items()})
        return {}

    candidates = [Candidate(method, _Predict(model, batch), note=notes[method]) for method, model in models.items()]
    in_mixed_precision = torch.autocast(device)(_Predict(models[OURS], batch))
    candidates.insert(1, Candidate(OURS_MIXED, in_mixed_precision, note=notes[OURS]))
    rows = compare(NAME, setting, side, device, candidates, agree)
    return [dataclasses.replace(row, note=f'{found[row.method]} objects; {row.note}') for row in rows] + failures


class _Predict:
    """Prediction of the instances of one image, as a callable."""

    def __init__(self, model: nn.Module, batch: dict[str, list]) -> None:
        self.model, self.batch = model, batch

    def __call__(self) -> list:
        # Predictions are written into the samples.
        batch = {'inputs': self.batch['inputs'], 'data_samples': [one.clone() for one in self.batch['data_samples']]}
        with torch.no_grad():
            return self.model.test_step(batch)


def replace_output(model: nn.Module) -> None:
    """Makes a model return class scores and embeddings of synthetic objects after running its network."""
    network, drawn = model.scores_and_embeddings, {}

    def scores_and_embeddings(*args, **kwargs) -> tuple[Tensor, Tensor]:
        scores, embeddings = network(*args, **kwargs)
        size = tuple(embeddings.shape[2:])
        if size not in drawn:
            drawn[size] = [x.to(embeddings) for x in _draw(size, scores.shape[1], embeddings.shape[1])]
        return tuple(drawn[size])

    model.scores_and_embeddings = scores_and_embeddings


def _draw(size: tuple[int, int], num_classes: int, dims: int) -> tuple[Tensor, Tensor]:
    """Synthetic scores (1, C, h, w) and embeddings (1, D, h, w)."""
    data = margin_groups(size[0] * size[1], dims, _NUM_OBJECTS + 1, seed=0, mixed_share=0.0, num_classes=3)
    # Objects lie together in an image, or interpolating between pixels would mix all classes.
    order_N = torch.argsort(data.group_N, stable=True)
    scores_NC = _SURE * F.one_hot(data.class_N[order_N], num_classes)
    return tuple(x_NE.float().T.reshape(1, -1, *size) for x_NE in (scores_NC, data.x_ND[order_N]))


def main(arguments: Sequence[str] | None = None) -> None:
    args = benchmark_parser(__doc__).parse_args(arguments)
    report(NAME, measure_rows(33 if args.quick else 513, args.quick), args.out)


if __name__ == '__main__':
    main()
