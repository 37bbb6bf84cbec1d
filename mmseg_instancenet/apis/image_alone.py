"""Test pipeline for an image without annotations: steps that load or change annotations are left out."""

import warnings
from collections.abc import Sequence

from mmcv.transforms import BaseTransform, LoadAnnotations
from mmdet.datasets.transforms import FilterAnnotations
from mmengine.registry import TRANSFORMS

from ..datasets.transforms import (
    BoundaryConsensus,
    ClassesToInstances,
    LoadBSDSBoundaries,
    LoadInstanceIds,
    MasksToMaps,
)

_OF_ANNOTATIONS = (
    LoadAnnotations,  # base class of those of mmseg and mmdet
    FilterAnnotations,
    LoadBSDSBoundaries,
    LoadInstanceIds,
    BoundaryConsensus,
    ClassesToInstances,
    MasksToMaps,
)


def image_steps(pipeline: Sequence[dict]) -> list[BaseTransform]:
    """Builds the steps of a pipeline except those that load or change annotations, subclasses included. The first step
    loads the image."""
    return [TRANSFORMS.build(step) for step in pipeline if not issubclass(_type_of(step), _OF_ANNOTATIONS)]


def _type_of(step: dict) -> type:
    if isinstance(step['type'], type):
        return step['type']
    with TRANSFORMS.switch_scope_and_registry(None) as registry:  # that of the default scope
        return registry.get(step['type']) or object  # the build then names the missing type


def run_on_image(steps: Sequence[BaseTransform], results: dict) -> dict:
    """Runs the steps of a pipeline on an image without annotations.

    A step that needs an entry that an image alone does not have is left out, with a warning. The truth that a step makes of
    no annotations (``gt_..``) is removed.

    Args:
        steps: :func:`image_steps`, or without the first one, which loads the image, if ``results`` have it.
        results: ``img_path`` of an image, or ``img`` with ``img_shape`` and ``ori_shape``.

    Returns:
        what the last step returns.

    Raises:
        KeyError: if the last step, which packs the image, needs another entry.
    """
    results = _ImageAlone(results, seg_fields=[])
    for step in steps:
        try:
            results = step(_ImageAlone(results))
        except _MissingEntry as missing:
            if step is steps[-1]:
                raise
            warnings.warn(
                f'{type(step).__name__} of the test pipeline is left out: it needs {missing}, which an image alone does not have',
                stacklevel=2,
            )
            continue
        truths = [key for key in results if key.startswith('gt_')]
        if truths:
            results = {key: value for key, value in results.items() if key not in truths} | {'seg_fields': []}
    return results


class _MissingEntry(KeyError):
    pass


class _ImageAlone(dict):
    def __missing__(self, key: str) -> None:
        raise _MissingEntry(key)
