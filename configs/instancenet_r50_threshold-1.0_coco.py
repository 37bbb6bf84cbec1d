# Another threshold: the paper's table 2 (tools/analysis/grouping_tables.py prints all of it from one run of the network).
_base_ = './instancenet_r50_gt-classes_coco.py'

model = dict(grouper=dict(threshold=1.0))
