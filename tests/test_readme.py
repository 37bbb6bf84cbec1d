"""README.md and docs/: Python blocks run, shell lines name files and options that exist, links lead somewhere."""

import ast
import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, MODELS
from mmseg_configs import needs_mmsegs_configs
from pycocotools import mask as coco_mask

from mmseg_instancenet.apis import init_model, segment_image

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / 'README.md'
PAGES = [README, *sorted((ROOT / 'docs').glob('*.md')), ROOT / 'configs/README.md']


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: Path, language: str) -> list[Block]:
    found = [
        Block(*match) for match in re.findall(r'^```(\w*)\n(.*?)^```$', page.read_text(), re.DOTALL | re.MULTILINE)
    ]
    return [block for block in found if block.language == language]


def block_with(words: str) -> str:
    """The one Python block of the README that contains these words."""
    (block,) = [block for block in blocks(README, 'python') if words in block.text]
    return block.text


def in_pages(language: str) -> list:
    return [
        pytest.param(block.text, id=f'{page.name}-{number}')
        for page in PAGES
        for number, block in enumerate(blocks(page, language))
    ]


# Lines and links.


def test_the_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 130
    assert [line for line in lines if len(line) > 120] == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_lines_of_pages(page):
    """Rows of tables and output of programs cannot be wrapped."""
    prose = re.sub(r'^```.*?^```$', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in prose.splitlines() if len(line) > 140 and not line.startswith('|')] == []


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r'^#+ (.*)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links(page):
    broken = []
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if target.startswith('https://'):
            continue
        name, _, anchor = target.partition('#')
        path = page.parent / name if name else page
        if not path.is_file() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def test_every_page_is_linked_from_the_readme():
    assert [page.name for page in PAGES[1:] if f'({page.relative_to(ROOT)}' not in README.read_text()] == []


# Shell lines.


def commands(text: str) -> list[list[str]]:
    """The words of each command, with values in place of the variables that the block sets."""
    variables, found = {}, []
    for line in text.replace('\\\n', ' ').splitlines():
        command: list[str] = []
        for word in [*shlex.split(line, comments=True), '&&']:
            word = re.sub(r'\$(\w+)', lambda match: variables.get(match[1], match[0]), word)
            assignment = re.fullmatch(r'([A-Z_]+)=(.*)', word)
            if word == '&&':
                found += [command] if command else []
                command = []
            elif assignment and not command:
                variables[assignment[1]] = assignment[2]
            else:
                command.append(word)
    return found


