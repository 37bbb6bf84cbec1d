# Instances are pushed apart and grouped within their class, as in the paper.
_base_ = './instancenet_digits.py'

model = dict(decode_head=dict(loss_embedding=dict(class_agnostic=False)), grouper=dict(class_agnostic=False))
