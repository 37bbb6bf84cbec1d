# Boundaries (Kong & Fowlkes 2018, section 5.2) on EfficientNet-Lite0, whose weights are ImageNet's at the start. A CPU trains it.
# configs/_base_/models/instancenet_efficientnet-lite0.py names the source of the weights.
_base_ = './boundary_r50.py'

model = dict(
    data_preprocessor=dict(
        mean=[127.0, 127.0, 127.0],  # the backbone was trained with it, as with the next
        std=[128.0, 128.0, 128.0],
        pad_size_divisor=32,  # the backbone halves five times
        channels_last=True,  # CPUs compute convolutions faster so
    ),
    backbone=dict(
        _delete_=True,
        type='TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        # Strides 2, 4, 8, 16, 32: the first locates a line, the last recognises the object. Batch norm is trained, not fixed as
        # the paper's: crops of one size come in batches, and TIMMBackbone has no option that fixes it.
        out_indices=(0, 1, 2, 3, 4),
        pretrained=False,  # True downloads from a hub
        checkpoint_path='pretrained/efficientnet-lite0.pth',
    ),
    # The paper's ResNet has its last three stages at stride 8; so fine, this backbone's would take a CPU several times as long.
    # In place of that each stage gets the coarser ones added to it.
    neck=dict(
        type='FPN',
        in_channels=[16, 24, 40, 112, 320],
        out_channels=32,  # 64 would need more multiplications than the backbone
        num_outs=5,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
        upsample_cfg=dict(mode='bilinear', align_corners=False),  # as the head interpolates
    ),
    decode_head=dict(
        in_channels=(32, 32, 32, 32, 32),
        in_index=(0, 1, 2, 3, 4),
        # 1.9 % of the pixels are boundary, so that two hundred of them remain in a crop of 320 pixels. The authors' .35 for VOC
        # has twelve times as many pairs, which a CPU feels.
        loss_embedding=dict(sample_ratio=0.1),
    ),
)
