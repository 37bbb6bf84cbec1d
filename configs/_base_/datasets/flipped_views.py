# tools/test.py --tta: an image and its mirror image. The annotations come last, so that they keep the image's original size.
flipped_views = dict(
    type='TestTimeAug',
    transforms=[
        [dict(type='mmdet.RandomFlip', prob=0.0), dict(type='mmdet.RandomFlip', prob=1.0)],
        [dict(type='LoadInstanceMasks')],
        [dict(type='MasksToMaps')],
        [dict(type='PackInstanceMaps')],
    ],
)
