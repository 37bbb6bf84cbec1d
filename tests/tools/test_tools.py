"""The command-line tools, as real processes on real images."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from programs import REPOSITORY, run_program
from pycocotools import mask as coco_mask

from mmseg_instancenet.datasets.digits import write_digits

DIGITS = 'configs/instancenet_digits.py'


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """A small set of digits and a model trained on it for two epochs, interrupted after the first."""
    folder = tmp_path_factory.mktemp('digits')
    write_digits(folder / 'data', num_train=64, num_val=12)
    options = [
        '--cfg-options',
        f'train_dataloader.dataset.data_root={folder}/data',
        f'val_dataloader.dataset.data_root={folder}/data',
        f'test_dataloader.dataset.data_root={folder}/data',
        'default_hooks.logger.interval=4',
        'param_scheduler.0.end=4',
        'param_scheduler.1.T_max=2',
    ]
    common = ['tools/train.py', DIGITS, '--work-dir', folder / 'run']
    first = run_program(*common, *options, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    second = run_program(*common, '--resume', *options, 'train_cfg.max_epochs=2', 'train_cfg.val_interval=1')
    return dict(folder=folder, options=options, first=first, second=second, checkpoint=folder / 'run/epoch_2.pth')


def losses(output: str) -> list:
    return [float(value) for value in re.findall(r'Epoch\(train\).*? loss: (\S+)', output)]  # nan and inf as well


def test_training_falls_validates_and_resumes(digits):
    assert losses(digits['first'])[-1] < losses(digits['first'])[0]
    assert 'coco/segm_mAP:' in digits['first'] and 'mIoU' in digits['first']
    assert 'resumed epoch: 1' in digits['second']
    assert losses(digits['second'])[0] < losses(digits['first'])[0]
    state = torch.load(digits['checkpoint'], weights_only=False)
    assert str(digits['folder']) not in str(state['meta'].get('dataset_meta'))


def test_testing_gives_the_table_images_and_predictions(digits):
    folder = digits['folder']
    output = run_program(
        'tools/test.py', DIGITS, digits['checkpoint'], '--work-dir', folder / 'test',
        '--show-dir', folder / 'images', '--out', folder / 'out.pkl', *digits['options'],
        # Two epochs find no digit by themselves, and no group of ten pixels.
        'model.test_cfg.classes=ground_truth', 'model.grouper.min_size=1',
    )  # fmt: skip
    assert re.search(r'Average Precision  \(AP\) @\[ IoU=0.50:0.95', output)
    assert 'segm_mAP_all' in output and 'mIoU' in output
    assert 'loaded' in output and 'tensors of the model' in output
    images = sorted((folder / 'images').glob('*.png'))
    assert [path.stem for path in images] == [f'{i:05d}' for i in range(1, 13)]
    # Six images of 256 x 256 with a header, and five gaps.
    assert cv2.imread(str(images[0])).shape == (256 + 24, 6 * 256 + 5 * 4, 3)
    predictions = pickle.loads((folder / 'out.pkl').read_bytes())
    assert len(predictions) == 12
    assert [prediction['img_id'] for prediction in predictions] == list(range(1, 13))
    assert sum(len(prediction['masks']) for prediction in predictions) > 0
    for prediction in predictions:
        assert prediction['ori_shape'] == (64, 64) and Path(prediction['img_path']).is_file()
        for (x1, y1, x2, y2), mask in zip(prediction['bboxes'], prediction['masks'], strict=True):
            assert coco_mask.toBbox(mask).tolist() == [x1, y1, x2 - x1, y2 - y1]


def test_testing_in_mixed_precision(digits):
    outputs, scores = {}, {}
    for name in ('exact', 'mixed'):
        outputs[name] = run_program(
            'tools/test.py', DIGITS, digits['checkpoint'], '--work-dir', digits['folder'] / name,
            '--out', digits['folder'] / f'{name}.pkl', *(['--amp'] * (name == 'mixed')), *digits['options'],
            'model.test_cfg.classes=ground_truth', 'model.grouper.min_size=1',
        )  # fmt: skip
        predictions = pickle.loads((digits['folder'] / f'{name}.pkl').read_bytes())
        scores[name] = np.concatenate([np.sort(prediction['scores']) for prediction in predictions])
    assert '--amp' not in outputs['exact']
    (kind,) = re.findall(r'^--amp: b?float(16|32)', outputs['mixed'], re.MULTILINE)
    assert np.array_equal(scores['exact'], scores['mixed']) == (kind == '32')
    # Groups of an embedding that two epochs have trained are many and small: their number stays about the same.
    assert abs(len(scores['exact']) - len(scores['mixed'])) <= 0.2 * len(scores['exact'])


def test_flip_augmentation_runs_through_the_command_line(digits):
    output = run_program(
        'tools/test.py',
        DIGITS,
        digits['checkpoint'],
        '--tta',
        '--work-dir',
        digits['folder'] / 'tta',
        *digits['options'],
    )
    assert 'coco/segm_mAP:' in output


def test_tables(digits):
    out = digits['folder'] / 'tables.json'
    output = run_program(
        'tools/analysis/grouping_tables.py', DIGITS, digits['checkpoint'], '--thresholds', '0.8', '1.2', '--out', out,
        '--work-dir', digits['folder'] / 'tables', *digits['options'],
    )  # fmt: skip
    metrics = json.loads(out.read_text())
    assert [(row['grouping'], row['classes']) for row in metrics['Table 1']] == [
        ('center-fixed', 'predicted'),
        ('center-shift', 'predicted'),
        ('center-fixed', 'ground_truth'),
        ('center-shift', 'ground_truth'),
    ]
    by_threshold = {row['grouping']: row for row in metrics['Table 2']}
    assert by_threshold['1.2']['segm_mAP'] == metrics['Table 1'][3]['segm_mAP']
    # True classes in one group each are right wherever a class has one digit in its image.
    one_group, components = (row for row in metrics['Baselines'] if row['classes'] == 'ground_truth')
    assert 0.2 < one_group['segm_mAP'] < 0.7 and 0.2 < components['segm_mAP'] < 0.7
    assert len(metrics['Scores'][0]['shuffled']) == 10
    assert 'connected components a class' in output


def test_python_interface(digits):
    from mmseg_instancenet.apis import init_model, segment_image

    model = init_model(str(REPOSITORY / DIGITS), str(digits['checkpoint']), device='cpu')
    path = digits['folder'] / 'data/val/00001.png'
    from_file = segment_image(model, path)
    from_array = segment_image(model, cv2.imread(str(path)))
    grey = segment_image(model, cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert model.dataset_meta['classes'][3] == '3'
    for result in (from_array, grey):
        assert torch.equal(result.pred_instance_map.data, from_file.pred_instance_map.data)
    assert len(from_file.pred_instances) == int(from_file.pred_instance_map.data.max())
    with pytest.raises(ValueError, match='expected uint8'):
        segment_image(model, np.zeros((4, 4, 3)))


def test_perfect_embeddings_lose_nothing_on_digits(digits):
    output = run_program('tools/analysis/perfect_embeddings.py', DIGITS, *digits['options'])
    assert float(re.search(r'own size\s+AP ([0-9.]+)', output).group(1)) >= 0.97


def test_perfect_embeddings_on_nuclei(test_data, tmp_path):
    """On the ten smallest images of the validation set, to be quick; the whole set's AP is in docs/results.md."""
    coco = json.loads((test_data / 'dsb2018/val.json').read_text())
    coco['images'] = sorted(coco['images'], key=lambda image: image['height'] * image['width'])[:10]
    ids = {image['id'] for image in coco['images']}
    coco['annotations'] = [a for a in coco['annotations'] if a['image_id'] in ids]
    (tmp_path / 'val.json').write_text(json.dumps(coco))
    output = run_program(
        'tools/analysis/perfect_embeddings.py', 'configs/instancenet_r50_dsb2018.py', '--length', '513', '--cfg-options',
        f'test_dataloader.dataset.ann_file={tmp_path}/val.json',
        f'test_dataloader.dataset.data_prefix.img={test_data}/dsb2018/images',
    )  # fmt: skip
    metrics = [float(value) for value in re.findall(r'uncapped ([0-9.]+)', output)]
    assert metrics[0] >= 0.97
    assert metrics[0] >= metrics[1] >= metrics[2] > 0.5


