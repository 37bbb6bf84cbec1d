# Your own images and masks, in the folders data/my_images/images and data/my_images/masks: docs/your_images.md.
#   python tools/check_dataset.py configs/instancenet_unet_label-images.py
#   python tools/train.py configs/instancenet_unet_label-images.py
#   python tools/tune.py configs/instancenet_unet_label-images.py work_dirs/instancenet_unet_label-images/epoch_120.pth
# The network, its loss and its augmentation are those of the nuclei, for compact objects of 10 to 60 pixels across.
_base_ = './instancenet_unet_dsb2018.py'

data = dict(
    type='LabelImageDataset',
    data_root='data/my_images/',
    metainfo=dict(classes=('object',)),  # one class, by any name; several: classes_from
    # mask_suffix='_masks',  # masks/a_masks.png is the mask of images/a.png
    # ignore_label=255,      # value of unlabelled regions
)
# Parts of the images in a random order: 80 % train the network, 10 % choose the settings of the grouping, 10 % are for the test.
train_dataloader = dict(dataset=dict(_delete_=True, share=(0.0, 0.8), pipeline={{_base_.train_pipeline}}, **data))
tune_dataloader = dict(
    dataset=dict(_delete_=True, share=(0.8, 0.9), test_mode=True, pipeline={{_base_.test_pipeline}}, **data)
)
val_dataloader = dict(
    dataset=dict(_delete_=True, share=(0.9, 1.0), test_mode=True, pipeline={{_base_.test_pipeline}}, **data)
)
test_dataloader = val_dataloader
