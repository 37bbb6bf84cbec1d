# Touching nuclei at full resolution, on a network that two CPU cores train in about an hour.
#   python tools/train.py configs/instancenet_unet_dsb2018.py
#   python tools/tune.py configs/instancenet_unet_dsb2018.py work_dirs/instancenet_unet_dsb2018/epoch_120.pth
#   python tools/test.py work_dirs/instancenet_unet_dsb2018/epoch_120_tuned.py work_dirs/instancenet_unet_dsb2018/epoch_120.pth
# It is InstanceNet's network with the loss of Neven et al. (CVPR 2019), which InstanceNet's paper names as its neighbour: at
# equal training it finds more nuclei than the pull and push loss (instancenet_unet_discriminative_dsb2018.py).
_base_ = [
    './_base_/models/instancenet_unet_nuclei.py',
    './_base_/datasets/dsb2018.py',
    './_base_/default_runtime.py',
]

model = dict(
    decode_head=dict(
        embedding_dims=4,  # x, y, bandwidth, seed
        # A mask around a nucleus reaches .83 units at the start (bandwidth 0): 7 pixels, near the median nucleus' radius of 9.
        pixels_per_unit=8.0,
        loss_embedding=dict(type='SoftMaskLoss'),  # the spread counts a hundred times as much as in the authors' code
    ),
    # Nuclei in contact have different embeddings; min_size: the smallest annotated nuclei have about twenty pixels.
    grouper=dict(type='SeedGrouping', connected=True, min_size=24),
    group_scorer=dict(type='SeedScorer'),
)

randomness = dict(seed=0)
train_cfg = dict(max_epochs=120, val_interval=30)
optim_wrapper = dict(
    type='BFloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.003, weight_decay=1e-4),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=120, eta_min=1e-6),
]
default_hooks = dict(checkpoint=dict(interval=10, save_best=None))  # the last average is the best
custom_hooks = [
    *_base_.custom_hooks,
    # Tested, and saved, is a moving average of the weights. At mmdet's gamma of 2000 it covers some forty iterations at the end
    # of 7,400; by then the learning rate is next to nothing anyway.
    dict(type='EMAHook', ema_type='mmdet.ExpMomentumEMA', momentum=0.002, update_buffers=True),
]
