"""From Python: picture in, instances out."""

from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import init_model as init_mmseg_model
from torch import nn

from ..engine import register_safe_loaders
from ..models import BoundarySegmentor, EmbeddingSegmentor
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


def segment_picture(model: EmbeddingSegmentor | BoundarySegmentor, picture: str | Path | np.ndarray) -> DetDataSample:
    """Finds the instances, or the boundaries, of one picture.

    Args:
        model: from ``init_model(config, checkpoint, device)``.
        picture: a file, or an array (H, W, 3) uint8 in BGR as OpenCV reads it, or (H, W) grey.
            Where the test pipeline has ``NormalizePercentiles``, an array of any integer or floating type, (H, W, C) with the
            channels of the network or (H, W) or (H, W, 1) grey, which is repeated for each of them. A file is then read as the
            pipeline's first step reads it; 16 bits are kept unless that step has a ``color_type``.

    Returns:
        mmdet's ``DetDataSample`` at the picture's size: ``pred_instances`` (bboxes, scores, labels, run-length encoded masks),
        ``pred_instance_map`` (1, H, W; 0 = none, k = the k-th instance) and ``pred_sem_seg`` (1, H, W; 0 = background);
        of a :class:`BoundarySegmentor` ``pred_boundary`` (1, H, W), the probability of a boundary.

    Example::

        from mmseg_instancenet.apis import init_model, segment_picture

        model = init_model('configs/instancenet_digits.py', 'work_dirs/instancenet_digits/epoch_5.pth', device='cpu')
        result = segment_picture(model, 'data/digits/val/00001.png')
        print(len(result.pred_instances), result.pred_instance_map.data.shape)

    Raises:
        ValueError: if the file cannot be read, or the array does not fit the pipeline or the network.
    """
    init_default_scope('mmseg')
    load, *others = model.cfg.test_dataloader.dataset.pipeline  # the first step loads the image
    others = [step for step in others if not _needs_annotations(step)]
    path = str(picture) if isinstance(picture, (str, Path)) else None
    if any(_name(step) == 'NormalizePercentiles' for step in others):
        array = np.asarray(picture) if path is None else _read_all_bits(path, load)
        array = _with_channels(array, _input_channels(model), path)
    elif path is not None:
        array = mmcv.imread(path)
        if array is None:
            raise ValueError(f'not a picture that OpenCV can read: {path}')
    else:
        array = np.asarray(picture)
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
            raise ValueError(f'expected a uint8 picture (H, W, 3) or (H, W), got {array.shape} {array.dtype}')
        if array.ndim == 2:
            array = np.repeat(array[:, :, None], 3, axis=2)
    size = array.shape[:2]
    packed = Compose(others)(dict(img=array, img_path=path, img_id=0, img_shape=size, ori_shape=size))
    packed['data_samples'].set_metainfo(dict(img_path=path))
    with torch.no_grad():
        return model.test_step(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))[0]


def _read_all_bits(path: str, load: dict) -> np.ndarray:
    """Reads a file by the pipeline's first step; of one that leaves ``color_type`` away all bits, where mmcv takes eight."""
    if _name(load) == 'LoadImageFromFile' and load.get('imdecode_backend', 'cv2') == 'cv2':
        load = dict(color_type=cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) | dict(load)
    try:
        return Compose([load])(dict(img_path=path))['img']
    except AssertionError as error:  # mmcv's, where OpenCV returned nothing
        raise ValueError(
            f"not an image that {dict(load)} can read: {path}; color_type='unchanged' reads floating point tif"
        ) from error


def _with_channels(image: np.ndarray, channels: int, path: str | None) -> np.ndarray:
    """An image (H, W, channels) from one that has them or is grey; ValueError for any other."""
    number = np.issubdtype(image.dtype, np.integer) or np.issubdtype(image.dtype, np.floating)
    if not number or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (channels,)):
        raise ValueError(
            f'{path or "image"}: expected integers or floating point, (H, W, {channels}) for this network or (H, W) grey, got '
            f'{image.shape} {image.dtype}: choose or convert the channels, a fourth one is often transparency'
        )
    image = np.atleast_3d(image)
    return np.repeat(image, channels // image.shape[2], axis=2)


def _input_channels(model: nn.Module) -> int:
    """The number of channels that the backbone's first convolution takes."""
    return next(layer.in_channels for layer in model.backbone.modules() if isinstance(layer, nn.Conv2d))


def _name(step: dict) -> str:
    return step['type'].split('.')[-1]


def _needs_annotations(step: dict) -> bool:
    """Whether a step of a pipeline, after that which loads the image, loads annotations or makes label maps of them."""
    name = _name(step)
    return name.startswith('Load') or name in ('MasksToMaps', 'BoundaryConsensus', 'ClassesToInstances')
