# The position in the image beside the features of the embedding branch, so that look-alike objects can differ.
_base_ = './instancenet_r50_coco.py'

model = dict(decode_head=dict(coordinates=True))
