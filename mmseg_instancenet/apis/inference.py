"""Inference from Python: loads a model, and finds the instances of an image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import init_model as init_mmseg_model
from torch import nn

from ..datasets.transforms import NormalizePercentiles
from ..engine import register_safe_loaders
from ..models import BoundarySegmentor, EmbeddingSegmentor
from .analysis_run import images_of
from .image_alone import image_steps, run_on_image
from .shipped import config_and_checkpoint


def init_model(
    config: str | Path | Config,
    checkpoint: str | None = None,
    device: str = 'cuda:0',
    cfg_options: dict | None = None,
) -> EmbeddingSegmentor | BoundarySegmentor:
    """mmseg's ``init_model``: the model of a config, in evaluation mode, with the weights of a checkpoint if one is given.

    From here on MMEngine reads checkpoints without running code from them (:func:`register_safe_loaders`).

    Args:
        config: name of a shipped model (:func:`shipped_models`), which brings its weights; file, or what was read from one.
        checkpoint: file or address.
        device: where the model shall be, 'cpu' for example.
        cfg_options: settings in place of the config's, nested keys joined by dots.
    """
    register_safe_loaders()
    config, checkpoint = config_and_checkpoint(config, checkpoint)
    return init_mmseg_model(config, checkpoint, device, cfg_options)


def segment_image(model: EmbeddingSegmentor | BoundarySegmentor, image: str | Path | np.ndarray) -> DetDataSample:
    """Finds the instances, or the boundaries, of one image.

    It runs the pipeline of the config's ``test_dataloader`` without the steps of annotations; of a wrapped data set that of the
    set in the wrapper, of several joined sets that of the first.

    Args:
        model: from ``init_model(config, checkpoint, device)``.
        image: a file, which the loading step of the pipeline reads, or an array as that step would have delivered it:
            (H, W, C) with the channels of the network, in BGR as OpenCV reads them; or (H, W) or (H, W, 1) grey, which is
            repeated for each of them. uint8, or, where the step keeps more than 8 bits (:class:`LoadImageFromFile`) or the
            pipeline has ``NormalizePercentiles``, any integer or floating type.

    Returns:
        mmdet's ``DetDataSample`` at the image's size: ``pred_instances`` (bboxes, scores, labels, and masks as run lengths;
        ``pycocotools.mask.decode(list(masks))`` gives (H, W, K)),
        ``pred_instance_map`` (1, H, W; 0 = none, k = the k-th instance) and ``pred_sem_seg`` (1, H, W; 0 = background);
        of a :class:`BoundarySegmentor` ``pred_boundary`` (1, H, W), the probability of a boundary.

    Example::

        from mmseg_instancenet.apis import init_model, segment_image

        model = init_model('configs/instancenet_digits.py', 'work_dirs/instancenet_digits/epoch_5.pth', device='cpu')
        result = segment_image(model, 'data/digits/val/00001.png')
        print(len(result.pred_instances), result.pred_instance_map.data.shape)

    Raises:
        ValueError: if the file is no whole image, or the image does not fit the pipeline or the network.
        OSError: if the file is not there or cannot be opened.
    """
    init_default_scope('mmseg')
    load, *others = image_steps(images_of(model.cfg.test_dataloader.dataset)['pipeline'])
    channels = _input_channels(model)
    if isinstance(image, (str, Path)):
        path = str(image)
        results = run_on_image([load], dict(img_path=path, img_id=0))
    else:
        path = None
        array = _as_loaded(np.asarray(image), load, others, channels)
        results = dict(img=array, img_path=None, img_id=0, img_shape=array.shape[:2], ori_shape=array.shape[:2])
    shape, dtype = results['img'].shape, results['img'].dtype
    if channels is not None and shape[2:] in ((), (1,)):
        results['img'] = np.repeat(np.atleast_3d(results['img']), channels, axis=2)
    packed = run_on_image(others, results)
    inputs, sample = packed['inputs'], packed['data_samples']
    if channels not in (None, len(inputs)):
        raise ValueError(
            f'{path or "image"}: expected (H, W, {channels}) for this network or (H, W) grey, got {shape} {dtype}: choose or '
            'convert the channels, a fourth one is often transparency'
        )
    sample.set_metainfo(dict(img_path=path))
    with torch.no_grad():
        return model.test_step(dict(inputs=[inputs], data_samples=[sample]))[0]


def _as_loaded(
    array: np.ndarray, load: BaseTransform, others: Sequence[BaseTransform], channels: int | None
) -> np.ndarray:
    """Converts an array to the type that the loading step would return; raises ValueError if that is impossible."""
    keeps = getattr(load, 'keeps_values', False) or any(isinstance(step, NormalizePercentiles) for step in others)
    to_float32 = getattr(load, 'to_float32', False)
    any_type = keeps or to_float32 or not isinstance(load, LoadImageFromFile)
    number = np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    fits = number if any_type else array.dtype == np.uint8
    if not fits or array.ndim not in (2, 3):
        raise ValueError(
            f'image: expected {"integers or floating point" if any_type else "uint8"}, (H, W, {channels or "C"}) for this '
            f'network or (H, W) grey, got {array.shape} {array.dtype}'
            + ('' if any_type else ': scale it to 0 .. 255 as the images of the training were')
        )
    return array.astype(np.float32) if to_float32 else array


def _input_channels(model: nn.Module) -> int | None:
    """The number of input channels of the network: the length of the preprocessor's mean, or the input of the
    backbone's first convolution."""
    mean = getattr(model.data_preprocessor, 'mean', None)
    if mean is not None and len(mean) > 1:
        return len(mean)
    return next(
        (layer.in_channels for layer in model.get_submodule('backbone').modules() if isinstance(layer, nn.Conv2d)), None
    )
