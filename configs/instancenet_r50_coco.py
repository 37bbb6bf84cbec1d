# InstanceNet (Gao 2020) on COCO: the paper's recipe.
#   python tools/train.py configs/instancenet_r50_coco.py
#   bash tools/dist_train.sh configs/instancenet_r50_coco.py 8 --auto-scale-lr
_base_ = [
    './_base_/models/instancenet_r50.py',
    './_base_/datasets/coco_instance_maps.py',
    './_base_/default_runtime.py',
]

# Two phases in one run: the ResNet fixed for 80 epochs, then everything for 60 (the paper's).
train_cfg = dict(max_epochs=140, val_interval=10)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.001))  # Adam, 1e-3: the paper's
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[80], gamma=0.1)  # then 1e-4: the paper's
custom_hooks = [
    dict(type='FreezeHook', modules='backbone', until=80),
    *_base_.custom_hooks,
]
auto_scale_lr = dict(enable=False, base_batch_size=4)

# DeepLabV3+ trained on PASCAL VOC, as the paper has it, from mmseg's zoo; the class scores (21 there, 81 here) and the
# embedding branch start anew. load_from=None trains from scratch.
load_from = (
    'https://download.openmmlab.com/mmsegmentation/v0.5/deeplabv3plus/deeplabv3plus_r50-d8_512x512_40k_voc12aug/'
    'deeplabv3plus_r50-d8_512x512_40k_voc12aug_20200613_161759-e1b43aa9.pth'
)
