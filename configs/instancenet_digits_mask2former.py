# Mask2Former from mmseg's config on handwritten digits: small, from random weights, docs/mmseg_configs.md.
#   python tools/train.py configs/instancenet_digits_mask2former.py
_base_ = [
    './_base_/models/mask2former_r50.py',
    './_base_/models/digits_parts.py',
    './_base_/datasets/digits.py',
    './_base_/schedules/adamw_digits.py',
    './_base_/default_runtime.py',
]

channels = 64
attention = dict(embed_dims=channels, num_heads=4)
feedforward = dict(embed_dims=channels, feedforward_channels=2 * channels)
positions = dict(num_feats=channels // 2)
model = dict(
    type='EmbeddingSegmentor',
    data_preprocessor=dict(size=None, size_divisor=8),  # the UNet halves three times
    backbone=dict(_delete_=True, **_base_.unet),
    neck=dict(type='FineToCoarse'),
    decode_head=dict(
        in_channels=[16, 32, 64, 128],
        strides=[1, 2, 4, 8],
        feat_channels=channels,
        out_channels=channels,
        num_classes=11,
        num_queries=20,  # for eleven classes
        pixel_decoder=dict(
            encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=feedforward)),
            positional_encoding=positions,
        ),
        positional_encoding=positions,
        transformer_decoder=dict(
            num_layers=2, layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=feedforward)
        ),
        loss_cls=dict(class_weight=[1.0] * 11 + [0.1]),
        train_cfg=dict(num_points=1024),  # of 64 x 64 pixels
    ),
    embedding=_base_.branch,
    grouper=_base_.grouper,
)

randomness = dict(seed=0)
train_cfg = dict(max_epochs=2, val_interval=2)
# Queries learn slowly: twice the iterations of smaller batches, and a rate at which the losses of the masks fall.
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=0.0003))
