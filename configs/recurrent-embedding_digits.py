# Recurrent Pixel Embedding (Kong & Fowlkes 2018) on handwritten digits: embeddings on a sphere, trained through three loops of
# mean shift.
#   python tools/train.py configs/recurrent-embedding_digits.py
_base_ = [
    './_base_/models/instancenet_unet.py',
    './_base_/datasets/digits.py',
    './_base_/schedules/adamw_digits_5e.py',
    './_base_/default_runtime.py',
]

model = dict(
    decode_head=dict(
        hidden_channels=64,  # coordinates enter the branch: on a sphere a linear layer cannot tell a row of digits apart
        unit_length=True,
        loss_embedding=dict(
            _delete_=True,
            type='RecurrentLoss',
            loops=3,
            # The class map decides the background (see recurrent-embedding_background_digits.py for the paper's way): loops over
            # the digits' 300 pixels an image instead of all 4096 cost nothing beside the network.
            foreground_only=True,
            loss=dict(
                type='SphericalPairLoss',
                margin=0.5,  # the paper's; can be met by up to 2 D instances
                variant='released',  # its size does not depend on the number of pixels
                background_is_instance=False,
                loss_weight=2.0,  # less, and learning the classes pulls the embeddings apart again
            ),
        ),
    ),
    # It makes the loops in training and the groups in testing.
    grouper=dict(
        _delete_=True,
        type='MeanShiftGrouping',
        concentration=100,  # the authors' code for digits: a bandwidth of 0.1
        class_agnostic=True,
        min_size=10,
    ),
    group_scorer=dict(scale=1.41),  # the distance of embeddings at the margin: right angles
)

randomness = dict(seed=0)
train_cfg = dict(max_epochs=5, val_interval=5)
