# BSDS500 in its official layout: images/{train,val,test}/*.jpg, groundTruth/{train,val,test}/*.mat. As usual in the field, the
# 300 images of train and val train, the 200 of test test. With train and val alone:
#   --cfg-options train_dataloader.dataset.splits=train val_dataloader.dataset.splits=val test_dataloader.dataset.splits=val
dataset_type = 'BSDSDataset'
data_root = 'data/BSDS500/'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadBSDSBoundaries'),
    dict(type='BoundaryConsensus', consensus=0.5),
    # Never smaller than the images (481 x 321): a resized label would lose pieces of its lines of one pixel.
    dict(type='RandomResize', resize_type='mmdet.Resize', scale=(481, 321), ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='ClassesToInstances'),
    dict(type='RandomRotateMaps', degrees=10),  # pixels from outside the image are ignored
    dict(type='RandomCropMaps', margin=20, divisor=8),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackInstanceMaps'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadBSDSBoundaries'),
    dict(type='PackInstanceMaps'),
]

train_dataloader = dict(
    batch_size=1,  # Kong & Fowlkes': every image has a size of its own; the head's batch norm has to be fixed
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, splits=['train', 'val'], pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, splits=['test'], test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='BoundaryMetric', num_workers=4)
test_evaluator = val_evaluator
