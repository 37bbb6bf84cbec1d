# Touching nuclei at full resolution, on a network that a laptop trains: crops of the pictures as they are, no resizing.
#   python tools/train.py configs/instancenet_unet_dsb2018.py
_base_ = [
    './_base_/models/instancenet_unet.py',
    './_base_/datasets/coco_instance_maps.py',
    './_base_/default_runtime.py',
]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='mmdet.RandomCrop', crop_size=(192, 192), allow_negative_crop=True),
    dict(type='mmdet.RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='MasksToMaps'),
    dict(type='PackInstanceMaps'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='MasksToMaps'),
    dict(type='PackInstanceMaps'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmdet.RandomFlip', prob=0.0), dict(type='mmdet.RandomFlip', prob=1.0)],
            [dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True)],
            [dict(type='MasksToMaps')],
            [dict(type='PackInstanceMaps')],
        ],
    ),
]
data = dict(data_root='data/dsb2018/', data_prefix=dict(img='images/'), metainfo=dict(classes=('nucleus',)))
train_dataloader = dict(dataset=dict(ann_file='train.json', pipeline=train_pipeline, **data))
val_dataloader = dict(dataset=dict(ann_file='val.json', pipeline=test_pipeline, **data))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='CocoInstanceMetric', metric=['segm', 'bbox']),
    dict(type='CountingMetric'),  # what those ask for who count nuclei
    dict(type='ForegroundIoUMetric'),
]
test_evaluator = val_evaluator

# Only neighbours need different embeddings; what lies apart is told apart by not being connected.
model = dict(
    decode_head=dict(
        num_classes=2,
        loss_decode=dict(_delete_=True, type='CrossEntropyLoss', avg_non_ignore=True),
        loss_embedding=dict(push_distance=16),  # pixels: a nucleus is about twenty of them wide
    ),
    grouper=dict(connected=True, min_size=16),  # the smallest annotated nuclei have about twenty pixels
)

randomness = dict(seed=0)
train_cfg = dict(max_epochs=60, val_interval=10)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.005, weight_decay=1e-4), clip_grad=dict(max_norm=10)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=60, eta_min=1e-6),
]
