# The paper's background: an instance like any other, in the loss, in the loops and in the groups. A group most of whose pixels
# are background in the class map is dropped.
_base_ = './recurrent-embedding_digits.py'
model = dict(
    decode_head=dict(
        loss_embedding=dict(
            foreground_only=False,
            max_pixels=1024,  # of 4096, for the time of two CPU cores
            loss=dict(background_is_instance=True),
        )
    ),
    grouper=dict(background_groups=True),
)
