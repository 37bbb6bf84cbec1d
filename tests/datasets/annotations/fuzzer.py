"""Random faults in a COCO json: none may crash or hang the process, or move an object without a warning.

From the root of the repository::

    python tests/datasets/annotations/fuzzer.py 20000            # make fuzz
    python tests/datasets/annotations/fuzzer.py 1 --first 1234   # one of them again

Each case is a valid set with one to three changes (fields dropped, set to another type, scaled, exchanged; bytes of the file
changed), drawn with its number as the seed. It is read by :func:`read_annotations`, by the data set with its maps, and by the
metric, and compared with a plain reader that takes one annotation at a time. A process of its own reads the cases, so that a
crash or a case longer than five seconds is found and named.
"""

import argparse
import copy
import json
import math
import multiprocessing
import random
import re
import sys
import tempfile
import time
import warnings
from multiprocessing.context import BaseContext
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask
from small_set import SIZES, small_set

from mmseg_instancenet.datasets import CocoInstanceDataset
from mmseg_instancenet.datasets.annotations import Decision, coco_of, read_annotations
from mmseg_instancenet.evaluation import CocoInstanceMetric

SECONDS = 5
"""The longest that a case may take."""

SPAWN = multiprocessing.get_context('spawn')
"""A fork of this process may hang: torch has started threads in it."""

PLACE = 'place'
"""A key of each annotation: its place in the file."""

OTHERS = [None, True, False, 0, 1, 2, -1, 0.5, 7.0, 1e9, -1e9, 1e300, 10**30, math.nan, math.inf, '', '1', '7', 'abc', 'NaN',
          [], [1], [[1, 2]], {}, {'size': [20, 30], 'counts': [600]}, [[1, 1, 5, 1, 5, 5]], '0', 'ä']  # fmt: skip


# Changes


def draw(number: int) -> bytes:
    """The file of a case."""
    rng = random.Random(number)
    content = small_set()
    for _ in range(rng.choice([1, 1, 2, 3])):
        rng.choice([drop, replace, replace, scale, exchange, repeat, wrap])(content, rng)
    annotations = content.get('annotations')
    for place, entry in enumerate(annotations if isinstance(annotations, list) else []):
        if isinstance(entry, dict):
            entry[PLACE] = place
    data = json.dumps(content).encode()
    if rng.random() < 0.05:
        data = change_bytes(data, rng)
    return data


def nodes(content, found=None) -> list[tuple]:
    """Every place of the content: its container and its key."""
    found = [] if found is None else found
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        found.append((content, key))
        if isinstance(value, dict | list):
            nodes(value, found)
    return found


def choose(content, rng, kinds=object) -> tuple | None:
    """A place at random, small and large containers alike."""
    there = [(holder, key) for holder, key in nodes(content) if isinstance(holder[key], kinds)]
    if not there:
        return None
    # Coordinates are many; a name of a field is drawn first.
    names = sorted({str(key) if isinstance(holder, dict) else 'in a list' for holder, key in there})
    name = rng.choice(names)
    return rng.choice([
        (holder, key) for holder, key in there if (str(key) if isinstance(holder, dict) else 'in a list') == name
    ])  # fmt: skip


def drop(content, rng) -> None:
    place = choose(content, rng)
    if place:
        del place[0][place[1]]


def replace(content, rng) -> None:
    place = choose(content, rng)
    if place:
        value = place[0][place[1]]
        own = [str(value), [value], float(value) if type(value) is int else value]
        place[0][place[1]] = copy.deepcopy(rng.choice([*OTHERS, *own]))


def scale(content, rng) -> None:
    factor = rng.choice([2, 0.5, 10, 1 / 30, -1, 1e6])

    def scaled(value):
        if isinstance(value, list):
            return [scaled(one) for one in value]
        return value * factor if type(value) in (int, float) and abs(value) < 1e12 else value

    place = choose(content, rng, (list, int, float))
    if place:
        place[0][place[1]] = scaled(place[0][place[1]])


def exchange(content, rng) -> None:
    one, other = choose(content, rng), choose(content, rng)
    if one and other:
        values = copy.deepcopy(one[0][one[1]]), copy.deepcopy(other[0][other[1]])
        other[0][other[1]] = values[0]
        one[0][one[1]] = values[1]


def repeat(content, rng) -> None:
    place = choose(content, rng, list)
    if place and place[0][place[1]]:
        chosen = place[0][place[1]]
        chosen.append(copy.deepcopy(rng.choice(chosen)))


def wrap(content, rng) -> None:
    place = choose(content, rng, (list, dict))
    if place:
        value = place[0][place[1]]
        place[0][place[1]] = rng.choice([[value], value[0] if isinstance(value, list) and value else value])


