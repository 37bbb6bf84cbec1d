"""Benchmark of groupings on trained models' embeddings: data (b) of :mod:`benchmarks.grouping`."""

import inspect
from collections.abc import Callable
from functools import partial
from statistics import mean
from typing import Any

import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_instancenet.models import CenterGrouping, Grouper, MeanShiftGrouping

from .agreement import adjusted_rand_index, expect_index
from .alternatives import dense_grouping, exact_grouping, hill_climb
from .comparison import Agreement, compare
from .embedding_files import TrainedEmbeddings
from .library_grouping import flat_bandwidth, hdbscan_labels, mean_shift_labels
from .measure import Candidate
from .results import OURS, Row, not_measured

_LEAST_PIXELS = 10
"""Regions of fewer pixels are left out: HDBSCAN takes no less than five."""

_MOST_PIXELS = 16384
"""Regions of more pixels are left out: scikit-learn takes minutes for one of 85,000, ours half a second."""

Labelling = Callable[[Tensor], Tensor]
"""From the pixels (N, D) of a region to their labels (N,)."""


def trained_rows(benchmark: str, name: str, trained: TrainedEmbeddings) -> list[Row]:
    """Rows of groupings of every region of every image on the CPU; ours by the grouper of the model's config.

    A ``MeanShiftGrouping`` has to agree with the exact result. There is none for ``CenterGrouping``, whose own definition is
    what it computes: the others' adjusted Rand index is to ours.

    Args:
        benchmark: of the rows.
        name: of the file.
        trained: its content.
    """
    init_default_scope('mmseg')
    grouper = MODELS.build(dict(trained.grouper))
    settings = _settings(grouper, trained)
    regions = foreground_regions(grouper, trained)
    setting = f'{name}, {len(trained.images)} images, D={trained.images[0].embeddings_Dhw.shape[0]}'
    if not regions:
        reason = f'no region of {_LEAST_PIXELS} to {_MOST_PIXELS} pixels in any image'
        return [not_measured(benchmark, setting, None, OURS, 'cpu', reason)]
    others = _alternatives(grouper, settings, regions[0].shape[1])
    if others is None:
        reason = f'no alternative to {trained.grouper["type"]} with these settings'
        return [not_measured(benchmark, setting, None, OURS, 'cpu', reason)]

    def run(label: Labelling) -> list[Tensor]:
        return [label(x_ND) for x_ND in regions]

    def agree(outputs: dict[str, list[Tensor]]) -> dict[str, Agreement]:
        if isinstance(grouper, CenterGrouping):
            return {method: {'index to ours': _mean_index(outputs[OURS], labels)} for method, labels in outputs.items()}
        exact = run(partial(exact_grouping, concentration=settings['concentration']))
        index = {method: _mean_index(exact, labels) for method, labels in outputs.items()}
        expect_index(index[OURS], f'{name}, index to exact')
        return {method: {'index to exact': value} for method, value in index.items()}

    candidates = [Candidate(OURS, partial(run, grouper.group), note=trained.grouper['type'])]
    for method, (label, note) in others.items():
        memory = 'torch' if method in ('dense', 'hill climb') else 'resident'
        candidates.append(Candidate(method, partial(run, label), memory=memory, note=note))
    return compare(benchmark, setting, round(mean(len(x_ND) for x_ND in regions)), 'cpu', candidates, agree)


def foreground_regions(grouper: Grouper, trained: TrainedEmbeddings) -> list[Tensor]:
    """The pixels (N, D) of the regions that the grouper would group, from all images; too small and too large regions
    are left out."""
    regions = []
    for embeddings_Dhw, class_map_hw in trained.images:
        region_hw = grouper.regions(class_map_hw)
        for region in region_hw.unique().tolist():
            inside_hw = region_hw == region
            if region > 0 and _LEAST_PIXELS <= int(inside_hw.sum()) <= _MOST_PIXELS:
                regions.append(embeddings_Dhw[:, inside_hw].T.contiguous())
    return regions


def _settings(grouper: Grouper, trained: TrainedEmbeddings) -> dict[str, Any]:
    """All settings of a grouper by name: those of the config, and defaults for the rest."""
    given = {name: value for name, value in trained.grouper.items() if name != 'type'}
    settings = inspect.signature(type(grouper)).bind(**given)
    settings.apply_defaults()
    return settings.arguments


def _alternatives(grouper: Grouper, settings: dict[str, Any], dims: int) -> dict[str, tuple[Labelling, str]] | None:
    """Function and note of each alternative, by method; ``None`` for a grouper without an alternative."""
    if isinstance(grouper, CenterGrouping) and settings['distance'] == 'norm':
        bandwidth, of_unit_vectors = settings['threshold'], False
    elif isinstance(grouper, MeanShiftGrouping) and settings['kernel'] == 'cosine':
        bandwidth, of_unit_vectors = flat_bandwidth(settings['concentration'], dims), True
    else:
        return None

    def labelling(label: Labelling) -> Labelling:
        return lambda x_ND: label(F.normalize(x_ND, dim=1) if of_unit_vectors else x_ND)

    methods = {
        'HDBSCAN': (labelling(hdbscan_labels), 'noise is one group'),
        'MeanShift, bins': (
            labelling(partial(mean_shift_labels, bandwidth=bandwidth, bin_seeding=True)),
            f'bandwidth {bandwidth:.2f}',
        ),
    }
    if of_unit_vectors:
        concentration = settings['concentration']
        methods = {
            'dense': (labelling(partial(dense_grouping, concentration=concentration, loops=10)), '10 loops'),
            'hill climb': (labelling(partial(hill_climb, concentration=concentration)), '100 seeds'),
            **methods,
        }
    return methods


def _mean_index(reference: list[Tensor], labels: list[Tensor]) -> float:
    return mean(adjusted_rand_index(a_N, b_N) for a_N, b_N in zip(reference, labels, strict=True))
