# Overfits sixteen photos of COCO, to test whether the recipe of COCO, with its 81 classes, reaches the AP of perfect embeddings.
# Trained and tested on the same photos at half of the length: the metrics do not hold for other photos.
#   python tools/train.py configs/instancenet_efficientnet-lite0_overfit_coco.py
#   python tools/analysis/perfect_embeddings.py configs/instancenet_efficientnet-lite0_overfit_coco.py --length 257
#   python tools/analysis/grouping_tables.py configs/instancenet_efficientnet-lite0_overfit_coco.py CHECKPOINT \
#       --grouper type=MeanShiftGrouping kernel=norm concentration=1
# data/coco_mini: 120 photos of train2017 in the order of their ids (train.json, images/).
_base_ = './instancenet_efficientnet-lite0_coco.py'

length = 257  # as for a CPU, see the base
# The first sixteen photos with two objects of one class, no crowd, and no object below 32 cells of 4 x 4 pixels, of which the
# stride of the map would decide, not the network: perfect embeddings reach an AP of .820 here, .645 on the first sixteen of all.
indices = [5, 6, 11, 15, 29, 37, 40, 47, 51, 52, 56, 71, 79, 98, 102, 107]
data = dict(data_root='data/coco_mini/', ann_file='train.json', data_prefix=dict(img='images/'), indices=indices)

train_pipeline = [  # without the flip: the photos are tested as they are
    dict(type='LoadImageFromFile'),
    dict(type='LoadInstanceMasks'),
    dict(type='ResizeLongerSide', length=length),
    dict(type='MasksToMaps'),
    dict(type='PackInstanceMaps'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeLongerSide', length=length),
    dict(type='LoadInstanceMasks'),
    dict(type='MasksToMaps'),
    dict(type='PackInstanceMaps'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **data))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **data))
test_dataloader = val_dataloader

model = dict(decode_head=dict(dropout_ratio=0.0))  # nothing here is to generalise

# 500 epochs of four iterations.
train_cfg = dict(max_epochs=500, val_interval=500)
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.0),  # nothing here is to generalise
    # The backbone as fast as the head: it need not stay near ImageNet.
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))),
)
param_scheduler = [
    # Until the moments of AdamW have adapted to the gradients.
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=500, eta_min=1e-6),
]
default_hooks = dict(checkpoint=dict(interval=250, max_keep_ckpts=1))
custom_hooks = _base_.custom_hooks[:-1]  # no EMAHook: the learning rate ends at almost nothing
