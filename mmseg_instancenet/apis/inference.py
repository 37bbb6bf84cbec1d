"""From Python: picture in, instances out."""

from pathlib import Path

import mmcv
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import init_model as init_mmseg_model

from ..engine import register_safe_loaders
from ..models import BoundarySegmentor, EmbeddingSegmentor


def init_model(
    config: str | Path | Config,
    checkpoint: str | None = None,
    device: str = 'cuda:0',
    cfg_options: dict | None = None,
) -> EmbeddingSegmentor | BoundarySegmentor:
    """mmseg's ``init_model``: the model of a config, in evaluation mode, with the weights of a checkpoint if one is given.

    From here on MMEngine reads checkpoints without running code from them (:func:`register_safe_loaders`).

    Args:
        config: file, or what was read from one.
        checkpoint: file or address.
        device: where the model shall be, 'cpu' for example.
        cfg_options: settings in place of the config's, nested keys joined by dots.
    """
    register_safe_loaders()
    return init_mmseg_model(config, checkpoint, device, cfg_options)


def segment_picture(model: EmbeddingSegmentor | BoundarySegmentor, picture: str | Path | np.ndarray) -> DetDataSample:
    """Finds the instances, or the boundaries, of one picture.

    Args:
        model: from ``init_model(config, checkpoint, device)``.
        picture: a file, or an array (H, W, 3) uint8 in BGR as OpenCV reads it, or (H, W) grey.

    Returns:
        mmdet's ``DetDataSample`` at the picture's size: ``pred_instances`` (bboxes, scores, labels, run-length encoded masks),
        ``pred_instance_map`` (1, H, W; 0 = none, k = the k-th instance) and ``pred_sem_seg`` (1, H, W; 0 = background);
        of a :class:`BoundarySegmentor` ``pred_boundary`` (1, H, W), the probability of a boundary.

    Example::

        from mmseg_instancenet.apis import init_model, segment_picture

        model = init_model('configs/instancenet_digits.py', 'work_dirs/instancenet_digits/epoch_5.pth', device='cpu')
        result = segment_picture(model, 'data/digits/val/00001.png')
        print(len(result.pred_instances), result.pred_instance_map.data.shape)
    """
    init_default_scope('mmseg')
    if isinstance(picture, (str, Path)):
        array = mmcv.imread(str(picture))
        if array is None:
            raise ValueError(f'not a picture that OpenCV can read: {picture}')
        path = str(picture)
    else:
        array, path = np.asarray(picture), None
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
            raise ValueError(f'expected a uint8 picture (H, W, 3) or (H, W), got {array.shape} {array.dtype}')
        if array.ndim == 2:
            array = np.repeat(array[:, :, None], 3, axis=2)
    # The first step loads the image.
    others = [step for step in model.cfg.test_dataloader.dataset.pipeline[1:] if not _needs_annotations(step)]
    packed = Compose([dict(type='mmdet.LoadImageFromNDArray'), *others])(dict(img=array, img_id=0))
    packed['data_samples'].set_metainfo(dict(img_path=path))
    with torch.no_grad():
        return model.test_step(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))[0]


def _needs_annotations(step: dict) -> bool:
    """Whether a step of a pipeline, after that which loads the image, loads annotations or makes label maps of them."""
    name = step['type'].split('.')[-1]
    return name.startswith('Load') or name in ('MasksToMaps', 'BoundaryConsensus', 'ClassesToInstances')
