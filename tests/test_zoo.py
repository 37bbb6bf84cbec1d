"""Six configs of mmseg's zoo, one for each kind of head, as instance segmenters by the four-line form; ``make zoo`` tries all."""

import pytest
from mmseg_configs import needs_mmsegs_configs
from zoo import ZOO, try_one

CONFIGS = {
    'one convolution at the end': 'pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    'low-level features too': 'deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    'transformer': 'segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py',
    'several outputs, edges': 'pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py',
    'cascade': 'ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024.py',
    'queries': 'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py',
}


@needs_mmsegs_configs
@pytest.mark.parametrize('kind', CONFIGS)
def test_a_config_of_mmseg_in_four_lines(kind):
    try_one(ZOO / CONFIGS[kind])
