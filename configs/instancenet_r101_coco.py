# ResNet-101, from mmseg's VOC checkpoint of it.
_base_ = './instancenet_r50_coco.py'

model = dict(backbone=dict(depth=101))
load_from = (
    'https://download.openmmlab.com/mmsegmentation/v0.5/deeplabv3plus/deeplabv3plus_r101-d8_512x512_40k_voc12aug/'
    'deeplabv3plus_r101-d8_512x512_40k_voc12aug_20200613_205333-faf03387.pth'
)
