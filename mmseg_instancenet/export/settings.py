"""The settings of the steps around the network, for ``model.onnx``; models that cannot be exported are refused."""

from collections.abc import Sequence
from typing import Any

import cv2
from mmengine.config import Config

from ..apis.analysis_run import images_of
from ..apis.image_alone import image_steps
from ..apis.image_input import input_channels
from ..datasets.transforms import LoadImageFromFile, NormalizePercentiles, PackInstanceMaps, ResizeLongerSide
from ..models import CenterGrouping, EmbeddingSegmentor, MeanShiftGrouping, ProposalSegmentor, SeedGrouping
from ..models.decode_heads.dense_features import resizes_scores_only

_GREY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH


def export_settings(model: Any, config: Config) -> dict:
    """The settings of ``predict.py`` for a model: json values.

    Args:
        model: that ``init_model`` has built, with its weights.
        config: with ``test_dataloader``, whose pipeline prepares the images.

    Returns:
        ``classes`` (names), ``channels``, ``grey``, ``percentiles`` (low, high), ``per_channel``, ``max_value``, ``longer_side``,
        ``divisor``, ``grouper``, ``group_scorer``, ``regressor`` (``weight`` and ``bias``) and ``score_thr``; ``None`` for a step
        that the model does not have.

    Raises:
        ValueError: for a model, a step of the pipeline or a setting that the exported files do not have; it names it.
    """
    check_exportable(model)
    channels = input_channels(model)
    load, *others = image_steps(images_of(config.test_dataloader.dataset)['pipeline'])
    return {
        'classes': list(model.dataset_meta['classes']),
        'channels': channels,
        **_image_settings(load, others),
        'divisor': _divisor(model),
        'grouper': grouper_settings(model.grouper),
        **scorer_settings(model.group_scorer, model.instance_scorer),
        'score_thr': float(model.test_cfg.get('score_thr', 0.0)),
    }


def check_exportable(model: Any) -> None:
    """Raises ValueError, with the reason, for a model that cannot be exported."""
    if isinstance(model, ProposalSegmentor):
        raise _refusal(
            'model',
            'EmbeddingSegmentor',
            'ProposalSegmentor: masks of proposals overlap, and predict.py writes one label a pixel',
        )
    if not isinstance(model, EmbeddingSegmentor):
        raise _refusal('model', 'EmbeddingSegmentor', f'{type(model).__name__}: predict.py finds objects')
    if type(model.grouper) not in (CenterGrouping, MeanShiftGrouping, SeedGrouping):
        raise _refusal(
            'model.grouper',
            'CenterGrouping, MeanShiftGrouping or SeedGrouping',
            f'{type(model.grouper).__name__}: predict.py has no other grouping',
        )
    if model.grouper.max_instances is not None:
        raise _refusal('model.grouper.max_instances', 'None', f'{model.grouper.max_instances}: predict.py keeps all')
    if len(model.heads) > 1 or not resizes_scores_only(model.decode_head):
        raise _refusal(
            'model.decode_head',
            'one head whose class scores are a map of all pixels',
            f'{type(model.heads[-1]).__name__}: scores of queries, points or a cascade depend on the size of the image in ways '
            'that torch.export does not follow',
        )
    if model.test_cfg.get('mode', 'whole') != 'whole':
        raise _refusal('model.test_cfg.mode', "'whole'", "'slide': the file holds one pass over the whole image")
    if model.test_cfg.get('classes', 'predicted') != 'predicted':
        raise _refusal('model.test_cfg.classes', "'predicted'", "'ground_truth': an image alone has no truth")
    _divisor(model)


def _refusal(name: str, expected: str, got: str) -> ValueError:
    return ValueError(f'{name}: expected {expected} for an export, got {got}')