@pytest.mark.parametrize(
    ('config', 'folder', 'images', 'train', 'val'),
    [
        ('configs/instancenet_r50_coco.py', 'coco_mini', 'images/', 'train.json', 'val.json'),
        ('configs/instancenet_r50_dsb2018.py', 'dsb2018', 'images/', 'train.json', 'val.json'),
    ],
)
def test_resnet_configs_train_and_test_on_real_data(test_data, tmp_path, config, folder, images, train, val):
    """Three iterations on small images, then the COCO table; both phases of the paper's recipe in turn."""
    for split, name in (('train', train), ('val', val)):
        coco = json.loads((test_data / folder / name).read_text())
        coco['images'] = coco['images'][: 6 if split == 'train' else 3]
        ids = {image['id'] for image in coco['images']}
        coco['annotations'] = [a for a in coco['annotations'] if a['image_id'] in ids]
        (tmp_path / f'{split}.json').write_text(json.dumps(coco))
    options = [
        f'{kind}_dataloader.dataset.{key}={value}'
        for kind, split in (('train', 'train'), ('val', 'val'), ('test', 'val'))
        for key, value in (
            ('data_root', tmp_path),
            ('ann_file', f'{split}.json'),
            ('data_prefix.img', f'{test_data}/{folder}/{images}'),
        )
    ]
    options += [f'{kind}_dataloader.num_workers=0' for kind in ('train', 'val', 'test')]
    options += [f'{kind}_dataloader.persistent_workers=False' for kind in ('train', 'val', 'test')]
    options += ['train_dataloader.dataset.pipeline.2.length=65', 'test_dataloader.dataset.pipeline.1.length=65']
    options += ['val_dataloader.dataset.pipeline.1.length=65', 'train_dataloader.batch_size=2', 'load_from=None']
    options += ['default_hooks.logger.interval=1', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    options += ['default_hooks.checkpoint.max_keep_ckpts=1', 'default_hooks.checkpoint.save_optimizer=False']
    if 'coco' in config:
        options += ['custom_hooks.0.until=0']
    output = run_program('tools/train.py', config, '--work-dir', tmp_path / 'run', '--cfg-options', *options)
    assert len(losses(output)) == 3 and np.isfinite(losses(output)).all()
    output = run_program(
        'tools/test.py',
        config,
        tmp_path / 'run/epoch_1.pth',
        '--work-dir',
        tmp_path / 'test',
        '--cfg-options',
        *options,
    )
    assert re.search(r'Average Precision  \(AP\) @\[ IoU=0.50:0.95', output)
    assert ('counting/SBD: ' in output) == ('dsb2018' in config)
    shutil.rmtree(tmp_path / 'run')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['train_dataloader.dataset.ann_file=nothing.json'], 'annotation file not found: .*nothing.json'),
        (['train_dataloader.dataset.metainfo.classes=seven,eight'], "has no class 'seven', 'eight'"),
        (['train_dataloader.dataset.data_prefix.img=nowhere/'], 'names 64 images that do not exist.*nowhere'),
        (['model.decode_head.embedding_dims=0'], 'expected embedding_dims >= 1, got 0'),
        (['model.grouper.threshold=-1.0'], 'expected a threshold > 0 .*got -1.0'),
        (['model.decode_head.num_classes=7'], r'num_classes=7, but the data have 10 classes: expected num_classes=11'),
    ],
)
def test_wrong_input_gets_a_line_that_names_it(digits, tmp_path, options, message):
    output = run_program('tools/train.py', DIGITS, '--work-dir', tmp_path, *digits['options'], *options, succeeds=False)
    assert re.search(message, output), output[-2000:]


