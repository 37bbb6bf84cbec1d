"""Check for transforms of mmcv and mmseg that fail on mmdet's masks and boxes, or move the image alone."""

from collections.abc import Callable, Iterable, Iterator

from mmcv.transforms import CenterCrop, RandomFlip, Resize
from mmdet.datasets.transforms import LoadAnnotations
from mmseg.datasets.transforms import RandomCrop, RandomRotate, RandomRotFlip, ResizeToMultiple

from .masks_to_maps import MasksToMaps

_ON_ARRAYS = {
    Resize: (('_resize_bboxes',), "mmdet.Resize (of RandomResize, RandomChoiceResize: resize_type='mmdet.Resize')"),
    RandomFlip: (('_flip', '_flip_bbox'), 'mmdet.RandomFlip'),
    CenterCrop: (('_crop_bboxes',), 'mmdet.RandomCrop'),
}
"""Transforms whose methods treat boxes as a numpy array, while mmdet's are objects, and the replacement for each. A class
of mmdet or of a user that inherits from one brings such a method of its own."""

_WITHOUT_MASKS = (RandomCrop, RandomRotate, RandomRotFlip, ResizeToMultiple)
"""Transforms of mmseg, which move the image and its maps, and leave mmdet's masks as they are."""


def check_mixed_pipeline(transforms: Iterable[Callable]) -> None:
    """Raises ValueError for a transform of mmcv or mmseg between ``mmdet.LoadAnnotations`` and ``MasksToMaps`` that cannot move
    the boxes and masks that mmdet loaded.

    Args:
        transforms: of a training or test, built, in their order. Those inside ``RandomApply`` and ``RandomChoice`` count too.

    Example:
        >>> from mmseg.registry import TRANSFORMS
        >>> steps = [dict(type='mmdet.LoadAnnotations', with_mask=True), dict(type='Resize', scale=(64, 64))]
        >>> check_mixed_pipeline(map(TRANSFORMS.build, steps))
        Traceback (most recent call last):
        ValueError: Resize cannot move the boxes that mmdet.LoadAnnotations loads: expected mmdet.Resize ...
    """
    boxes = masks = False
    for transform in _with_inner(transforms):
        name = type(transform).__name__
        if isinstance(transform, LoadAnnotations):
            boxes, masks = transform.with_bbox and transform.box_type is not None, transform.with_mask
        elif isinstance(transform, MasksToMaps):
            return
        elif boxes and (instead := _instead(transform)):
            raise ValueError(
                f'{name} cannot move the boxes that mmdet.LoadAnnotations loads: expected {instead} in its place, or '
                f'{name} after MasksToMaps'
            )
        elif masks and isinstance(transform, _WITHOUT_MASKS):
            raise ValueError(
                f'{name} moves the image and not the masks that mmdet.LoadAnnotations loads: expected it after MasksToMaps, '
                "or a transform of mmdet's in its place"
            )


def _instead(transform: Callable) -> str | None:
    for base, (methods, instead) in _ON_ARRAYS.items():
        if isinstance(transform, base) and all(_is_of_mmcv_or_mmseg(getattr(transform, name)) for name in methods):
            return instead
    return None


def _is_of_mmcv_or_mmseg(method: Callable) -> bool:
    return method.__module__.split('.')[0] in ('mmcv', 'mmseg')


def _with_inner(transforms: Iterable[Callable]) -> Iterator[Callable]:
    """Yields the transforms, each followed by its inner ones, such as the Resize of a RandomResize."""
    for transform in transforms:
        yield transform
        inner = getattr(transform, 'transforms', ())
        yield from _with_inner([*inner, transform.resize] if hasattr(transform, 'resize') else inner)
