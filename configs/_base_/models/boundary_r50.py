# Boundaries from ResNet-50 (Kong & Fowlkes 2018, section 5.2): an embedding on the sphere for each of its four stages, and a
# layer that fuses them.
# Without ImageNet's weights batch norm has to be trained, or the residual branches, which begin at zero, stay there:
#   --cfg-options model.backbone.init_cfg=None model.backbone.norm_cfg.requires_grad=True model.backbone.norm_eval=False
model = dict(
    type='BoundarySegmentor',
    data_preprocessor=dict(
        type='InstanceMapDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=8,  # so that every stage's cells cover the input exactly
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
        type='BoundaryHead',
        in_channels=(256, 512, 1024, 2048),
        in_index=(0, 1, 2, 3),
        embedding_dims=3,  # the paper's
        # Two groups of an image, boundary and not: the weights of the loss let both count alike, however rare boundaries are.
        loss_embedding=dict(
            type='SphericalPairLoss',
            margin=0.5,
            num_instances=2,
            variant='released',  # its size does not depend on the number of pixels
            background_is_instance=True,
            # The authors' for VOC. At 1 all embeddings become one vector where the two groups lie less than sqrt(2) standard
            # deviations apart in a stage's features (tests/test_boundary_configs.py).
            negative_weight=5.0,
            # The authors' for VOC; not their limit of 4000 pixels, of which less than 40 would be boundary. The time grows with
            # the product of the two groups, not with the square of the pixels.
            sample_ratio=0.35,
        ),
        loss_decode=dict(type='BalancedLogisticLoss'),
    ),
    test_cfg=dict(non_maximum_suppression=True),
)
