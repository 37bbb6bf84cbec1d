"""The config of Cityscapes on a small synthetic set in the layout of Cityscapes."""

from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg_configs import needs_mmsegs_configs
from PIL import Image

CONFIG = Path(__file__).parents[1] / 'configs/instancenet_deeplabv3plus_r50_cityscapes.py'
SIZE = (64, 128)
pytestmark = needs_mmsegs_configs
TRAIN_IDS = {7: 0, 23: 10, 24: 11, 26: 13}
"""Road, sky, person and car: Cityscapes' ids and the classes of its list."""


def write_city(folder: Path, images: int) -> None:
    """Images of a road under the sky with two cars that touch and a person; a group of people that nobody told apart."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for number in range(images):
            ids = np.full(SIZE, 23, np.uint16)  # 16 bits, as Cityscapes'
            ids[24:] = 7
            left = int(rng.integers(4, 30))
            ids[30:50, left : left + 24], ids[30:50, left + 24 : left + 48] = 26000, 26001
            ids[16:56, 100:110], ids[20:30, 112:126] = 24000, 24
            classes = np.full(SIZE, 255, np.uint8)
            for id_, class_ in TRAIN_IDS.items():
                classes[(ids == id_) | (ids // 1000 == id_)] = class_
            image = (ids[..., None] * (7, 11, 13) % 251).astype(np.uint8)
            name = f'town/town_{number:06}_000019'
            for kind, suffix, content in (
                ('leftImg8bit', '_leftImg8bit.png', image),
                ('gtFine', '_gtFine_labelTrainIds.png', classes),
                ('gtFine', '_gtFine_instanceIds.png', ids),
            ):
                path = folder / kind / split / f'{name}{suffix}'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(path)


def test_things_and_stuff_of_a_small_city(tmp_path):
    """Trains an epoch, then tests with true classes: class IoU of 100, stuff in the panoptic map, AP of the maps' objects."""
    write_city(tmp_path / 'city', images=4)
    config = Config.fromfile(CONFIG)
    small = {
        'model.pretrained': None,
        'model.backbone.depth': 18,
        'model.decode_head.in_channels': 512,
        'model.decode_head.channels': 16,
        'model.decode_head.c1_in_channels': 64,
        'model.decode_head.c1_channels': 8,
        'model.auxiliary_head.in_channels': 256,
        'model.auxiliary_head.channels': 8,
        'model.data_preprocessor.size': SIZE,
        'model.test_cfg.classes': 'ground_truth',
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 1,
        'default_hooks.checkpoint': None,
        'work_dir': str(tmp_path / 'run'),
    }
    config.merge_from_dict(small)
    for part in ('train', 'val', 'test'):
        config[f'{part}_dataloader'].update(num_workers=0, persistent_workers=False)
        config[f'{part}_dataloader'].dataset.data_root = str(tmp_path / 'city')
    for step in (*config.train_dataloader.dataset.pipeline, *config.val_dataloader.dataset.pipeline):
        if 'scale' in step:
            step.scale = (SIZE[1], SIZE[0])
        elif step.type == 'RandomCrop':
            step.crop_size = SIZE
    runner = Runner.from_cfg(config)
    runner.train()
    metrics = runner.val_loop.run()
    assert metrics['mIoU'] == 100  # of the classes that there are; the others are NaN
    assert 0 <= metrics['coco/segm_mAP'] <= 1
    sample = runner.val_dataloader.dataset[0]
    result = runner.model.eval().test_step({key: [value] for key, value in sample.items()})[0]
    classes, panoptic = result.gt_sem_seg.data[0], result.pred_panoptic_seg.sem_seg[0]
    for stuff in (0, 10):
        assert (panoptic[classes == stuff] == stuff).all()
    assert set(result.pred_instances.labels.tolist()) <= {11, 13}
    assert ((panoptic[classes == 255]) == 19).all()
    truth = result.gt_instance_map.data[0]
    assert truth.unique().tolist() == [-1, 0, 1, 2, 3]
    assert (classes[truth == -1] == 11).all()
