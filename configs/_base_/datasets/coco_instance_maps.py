# COCO 2017 at the usual place. Another COCO-format set: see configs/instancenet_r50_dsb2018.py.
_base_ = './flipped_views.py'

dataset_type = 'CocoInstanceDataset'
data_root = 'data/coco/'
length = 513  # longer side, aspect ratio kept: the paper's

load_masks = dict(type='LoadInstanceMasks')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_masks,
    dict(type='ResizeLongerSide', length=length),
    dict(type='mmdet.RandomFlip', prob=0.5),  # the paper's only augmentation
    dict(type='MasksToMaps'),
    dict(type='PackInstanceMaps'),
]
# Annotations come after the resize, so that they keep the image's original size.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeLongerSide', length=length),
    load_masks,
    dict(type='MasksToMaps'),
    dict(type='PackInstanceMaps'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeLongerSide', length=length),
    _base_.flipped_views,
]

train_dataloader = dict(
    batch_size=4,  # the paper's
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,  # the ASPP's image pooling cannot normalise a batch of one
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# The metric reads the annotation file of the data set that it is given.
val_evaluator = [dict(type='CocoInstanceMetric', metric=['segm', 'bbox']), dict(type='ForegroundIoUMetric')]
test_evaluator = val_evaluator
