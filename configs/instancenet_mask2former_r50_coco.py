# Mask2Former on ResNet-50, mmseg's own config, with InstanceNet's loss and grouping: docs/mmseg_configs.md. Not trained by us.
#   bash tools/dist_train.sh configs/instancenet_mask2former_r50_coco.py 4 --auto-scale-lr
_base_ = [
    './_base_/models/mask2former_r50.py',
    './_base_/datasets/coco_instance_maps.py',
    './_base_/schedules/adamw_36e.py',
    './_base_/default_runtime.py',
]

model = dict(
    type='EmbeddingSegmentor',
    data_preprocessor=dict(size=None, size_divisor=32),
    # COCO's 80 and the background; one more weight, mmseg's, for queries without a class.
    decode_head=dict(num_classes=81, loss_cls=dict(class_weight=[1.0] * 81 + [0.1])),
    embedding=dict(dims=4, loss=dict(type='DiscriminativeLoss')),  # the paper's K for COCO
    grouper=dict(type='CenterGrouping', mode='shift', threshold=1.2),  # the paper's best
)
train_cfg = dict(max_epochs=36, val_interval=4)
# mmseg's for Mask2Former: a tenth of the rate for the pretrained backbone, no decay of norms and queries, gradients cut to .01.
no_decay = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(lr=0.0001),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1, decay_mult=1.0), query_embed=no_decay, query_feat=no_decay, level_embed=no_decay
        ),
        norm_decay_mult=0.0,
    ),
)
