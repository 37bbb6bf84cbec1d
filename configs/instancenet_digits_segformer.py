# SegFormer from mmseg's config on handwritten digits: small, from random weights, docs/mmseg_configs.md.
#   python tools/train.py configs/instancenet_digits_segformer.py
_base_ = [
    'mmseg::_base_/models/segformer_mit-b0.py',
    './_base_/models/digits_parts.py',
    './_base_/datasets/digits.py',
    './_base_/schedules/adamw_digits.py',
    './_base_/default_runtime.py',
]

model = dict(
    type='EmbeddingSegmentor',
    data_preprocessor=dict(test_cfg=dict(size_divisor=8)),  # its attention needs maps of 4 x 4 at least
    # Half the resolution instead of a quarter, for strokes of two or three pixels.
    backbone=dict(strides=[2, 2, 2, 2], patch_sizes=[5, 3, 3, 3], sr_ratios=[4, 2, 1, 1]),
    decode_head=dict(num_classes=11, channels=64, dropout_ratio=0, loss_decode=_base_.class_loss),
    embedding=_base_.branch,
    grouper=_base_.grouper,
)

randomness = dict(seed=0)
train_cfg = dict(max_epochs=5, val_interval=5)
