# The DeepLabV3+ head on the UNet for digits.
_base_ = './unet_for_digits.py'

model = dict(
    neck=dict(type='FineToCoarse'),
    decode_head=dict(
        type='EmbeddingHead',
        in_channels=128,
        channels=48,
        dilations=(1, 2, 3, 4),  # the coarsest map of a 64 x 64 image measures 8 x 8
        c1_in_channels=16,
        c1_channels=16,
    ),
)
