# UPerNet on Swin-T, mmseg's own config, with InstanceNet's loss and grouping: docs/mmseg_configs.md. Not trained by us.
#   bash tools/dist_train.sh configs/instancenet_upernet_swin-t_coco.py 4 --auto-scale-lr
_base_ = [
    'mmseg::_base_/models/upernet_swin.py',
    './_base_/datasets/coco_instance_maps.py',
    './_base_/schedules/adamw_36e.py',
    './_base_/default_runtime.py',
]

model = dict(
    type='EmbeddingSegmentor',
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/swin_tiny_patch4_window7_224_20220317-1cdeb081.pth',
        )
    ),
    decode_head=dict(num_classes=81),  # COCO's 80 and the background
    auxiliary_head=dict(num_classes=81),
    embedding=dict(dims=4, loss=dict(type='DiscriminativeLoss')),  # the paper's K for COCO
    grouper=dict(type='CenterGrouping', mode='shift', threshold=1.2),  # the paper's best
)
train_cfg = dict(max_epochs=36, val_interval=4)
