# AdamW with warm-up and a cosine over 36 epochs, for sixteen images a batch, as in instancenet_r101_modern_coco.py.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.0002, weight_decay=0.05), clip_grad=dict(max_norm=10)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=36, eta_min=1e-6),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