def _divisor(model: Any) -> int:
    """The number of which the sides of the network's input are multiples, in testing."""
    preprocessor = model.data_preprocessor
    padding = dict(preprocessor.test_padding)
    if padding.get('size') is not None:
        raise _refusal('data_preprocessor.test_cfg', 'size_divisor or nothing', f'size={padding["size"]}')
    divisor = padding.get('size_divisor') or preprocessor.pad_size_divisor
    same = any(type(module).__name__ == 'Conv2dSame' for module in model.modules())
    if same and divisor % 32:
        raise _refusal(
            'data_preprocessor.pad_size_divisor',
            'a multiple of 32 with a backbone that pads as TensorFlow does',
            f'{divisor}: its padding would depend on the size of the image',
        )
    return divisor


def _image_settings(load: Any, others: Sequence[Any]) -> dict[str, Any]:
    """The settings of the steps that load and change the image.

    Raises:
        ValueError: for other steps than ``LoadImageFromFile``, ``NormalizePercentiles`` and ``ResizeLongerSide``, in this order.
    """
    kinds = [type(step) for step in others]
    allowed = [kind for kind in (NormalizePercentiles, ResizeLongerSide) if kind in kinds]
    if not isinstance(load, LoadImageFromFile) or kinds != [*allowed, PackInstanceMaps]:
        names = [type(step).__name__ for step in (load, *others)]
        raise _refusal(
            'test pipeline',
            'LoadImageFromFile, then NormalizePercentiles or ResizeLongerSide or both, then PackInstanceMaps, beside steps of '
            'annotations',
            f'{names}: predict.py has no other steps',
        )
    if load.to_float32:
        raise _refusal('LoadImageFromFile.to_float32', 'False', 'True: predict.py rounds to 8 bits')
    steps = dict(zip(kinds, others, strict=True))
    contrast, resize = steps.get(NormalizePercentiles), steps.get(ResizeLongerSide)
    if resize is not None and (resize.interpolation, resize.backend) != ('bilinear', 'cv2'):
        raise _refusal(
            'ResizeLongerSide',
            "interpolation='bilinear', backend='cv2'",
            f'{resize.interpolation!r}, {resize.backend!r}',
        )
    return {
        'grey': load.color_form | _GREY == _GREY,
        'percentiles': None if contrast is None else [contrast.low, contrast.high],
        'per_channel': contrast is not None and contrast.per_channel,
        'max_value': load.max_value,
        'longer_side': None if resize is None else resize.length,
    }


def scorer_settings(group_scorer: Any, instance_scorer: Any) -> dict[str, Any]:
    """``group_scorer`` with its type, and ``regressor``, ``None`` unless it is fitted."""
    own = {name: getattr(group_scorer, name) for name in ('scale', 'half_size') if hasattr(group_scorer, name)}
    fitted = {'weight': instance_scorer.weight.tolist(), 'bias': instance_scorer.bias.item()}
    return {
        'group_scorer': {'type': type(group_scorer).__name__, **own},
        'regressor': fitted if instance_scorer.fitted else None,
    }


def grouper_settings(grouper: Any) -> dict[str, Any]:
    """The type of a CenterGrouping, a MeanShiftGrouping or a SeedGrouping, and all of its settings."""
    names = ['class_agnostic', 'background_groups', 'connected', 'min_size', 'max_groups', 'norm', 'only_directions']
    if isinstance(grouper, SeedGrouping):
        own = {'seed_threshold': grouper.seed_threshold, 'mask_threshold': grouper.mask_threshold}
    elif isinstance(grouper, MeanShiftGrouping):
        own = {'max_loops': grouper.max_loops, 'tolerance': grouper.tolerance}
        # only_directions stands for the kernel.
        own |= {name: getattr(grouper.kernel_settings, name) for name in ('concentration', 'step_size')}
    else:
        # On unit vectors 1 - cos is half the square of the distance.
        radius = (2 * grouper.threshold) ** 0.5 if grouper.distance == 'cosine' else grouper.threshold
        own = {'mode': grouper.mode, 'threshold': radius, 'seed': grouper.seed}
    return {'type': type(grouper).__name__, **{name: getattr(grouper, name) for name in names}, **own}
