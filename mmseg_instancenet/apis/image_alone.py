"""A test pipeline on an image alone: its steps without those that load annotations or work on them."""

import warnings
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform, Compose, LoadAnnotations
from mmdet.datasets.transforms import FilterAnnotations
from mmengine.registry import TRANSFORMS

from ..datasets.transforms import (
    BoundaryConsensus,
    ClassesToInstances,
    LoadBSDSBoundaries,
    LoadInstanceIds,
    MasksToMaps,
    NormalizePercentiles,
)
from ..structures import percentile_limits

_OF_ANNOTATIONS = (
    LoadAnnotations,  # mmseg's and mmdet's are kinds of it
    FilterAnnotations,
    LoadBSDSBoundaries,
    LoadInstanceIds,
    BoundaryConsensus,
    ClassesToInstances,
    MasksToMaps,
)


def image_steps(pipeline: Sequence[dict]) -> list[BaseTransform]:
    """Builds the steps of a pipeline without those of annotations, and of kinds derived from them. The first loads the image."""
    return [TRANSFORMS.build(step) for step in pipeline if not issubclass(_type_of(step), _OF_ANNOTATIONS)]


def _type_of(step: dict) -> type:
    if isinstance(step['type'], type):
        return step['type']
    with TRANSFORMS.switch_scope_and_registry(None) as registry:  # that of the default scope
        return registry.get(step['type']) or object  # the build then names the missing type


def run_on_image(steps: Sequence[BaseTransform], results: dict) -> dict:
    """Runs steps on an image without annotations.

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


def check_parts_alike(steps: Sequence[BaseTransform], channels: int) -> None:
    """Raises ValueError if a step gives a part of an image other values than the whole image has there.

    Such a step, a resize to a fixed size for example, makes the instances of a tile (:func:`segment_tiled`) others than those of
    the whole image. Each step is tried on noise of 96 x 128 pixels and on its upper left 64 x 64. The pixels at the seam are not
    compared, since a resize by a fixed factor mixes them with their neighbours. ``NormalizePercentiles`` gets the contrast of
    the whole image for both (:func:`contrast_limits`).

    Args:
        steps: of :func:`image_steps`, without the first one, which loads the image, and the last one, which packs it.
        channels: of the images that they get.
    """
    whole = np.random.default_rng(0).integers(0, 256, (96, 128, channels)).astype(np.uint8)
    results = [_loaded(whole), _loaded(whole[:64, :64])]
    for step in steps:
        if isinstance(step, NormalizePercentiles):
            limits = percentile_limits(results[0]['img'], step.low, step.high, step.per_channel)
            results = [{**result, 'contrast_limits': limits} for result in results]
        # A step of annotations is left out, as in every run, unless it is the last one.
        results = [run_on_image([step, Compose([])], result) for result in results]
        image, part = (result['img'] for result in results)
        scales = [np.divide(image.shape[:2], (96, 128)), np.divide(part.shape[:2], (64, 64))]
        inner = tuple(slice(0, max(1, side - side // 4)) for side in part.shape[:2])
        if not np.allclose(*scales) or not np.allclose(image[inner], part[inner], atol=1e-6 * np.abs(image).max()):
            raise ValueError(
                f'expected a test pipeline whose steps treat a tile as they treat the whole image, got {type(step).__name__}: '
                f'of 96 x 128 pixels it makes {image.shape[0]} x {image.shape[1]}, of their upper left 64 x 64 '
                f'{part.shape[0]} x {part.shape[1]}, or other values. Segment the image without tiles, or change the step: a '
                'resize by a scale_factor does not depend on the size of the image'
            )


def _loaded(image: np.ndarray) -> dict:
    return dict(img=image, img_path=None, img_id=0, img_shape=image.shape[:2], ori_shape=image.shape[:2])
