# InstanceNet on handwritten digits: trains in less than ten minutes on two CPU cores.
#   python tools/train.py configs/instancenet_digits.py
_base_ = [
    './_base_/models/instancenet_unet.py',
    './_base_/datasets/digits.py',
    './_base_/default_runtime.py',
]

# Digits of all classes are pushed apart and grouped together, and a group takes the class that most of its pixels have: a
# pixel whose class is mistaken then stays with its digit. configs/instancenet_digits_per-class.py is the paper's way.
model = dict(
    decode_head=dict(loss_embedding=dict(class_agnostic=True)),
    grouper=dict(class_agnostic=True, min_size=10),  # a sixth of the smallest digits: less is an outlier
)

randomness = dict(seed=0)
train_cfg = dict(max_epochs=5, val_interval=5)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01, weight_decay=1e-4), clip_grad=dict(max_norm=10)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=375),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=5, eta_min=1e-6),
]
