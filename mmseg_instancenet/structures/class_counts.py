"""Checks that the classes of heads, data and metrics agree."""

from collections.abc import Iterable, Sequence

from torch import nn


def classes_of(metainfo: dict | Sequence[dict]) -> Sequence[str] | None:
    """The classes of a data set; ``None`` if it has no names of classes.

    Args:
        metainfo: of the data set. mmdet's ``ConcatDataset`` has a list, one for each set that it joins, unless all are equal.

    Raises:
        ValueError: where joined sets have different classes, or not in one order: a label would mean two things.

    Example:
        >>> classes_of([{'classes': ('cat', 'dog'), 'ann_file': 'a.json'}, {'classes': ['cat', 'dog'], 'ann_file': 'b.json'}])
        ('cat', 'dog')
    """
    classes = [one.get('classes') for one in ([metainfo] if isinstance(metainfo, dict) else metainfo)]
    different = [other for other in classes if other is None or list(other) != list(classes[0] or ())]
    if len(classes) > 1 and different and any(classes):
        raise ValueError(
            f'expected the same classes in the same order in all joined data sets, got {classes[0]} and {different[0]}: set '
            'metainfo=dict(classes=(...)) of each'
        )
    return classes[0]


def check_class_counts(model: nn.Module, classes: Sequence[str], background: bool = True) -> None:
    """Raises ValueError unless every decode and auxiliary head of a model has one class for each class of the data and
    one for the background.

    STDC's auxiliary head for boundaries does not predict the classes and is left out.

    Args:
        model: with ``decode_head`` and perhaps ``auxiliary_head``, each one head or a list.
        classes: of the data, without the background.
        background: whether the class map has one.
    """
    expected = len(classes) + background
    for name, module in model.named_modules():
        parts = name.split('.')
        is_head = parts[0] in ('decode_head', 'auxiliary_head') and hasattr(module, 'loss_by_feat')
        if not is_head or type(module).__name__ == 'STDCHead' or module.num_classes == expected:
            continue
        raise ValueError(
            f'model.{name} has num_classes={module.num_classes}, but the data have {len(classes)} classes: expected '
            f'num_classes={expected} ({"background included" if background else "no background"}). Set '
            f'model.{name}.num_classes, or metainfo=dict(classes=(...)) of the data set'
            + ('; model.background=False for class maps that begin with the first class' if background else '')
        )


def check_iou_metric(metrics: Iterable[str], background: bool) -> None:
    """Raises ValueError if mmseg's ``IoUMetric`` is among the metrics of class maps with a background: it would count
    the background as the first class and leave out the last one.

    Args:
        metrics: names of their types.
        background: whether class 0 of the class maps is the background.
    """
    if background and 'IoUMetric' in metrics:
        raise ValueError(
            'IoUMetric counts the classes of the data set from 0, in class maps in which 0 is the background: expected '
            'ForegroundIoUMetric in val_evaluator and test_evaluator, or model.background=False for maps without a background'
        )