def change_bytes(data: bytes, rng) -> bytes:
    tags = [match.span() for match in re.finditer(rf'"{PLACE}": \d+'.encode(), data)]
    at = rng.randrange(len(data))
    while any(start <= at < end for start, end in tags):  # they are the fuzzer's own
        at = rng.randrange(len(data))
    return rng.choice([data[:at], b'\xef\xbb\xbf' + data, data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]])


# A plain reader


def plain_number(value):
    """A whole number of the forms 7, 7.0 and "7"."""
    if isinstance(value, float) and not value.is_integer():
        return value
    try:
        return int(value) if isinstance(value, float | str) else value
    except ValueError:
        return value


def plain_owner(reference, entries: list) -> dict | None:
    """The image or category whose id is the same number or the same text."""
    for entry in entries:
        if isinstance(entry, dict) and repr(plain_number(entry.get('id'))) == repr(plain_number(reference)):
            return entry
    return None


def plain_mask(segmentation, height: int, width: int) -> np.ndarray | None:
    """The mask that a segmentation means, pixel by pixel for run lengths; ``None`` where it means none."""
    if isinstance(segmentation, dict):
        if [plain_number(side) for side in segmentation['size']] != [height, width]:
            return None
        counts = segmentation['counts']
        if isinstance(counts, str):
            counts = plain_counts(counts)
        pixels = []
        for place, count in enumerate(counts):
            pixels += [place % 2] * int(count)
        return np.array(pixels, np.uint8).reshape(width, height).T
    rings = segmentation
    pairs = len(rings) > 2 and all(isinstance(one, list) and len(one) == 2 for one in rings)
    if pairs or not any(isinstance(one, list) for one in rings):
        rings = [rings]
    mask = np.zeros((height, width), np.uint8)
    for ring in rings:
        flat = [float(value) for point in ring for value in (point if isinstance(point, list) else [point])]
        if len(flat) >= 6:
            mask |= coco_mask.decode(coco_mask.frPyObjects([flat], height, width))[:, :, 0]
    return mask


def plain_counts(text: str) -> list[int]:
    """COCO's text of run lengths, one character after the other."""
    counts, place = [], 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            code = ord(text[place]) - 48
            value |= (code & 31) << (5 * shift)
            more = bool(code & 32)
            place, shift = place + 1, shift + 1
            if not more and code & 16:
                value -= 1 << (5 * shift)
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


# One case


def check(number: int, folder: Path) -> str:
    """Reads a case; returns its outcome, 'read', 'mended', 'left out' or 'refused'.

    Raises:
        AssertionError: where a reader did something else than the plain reader, or refused without the file's name.
    """
    path = folder / 'set.json'
    data = draw(number)
    path.write_bytes(data)
    try:
        normal, findings = read_annotations(path, strict=False)
    except ValueError as error:
        assert 'set.json' in str(error), error
        return 'refused'
    refused = findings.of(Decision.REFUSED)
    try:
        read_annotations(path)
        assert not refused
    except ValueError as error:
        assert refused and 'set.json cannot be used as it is' in str(error)
    content = json.loads(data.decode('utf-8-sig'))
    compare(content, normal, findings)
    if all((folder / image['file_name']).is_file() for image in normal['images']) and normal['images']:
        names = [category['name'] for category in normal['categories']]
        if names:
            compare_maps_and_metric(path, normal, names)
    if refused:
        return 'left out'
    return 'mended' if findings.of(Decision.MENDED) else 'read'


def compare(content: dict, normal: dict, findings) -> None:
    """The normal form against the plain reader."""
    json.dumps(normal)
    ids = [entry['id'] for entry in normal['annotations']]
    assert all(type(one) is int and one > 0 for one in ids) and len(set(ids)) == len(ids)
    images = {image['id']: image for image in normal['images']}
    names = {category['id']: category['name'] for category in normal['categories']}
    coco = coco_of(normal)
    entries = {entry[PLACE]: entry for entry in content.get('annotations') or [] if isinstance(entry, dict)}
    places = []
    for found in normal['annotations']:
        places.append(found[PLACE])
        meant = entries[found[PLACE]]
        image, category = (plain_owner(meant[key], content[of]) for key, of in REFERENCES)
        assert images[found['image_id']]['file_name'] == image['file_name']
        assert names[found['category_id']] == category['name']
        height, width = images[found['image_id']]['height'], images[found['image_id']]['width']
        assert found['iscrowd'] in (0, 1) and found['area'] > 0
        if height * width > 10**6:
            continue
        mask = coco.annToMask(found)
        assert mask.any()
        np.testing.assert_array_equal(mask, plain_mask(meant['segmentation'], height, width))
        x, y, across, down = coco_mask.toBbox(coco.annToRLE(found))
        left, top, box_width, box_height = found['bbox']
        right, bottom = min(left + box_width, width), min(top + box_height, height)
        assert max(abs(max(left, 0) - x), abs(max(top, 0) - y), abs(right - x - across), abs(bottom - y - down)) <= 4
    dropped = len(content.get('annotations') or []) - len(places)
    counted = sum(one.count for one in findings.of(Decision.REFUSED, Decision.MENDED) if one.check.name in LEAVES_OUT)
    assert dropped == counted, (dropped, counted)
    if not findings.of(*Decision):
        assert all(normal['annotations'][k] == entries[place] for k, place in enumerate(places))


