# Push only between objects at most 32 cells of the map (128 pixels of the input) apart; objects further apart may share
# an embedding, and are separated as connected components.
_base_ = './instancenet_r50_coco.py'

model = dict(decode_head=dict(loss_embedding=dict(push_distance=32)), grouper=dict(connected=True))
