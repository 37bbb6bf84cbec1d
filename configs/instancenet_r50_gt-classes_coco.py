# The class map of the ground truth instead of the predicted one, in testing: the paper's table 1, lower rows.
_base_ = './instancenet_r50_coco.py'

model = dict(test_cfg=dict(classes='ground_truth'))
