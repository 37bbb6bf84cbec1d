# One convolution as the head on the UNet for digits. DeepLabV3+'s head (instancenet_unet.py) has depthwise convolutions at full
# resolution, which take a CPU two thirds of the network's time; the UNet's coarsest map has the whole image in view without its
# pyramid.
_base_ = './unet_for_digits.py'

model = dict(
    decode_head=dict(type='EmbeddingFCNHead', in_channels=16, channels=32, num_convs=1, concat_input=False),
)
