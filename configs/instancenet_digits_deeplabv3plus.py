# DeepLabV3+ from mmseg's config on handwritten digits: small, from random weights, docs/mmseg_configs.md.
#   python tools/train.py configs/instancenet_digits_deeplabv3plus.py
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    './_base_/datasets/digits.py',
    './_base_/schedules/adamw_digits.py',
    './_base_/default_runtime.py',
]

# Fourteen of fifteen pixels are background.
class_loss = dict(type='WeightedCrossEntropyLoss', class_weight=[0.1] + [1.0] * 10)
model = dict(
    type='EmbeddingSegmentor',
    data_preprocessor=dict(size=None, size_divisor=8),  # the UNet halves three times
    pretrained=None,
    # mmseg's UNet as in instancenet_digits.py: strokes are two or three pixels wide.
    backbone=dict(
        _delete_=True,
        type='UNet',
        base_channels=16,
        num_stages=4,
        strides=(1, 1, 1, 1),
        enc_num_convs=(2, 2, 2, 2),
        dec_num_convs=(2, 2, 2),
        downsamples=(True, True, True),
        enc_dilations=(1, 1, 1, 1),
        dec_dilations=(1, 1, 1),
        norm_cfg=dict(type='BN'),
    ),
    neck=dict(type='FineToCoarse'),
    decode_head=dict(
        in_channels=128,
        channels=48,
        dilations=(1, 2, 3, 4),  # the coarsest map of a 64 x 64 image measures 8 x 8
        c1_in_channels=16,
        c1_channels=16,
        num_classes=11,
        dropout_ratio=0,
        loss_decode=class_loss,
    ),
    auxiliary_head=dict(in_channels=64, channels=32, num_classes=11, loss_decode=class_loss),
    embedding=dict(
        dims=8,
        coordinates=True,
        hidden_channels=32,
        loss=dict(type='DiscriminativeLoss', class_agnostic=True, loss_weight=0.1),
    ),
    grouper=dict(type='CenterGrouping', class_agnostic=True, min_size=10),
)

randomness = dict(seed=0)
train_cfg = dict(max_epochs=4, val_interval=4)
