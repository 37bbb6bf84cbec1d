# Handwritten digits on 64 x 64 canvases, written to data_root when they are first needed.
_base_ = './flipped_views.py'

dataset_type = 'DigitsDataset'
data_root = 'data/digits/'

load_masks = dict(type='LoadInstanceMasks')
pipeline = [dict(type='LoadImageFromFile'), load_masks, dict(type='MasksToMaps'), dict(type='PackInstanceMaps')]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_masks,
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='MasksToMaps'),
    dict(type='PackInstanceMaps'),
]
tta_pipeline = [dict(type='LoadImageFromFile'), _base_.flipped_views]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,  # a worker would take a core from the training
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    drop_last=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
        cache_gigabytes=0.2,  # 5000 images take 0.07
    ),
)
val_dataloader = dict(
    batch_size=25,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = [dict(type='CocoInstanceMetric', metric=['segm', 'bbox']), dict(type='ForegroundIoUMetric')]
test_evaluator = val_evaluator
