# The same network and data with Recurrent Pixel Embedding's loss on the sphere and mean-shift grouping.
#   python tools/train.py configs/recurrent-embedding_unet_dsb2018.py
_base_ = './instancenet_unet_dsb2018.py'

model = dict(
    decode_head=dict(
        embedding_dims=16,
        unit_length=True,
        # Embeddings are turned by their position: pixels of one direction are at right angles from 2.4 units on, 19 pixels,
        # the distance of neighbours of the median size.
        pixels_per_unit=8.0,
        loss_embedding=dict(
            _delete_=True,
            type='SphericalPairLoss',
            variant='released',  # the authors' code
            margin=0.5,
            max_samples=2048,  # pixels of a crop; all pairs of 25,600 would take longer than the network
            background_is_instance=False,  # the class map has it
            positive_weight=5.0,  # of the pairs of a crop with several nuclei few belong to one nucleus
        ),
    ),
    # tools/tune.py after 2,170 iterations (of 15, 40 and 100; of 16, 24 and 32); AP* .596 on the validation set then.
    grouper=dict(_delete_=True, type='MeanShiftGrouping', concentration=40.0, connected=True, min_size=32),
    group_scorer=dict(_delete_=True, type='SilhouetteScorer', scale=1.0, half_size=8),
)
