# Eight embedding values instead of the paper's four.
_base_ = './instancenet_r50_coco.py'

model = dict(decode_head=dict(embedding_dims=8))
