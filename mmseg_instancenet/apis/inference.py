"""Inference from Python with OpenMMLab's data samples: builds the model of a config, and predicts one image."""

from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmseg.apis import init_model as init_mmseg_model

from ..engine import register_safe_loaders
from ..models import BoundarySegmentor, EmbeddingSegmentor
from .image_input import ImageInput
from .model_files import config_and_checkpoint, read_config


def init_model(
    config: str | Path | Config,
    checkpoint: str | None = None,
    device: str = 'cuda:0',
    cfg_options: dict | None = None,
) -> EmbeddingSegmentor | BoundarySegmentor:
    """mmseg's ``init_model``: the model of a config, in evaluation mode, with the weights of a checkpoint if one is given.

    The settings that ``tools/tune.py`` has stored beside the checkpoint come before those of the config, unless it has
    ``use_tuned_settings = False``. From here on MMEngine reads checkpoints without running code from them
    (:func:`register_safe_loaders`).

    Args:
        config: name of a shipped model (:func:`shipped_models`) or folder of a training (``work_dirs/..``), which bring their
            weights; config file, or what was read from one, which stays as it is.
        checkpoint: file or address.
        device: where the model shall be, 'cpu' for example.
        cfg_options: settings in place of the config's and of the tuned ones, nested keys joined by dots.

    Raises:
        FileNotFoundError: if there is no such model or config.
        ValueError: if the json with the tuned settings is damaged.
    """
    register_safe_loaders()
    config, checkpoint = config_and_checkpoint(config, checkpoint)
    return init_mmseg_model(read_config(config, checkpoint, cfg_options), checkpoint, device)


def segment_image(model: EmbeddingSegmentor | BoundarySegmentor, image: str | Path | np.ndarray) -> DetDataSample:
    """Finds the instances, or the boundaries, of one image: :class:`InstanceInferencer` for code that is built on OpenMMLab.

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

        model = init_model('configs/instancenet_digits.py', 'work_dirs/instancenet_digits/epoch_6.pth', device='cpu')
        result = segment_image(model, 'data/digits/val/00001.png')
        print(len(result.pred_instances), result.pred_instance_map.data.shape)

    Raises:
        ValueError: if the file is no whole image, or the image does not fit the pipeline or the network.
        OSError: if the file is not there or cannot be opened.
    """
    packed = ImageInput(model, model.cfg)(image)
    with torch.no_grad():
        return model.test_step({key: [value] for key, value in packed.items()})[0]
