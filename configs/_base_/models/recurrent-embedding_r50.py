# Recurrent Pixel Embedding (Kong & Fowlkes 2018) on ResNet-50 with the DeepLabV3+ head: class scores, and embeddings on a sphere
# that are trained through loops of mean shift.
# Without ImageNet's weights batch norm has to be trained, or the residual branches, which begin at zero, stay there:
#   --cfg-options model.backbone.init_cfg=None model.backbone.norm_cfg.requires_grad=True model.backbone.norm_eval=False

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
        dilations=(1, 1, 2, 4),  # the paper's, in place of the last two poolings:
        strides=(1, 2, 1, 1),  # output stride 8
        norm_cfg=dict(type='BN', requires_grad=False),  # fixed, with ImageNet's moments: the paper's
        norm_eval=True,
        style='pytorch',
        contract_dilation=True,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c'),
    ),
    decode_head=dict(
        type='EmbeddingHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        dilations=(1, 12, 24, 36),
        c1_in_channels=256,  # brings the map to output stride 4, as in the authors' VOC code
        c1_channels=48,
        dropout_ratio=0.1,
        num_classes=21,  # VOC's 20 and the background
        embedding_dims=64,  # the paper's D for VOC
        unit_length=True,
        norm_cfg=dict(type='GN', num_groups=16),  # the head is new: a batch of one has no moments to fix
        align_corners=False,
        loss_decode=dict(type='WeightedCrossEntropyLoss'),
        loss_embedding=dict(
            type='RecurrentLoss',
            loops=5,  # the paper trains with 1 to 5
            loss=dict(
                type='SphericalPairLoss',
                margin=0.5,  # the paper's
                variant='released',
                positive_weight=1.0,  # the authors' code for VOC, as the next three
                negative_weight=5.0,
                sample_ratio=0.35,
                max_samples=4000,
                background_is_instance=True,  # the paper's
            ),
        ),
    ),
    # It makes the loops in training and the groups in testing.
    grouper=dict(
        type='MeanShiftGrouping',
        concentration=25,  # the authors' code for VOC: a bandwidth of 0.2
        class_agnostic=True,
        background_groups=True,  # the background is a group like any other: the paper's
        min_size=10,  # cells of 4 x 4 pixels: less is an outlier
    ),
    group_scorer=dict(type='SilhouetteScorer', scale=1.41),  # the distance of embeddings at the margin: right angles
    test_cfg=dict(mode='whole', classes='predicted'),
)
