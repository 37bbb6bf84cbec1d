# DeepLabV3+ on ResNet-50 with C class scores and K embedding values (Gao 2020); backbone and head are those of mmseg's
# deeplabv3plus_r50-d8, so that its checkpoints fit.
# Batch norm decay 0.99 is the paper's: PyTorch's momentum is 1 - decay.
norm_cfg = dict(type='BN', momentum=0.01, requires_grad=True)
model = dict(
    type='EmbeddingSegmentor',
    data_preprocessor=dict(
        type='InstanceMapDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='ResNetV1c',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),  # output stride 8, as in mmseg's zoo; the paper gives none
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        contract_dilation=True,
    ),
    decode_head=dict(
        type='EmbeddingHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        dilations=(1, 12, 24, 36),
        c1_in_channels=256,
        c1_channels=48,
        dropout_ratio=0.1,
        num_classes=81,  # COCO's 80 and the background
        embedding_dims=4,  # the paper's K for COCO
        norm_cfg=norm_cfg,
        align_corners=False,
        # The paper does not define how ignored pixels (crowds) count: here they do not.
        loss_decode=dict(type='WeightedCrossEntropyLoss'),
        loss_embedding=dict(
            type='DiscriminativeLoss',
            alpha=1.0,  # the paper's
            beta=1.0,  # the paper's
            gamma=0.001,  # the paper's
            pull_margin=0.2,  # the paper's
            push_margin=3.0,  # the paper's
            norm=2,
        ),
    ),
    grouper=dict(
        type='CenterGrouping',
        mode='shift',  # center-shift, the paper's better one
        threshold=1.2,  # the paper's best
    ),
    group_scorer=dict(type='SilhouetteScorer', scale=3.0, half_size=8),  # the push margin
    test_cfg=dict(mode='whole', classes='predicted'),
)
