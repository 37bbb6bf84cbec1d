# Object proposals on digits; the network is that of recurrent-embedding_digits.py, whose checkpoint can be used:
#   python tools/test.py configs/recurrent-embedding_proposals_digits.py work_dirs/recurrent-embedding_digits/epoch_5.pth
_base_ = './recurrent-embedding_digits.py'

model = dict(
    type='ProposalSegmentor',
    more_groupers=[dict(concentration=delta) for delta in (25, 400, 1600, 3200)],
)
val_evaluator = [dict(type='ProposalRecallMetric', num_proposals=(3, 5, 10))]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='proposal/AR@10', rule='greater'))
