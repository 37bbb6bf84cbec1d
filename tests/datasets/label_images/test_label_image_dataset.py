"""LabelImageDataset: the maps of a sample are those that plain numpy reads from the mask files, in every layout and depth."""

import io
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from label_folders import HEIGHT, WIDTH, folder_of, labels, plain_maps, write, write_image
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from PIL import Image

from mmseg_instancenet.datasets import LabelImageDataset
from mmseg_instancenet.datasets.label_images import conversion
from mmseg_instancenet.datasets.transforms import NormalizePercentiles
from mmseg_instancenet.structures import decode_tiff, tiff_sizes

CONFIGS = Path(__file__).parents[3] / 'configs'
MAPS = [{'type': 'LoadInstanceMasks'}, {'type': 'MasksToMaps'}, {'type': 'PackInstanceMaps'}]


def dataset_of(root: Path, loader: dict | None = None, **settings) -> LabelImageDataset:
    pipeline = [loader or {'type': 'LoadImageFromFile'}, *MAPS]
    # MMEngine collects garbage where it serializes, which takes longer than all else.
    fields = {'type': 'LabelImageDataset', 'data_root': str(root), 'pipeline': pipeline, 'serialize_data': False}
    return DATASETS.build({**fields, **settings})


def maps_of(dataset: LabelImageDataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The class map and the instance map of each image, by its name."""
    samples = [dataset[index]['data_samples'] for index in range(len(dataset))]
    root = dataset.data_prefix['img']
    return {
        Path(os.path.relpath(sample.img_path, root)).with_suffix('').as_posix(): (
            sample.gt_sem_seg.data[0].numpy(),
            sample.gt_instance_map.data[0].numpy(),
        )
        for sample in samples
    }


def assert_maps(found: dict, expected: dict) -> None:
    assert list(found) == list(expected)
    for name in expected:
        for one, other in zip(found[name], expected[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


# Label images of every depth


DEPTHS = {
    'png of 8 bits': ('png', 'uint8', (3, 7, 254), {}),
    'png of 16 bits': ('png', 'uint16', (3, 300, 65000), {}),
    'tif of 8 bits': ('tif', 'uint8', (1, 2, 200), {}),
    'tif of 16 bits': ('tif', 'uint16', (40000, 2, 60000), {}),
    'tif of 32 bits': ('tif', 'uint32', (7, 70000, 3_000_000_000), {}),
    'signed tif': ('tif', 'int32', (7, 70000, 2_000_000_000), {}),
    'compressed tif': ('tif', 'uint16', (1, 300, 40000), {'compression': 'zlib'}),
}


@pytest.mark.parametrize('count', [255, 256, 2000])
def test_hundreds_of_objects_in_an_image(count, tmp_path):
    values = np.arange(1, 45 * 45 + 1, dtype=np.uint16).reshape(45, 45)
    values[values > count] = 0
    write_image(tmp_path / 'images/a.png', size=values.shape)
    write(tmp_path / 'masks/a.png', values)
    assert_maps(maps_of(dataset_of(tmp_path)), {'a': plain_maps(values)})


@pytest.mark.parametrize('name', DEPTHS)
def test_label_images_of_every_depth(tmp_path, name):
    ending, dtype, numbers, options = DEPTHS[name]
    expected = {}
    for seed in range(3):
        values = labels(seed, dtype, numbers)
        write_image(tmp_path / f'images/{seed}.png', seed)
        write(tmp_path / f'masks/{seed}.{ending}', values, **options)
        expected[str(seed)] = plain_maps(values)
    assert_maps(maps_of(dataset_of(tmp_path)), expected)


@pytest.mark.parametrize('dtype', ['uint16', 'uint32'])
def test_compressions_that_tifffile_alone_does_not_read(tmp_path, dtype):
    values = labels(0, dtype, (7, 300, 65000) if dtype == 'uint16' else (7, 70000, 3_000_000_000))
    write_image(tmp_path / 'images/0.png')
    path = tmp_path / 'masks/0.tif'
    path.parent.mkdir()
    Image.fromarray(values.view(np.int32) if dtype == 'uint32' else values).save(path, compression='tiff_lzw')
    if dtype == 'uint32':  # Pillow writes 32 bits as signed: its tag 339 becomes that of unsigned ones
        signed, unsigned = (struct.pack('<HHIHH', 339, 3, 1, form, 0) for form in (2, 1))
        content = path.read_bytes()
        assert content.count(signed) == 1
        path.write_bytes(content.replace(signed, unsigned))
    with pytest.raises(ValueError, match='imagecodecs'):
        tifffile.imread(path)
    assert_maps(maps_of(dataset_of(tmp_path)), {'0': plain_maps(values)})


def test_palettes_and_one_bit_are_read_as_numbers(tmp_path):
    values = labels(0)
    for name in 'ab':
        write_image(tmp_path / f'images/{name}.png')
    (tmp_path / 'masks').mkdir()
    palette = Image.fromarray(values, 'P')
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    palette.save(tmp_path / 'masks/a.png')
    Image.fromarray(values == 3).save(tmp_path / 'masks/b.png')
    expected = {'a': plain_maps(values), 'b': plain_maps((values == 3).astype(int))}
    assert_maps(maps_of(dataset_of(tmp_path)), expected)


@pytest.mark.parametrize(
    ('dtype', 'ignore_label'), [('uint8', 255), ('uint16', 65535), ('int32', -1), ('int16', -1), ('uint8', 3)]
)
def test_unlabelled_regions_are_ignored_pixels(tmp_path, dtype, ignore_label):
    values = labels(0, dtype, (3, 7, 100))
    values[2:30, 30:38] = ignore_label
    write_image(tmp_path / 'images/0.png')
    write(tmp_path / 'masks/0.tif', values)
    found = maps_of(dataset_of(tmp_path, ignore_label=ignore_label))
    assert_maps(found, {'0': plain_maps(values, ignore_label)})
    assert (found['0'][0] == 255).sum() >= 28 * 8


def test_images_without_objects_are_normal_images(tmp_path):
    folder_of(tmp_path, 1)
    write_image(tmp_path / 'images/empty.png')
    write(tmp_path / 'masks/empty.png', np.zeros((HEIGHT, WIDTH), np.uint16))
    found = maps_of(dataset_of(tmp_path))
    assert_maps({'empty': found['empty']}, {'empty': plain_maps(np.zeros((HEIGHT, WIDTH), int))})


# Layouts


def one_file_each(values: np.ndarray, folder: Path) -> None:
    """A mask file for each object; the names sort as the labels do."""
    folder.mkdir(parents=True, exist_ok=True)
    for value in np.unique(values[values > 0]):
        write(folder / f'{value:05d}.png', ((values == value) * 255).astype(np.uint8))


def test_one_mask_a_file(tmp_path):
    expected = {}
    for seed in range(2):
        write_image(tmp_path / f'images/sub/{seed}.jpg', seed)
        one_file_each(labels(seed), tmp_path / f'masks/sub/{seed}')
        expected[f'sub/{seed}'] = plain_maps(labels(seed))
    write_image(tmp_path / 'images/sub/none.jpg')
    (tmp_path / 'masks/sub/none').mkdir()
    expected['sub/none'] = plain_maps(np.zeros((HEIGHT, WIDTH), int))
    assert_maps(maps_of(dataset_of(tmp_path)), expected)


def test_kaggles_layout(tmp_path):
    expected = {}
    for name in ('a1', 'b2'):
        values = labels(len(expected))
        write_image(tmp_path / f'{name}/images/{name}.png')
        one_file_each(values, tmp_path / f'{name}/masks')
        expected[f'{name}/images/{name}'] = plain_maps(values)
    assert_maps(maps_of(dataset_of(tmp_path, data_prefix={'img': '', 'mask': ''})), expected)


def test_masks_with_a_suffix_beside_the_images(tmp_path):
    expected = {}
    for name in ('a', 'b'):
        values = labels(len(expected))
        write_image(tmp_path / f'{name}.tif')
        write(tmp_path / f'{name}_masks.png', values)
        expected[name] = plain_maps(values)
    assert_maps(maps_of(dataset_of(tmp_path, data_prefix={'img': '', 'mask': ''}, mask_suffix='_masks')), expected)


def two_classes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label 7 is a stem, the others are leaves; the classes are (stem, leaf)."""
    class_map, instance_map = plain_maps(values)
    class_map[instance_map > 0] = np.where(values[instance_map > 0] == 7, 1, 2)
    return class_map, instance_map


def test_classes_by_folder(tmp_path):
    """Instances are numbered folder by folder."""
    values = labels(0)
    write_image(tmp_path / 'images/0.png')
    write(tmp_path / 'masks/leaf/0.png', np.where(values == 7, 0, values))
    write(tmp_path / 'masks/stem/0.png', np.where(values == 7, values, 0))
    unknown = np.zeros_like(values)
    unknown[:2, 30:] = 1
    write(tmp_path / 'masks/void/0.png', unknown)
    ((class_map, instance_map),) = maps_of(
        dataset_of(tmp_path, classes_from='folders', metainfo={'classes': ('stem', 'leaf')})
    ).values()
    expected, _ = two_classes(values)
    expected[unknown > 0] = 255
    np.testing.assert_array_equal(class_map, expected)
    number_of = {3: 1, 200: 2, 7: 3, 0: 0}
    numbers = np.vectorize(number_of.get)(values)
    np.testing.assert_array_equal(instance_map, np.where(unknown > 0, -1, numbers))


@pytest.mark.parametrize('head', ['name,label,class', '\ufeffclass;name;label'])
def test_classes_by_csv(tmp_path, head):
    folder_of(tmp_path, 2)
    columns = head.strip('\ufeff').replace(';', ',').split(',')
    lines = [head]
    for seed in range(2):
        for label, name in ((3, 'leaf'), (7, 'stem'), (200, 'leaf')):
            row = {'name': f'{seed}.png' if label == 3 else str(seed), 'label': f'{label}.0', 'class': name}
            lines.append((';' if ';' in head else ',').join(row[column] for column in columns))
    (tmp_path / 'classes.csv').write_text('\n'.join(lines), encoding='utf-8')
    dataset = dataset_of(tmp_path, classes_from='classes.csv', metainfo={'classes': ('stem', 'leaf')})
    assert_maps(maps_of(dataset), {str(seed): two_classes(labels(seed)) for seed in range(2)})


def test_classes_by_csv_of_masks_of_one_object(tmp_path):
    values = labels(0)
    write_image(tmp_path / 'images/0.png')
    one_file_each(values, tmp_path / 'masks/0')
    (tmp_path / 'c.csv').write_text('name,label,class\n0,00003,leaf\n0,00007,stem\n0,00200,leaf\n')
    dataset = dataset_of(tmp_path, classes_from='c.csv', metainfo={'classes': ('stem', 'leaf')})
    assert_maps(maps_of(dataset), {'0': two_classes(values)})


# Images of any number of channels and depth


def model_of(channels: int) -> torch.nn.Module:
    config = Config.fromfile(CONFIGS / 'instancenet_unet_label-images.py')
    config.model.backbone.update(base_channels=4, in_channels=channels)
    config.model.decode_head.update(in_channels=4, channels=8)
    config.model.data_preprocessor.bgr_to_rgb = channels == 3
    return MODELS.build(config.model)


@pytest.mark.parametrize('planes', ['first', 'last'])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize('channels', [1, 2, 3, 5])
def test_channels_and_depths_train_and_test(tmp_path, channels, dtype, planes):
    rng = np.random.default_rng(0)
    images = (rng.random((2, HEIGHT, WIDTH, channels)) * (1 if dtype == 'float32' else 250)).astype(dtype)
    for index, image in enumerate(images):
        stored = image[..., 0] if channels == 1 else image.transpose(2, 0, 1) if planes == 'first' else image
        path = tmp_path / f'images/{index}.tif'
        write(path, stored, photometric='minisblack', planarconfig='contig' if planes == 'last' else None)
        write(tmp_path / f'masks/{index}.png', labels(index))
    loader = {'type': 'LoadImageFromFile', 'color_type': 'unchanged', 'imdecode_backend': 'tifffile'}
    dataset = dataset_of(tmp_path, loader)
    dataset.pipeline.transforms.insert(1, NormalizePercentiles())
    samples = [dataset[index] for index in range(2)]
    for sample, image in zip(samples, images, strict=True):
        low, high = np.percentile(image, [1, 99.8])
        expected = ((image.astype(np.float64) - low) / (high - low)).clip(0, 1).transpose(2, 0, 1)
        np.testing.assert_allclose(sample['inputs'].numpy(), expected, atol=1e-6)
    torch.manual_seed(0)
    model = model_of(channels)
    batch = {key: [sample[key] for sample in samples] for key in samples[0]}
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    gradient = model.backbone.encoder[0][0].convs[0].conv.weight.grad
    assert torch.isfinite(total) and gradient.shape[1] == channels and gradient.abs().sum((0, 2, 3)).min() > 0
    model.eval()
    with torch.no_grad():
        results = model.test_step({key: [sample[key] for sample in samples[:1]] for key in samples[0]})
    assert results[0].pred_instance_map.data.shape[-2:] == (HEIGHT, WIDTH)


# The json that is kept


@pytest.fixture
def converted(monkeypatch) -> list[str]:
    """The names of the images that are converted."""
    names = []
    annotate = conversion.annotate

    def record(image, *rest):
        names.append(image.key)
        return annotate(image, *rest)

    monkeypatch.setattr(conversion, 'annotate', record)
    return names


def test_a_second_start_converts_nothing_again(tmp_path, converted):
    folder_of(tmp_path)
    first = dataset_of(tmp_path)
    assert sorted(converted) == ['0', '1', '2']
    converted.clear()
    second = dataset_of(tmp_path, share=(0, 0.7))
    assert (converted, second.ann_file) == ([], first.ann_file)
    name = Path(first.ann_file).stem
    assert {path.name for path in (tmp_path / '.label_images').iterdir()} == {f'{name}.json', f'{name}.files.json'}


def later(path: Path) -> None:
    """A file system may note the time of a change in steps of milliseconds."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10_000_000))


def test_what_has_changed_is_converted_again(tmp_path, converted):
    folder_of(tmp_path)
    dataset_of(tmp_path)
    values = labels(5)
    write(tmp_path / 'masks/1.png', values)
    later(tmp_path / 'masks/1.png')
    write_image(tmp_path / 'images/00.png')
    write(tmp_path / 'masks/00.png', labels(6))
    (tmp_path / 'images/2.png').unlink()
    (tmp_path / 'masks/2.png').unlink()
    converted.clear()
    found = maps_of(dataset_of(tmp_path))
    assert sorted(converted) == ['00', '1']
    expected = {'0': labels(0), '00': labels(6), '1': values}
    assert_maps(found, {name: plain_maps(one) for name, one in expected.items()})


def test_other_settings_have_another_json(tmp_path):
    folder_of(tmp_path, 1)
    one, other = dataset_of(tmp_path), dataset_of(tmp_path, ignore_label=200)
    assert one.ann_file != other.ann_file
    assert_maps(maps_of(one), {'0': plain_maps(labels(0))})
    assert_maps(maps_of(other), {'0': plain_maps(labels(0), 200)})


def test_a_csv_that_has_changed(tmp_path):
    folder_of(tmp_path, 1)
    table = tmp_path / 'c.csv'
    text = 'name,label,class\n0,3,leaf\n0,7,leaf\n0,200,leaf\n1,1,stem\n'
    table.write_text(text)
    settings = dict(classes_from='c.csv', metainfo={'classes': ('stem', 'leaf')})
    ((before, _),) = maps_of(dataset_of(tmp_path, **settings)).values()
    table.write_text(text.replace('7,leaf', '7,stem'))
    ((after, _),) = maps_of(dataset_of(tmp_path, **settings)).values()
    assert set(before[labels(0) == 7]) == {2} and set(after[labels(0) == 7]) == {1}


@pytest.mark.parametrize('damaged', ['', '.files'])
def test_a_damaged_json_is_written_anew(tmp_path, damaged):
    folder_of(tmp_path, 2)
    path = Path(dataset_of(tmp_path).ann_file)
    path.with_suffix(f'{damaged}.json').write_text('{"images": [')
    later(tmp_path / 'masks/1.png')
    assert_maps(maps_of(dataset_of(tmp_path)), {str(seed): plain_maps(labels(seed)) for seed in range(2)})
    json.loads(path.read_text())


def test_a_folder_that_cannot_be_written(tmp_path):
    folder_of(tmp_path, 1)
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match=r'cannot be written .*; set cache_folder of the data set'):
        dataset_of(tmp_path, cache_folder=str(tmp_path / 'file/cache'))
    dataset = dataset_of(tmp_path, cache_folder=str(tmp_path / 'cache'))
    assert Path(dataset.ann_file).parent == tmp_path / 'cache' and len(dataset) == 1


# Shares


def names_of(dataset: LabelImageDataset) -> list[str]:
    return [Path(dataset.get_data_info(index)['img_path']).stem for index in range(len(dataset))]


def test_shares_part_the_images(tmp_path):
    for index in range(20):
        write_image(tmp_path / f'images/{index:02d}.png', index)
        write(tmp_path / f'masks/{index:02d}.png', labels(index))
    parts = [names_of(dataset_of(tmp_path, share=share)) for share in ((0, 0.8), (0.8, 0.9), (0.9, 1.0))]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert sorted(sum(parts, [])) == [f'{index:02d}' for index in range(20)]
    assert all(part == sorted(part) for part in parts) and parts[0] != [f'{index:02d}' for index in range(16)]
    # A new image moves few of the others to another part.
    write_image(tmp_path / 'images/new.png')
    write(tmp_path / 'masks/new.png', labels(0))
    again = names_of(dataset_of(tmp_path, share=(0, 0.8)))
    assert len(set(again) & set(parts[0])) >= 15


def test_a_share_without_an_image(tmp_path):
    folder_of(tmp_path)
    with pytest.raises(ValueError, match=r'has 3 images, none of them in share=\(0\.9, 1\.0\)'):
        dataset_of(tmp_path, share=(0.9, 1.0))


# Settings


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'ann_file': 'train.json'}, 'LabelImageDataset has no ann_file'),
        ({'backend_args': {'backend': 'petrel'}}, 'reads local folders'),
        ({'share': (0.5, 0.2)}, r'expected share=\(start, stop\)'),
        ({'ignore_label': 0}, 'expected an ignore_label other than 0'),
        ({'metainfo': {'classes': ('a', 'b')}}, 'expected one class in metainfo, got 2: set classes_from'),
        ({'data_prefix': {'img': 'none/'}}, r"folder not found: .*none/?; .*data_prefix=dict\(img='\.\.'\)"),
        ({'data_prefix': {'mask': 'none/'}}, r"folder not found: .*none/?; .*data_prefix=dict\(mask='\.\.'\)"),
        ({'classes_from': 'none.csv'}, r'csv of the classes not found: .*none\.csv'),
    ],
)
def test_settings_that_cannot_be_meant(tmp_path, settings, message):
    folder_of(tmp_path, 1)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        dataset_of(tmp_path, **settings)


def test_folders_without_images(tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'masks').mkdir()
    with pytest.raises(FileNotFoundError, match='no image in .*images'):
        dataset_of(tmp_path)


def test_a_class_that_the_folder_lacks(tmp_path):
    write_image(tmp_path / 'images/0.png')
    write(tmp_path / 'masks/leaf/0.png', labels(0))
    with pytest.raises(ValueError, match="has no class 'stem'; it has \\['leaf'\\]"):
        dataset_of(tmp_path, classes_from='folders', metainfo={'classes': ('stem', 'leaf')})


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('name,class\n0,leaf\n', r"expected the columns name, label and class, got \['name', 'class'\]"),
        ('name,label,class\n0,3,\n', 'correct 1 lines; the first: line 2: a name, a label or a class is missing'),
        ('name,label,class\n0,3,leaf\n0,3.0,stem\n', 'line 3: label 3.0 of 0 has another class above'),
    ],
)
def test_a_csv_with_faults(tmp_path, text, message):
    folder_of(tmp_path, 1)
    (tmp_path / 'c.csv').write_text(text)
    with pytest.raises(ValueError, match=message):
        dataset_of(tmp_path, classes_from='c.csv', metainfo={'classes': ('leaf', 'stem')})


def test_hidden_files_are_no_images(tmp_path):
    folder_of(tmp_path, 1)
    shutil.copy(tmp_path / 'images/0.png', tmp_path / 'images/._0.png')
    (tmp_path / 'masks/.DS_Store').write_bytes(b'')
    assert names_of(dataset_of(tmp_path)) == ['0']


def test_images_turned_by_an_orientation(tmp_path):
    """The mask is drawn on the image as it is loaded: upright."""
    values = np.random.default_rng(0).integers(0, 256, (WIDTH, HEIGHT, 3), np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / 'images').mkdir()
    Image.fromarray(values).save(tmp_path / 'images/0.jpg', exif=exif)
    write(tmp_path / 'masks/0.png', labels(0))
    assert_maps(maps_of(dataset_of(tmp_path)), {'0': plain_maps(labels(0))})


def test_sizes_of_tiffs_with_channels():
    rng = np.random.default_rng(0)
    for shape, options, axes in (
        ((HEIGHT, WIDTH), {}, None),
        ((5, HEIGHT, WIDTH), {}, (1, 2, 0)),
        ((HEIGHT, WIDTH, 5), {}, (0, 1, 2)),
        ((4, HEIGHT, WIDTH), {'imagej': True, 'metadata': {'axes': 'CYX'}}, (1, 2, 0)),
        ((4, HEIGHT, WIDTH), {'ome': True, 'metadata': {'axes': 'CYX'}}, (1, 2, 0)),
        ((2, HEIGHT, WIDTH), {'planarconfig': 'separate', 'photometric': 'minisblack'}, (1, 2, 0)),
        ((1, 1), {}, None),
    ):
        values = rng.integers(0, 60000, shape).astype(np.uint16)
        file = io.BytesIO()
        tifffile.imwrite(file, values, **options)
        expected = values if axes is None else values.transpose(axes)
        np.testing.assert_array_equal(decode_tiff(file.getvalue()), expected)
        assert tiff_sizes(io.BytesIO(file.getvalue())) == [expected.shape[:2]]
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((3, 2, 8, 8), np.uint16), imagej=True, metadata={'axes': 'ZCYX'})
    with pytest.raises(ValueError, match='expected one plane with its channels, got the axes ZCYX'):
        decode_tiff(file.getvalue())


# Several processes


def _load_in_a_process(rank: int, root: Path) -> None:
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group('gloo', init_method=f'file://{root}/store', rank=rank, world_size=2)
    converted = []
    annotate = conversion.annotate
    conversion.annotate = lambda image, *rest: converted.append(image.key) or annotate(image, *rest)
    try:
        count: int | str = len(dataset_of(root))
    except ValueError as error:
        count = str(error).splitlines()[1].strip()
    (root / f'{rank}.json').write_text(json.dumps([count, sorted(converted)]))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('faulty', [False, True])
def test_one_of_two_processes_converts(tmp_path, faulty):
    """As a training on a CPU starts them; a fault stops both, and none waits for the other."""
    folder_of(tmp_path)
    if faulty:
        write(tmp_path / 'masks/1.png', labels(1)[:-1])
    context = torch.multiprocessing.get_context('fork')
    processes = [context.Process(target=_load_in_a_process, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    first, second = (json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2))
    assert first[1] == ['0', '1', '2'] and second[1] == []
    assert first[0] == second[0]
    assert first[0].startswith('1 x mask of another size') if faulty else first[0] == 3
