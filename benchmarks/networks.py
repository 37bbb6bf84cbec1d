"""The networks that benchmarks run: ours, mmseg's and mmdet's, with random weights."""

import logging
from pathlib import Path
from typing import Any

import mmdet.models  # registers its models
import numpy as np
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from torch import Tensor, nn

OUR_CONFIG = 'configs/instancenet_r50_coco.py'

SMALL_NETWORK = {
    'model.backbone.depth': 18,
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.decode_head.in_channels': 64,
    'model.decode_head.channels': 16,
    'model.decode_head.c1_in_channels': 8,
    'model.decode_head.c1_channels': 8,
}
"""Settings in place of :data:`OUR_CONFIG`'s that make a network of the same parts in little time."""


def our_config(quick: bool) -> Config:
    """The model of :data:`OUR_CONFIG`, with a small network if ``quick``."""
    config = Config.fromfile(Path(__file__).parents[1] / OUR_CONFIG)
    if quick:
        config.merge_from_dict(SMALL_NETWORK)
    return config.model


def build_ours(config: Config, device: str) -> nn.Module:
    """Builds a model of mmseg's registry with random weights, the same in every run."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(config)
    _initialize(model)
    return model.to(device)


def build_mmdet(config_file: str, settings: dict[str, Any], device: str) -> nn.Module:
    """Builds a model of a config that comes with mmdet, with random weights, for testing.

    Args:
        config_file: below mmdet's configs folder, such as 'solov2/solov2_r50_fpn_1x_coco.py'.
        settings: in place of the model's own, keys joined by dots.
        device: of the weights.
    """
    config = Config.fromfile(Path(mmdet.__file__).parent / '.mim/configs' / config_file)
    nothing_downloaded = {'backbone.init_cfg': None}
    config.merge_from_dict({f'model.{key}': value for key, value in {**settings, **nothing_downloaded}.items()})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MMDET_MODELS.build(config.model)
    _initialize(model)
    return model.to(device).eval()


def _initialize(model: nn.Module) -> None:
    # MMEngine logs every parameter.
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    model.init_weights()


def random_image(side: int, seed: int = 0) -> np.ndarray:
    """A random image (side, side, 3) uint8 of blurred spots, the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, (side, side), mode='bilinear')[0]
    return (smooth * 255).byte().permute(1, 2, 0).contiguous().numpy()


def image_batch(side: int, images: int = 1) -> dict[str, list]:
    """A batch for ``test_step``, as from a data loader: images that need no resizing."""
    meta = dict(ori_shape=(side, side), img_shape=(side, side), pad_shape=(side, side), scale_factor=(1.0, 1.0))
    return {
        'inputs': [torch.from_numpy(random_image(side, seed)).permute(2, 0, 1) for seed in range(images)],
        'data_samples': [DetDataSample(metainfo=dict(meta, img_id=index)) for index in range(images)],
    }


def labelled_batch(instance_map_NHW: Tensor, class_map_NHW: Tensor) -> dict[str, list]:
    """A batch for ``train_step``, as from a data loader: images with the given label maps."""
    batch = image_batch(instance_map_NHW.shape[-1], len(instance_map_NHW))
    for sample, instance_map_HW, class_map_HW in zip(
        batch['data_samples'], instance_map_NHW, class_map_NHW, strict=True
    ):
        sample.gt_sem_seg = PixelData(data=class_map_HW[None])
        sample.set_field(PixelData(data=instance_map_HW[None]), 'gt_instance_map', dtype=PixelData)
    return batch
