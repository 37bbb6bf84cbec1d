# Ablation: the same loss on the network's embeddings alone, without loops in training; grouped as with them.
_base_ = './recurrent-embedding_digits.py'
model = dict(
    decode_head=dict(
        loss_embedding=dict(
            _delete_=True,
            type='SphericalPairLoss',
            margin=0.5,
            variant='released',
            background_is_instance=False,
            loss_weight=8.0,  # as the four losses of 2 around three loops
        )
    )
)
