# Proposals of people; the network is that of recurrent-embedding_efficientnet-lite0_penn-fudan.py, whose checkpoint can be used.
_base_ = './recurrent-embedding_efficientnet-lite0_penn-fudan.py'

model = dict(
    type='ProposalSegmentor',
    more_groupers=[dict(concentration=delta) for delta in (25, 400, 1600, 3200)],  # as for digits
)
val_evaluator = [dict(type='ProposalRecallMetric', num_proposals=(10, 60))]
test_evaluator = val_evaluator
