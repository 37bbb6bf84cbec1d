"""docs/your_images.md: its configs check, train and test on a small folder; tools/check_dataset.py on folders."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from label_folders import folder_of, labels, write, write_image
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import DATASETS

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / 'docs/your_images.md').read_text()
BLOCKS = re.findall(r'^```python\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def my_images(tmp_path, monkeypatch) -> Path:
    """Ten images of one class where the page has them; the current folder is above."""
    monkeypatch.chdir(tmp_path)
    return folder_of(tmp_path / 'data/my_images', 10)


def check(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    tool = REPOSITORY / 'tools/check_dataset.py'
    monkeypatch.setattr(sys, 'argv', [str(tool), *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(tool), run_name='__main__')
    return end.value.code, capsys.readouterr().out


def train(config: Config) -> Runner:
    """One epoch of a narrow network, and a test."""
    config.model.backbone.base_channels = 4
    config.model.decode_head.update(in_channels=4, channels=8)
    config.train_cfg.update(max_epochs=1, val_interval=2)
    for name in ('train', 'val', 'test'):
        config[f'{name}_dataloader'].update(num_workers=0, persistent_workers=False)
    config.work_dir, config.log_level = 'work_dirs/my_images', 'WARNING'
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 1 and 0 <= runner.test()['coco/segm_mAP'] <= 1
    return runner


def test_the_first_config(my_images, monkeypatch, capsys):
    Path('my_images.py').write_text(BLOCKS[0])
    status, printed = check(monkeypatch, capsys, 'my_images.py')
    assert (status, printed.count('images: 10, annotations: 30, categories: 1')) == (0, 1)
    assert 'A training on data/my_images/masks/ does not stop at these checks.' in printed
    config = Config.fromfile('my_images.py')
    assert f'my_images.py work_dirs/my_images/epoch_{config.train_cfg.max_epochs}.pth' in PAGE
    sets = [DATASETS.build(config[f'{name}_dataloader'].dataset) for name in ('train', 'tune', 'val', 'test')]
    assert [len(one) for one in sets] == [8, 1, 1, 1]
    assert [one.metainfo['classes'] for one in sets] == [('nucleus',)] * 4
    train(config)


def test_five_channels(my_images):
    for path in list((my_images / 'images').iterdir()):
        path.unlink()
        values = np.random.default_rng(int(path.stem)).integers(0, 4000, (5, 32, 40)).astype(np.uint16)
        write(path.with_suffix('.tif'), values)
    Path('my_images.py').write_text(BLOCKS[1])
    config = Config.fromfile('my_images.py')
    sample = DATASETS.build(config.val_dataloader.dataset)[0]
    assert sample['inputs'].shape == (5, 32, 40) and sample['inputs'].max() == 1
    train(config)


def test_more_epochs_and_the_weights_that_ship(my_images, monkeypatch):
    few, weights = BLOCKS[2:]
    Path('my_images.py').write_text(f'{BLOCKS[0]}\n{few}\n{weights}')
    config = Config.fromfile('my_images.py')
    assert config.train_cfg.max_epochs == config.param_scheduler[1].T_max == 600
    assert (REPOSITORY / config.load_from).is_file()
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=0.0005, weight_decay=1e-4)


LAYOUTS = re.findall(r'^\| (?!layout|---)(.*?) \| .*? \| (.*?)\|$', PAGE, re.MULTILINE)


def put(root: Path, layout: str) -> None:
    """Two images in a layout of the page's table."""
    for seed, name in enumerate(('a', 'b')):
        values = labels(seed)
        image = root / {
            'beside the images, as Cellpose writes them': f'{name}.png',
            "Kaggle's Data Science Bowl 2018": f'{name}/images/{name}.png',
            'separate folders for training and test': f'train/images/{name}.png',
        }.get(layout, f'images/{name}.png')
        write_image(image, seed)
        whole = {
            'label image': [f'masks/{name}.tif'],
            'with a suffix': [f'masks/{name}_masks.png'],
            'beside the images, as Cellpose writes them': [f'{name}_masks.png'],
            'separate folders for training and test': [f'train/masks/{name}.png'],
            'several classes, by folder': [f'masks/leaf/{name}.png'],
            'several classes, by csv': [f'masks/{name}.png'],
        }.get(layout, [])
        for path in whole:
            write(root / path, values)
        folder = {'one mask a file': f'masks/{name}', "Kaggle's Data Science Bowl 2018": f'{name}/masks'}.get(layout)
        if folder:
            for value in (3, 7, 200):
                write(root / folder / f'{value}.png', ((values == value) * 255).astype(np.uint8))
    rows = [f'{name},{label},leaf' for name in 'ab' for label in (3, 7, 200)]
    (root / 'classes.csv').write_text('\n'.join(['name,label,class', *rows]))


@pytest.mark.parametrize(('layout', 'settings'), LAYOUTS, ids=[layout for layout, _ in LAYOUTS])
def test_layouts(tmp_path, layout, settings):
    """Each row of the table: the settings of its last column find all objects."""
    put(tmp_path, layout)
    text = ', '.join(re.findall(r'`([^`]*)`', settings))
    fields = eval(f'dict({text})', {'dict': dict})
    dataset = DATASETS.build(
        dict(
            type='LabelImageDataset',
            data_root=str(tmp_path),
            metainfo=dict(classes=('leaf',)),
            serialize_data=False,
            **fields,
        )
    )
    assert [len(dataset.get_data_info(index)['instances']) for index in range(len(dataset))] == [3, 3]


def test_the_table_has_eight_layouts():
    assert len(LAYOUTS) == 8


def test_a_folder_with_faults(my_images, monkeypatch, capsys):
    Path('my_images.py').write_text(BLOCKS[0])
    (my_images / 'masks/3.png').unlink()
    write(my_images / 'masks/4.png', np.stack([labels(0)] * 3, axis=2))
    status, printed = check(monkeypatch, capsys, 'my_images.py', '--split', 'train')
    assert status == 1 and '1 x image without a mask file; the first: data/my_images/images/3.png' in printed
    assert '1 x mask of several channels or pages; the first: data/my_images/masks/4.png' in printed
    assert 'images: 8, annotations: 24' in printed  # the others are looked at
    (my_images / 'masks').rename(my_images / 'labels')
    status, printed = check(monkeypatch, capsys, 'my_images.py')
    assert status == 1 and printed.count('folder not found: data/my_images/masks') == 1