def options_of(script: Path) -> set[str]:
    """The options of a tool, with those of the functions that tools share."""
    shared = {
        function.name: function
        for path in (
            'mmseg_instancenet/apis/command_line.py',
            'mmseg_instancenet/apis/coco_output.py',
            'benchmarks/command_line.py',
        )
        for function in ast.parse((ROOT / path).read_text()).body
        if isinstance(function, ast.FunctionDef)
    }
    found: set[str] = set()
    left: list[ast.AST] = [ast.parse(script.read_text())]
    while left:
        for call in ast.walk(left.pop()):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, 'attr', getattr(call.func, 'id', ''))
            if name in shared:
                left.append(shared[name])
            elif name == 'add_argument':
                found |= {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
    return {name for name in found if name.startswith('--')}


def problems(command: list[str]) -> list[str]:
    """Files, options and targets that a command names and that are not there."""
    program, *words = command
    if program == 'torchrun':
        place = next(place for place, word in enumerate(words) if word.endswith('.py'))
        program, words = 'python', words[place:]
    options = [word.partition('=')[0] for word in words if word.startswith('--')]
    missing = [
        word
        for word in words
        if re.match(r'(configs|tools|benchmarks|requirements|tests)/', word)
        and not any(ROOT.glob(word.replace('NAME', '*')))
    ]
    if program == 'make':
        targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
        return missing + [word for word in words if '=' not in word and word not in targets]
    if program == 'pip':
        metadata = (ROOT / 'setup.py').read_text() + (ROOT / 'pyproject.toml').read_text()
        extras = [extra for word in words for extra in re.findall(r'^\.\[(\w+)\]$', word)]
        return missing + [extra for extra in extras if not re.search(rf"^\s*'?{extra}'?\s*[:=] \[", metadata, re.M)]
    if program == 'mim':
        if words[0] not in ('search', 'train', 'test') or words[1] != 'mmseg_instancenet':
            missing.append(' '.join(words[:2]))
        return missing + [word for word in words if word.endswith('.py') and not (ROOT / 'configs' / word).is_file()]
    if program == 'bash':
        parser = ROOT / words[0].replace('dist_', '').replace('slurm_', '').replace('.sh', '.py')
        return missing + [option for option in options if option not in options_of(parser)]
    if program == 'python' and words[0] == '-c':
        return missing
    if program == 'python':
        script = ROOT / (words[1].replace('.', '/') + '.py' if words[0] == '-m' else words[0])
        if not script.is_file():
            return [*missing, str(script.relative_to(ROOT))]
        return missing + [option for option in options if option not in options_of(script)]
    if program == 'tensorboard':
        return missing + [option for option in options if option != '--logdir']
    return [f'a program that this test does not check: {program}']


@pytest.mark.parametrize('text', in_pages('bash'))
def test_shell_lines(text):
    assert commands(text)
    assert [(command, problems(command)) for command in commands(text) if problems(command)] == []


def test_shell_lines_between_other_text():
    """Those in single backticks that begin with a program, without .. for left out words."""
    found = [
        line
        for page in PAGES
        for line in re.findall(r'`((?:python|bash|make|mim) [^`]+)`', page.read_text())
        if '..' not in line and '-c "' not in line
    ]
    assert len(found) > 10
    assert [(line, problems(shlex.split(line))) for line in found if problems(shlex.split(line))] == []


@pytest.mark.parametrize(
    'line, problem',
    [
        ('python tools/trane.py my_set.py', 'tools/trane.py'),
        ('python tools/test.py CONFIG CHECKPOINT --show FOLDER', '--show'),
        ('python tools/train.py configs/instancenet_r51_coco.py', 'configs/instancenet_r51_coco.py'),
        ('bash tools/dist_train.sh my_set.py 8 --scale-lr', '--scale-lr'),
        ('python -m benchmarks.speed', 'benchmarks/speed.py'),
        ('make demos', 'demos'),
        ("pip install -e '.[mmlab]'", 'mmlab'),
        ('mim train mmseg_instancenet instancenet_digit.py', 'instancenet_digit.py'),
    ],
)
def test_wrong_shell_lines_are_found(line, problem):
    (command,) = commands(line)
    assert problem in problems(command)


# Python blocks.


@pytest.mark.parametrize('text', in_pages('python'))
def test_python_blocks_are_python(text):
    ast.parse(text)


@pytest.mark.parametrize('text', [block for block in in_pages('python') if 'example_image' in block.values[0]])
def test_the_shipped_model_counts_its_nuclei(text):
    names, output = {}, io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(text, names)
    result = names['result']
    count = len(np.unique(result.labels[result.labels > 0]))
    assert re.search(rf'^{count} (objects|nuclei)$', output.getvalue(), re.MULTILINE)
    assert abs(count - 53) <= 5  # 53 are annotated
    masks_HWK = coco_mask.decode(list(result.masks))
    for number in range(count):
        assert np.array_equal(masks_HWK[..., number] == 1, result.labels == number + 1)


def write_leaves(folder: Path, split: str, count: int) -> None:
    """Images of four discs in two touching pairs, in COCO format."""
    images, annotations = [], []
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    for image_id in range(count):
        generator = np.random.default_rng(image_id)
        image = generator.integers(0, 40, (176, 176, 3), dtype=np.uint8)
        for x, y in ((40, 50), (70, 50), (100, 120), (100, 150)):
            mask = cv2.circle(np.zeros((176, 176), np.uint8), (x, y), 15, 1, -1)
            image[mask == 1] += 150
            encoded = coco_mask.encode(np.asfortranarray(mask))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=1,
                    iscrowd=0,
                    area=int(mask.sum()),
                    bbox=coco_mask.toBbox(encoded).tolist(),
                    segmentation=dict(size=[176, 176], counts=encoded['counts'].decode()),
                )
            )
        name = f'{split}_{image_id}.png'
        cv2.imwrite(str(folder / 'images' / name), image)
        images.append(dict(id=image_id, file_name=name, height=176, width=176))
    dump(dict(images=images, annotations=annotations, categories=[dict(id=1, name='leaf')]), folder / f'{split}.json')


@pytest.fixture
def leaves(tmp_path, monkeypatch) -> Path:
    """The README's config on a small set, in the folder where a user would have it."""
    write_leaves(tmp_path / 'data/my_set', 'train', 26)
    write_leaves(tmp_path / 'data/my_set', 'val', 2)
    monkeypatch.chdir(tmp_path)
    text = block_with('data/my_set')
    assert text.count('num_images = 200 ') == 1
    Path('my_set.py').write_text(text.replace('num_images = 200 ', 'num_images = 26 '))
    return Path('my_set.py')


