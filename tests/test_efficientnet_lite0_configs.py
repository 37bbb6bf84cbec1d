"""The configs on EfficientNet-Lite0: their values, and a training of two iterations from a file of weights."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import DATASETS, MODELS

from mmseg_instancenet.apis.analysis_run import images_of

CONFIGS = Path(__file__).parents[1] / 'configs'
NAMES = [
    'instancenet_efficientnet-lite0_penn-fudan',
    'recurrent-embedding_efficientnet-lite0_penn-fudan',
    'instancenet_efficientnet-lite0_coco',
]
PENN_FUDAN, RECURRENT, COCO = NAMES


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


@pytest.fixture
def weights(tmp_path):
    """Random weights of the backbone, in a file as the converter writes it."""
    timm = pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
    torch.manual_seed(0)
    backbone = load(COCO).model.backbone
    model = timm.create_model(backbone.model_name, features_only=True, out_indices=backbone.out_indices)
    torch.save(dict(model.state_dict()), tmp_path / 'lite0.pth')
    return tmp_path / 'lite0.pth'


@pytest.mark.parametrize('name', NAMES)
def test_values(name):
    config = load(name)
    preprocessor, backbone, head = config.model.data_preprocessor, config.model.backbone, config.model.decode_head
    assert (preprocessor.mean, preprocessor.std, preprocessor.bgr_to_rgb) == ([127.0] * 3, [128.0] * 3, True)
    assert (backbone.type, backbone.model_name) == ('TIMMBackbone', 'tf_efficientnet_lite0')
    assert (backbone.pretrained, backbone.checkpoint_path) == (False, 'pretrained/efficientnet-lite0.pth')
    assert backbone.out_indices == (1, 2, 3, 4)
    assert (head.in_index, head.in_channels) == ([0, 1, 2, 3], [24, 40, 112, 320])
    assert config.param_scheduler[1].T_max == config.train_cfg.max_epochs
    assert config.train_cfg.max_epochs % config.train_cfg.val_interval == 0


@pytest.mark.parametrize(('name', 'images', 'length'), [(PENN_FUDAN, 95, 500), (COCO, 118287, 5000)])
def test_length_of_the_moving_average(name, images, length):
    """In iterations, at the end of the training: mmdet's moving average is short at first."""
    config = load(name)
    (hook,) = (hook for hook in config.custom_hooks if hook.type == 'EMAHook')
    settings = {key: value for key, value in hook.items() if key not in ('type', 'ema_type')}
    average = MODELS.build(dict(type=hook.ema_type, model=torch.nn.Linear(1, 1, bias=False), **settings))
    averaged, source = torch.zeros(1), torch.ones(1)
    steps = config.train_cfg.max_epochs * (images // config.train_dataloader.batch_size)
    average.avg_func(averaged, source, steps)
    assert 1 / averaged.item() == pytest.approx(length, rel=0.02)


def test_every_tenth_training_image_is_held_back(test_data):
    config = load(PENN_FUDAN)
    configs = config.train_dataloader.dataset.dataset, config.tune_dataloader.dataset
    for dataset in configs:
        dataset.data_root = str(test_data / 'penn_fudan')
    sets = [DATASETS.build(dataset) for dataset in configs]
    trained, ids = ([dataset.get_data_info(index)['img_id'] for index in range(len(dataset))] for dataset in sets)
    assert len(ids) == 10
    assert len({*trained, *ids}) == 105
    assert configs[0].ann_file == configs[1].ann_file == 'train.json'
    assert config.tune_dataloader.dataset.pipeline == config.test_dataloader.dataset.pipeline


def use_data(config: Config, folder: Path) -> None:
    """Eight images to train on and two to test, with 129 pixels where the config has 257 and more."""
    for loader, split, count in (
        (config.train_dataloader, 'train', 8),
        (config.val_dataloader, 'val', 2),
        (config.test_dataloader, 'val', 2),
    ):
        dataset = images_of(loader.dataset)
        dataset.update(data_root=str(folder), ann_file=f'{split}.json', data_prefix=dict(img='images/'), indices=count)
        loader.update(num_workers=0, persistent_workers=False)
        for step in dataset.pipeline:
            if step.type == 'ResizeLongerSide':
                step.length = 129
            elif step.type == 'RandomChoiceResize':
                step.scales = [(129, 129), (200, 200)]
            elif step.type == 'mmdet.RandomCrop':
                step.crop_size = (128, 128)
            elif step.type == 'mmdet.Pad':
                step.size = (128, 128)


@pytest.mark.parametrize(('name', 'data'), [(PENN_FUDAN, 'penn_fudan'), (RECURRENT, 'penn_fudan'), (COCO, 'coco_mini')])
def test_trains_and_tests(name, data, weights, test_data, tmp_path):
    """Two iterations from a file of weights, then the metrics on two images."""
    config = load(name)
    use_data(config, test_data / data)
    config.model.backbone.checkpoint_path = str(weights)
    config.work_dir, config.experiment_name = str(tmp_path / 'run'), f'{name}_{tmp_path.name}'
    config.train_cfg.update(max_epochs=1, val_interval=2)
    config.default_hooks.logger.interval = 1
    config.log_level = 'ERROR'
    runner = Runner.from_cfg(config)
    written = torch.load(weights, weights_only=True)
    before = copy.deepcopy(runner.model.state_dict())
    assert all(torch.equal(before[f'backbone.timm_model.{key}'], value) for key, value in written.items())
    runner.train()
    history = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(history) == 2 and all(math.isfinite(value) and value > 0 for value in history)
    for key, value in runner.model.named_parameters():
        assert torch.isfinite(value).all(), key
        assert not torch.equal(value, before[key]), key
    rates = {group['lr'] for group in runner.optim_wrapper.param_groups}
    share = {PENN_FUDAN: 0.1, RECURRENT: 0.1, COCO: 0.3}[name]
    assert max(rates) / min(rates) == pytest.approx(1 / share, rel=0.01)
    metrics = runner.test()
    assert 0 <= metrics['coco/segm_mAP'] <= 1
    assert 0 <= metrics['mIoU'] <= 100


def test_without_the_file_it_stops(tmp_path, monkeypatch):
    """A training shall not start from random weights unnoticed."""
    pytest.importorskip('timm', reason="timm is not installed: pip install -e '.[pretrained]'")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        MODELS.build(load(PENN_FUDAN).model)


def test_weights_of_another_network_are_refused(weights):
    written = torch.load(weights, weights_only=True)
    del written['conv_stem.weight']
    torch.save(written, weights)
    config = load(PENN_FUDAN)
    config.model.backbone.checkpoint_path = str(weights)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "conv_stem.weight"'):
        MODELS.build(config.model)


def test_pasted_people_and_maps_stay_aligned(test_data):
    """A person of another image covers what lies under it: in the image and in both maps alike."""
    config = load(PENN_FUDAN)
    mixed = config.train_dataloader.dataset
    images_of(mixed).data_root = str(test_data / 'penn_fudan')
    mixed.pipeline = [step for step in mixed.pipeline if step.type != 'mmdet.PhotoMetricDistortion']
    dataset = DATASETS.build(mixed)
    paste = dataset.pipeline[0]
    np.random.seed(0)
    pasted = 0
    for index in range(12):
        target = copy.deepcopy(dataset.dataset[index])
        source = copy.deepcopy(dataset.dataset[(index * 7 + 3) % 95])
        result = paste.transform({**copy.deepcopy(target), 'mix_results': [copy.deepcopy(source)]})
        count = len(result['gt_masks'])
        under_HW, over_HW = np.zeros((384, 384), bool), np.zeros((384, 384), bool)
        for mask_HW in result['gt_masks'].masks:
            is_source = any(np.array_equal(mask_HW, other_HW) for other_HW in source['gt_masks'].masks)
            (over_HW if is_source else under_HW)[mask_HW > 0] = True
        pasted += int(over_HW.any())
        assert not (under_HW & over_HW).any()
        assert np.array_equal(result['img'][over_HW], source['img'][over_HW])
        assert np.array_equal(result['img'][~over_HW], target['img'][~over_HW])
        maps = dataset.pipeline[1].transform(result)
        assert np.array_equal(maps['gt_seg_map'] == 1, under_HW | over_HW)
        assert set(np.unique(maps['gt_instance_map'])) <= set(range(count + 1))
    assert pasted >= 6


def test_proposals_share_the_checkpoint(weights):
    """The network, and the grouper that is trained through, are those of the semantic instances."""
    config = load('recurrent-embedding_efficientnet-lite0_proposals_penn-fudan')
    recurrent = load(RECURRENT)
    for one in (config, recurrent):
        one.model.backbone.checkpoint_path = str(weights)
    model, parent = MODELS.build(config.model), MODELS.build(recurrent.model)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in parent.state_dict().items()}
    deltas = [grouper.kernel_settings.concentration for grouper in (model.grouper, *model.more_groupers)]
    assert deltas == [100, 25, 400, 1600, 3200]
    assert parent.decode_head.loss_embedding.grouping.kernel_settings.concentration == 100
