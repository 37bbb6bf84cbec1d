# The same network and data with Recurrent Pixel Embedding (Kong & Fowlkes 2018): embeddings on a sphere, trained through three
# iterations of mean shift.
#   python tools/train.py configs/recurrent-embedding_efficientnet-lite0_penn-fudan.py
_base_ = './instancenet_efficientnet-lite0_penn-fudan.py'

model = dict(
    decode_head=dict(
        embedding_dims=16,  # more than InstanceNet's 8: a direction has one value less to tell people apart
        hidden_channels=64,  # coordinates enter the branch: on a sphere a linear layer cannot tell a row of people apart
        unit_length=True,
        loss_embedding=dict(
            _delete_=True,
            type='RecurrentLoss',
            loops=3,  # the paper trains with 1 to 5
            foreground_only=True,  # the class map has the background
            max_pixels=1000,  # cells of each crop, drawn at random: all cells of people take three times as long as the network
            loss=dict(
                type='SphericalPairLoss',
                margin=0.5,  # the paper's
                variant='released',  # its size does not depend on the number of pixels
                background_is_instance=False,
                loss_weight=0.15,  # of each of the four losses, before and after each iteration of mean shift
            ),
        ),
    ),
    # It makes the iterations in training and the groups in testing.
    grouper=dict(
        _delete_=True,
        type='MeanShiftGrouping',
        concentration=100,  # the authors' code for digits and proposals: a bandwidth of 0.1
        class_agnostic=True,
        min_size=24,
    ),
    group_scorer=dict(scale=1.41),  # the distance of embeddings at the margin: right angles
)

# An iteration takes half as long again as the parent's.
train_cfg = dict(max_epochs=110, val_interval=55)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True, begin=0, T_max=110, eta_min=1e-6),
]
