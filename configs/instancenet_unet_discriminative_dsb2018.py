# The same network and data with InstanceNet's own loss and grouping.
#   python tools/train.py configs/instancenet_unet_discriminative_dsb2018.py
_base_ = './instancenet_unet_dsb2018.py'

model = dict(
    decode_head=dict(
        embedding_dims=4,  # x and y, and two values for nuclei that lie nearer than the push margin
        pixels_per_unit=3.0,  # 2 x push_margin = 6 units = 18 pixels, the distance of neighbours of the median size
        loss_embedding=dict(
            _delete_=True,
            type='DiscriminativeLoss',
            gamma=0.0,  # no regularisation: it would draw positions to the corner of the image
            push_distance=16,  # pixels: objects farther apart differ by their position
            loss_weight=0.2,  # comparable with the class loss
        ),
    ),
    # tools/tune.py after 2,000 iterations: 4; far above the paper's 1.2, since large nuclei still spread over several units.
    grouper=dict(_delete_=True, type='CenterGrouping', threshold=4.0, connected=True, min_size=24),
    group_scorer=dict(_delete_=True, type='SilhouetteScorer', scale=3.0, half_size=8),
)
