# ResNet-101, the paper's larger backbone.
_base_ = './recurrent-embedding_r50_voc2012.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://resnet101_v1c')))
