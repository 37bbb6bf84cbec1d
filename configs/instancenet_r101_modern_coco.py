# Where one would start today, not the paper's: ResNet-101, one phase with warm-up and cosine, AdamW, mixed precision, 16
# images a batch with synchronised batch norm, eight embedding values, coordinates, and the scale varied.
#   bash tools/dist_train.sh configs/instancenet_r101_modern_coco.py 4
_base_ = './instancenet_r101_coco.py'

sync_bn = 'torch'  # MMEngine converts the batch norms in distributed runs only
model = dict(
    decode_head=dict(embedding_dims=8, coordinates=True),
    backbone=dict(norm_cfg=dict(momentum=0.1)),  # decay 0.99 is slow at this batch size
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadInstanceMasks'),
    dict(type='RandomResize', resize_type='mmdet.Resize', scale=(640, 640), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmdet.RandomCrop', crop_size=(640, 640), allow_negative_crop=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='MasksToMaps'),
    dict(type='PackInstanceMaps'),
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))  # on each of four GPUs
train_cfg = dict(max_epochs=36, val_interval=4)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(_delete_=True, type='AdamW', lr=0.0002, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=36, eta_min=1e-6),
]
custom_hooks = _base_.custom_hooks[1:]  # without the FreezeHook
auto_scale_lr = dict(base_batch_size=16)
