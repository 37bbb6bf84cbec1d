"""The config that overfits sixteen photos of COCO: which photos, and that it is tested on the same ones."""

import json
from collections import Counter
from pathlib import Path

from mmengine.config import Config
from mmseg.registry import DATASETS
from pycocotools import mask as coco_mask

CONFIG = Config.fromfile(Path(__file__).parents[1] / 'configs/instancenet_efficientnet-lite0_overfit_coco.py')


def chosen(coco: dict, length: int) -> list[int]:
    """Photos by the rule that the config states."""
    objects = {image['id']: [] for image in coco['images']}
    for annotation in coco['annotations']:
        objects[annotation['image_id']].append(annotation)
    found = []
    for index, image in enumerate(coco['images']):
        size, of_photo = (image['height'], image['width']), objects[image['id']]
        if not of_photo or any(one['iscrowd'] for one in of_photo):
            continue
        cells = [area(one['segmentation'], size) * (length / max(size) / 4) ** 2 for one in of_photo]
        classes = Counter(one['category_id'] for one in of_photo)
        if min(cells) >= 32 and max(classes.values()) >= 2:
            found.append(index)
    return found[:16]


def area(polygons: list, size: tuple[int, int]) -> int:
    return int(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(polygons, *size))))


def test_the_photos_are_those_of_the_rule(test_data):
    coco = json.loads((test_data / 'coco_mini/train.json').read_text())
    assert CONFIG.train_dataloader.dataset.indices == chosen(coco, CONFIG.length)


def test_what_is_tested_is_what_was_trained(test_data):
    sets = []
    for loader in (CONFIG.train_dataloader, CONFIG.test_dataloader):
        sets.append(DATASETS.build(dict(loader.dataset, data_root=str(test_data / 'coco_mini'))))
    assert len(sets[0]) == len(sets[1]) == 16
    for trained, tested in zip(*sets, strict=True):
        assert trained['data_samples'].img_path == tested['data_samples'].img_path
        assert max(trained['inputs'].shape[1:]) == CONFIG.length == 257
        assert (trained['inputs'] == tested['inputs']).all()


def test_the_schedule_ends_with_the_training():
    assert CONFIG.param_scheduler[1].T_max == CONFIG.train_cfg.max_epochs == CONFIG.train_cfg.val_interval
    assert not [hook for hook in CONFIG.custom_hooks if hook.type == 'EMAHook']


def test_the_network_and_its_loss_are_those_of_the_recipe():
    recipe = Config.fromfile(Path(__file__).parents[1] / 'configs/instancenet_efficientnet-lite0_coco.py')
    recipe.model.decode_head.dropout_ratio = 0.0
    assert CONFIG.model == recipe.model
