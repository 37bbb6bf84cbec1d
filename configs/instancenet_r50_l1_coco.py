# L1 instead of L2 distances, in the loss and in the grouping alike (the paper leaves the order n open).
_base_ = './instancenet_r50_coco.py'

model = dict(decode_head=dict(loss_embedding=dict(norm=1)), grouper=dict(norm=1))
