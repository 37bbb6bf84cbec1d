# Recurrent Pixel Embedding (Kong & Fowlkes 2018, section 5.4) on PASCAL VOC 2012: semantic segmentation and semantic instances.
#   python tools/train.py configs/recurrent-embedding_r50_voc2012.py
#   python tools/fit_scorer.py configs/recurrent-embedding_r50_voc2012.py work_dirs/recurrent-embedding_r50_voc2012/epoch_30.pth \
#       --out work_dirs/recurrent-embedding_r50_voc2012/scored.pth        # the learned score of an instance
# Where ImageNet's weights cannot be downloaded: see configs/_base_/models/recurrent-embedding_r50.py. Loops over all 12,000
# cells of an image need a GPU; on a CPU add model.decode_head.loss_embedding.max_pixels=2000.
_base_ = [
    './_base_/models/recurrent-embedding_r50.py',
    './_base_/datasets/voc2012.py',
    './_base_/schedules/poly.py',
    './_base_/default_runtime.py',
]

# The paper does not give the length of the training: as many images as DeepLab on VOC.
train_cfg = dict(max_epochs=30, val_interval=10)
