# PSPNet on ResNet-50, mmseg's own config, with InstanceNet's loss and grouping: docs/mmseg_configs.md. Not trained by us.
#   bash tools/dist_train.sh configs/instancenet_pspnet_r50_coco.py 4 --auto-scale-lr
_base_ = [
    'mmseg::_base_/models/pspnet_r50-d8.py',
    './_base_/datasets/coco_instance_maps.py',
    './_base_/schedules/adamw_36e.py',
    './_base_/default_runtime.py',
]

model = dict(
    type='EmbeddingSegmentor',
    decode_head=dict(num_classes=81),  # COCO's 80 and the background
    auxiliary_head=dict(num_classes=81),
    embedding=dict(dims=4, loss=dict(type='DiscriminativeLoss')),  # the paper's K for COCO
    grouper=dict(type='CenterGrouping', mode='shift', threshold=1.2),  # the paper's best
)
train_cfg = dict(max_epochs=36, val_interval=4)
