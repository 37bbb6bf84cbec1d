# Penn-Fudan pedestrians in COCO format at data/penn_fudan: train.json (105 images), val.json (28), images/.
_base_ = './coco_instance_maps.py'

data_root = 'data/penn_fudan/'
data = dict(data_root=data_root, data_prefix=dict(img='images/'), metainfo=dict(classes=('person',)))
length = 513  # longer side when tested: the paper's for COCO
held_back = 10  # every tenth training image chooses the grouping's settings (tools/tune.py), and is not trained on
num_training_images = 105

load_masks = dict(type='LoadInstanceMasks')
crop_pipeline = [
    dict(type='LoadImageFromFile'),
    load_masks,
    dict(
        type='RandomChoiceResize',
        resize_type='mmdet.Resize',  # mmcv's Resize, the default, fails on mmdet's boxes
        scales=[(410, 410), (513, 513), (640, 640), (768, 768)],  # longer side: 0.8 to 1.5 times that of the test
        keep_ratio=True,
    ),
    # Nine of ten people are less than 384 pixels high at the size of the test. A crop without anyone teaches background.
    dict(type='mmdet.RandomCrop', crop_size=(384, 384), allow_negative_crop=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.Pad', size=(384, 384), pad_val=dict(img=(127, 127, 127))),  # CopyPaste takes images of one size
]
# People of one image are pasted into another (Ghiasi et al., CVPR 2021): AP .547 became .582.
train_pipeline = [
    dict(type='mmdet.CopyPaste', max_num_pasted=6),  # five at most: images have one to eight people
    dict(type='mmdet.PhotoMetricDistortion'),  # a hundred photos have few colours
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
    num_workers=1,  # loads faster than a CPU trains
    dataset=dict(
        _delete_=True,
        type='mmdet.MultiImageMixDataset',
        dataset=dict(
            type='CocoInstanceDataset',
            ann_file='train.json',
            indices=[index for index in range(num_training_images) if index % held_back != held_back - 1],
            pipeline=crop_pipeline,
            **data,
        ),
        pipeline=train_pipeline,
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
