# SGD with a "poly" learning rate (Kong & Fowlkes 2018): 2.5e-4 (1 - t/T)^0.9 over the T iterations of the whole training.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=2.5e-4, momentum=0.9, weight_decay=5e-4),  # the paper's
)
param_scheduler = dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, convert_to_iter_based=True)  # the paper's
auto_scale_lr = dict(enable=False, base_batch_size=1)
