"""Benchmark of all that follows the network on crowded images, step by step.

::

    python -m benchmarks.crowded_images
    python -m benchmarks.crowded_images --model CONFIG_OR_FOLDER --weights CHECKPOINT --images FILES

Unless given, the model is the shipped one of nuclei, and the images are its example image and mosaics of it: 52 nuclei once,
2 x 2 and 3 x 3 times. Beside the model's own grouper stand center-shift and center-fixed on the same embeddings.

Steps: ``grouper``, from embeddings to groups on the map; ``labels``, from there to the pixels of the image; ``scorer``, of the
groups; ``masks``, from labels to boxes, scores and run lengths. Ours is all of them together, as in a prediction.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from mmseg_instancenet import InstanceInferencer
from mmseg_instancenet.apis import example_image
from mmseg_instancenet.models import CenterGrouping, Grouper, SeedGrouping, SilhouetteScorer
from mmseg_instancenet.models.postprocess import average_classes, group_image, make_instances, predict_instances
from mmseg_instancenet.models.postprocess.assign import assign_pixels
from mmseg_instancenet.outputs import read_pixels
from mmseg_instancenet.structures import group_statistics

from .command_line import benchmark_parser, report
from .comparison import Agreement, compare
from .machine import devices
from .measure import Candidate, host_synchronizations
from .results import OURS, Row, not_measured

NAME = 'crowded_images'
THRESHOLD = 1.2
"""Radius of center grouping, unless it is the model's own grouper, in units of its embedding."""


def mosaics(counts: Sequence[int], side: int | None = None) -> list[np.ndarray]:
    """The example image of the shipped model, or its first ``side`` rows and columns, repeated along both axes by each of the
    counts: (H, W, 3)."""
    image_HWC = read_pixels(str(example_image()))[:side, :side, ::-1]  # a network gets BGR
    return [np.tile(image_HWC, (count, count, 1)) for count in counts]


def measure_rows(model: str, weights: str | None, images: Sequence[str | np.ndarray]) -> list[Row]:
    """Rows for every image and grouper on every device."""
    rows = []
    for device in devices():
        inferencer = InstanceInferencer(model, weights, device)
        for image in images:
            rows += _one_image(inferencer, image, device)
    if 'cuda' not in devices():
        rows.append(not_measured(NAME, 'all', None, OURS, 'cuda', 'torch sees no GPU'))
    return rows


def _one_image(inferencer: InstanceInferencer, image: str | np.ndarray, device: str) -> list[Row]:
    model = inferencer.model
    ((_, batch),) = inferencer.preprocess([image])
    batch = model.data_preprocessor(batch, False)
    (sample,) = batch['data_samples']

    @torch.inference_mode()
    def network() -> Any:
        return model.views(batch['inputs'], batch['data_samples'])

    (view,) = network()
    class_HW, probability_HW = average_classes([view], sample.ori_shape[:2])
    rows = []
    for grouper, scorer in _groupers(model):
        candidates = _steps(model, view, class_HW, probability_HW, grouper, scorer)
        instances = candidates[0].run()[0]

        def agree(outputs: dict[str, Any], count: int = len(instances)) -> dict[str, Agreement]:
            return {OURS: {'instances': count}}

        name = type(grouper).__name__ + (f' {grouper.mode}' if isinstance(grouper, CenterGrouping) else '')
        of_grouper = compare(
            NAME,
            f'{name}, size = instances',
            len(instances),
            device,
            [*candidates, Candidate('network', network)],
            agree,
        )
        if device == 'cuda':
            note = f'{host_synchronizations(candidates[0].run)} host synchronisations'
            of_grouper[0] = dataclasses.replace(of_grouper[0], note=note)
        rows += of_grouper
    return rows


def _groupers(model: nn.Module) -> list[tuple[Grouper, nn.Module]]:
    """The model's own grouper, center-shift and center-fixed, each with its scorer of groups."""
    own: Grouper = model.grouper
    settings = dict(
        threshold=THRESHOLD, class_agnostic=own.class_agnostic, connected=own.connected, min_size=own.min_size
    )
    if isinstance(own, CenterGrouping):
        settings.update(threshold=own.threshold, norm=own.norm, distance=own.distance)
    center = [(CenterGrouping(mode=mode, **settings), SilhouetteScorer()) for mode in ('shift', 'fixed')]
    return center if isinstance(own, CenterGrouping) else [(own, model.group_scorer), *center]


def _steps(
    model: nn.Module,
    view: Any,
    class_HW: torch.Tensor,
    probability_HW: torch.Tensor,
    grouper: Grouper,
    scorer: nn.Module,
) -> list[Candidate]:
    """Everything after the network, and each step alone."""
    (network_pass,) = view
    if isinstance(model.grouper, SeedGrouping) and not isinstance(grouper, SeedGrouping):
        network_pass = network_pass._replace(embeddings_Dhw=network_pass.embeddings_Dhw[:-2])  # bandwidth and seed
    region_HW = grouper.regions(class_HW)
    embeddings_Dhw = grouper.prepare(network_pass.embeddings_Dhw)
    compared_Ehw, region_hw = grouper.compared(embeddings_Dhw), network_pass.under_cells(region_HW, outside=0)
    labels_hw = grouper.group_map(embeddings_Dhw, region_hw)
    statistics = group_statistics(compared_Ehw, labels_hw, region_hw, grouper.norm)
    rows, columns = (network_pass.coverage(axis) for axis in (0, 1))
    groups = group_image([[network_pass]], class_HW, probability_HW, model.num_classes, grouper, scorer)
    runs: dict[str, Callable[[], Any]] = {
        OURS: partial(
            predict_instances,
            [[network_pass]],
            class_HW,
            probability_HW,
            model.num_classes,
            grouper,
            scorer,
            model.instance_scorer,
            score_thr=float(model.test_cfg.get('score_thr', 0)) if grouper is model.grouper else 0.0,
        ),
        'grouper': partial(grouper.group_map, embeddings_Dhw, region_hw),
        'labels': partial(assign_pixels, compared_Ehw, labels_hw, region_hw, statistics, region_HW, rows, columns),
        'scorer': partial(scorer, embeddings_Dhw, labels_hw, statistics),
        'masks': partial(make_instances, groups.labels_HW, groups.score_K, groups.votes, model.instance_scorer),
    }
    return [Candidate(method, torch.inference_mode()(run)) for method, run in runs.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument('--model', default='nuclei', help='as InstanceInferencer has it')
    parser.add_argument('--weights', help='a checkpoint, where the model is a config')
    parser.add_argument('--images', nargs='+', help='files; mosaics of the example image unless given')
    args = parser.parse_args(arguments)
    images = args.images or (mosaics([1, 2], side=64) if args.quick else mosaics([1, 2, 3]))
    report(NAME, measure_rows(args.model, args.weights, images), args.out)


if __name__ == '__main__':
    main()
