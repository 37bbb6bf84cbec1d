# DeepLabV3+ from mmseg's config on handwritten digits: small, from random weights, docs/mmseg_configs.md.
#   python tools/train.py configs/instancenet_digits_deeplabv3plus.py
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    './_base_/models/digits_parts.py',
    './_base_/datasets/digits.py',
    './_base_/schedules/adamw_digits.py',
    './_base_/default_runtime.py',
]

model = dict(
    type='EmbeddingSegmentor',
    # The UNet halves three times; size_divisor is for training, test_cfg for testing.
    data_preprocessor=dict(size=None, size_divisor=8, test_cfg=dict(size_divisor=8)),
    pretrained=None,
    backbone=dict(_delete_=True, **_base_.unet),
    neck=dict(type='FineToCoarse'),
    decode_head=dict(
        in_channels=128,
        channels=48,
        dilations=(1, 2, 3, 4),  # the coarsest map of a 64 x 64 image measures 8 x 8
        c1_in_channels=16,
        c1_channels=16,
        num_classes=11,
        dropout_ratio=0,
        loss_decode=_base_.class_loss,
    ),
    auxiliary_head=dict(in_channels=64, channels=32, num_classes=11, loss_decode=_base_.class_loss),
    embedding=_base_.branch,
    grouper=_base_.grouper,
)

randomness = dict(seed=0)
train_cfg = dict(max_epochs=4, val_interval=4)
