# Cityscapes: mmseg's DeepLabV3+ with InstanceNet's loss and grouping. People and vehicles are instances, the eleven other
# classes are stuff; predictions have both in one map (pred_panoptic_seg). Not trained by us. Data at data/cityscapes as mmseg
# wants them (leftImg8bit/, gtFine/ with *_labelTrainIds.png and *_instanceIds.png).
#   bash tools/dist_train.sh configs/instancenet_deeplabv3plus_r50_cityscapes.py 4
_base_ = ['mmseg::_base_/models/deeplabv3plus_r50-d8.py', './_base_/default_runtime.py']

crop_size = (512, 1024)
model = dict(
    type='EmbeddingSegmentor',
    data_preprocessor=dict(size=crop_size),
    embedding=dict(dims=8, loss=dict(type='DiscriminativeLoss')),
    grouper=dict(type='CenterGrouping', mode='shift', threshold=1.2),  # the paper's best
    background=False,  # classes begin at 0
    thing_classes=[11, 12, 13, 14, 15, 16, 17, 18],  # person, rider, car, truck, bus, train, motorcycle, bicycle
)

load = [dict(type='LoadAnnotations'), dict(type='LoadInstanceIds', rule='cityscapes')]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    *load,
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackInstanceMaps'),
]
# Maps come after the resize, so that they keep the image's original size.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 1024), keep_ratio=True),
    *load,
    dict(type='PackInstanceMaps'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,  # batch norm fails on a batch of one image
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# Objects come from the maps; mmseg's own IoU, since there is no background.
val_evaluator = [dict(type='CocoInstanceMetric', metric='segm'), dict(type='IoUMetric')]
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=108, val_interval=12)  # 160,000 iterations on 2,975 images, mmseg's longest for it
# mmseg's for Cityscapes, by epochs.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005))
param_scheduler = dict(type='PolyLR', power=0.9, eta_min=1e-4, by_epoch=True, convert_to_iter_based=True)