def test_mixed_precision(digits, tmp_path):
    """In bfloat16 or float16 as the device has it; --amp names it, and the format of the weights does not change."""
    output = run_program(
        'tools/train.py', DIGITS, '--amp', '--work-dir', tmp_path, *digits['options'],
        'train_cfg.max_epochs=2', 'train_cfg.val_interval=2',
    )  # fmt: skip
    assert len(re.findall(r'^--amp: b?float(16|32)', output, re.MULTILINE)) == 1
    # Two values an epoch: sixteen steps, of which float16 needs the first few for its scale of the loss.
    assert len(losses(output)) == 4 and np.isfinite(losses(output)).all()
    assert losses(output)[-1] < losses(output)[0]
    assert 'coco/segm_mAP:' in output
    weights = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['state_dict']
    assert {weight.dtype for weight in weights.values()} == {torch.float32, torch.int64}


def test_two_processes_train_alike(digits, tmp_path):
    """DistributedDataParallel over gloo, as tools/dist_train.sh starts it, with the SyncBN of mmseg's configs."""
    process = subprocess.run(
        ['bash', 'tools/dist_train.sh', DIGITS, '2', '--work-dir', tmp_path, *digits['options'],
         'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1',
         'model.backbone.norm_cfg.type=SyncBN', 'model.decode_head.norm_cfg.type=SyncBN'],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600,
        # Without a GPU: two processes on the only one of a machine would not start.
        env=dict(os.environ, PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}', OMP_NUM_THREADS='1', PORT='29617',
                 CUDA_VISIBLE_DEVICES=''),
    )  # fmt: skip
    output = process.stdout + process.stderr
    assert process.returncode == 0, output[-3000:]
    assert 'coco/segm_mAP:' in output
    assert losses(output)[-1] < losses(output)[0]


def test_scripts_say_how_they_are_used():
    for script in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh'):
        process = subprocess.run(['bash', f'tools/{script}'], cwd=REPOSITORY, capture_output=True, text=True)
        assert process.returncode == 1 and script in process.stderr
