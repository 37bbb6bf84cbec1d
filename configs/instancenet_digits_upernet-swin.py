# UPerNet on Swin from mmseg's config on handwritten digits: small, from random weights, docs/mmseg_configs.md.
#   python tools/train.py configs/instancenet_digits_upernet-swin.py
_base_ = [
    'mmseg::_base_/models/upernet_swin.py',
    './_base_/models/digits_parts.py',
    './_base_/datasets/digits.py',
    './_base_/schedules/adamw_digits.py',
    './_base_/default_runtime.py',
]

model = dict(
    type='EmbeddingSegmentor',
    # Half the resolution instead of a quarter, for strokes of two or three pixels.
    backbone=dict(
        embed_dims=24, patch_size=2, strides=(2, 2, 2, 2), window_size=8, depths=[2, 2, 2, 2], drop_path_rate=0.0
    ),
    decode_head=dict(
        in_channels=[24, 48, 96, 192], channels=48, num_classes=11, dropout_ratio=0, loss_decode=_base_.class_loss
    ),
    auxiliary_head=dict(in_channels=96, channels=32, num_classes=11, loss_decode=_base_.class_loss),
    embedding=_base_.branch,
    grouper=_base_.grouper,
)

randomness = dict(seed=0)
train_cfg = dict(max_epochs=4, val_interval=4)
