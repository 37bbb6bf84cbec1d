# Object proposals on PASCAL VOC 2012 (Kong & Fowlkes 2018, section 5.3), by average recall against their number. The network is
# that of semantic instances, which separates objects from background by its classes, so its checkpoint can be used:
#   python tools/test.py configs/recurrent-embedding_r50_proposals_voc2012.py \
#       work_dirs/recurrent-embedding_r50_voc2012/epoch_30.pth
_base_ = './recurrent-embedding_r50_voc2012.py'

model = dict(
    type='ProposalSegmentor',
    # Trained as its parent: the groupers below differ from the one of the training on purpose.
    decode_head=dict(
        loss_embedding=dict(
            grouping=dict(
                type='MeanShiftGrouping', concentration=25, class_agnostic=True, background_groups=True, min_size=10
            )
        )
    ),
    grouper=dict(concentration=100, max_instances=100),  # the authors' code for proposals: a bandwidth of 0.1
    # The bandwidth of the training, and smaller ones for more proposals, as the paper, which does not give their values.
    more_groupers=[dict(concentration=25), dict(concentration=400), dict(concentration=1600)],
)
val_evaluator = [dict(type='ProposalRecallMetric', num_proposals=(10, 60))]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='proposal/AR@10', rule='greater'))