def test_your_own_data(leaves):
    """The config trains for one iteration, is tested, and segments an image of the set."""
    config = Config.fromfile(leaves)
    assert f'$W/epoch_{config.train_cfg.max_epochs}.pth' in README.read_text()
    sets = [DATASETS.build(config[f'{name}_dataloader'].dataset) for name in ('train', 'tune', 'val', 'test')]
    assert [len(data_set) for data_set in sets] == [6, 20, 2, 2]
    first = [Path(data_set.get_data_info(0)['img_path']).name for data_set in sets]
    assert first == ['train_20.png', 'train_0.png', 'val_0.png', 'val_0.png']
    config.train_cfg.update(max_epochs=1, val_interval=1)
    config.work_dir, config.log_level = 'work_dirs/my_set', 'WARNING'
    config.default_hooks.checkpoint.interval = 1
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 1
    assert 0 <= runner.test()['coco/segm_mAP'] <= 1
    model = init_model(str(leaves), 'work_dirs/my_set/epoch_1.pth', device='cpu')
    result = segment_image(model, 'data/my_set/images/val_0.png')
    assert result.pred_instance_map.data.shape == (1, 176, 176)
    assert set(result.pred_sem_seg.data.unique().tolist()) <= {0, 1}


@needs_mmsegs_configs
def test_a_config_of_mmseg(tmp_path):
    """The model of the three settings has finite losses, and a gradient in the embedding branch."""
    path = tmp_path / 'config.py'
    path.write_text(block_with('mmseg::'))
    config = Config.fromfile(path)
    config.model.backbone.init_cfg = None
    config.model.pop('pretrained', None)
    config.model.decode_head.norm_cfg = dict(type='BN')
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    ids = torch.zeros(1, 64, 64, dtype=torch.long)
    ids[:, 8:30, 8:30], ids[:, 34:60, 30:60] = 1, 2
    samples = []
    for _ in range(2):
        sample = DetDataSample(
            metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), batch_input_shape=(64, 64)),
            gt_sem_seg=PixelData(data=(ids > 0).long() * 5),
        )
        sample.set_field(PixelData(data=ids), 'gt_instance_map', dtype=PixelData)
        samples.append(sample)
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    total, log = model.parse_losses(losses)
    assert {'decode.loss_ce', 'decode.loss_embedding'} <= set(log) and torch.isfinite(total)
    total.backward()
    assert model.decode_head.conv_embedding.weight.grad.abs().sum() > 0
    assert model.decode_head.num_classes == 150  # mmseg's head as it is


def test_every_python_block_of_the_readme_is_run():
    run = ['from mmseg_instancenet', 'data/my_set', 'mmseg::']
    assert [sum(words in block.text for words in run) for block in blocks(README, 'python')] == [1] * len(run)


def test_components_are_complete():
    """docs/components.md names all components that a config can name, and none that is not there."""
    page = (ROOT / 'docs/components.md').read_text()
    classes = {
        match
        for path in (ROOT / 'mmseg_instancenet').rglob('*.py')
        for match in re.findall(r'register_module\([^)]*\)\nclass (\w+)\(', path.read_text())
    }
    assert len(classes) > 40
    internal = {'CPUDistributedDataParallel', 'DetectionsDump'}  # chosen by tools, not by a config
    assert {name for name in classes - internal if f'`{name}`' not in page} == set()
    rows = re.findall(r'^\| (`[A-Z]\w+`(?:, `[A-Z]\w+`)*) \|', page, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r'\w+', row)} - classes == set()


def test_components_names_all_configs():
    """Each config is named in docs/components.md, by a pattern with braces or with .. for the name before it."""
    named = set()
    for row in re.findall(r'^\| (`[\w.-].*?) \|', (ROOT / 'docs/components.md').read_text(), re.MULTILINE):
        first = ''
        for pattern in re.findall(r'`([^`]+\.py)`', row):
            pattern = first.rsplit('_', 1)[0] + pattern[2:] if pattern.startswith('..') else pattern
            first = first or pattern
            before, choices, after = re.fullmatch(r'([^{]*)(?:\{(.*)\})?(.*)', pattern).groups(default='')
            named |= {f'{before}{choice}{after}' for choice in choices.split(',')}
    there = {path.name for path in (ROOT / 'configs').glob('*.py')}
    assert named == there