REFERENCES = (('image_id', 'images'), ('category_id', 'categories'))
LEAVES_OUT = {
    'annotation-entry', 'unknown-image', 'unknown-category', 'crowd-flag', 'no-mask', 'segmentation-form', 'point-polygon',
    'odd-polygon', 'coordinate', 'shares', 'outside', 'mask-size', 'counts', 'no-pixel',
}  # fmt: skip


def compare_maps_and_metric(path: Path, normal: dict, names: list[str]) -> None:
    """Checks that the maps of a training hold the objects, and that detections equal to the objects have AP 1."""
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadInstanceMasks'), dict(type='MasksToMaps')]
    settings = dict(ann_file=str(path), data_prefix=dict(img=str(path.parent)), metainfo=dict(classes=tuple(names)))
    dataset = CocoInstanceDataset(**settings, pipeline=steps, test_mode=True, strict=False, serialize_data=False)
    coco = coco_of(copy.deepcopy(normal))
    metric = CocoInstanceMetric(metric='segm')
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        image = coco.imgs[dataset.get_data_info(index)['img_id']]
        entries = coco.imgToAnns[image['id']]
        try:
            maps = dataset[index]
        except ValueError as error:  # the size of the image is another one
            assert image['file_name'] in str(error)
            assert (image['height'], image['width']) != SIZES[int(Path(image['file_name']).stem)]
            return
        foreground = np.zeros((image['height'], image['width']), bool)
        detections = []
        for entry in entries:
            mask = coco.annToMask(entry).astype(bool)
            foreground |= mask
            if not entry['iscrowd']:
                detections.append((names.index(coco.cats[entry['category_id']]['name']), coco.annToRLE(entry)))
        np.testing.assert_array_equal(maps['gt_instance_map'] != 0, foreground)
        instances = dict(
            bboxes=torch.zeros(len(detections), 4),
            scores=torch.ones(len(detections)),
            labels=torch.tensor([label for label, _ in detections], dtype=torch.long),
            masks=[mask for _, mask in detections],
        )
        sample = dict(img_id=image['id'], ann_file=str(path), ori_shape=maps['ori_shape'], pred_instances=instances)
        metric.process({}, [sample])
    result = metric.evaluate(len(dataset))
    objects = any(not entry['iscrowd'] for entry in normal['annotations'])
    assert result['coco/segm_mAP'] == (1.0 if objects else -1.0), result['coco/segm_mAP']


def work(numbers: range, channel) -> None:
    """Checks cases one after the other and sends the outcome and the error of each."""
    warnings.simplefilter('ignore')
    sys.stdout = open('/dev/null', 'w')  # noqa: SIM115  (pycocotools prints its tables)
    init_default_scope('mmseg')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, size in SIZES.items():
            cv2.imwrite(str(folder / f'{number}.png'), np.zeros((*size, 3), np.uint8))
        channel.send('ready')
        for number in numbers:
            try:
                channel.send((check(number, folder), None))
            except Exception as error:
                channel.send(('failed', f'{type(error).__name__}: {error}'))


def fuzz(first: int, count: int, context: BaseContext = SPAWN) -> tuple[dict[str, int], list[str]]:
    """Runs cases in processes of a context; returns the number of each outcome, and a line for each case that failed."""
    outcomes: dict[str, int] = {}
    failures = []
    number, end = first, first + count
    while number < end:
        channel, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(range(number, end), sender), daemon=True)
        process.start()
        sender.close()
        channel.recv()  # ready: the imports take seconds
        alive = True
        while number < end and alive:
            try:
                alive = channel.poll(SECONDS)
                outcome, error = channel.recv() if alive else ('failed', f'longer than {SECONDS} s')
            except EOFError:
                process.join()
                alive, outcome, error = False, 'failed', f'the process ended with status {process.exitcode}'
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            if error:
                failures.append(f'case {number}: {error}')
            number += 1
        process.kill()
        process.join()
    return outcomes, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('count', type=int, help='number of cases')
    parser.add_argument('--first', type=int, default=0, help='number of the first case')
    args = parser.parse_args()
    start = time.time()
    outcomes, failures = fuzz(args.first, args.count)
    print(
        f'{args.count} cases in {time.time() - start:.0f} s:',
        ', '.join(f'{n} {key}' for key, n in sorted(outcomes.items())),
    )
    for line in failures[:20]:
        print(line)
    raise SystemExit(bool(failures))


if __name__ == '__main__':
    main()
