# mmseg's UNet with four stages at full resolution: for strokes of two or three pixels, which a map at a quarter of the resolution
# cannot draw. Small enough for two CPU cores. The head is that of instancenet_unet.py or instancenet_unet_digits.py.
norm_cfg = dict(type='BN')
model = dict(
    type='EmbeddingSegmentor',
    data_preprocessor=dict(
        type='InstanceMapDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=8,  # the UNet halves three times
        channels_last=True,  # half as long again on CPU otherwise
    ),
    backbone=dict(
        type='UNet',
        base_channels=16,
        num_stages=4,
        strides=(1, 1, 1, 1),
        enc_num_convs=(2, 2, 2, 2),
        dec_num_convs=(2, 2, 2),
        downsamples=(True, True, True),
        enc_dilations=(1, 1, 1, 1),
        dec_dilations=(1, 1, 1),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        in_index=3,
        dropout_ratio=0,
        num_classes=11,
        embedding_dims=8,
        coordinates=True,
        norm_cfg=norm_cfg,
        align_corners=False,
        # Fourteen of fifteen pixels are background: at equal weight the digits' classes would hardly be learnt.
        loss_decode=dict(type='WeightedCrossEntropyLoss', class_weight=[0.1] + [1.0] * 10),
        # The embedding is learnt within seconds, the classes need the rest of the time.
        loss_embedding=dict(type='DiscriminativeLoss', loss_weight=0.1),
    ),
    grouper=dict(type='CenterGrouping', mode='shift', threshold=1.2),
    group_scorer=dict(type='SilhouetteScorer', scale=3.0, half_size=8),
    test_cfg=dict(mode='whole', classes='predicted'),
)
