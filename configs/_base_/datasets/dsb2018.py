# Nuclei of the Data Science Bowl 2018 in COCO format at data/dsb2018: train.json, val.json, images/. Images keep their size.
_base_ = './coco_instance_maps.py'

data_root = 'data/dsb2018/'
data = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=dict(classes=('nucleus',)))
# Every tenth training image chooses threshold, min_size and score_thr (tools/tune.py), and is not trained on.
held_back = 10
num_training_images = 415

load_image = dict(type='LoadImageFromFile', color_type=3)  # BGR of 8 or 16 bits, whatever the file holds
normalize = dict(type='NormalizePercentiles')  # 1 and 99.8 to 0 and 1: fluorescence uses a tenth of its range
load_masks = dict(type='LoadInstanceMasks')
train_pipeline = [
    load_image,
    normalize,
    load_masks,
    dict(type='MasksToMaps'),
    # Crops of 160 pixels hold the largest nuclei whole, and cost a fifth of an image of 360.
    dict(type='RandomScaledCropMaps', size=160, scale=(0.7, 1.4), object_share=0.9),
    dict(type='RandomTurnMaps'),
    dict(type='RandomIntensity'),
    dict(type='PackInstanceMaps'),
]
test_pipeline = [load_image, normalize, load_masks, dict(type='MasksToMaps'), dict(type='PackInstanceMaps')]
tta_pipeline = [load_image, normalize, _base_.flipped_views]

train_dataloader = dict(
    batch_size=6,
    num_workers=1,
    dataset=dict(
        ann_file='train.json',
        indices=[index for index in range(num_training_images) if index % held_back != held_back - 1],
        pipeline=train_pipeline,
        # Normalised images and painted masks of the 374 images take 1.1; loading them takes four times as long as the rest.
        cache_gigabytes=1.5,
        **data,
    ),
)
val_dataloader = dict(num_workers=1, dataset=dict(ann_file='val.json', pipeline=test_pipeline, **data))
test_dataloader = val_dataloader
tune_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoInstanceDataset',
        ann_file='train.json',
        indices=list(range(held_back - 1, num_training_images, held_back)),
        test_mode=True,
        pipeline=test_pipeline,
        **data,
    ),
)

val_evaluator = [
    dict(type='CocoInstanceMetric', metric=['segm', 'bbox']),
    # AP* (accuracy_50), count error, splits and merges, for those who count nuclei.
    dict(type='CountingMetric'),
    dict(type='ForegroundIoUMetric'),
]
test_evaluator = val_evaluator
