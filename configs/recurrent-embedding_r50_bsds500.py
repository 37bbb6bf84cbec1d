# Boundary detection by pixel embeddings (Kong & Fowlkes 2018) on BSDS500.
#   python tools/train.py configs/recurrent-embedding_r50_bsds500.py
# Where ImageNet's weights cannot be downloaded: see configs/_base_/models/boundary_r50.py.
_base_ = [
    './_base_/models/boundary_r50.py',
    './_base_/datasets/bsds500.py',
    './_base_/schedules/poly.py',
    './_base_/default_runtime.py',
]

# Two phases in one run: the embedding of each stage, without loops of mean shift (the paper's), then everything by the logistic
# loss on the fused embeddings. The paper does not give its length; the learning rate falls over both.
train_cfg = dict(max_epochs=200, val_interval=200)  # scoring the 200 test images takes 10 to 40 minutes on one core
custom_hooks = [
    dict(type='BoundaryPhaseHook', until=100),
    *_base_.custom_hooks[1:],  # without the ClassCountHook: boundaries have no classes
]
default_hooks = dict(checkpoint=dict(interval=10, save_best=None))
