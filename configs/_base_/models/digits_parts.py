# Parts of the small networks for digits: instancenet_digits_deeplabv3plus.py, _segformer.py, _upernet-swin.py, _mask2former.py.

# mmseg's UNet as in instancenet_digits.py: strokes are two or three pixels wide.
unet = dict(
    type='UNet',
    base_channels=16,
    num_stages=4,
    strides=(1, 1, 1, 1),
    enc_num_convs=(2, 2, 2, 2),
    dec_num_convs=(2, 2, 2),
    downsamples=(True, True, True),
    enc_dilations=(1, 1, 1, 1),
    dec_dilations=(1, 1, 1),
    norm_cfg=dict(type='BN'),
)
# Fourteen of fifteen pixels are background.
class_loss = dict(type='WeightedCrossEntropyLoss', class_weight=[0.1] + [1.0] * 10)
branch = dict(
    dims=8,
    coordinates=True,
    hidden_channels=32,
    # The embedding is learnt within seconds, the classes need the rest of the time.
    loss=dict(type='DiscriminativeLoss', class_agnostic=True, loss_weight=0.1),
)
grouper = dict(type='CenterGrouping', class_agnostic=True, min_size=10)
