# Mask2Former on ResNet-50 from mmseg's own config. mmseg has no _base_/models file for it, and the whole config has data and a
# schedule, which MMEngine does not let a second base replace; so the model alone is read.
from mmengine import Config

model = Config.fromstring("_base_ = 'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'", '.py').model
del Config  # a config holds values only
