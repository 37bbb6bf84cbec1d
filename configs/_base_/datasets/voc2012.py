# PASCAL VOC 2012 with SBD's masks for training (10,582 images), VOC's val for testing (1,449). The json files:
#   python tools/convert/voc_to_coco.py data/VOCdevkit/VOC2012 --sbd data/benchmark_RELEASE/dataset --out data/voc2012
_base_ = './flipped_views.py'

dataset_type = 'VOCInstanceDataset'
data_root = 'data/voc2012/'

load_masks = dict(type='LoadInstanceMasks')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_masks,
    # VOC's longer side is 500: half the size to one and a half times.
    dict(type='RandomResize', resize_type='mmdet.Resize', scale=(500, 500), ratio_range=(0.5, 1.5), keep_ratio=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='MasksToMaps'),
    dict(type='RandomRotateMaps', degrees=10),  # pixels from outside the image are ignored
    dict(type='RandomCropMaps', margin=20, divisor=8),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackInstanceMaps'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    load_masks,
    dict(type='MasksToMaps'),
    dict(type='PackInstanceMaps'),
]
tta_pipeline = [dict(type='LoadImageFromFile'), _base_.flipped_views]

train_dataloader = dict(
    batch_size=1,  # Kong & Fowlkes': every image has a size of its own; the head's batch norm has to be fixed
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='train_aug.json',
        data_prefix=dict(img=''),  # the json names the photos from where it lies
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
        ann_file='val.json',
        data_prefix=dict(img=''),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='CocoInstanceMetric', metric=['segm', 'bbox']),
    dict(type='RegionAveragePrecisionMetric', classwise=True),  # AP^r
    dict(type='ForegroundIoUMetric'),
    dict(type='TrimapIoUMetric'),
]
test_evaluator = val_evaluator
