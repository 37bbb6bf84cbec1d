# Touching nuclei (Data Science Bowl 2018), and the worked example for a COCO-format set of your own: paths and classes are
# the first lines below; the rest is for touching look-alike objects.
#   python tools/train.py configs/instancenet_r50_dsb2018.py
_base_ = './instancenet_r50_coco.py'

data = dict(data_root='data/dsb2018/', data_prefix=dict(img='images/'), metainfo=dict(classes=('nucleus',)))
train_dataloader = dict(dataset=dict(ann_file='train.json', **data))
val_dataloader = dict(dataset=dict(ann_file='val.json', **data))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='CocoInstanceMetric', metric=['segm', 'bbox']),
    dict(type='CountingMetric'),  # the usual metrics for counting nuclei
    dict(type='ForegroundIoUMetric'),
]
test_evaluator = val_evaluator

# Images hold up to 375 nuclei that look alike: only neighbours need different embeddings, and what lies apart is told
# apart by not being connected.
model = dict(
    # 104 iterations an epoch: at the paper's momentum of 0.01 the running means would lag one epoch behind.
    backbone=dict(norm_cfg=dict(momentum=0.1)),
    decode_head=dict(
        norm_cfg=dict(momentum=0.1),
        num_classes=2,
        coordinates=True,
        loss_embedding=dict(push_distance=16),  # pixels of the head's map: a nucleus is about ten of them wide
    ),
    grouper=dict(connected=True, min_size=4),  # fewer cells than 2 x 2 are no nucleus
)

# A few hundred images: one phase, the backbone from ImageNet, a cosine schedule.
train_cfg = dict(max_epochs=60, val_interval=5)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.0005, weight_decay=0.01), clip_grad=dict(max_norm=10))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, T_max=60)
custom_hooks = _base_.custom_hooks[1:]  # without the FreezeHook
