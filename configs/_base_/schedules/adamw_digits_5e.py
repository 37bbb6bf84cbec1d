# AdamW with warm-up and a cosine over five epochs of eight images a batch: for digits from random weights.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01, weight_decay=1e-4), clip_grad=dict(max_norm=10)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=375),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=5, eta_min=1e-6),
]
