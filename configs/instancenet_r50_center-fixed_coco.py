# Center-fixed grouping instead of center-shift: the paper's table 1, first and third row.
_base_ = './instancenet_r50_coco.py'

model = dict(grouper=dict(mode='fixed'))
