# mmseg's UNet with five stages at full resolution, small enough for two CPU cores (1.8 million weights, 3.7 MB in float16).
norm_cfg = dict(type='BN')
model = dict(
    type='EmbeddingSegmentor',
    data_preprocessor=dict(
        type='InstanceMapDataPreprocessor',
        mean=None,  # NormalizePercentiles has mapped the image to 0 .. 1
        std=None,
        bgr_to_rgb=True,
        pad_size_divisor=16,  # the UNet halves four times
        channels_last=True,  # half as long again on CPU otherwise
    ),
    backbone=dict(
        type='UNet',
        base_channels=16,
        num_stages=5,  # cells of 16 pixels at the coarsest: a large nucleus is a hundred pixels wide
        strides=(1, 1, 1, 1, 1),
        enc_num_convs=(2, 2, 2, 2, 2),
        dec_num_convs=(2, 2, 2, 2),
        downsamples=(True, True, True, True),
        enc_dilations=(1, 1, 1, 1, 1),
        dec_dilations=(1, 1, 1, 1),
        norm_cfg=norm_cfg,
    ),
    # One convolution: depthwise ones at full resolution, as in DeepLabV3+'s head, took half of the network's time.
    decode_head=dict(
        type='EmbeddingFCNHead',
        in_channels=16,
        in_index=4,
        channels=32,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0,
        num_classes=2,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='WeightedCrossEntropyLoss'),
    ),
    test_cfg=dict(mode='whole', classes='predicted'),
)
