"""Two processes that share a data set give the metrics of one, to the last digit. Run as a program, this file is both
processes."""

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.multiprocessing
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from programs import run_program
from references.mask_cases import predict_rows, write_rows
from report_page import ReportPage

from mmseg_instancenet.evaluation import CocoInstanceMetric

IMAGES, WIDTH = 7, 48  # an odd number: DefaultSampler fills up with the first image
EMPTY, NOT_FOUND = 2, 5  # images without an object, without a prediction
CLASSES = ('cat', 'dog')
METRICS = {
    'region': dict(type='RegionAveragePrecisionMetric', iou_thresholds=(0.3, 0.5), classwise=True),
    'proposal': dict(type='ProposalRecallMetric', num_proposals=(1, 2, 60)),
    'boundary': dict(type='BoundaryMetric', thresholds=7, max_distance=0.03),
    'trimap': dict(type='TrimapIoUMetric', max_width=5, reported=(1, 2, 3, 4, 5)),
    'counting': dict(type='CountingMetric'),
}
OF_MAPS = {'coco': dict(type='CocoInstanceMetric', metric='segm')}
"""Metrics of images without an annotation file and without an id."""


def class_of(number: int) -> int:
    return (number - 1) % len(CLASSES)


def object_rows(labels_W: np.ndarray) -> dict[int, str]:
    """The mask of each object of a row, for write_rows and predict_rows."""
    return {
        int(number): ''.join('#' if label == number else '.' for label in labels_W)
        for number in np.unique(labels_W[labels_W > 0])
    }


def label_rows(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Objects 1 to 4 in blocks of four pixels, and a prediction that is right at two pixels of three."""
    rng = np.random.default_rng(number)
    truth_W = rng.integers(0, 5, WIDTH // 4).repeat(4) * (number != EMPTY)
    predicted_W = np.where(rng.random(WIDTH) < 0.67, truth_W, rng.integers(0, 5, WIDTH)) * (number != NOT_FOUND)
    return truth_W, predicted_W


def write_truth(folder: Path) -> str:
    images = {}
    for number in range(IMAGES):
        rows = object_rows(label_rows(number)[0])
        images[number] = [(CLASSES[class_of(label)], row) for label, row in rows.items()]
    return write_rows(folder, images, CLASSES, (1, WIDTH))


def data_sample(number: int) -> dict:
    """The entries of an image that the metrics read."""
    truth_W, predicted_W = label_rows(number)
    rng = np.random.default_rng(100 + number)
    # Three scores for all images: among equals it matters which image comes first.
    detections = [
        (class_of(label), float(rng.integers(1, 4) / 4), row) for label, row in object_rows(predicted_W).items()
    ]
    sample = predict_rows(number, detections, (1, WIDTH))
    for name, labels_W in (('gt', truth_W), ('pred', predicted_W)):
        instance_map_1HW = torch.from_numpy(labels_W)[None, None]
        sample[f'{name}_instance_map'] = {'data': instance_map_1HW}
        sample[f'{name}_sem_seg'] = {
            'data': torch.where(instance_map_1HW > 0, (instance_map_1HW - 1) % len(CLASSES) + 1, 0)
        }
    sample['pred_boundary'] = {'data': torch.from_numpy(rng.integers(0, 9, (1, 1, WIDTH)) / 8)}
    sample['gt_boundaries'] = {'data': torch.from_numpy(rng.random((2, 1, WIDTH)) < 0.3)}
    return sample


def evaluate(ann_file: str, numbers: list[int], size: int = IMAGES) -> dict[str, float]:
    """Metrics of the images that this process is given, image by image as the loop of the runner does it."""
    init_default_scope('mmseg')
    evaluator = Evaluator(list(METRICS.values()))
    evaluator.dataset_meta = {'classes': CLASSES}
    of_maps = Evaluator(list(OF_MAPS.values()))
    of_maps.dataset_meta = {'classes': CLASSES}
    for number in numbers:
        sample = data_sample(number)
        evaluator.process([sample | {'ann_file': ann_file}], {})
        of_maps.process([{key: value for key, value in sample.items() if key != 'img_id'}], {})
    return evaluator.evaluate(size) | of_maps.evaluate(size)


def write_report(ann_file: Path, out: Path, numbers: list[int]) -> None:
    """Writes the report of the images that this process is given, and these images beside the annotations."""
    init_default_scope('mmseg')
    report = Evaluator([dict(type='HTMLReport', out=str(out))])
    report.dataset_meta = {'classes': CLASSES}
    for number in numbers:
        path = ann_file.parent / f'{number}.png'
        cv2.imwrite(str(path), np.full((1, WIDTH, 3), 10 * number, np.uint8))
        report.process([data_sample(number) | {'ann_file': str(ann_file), 'img_path': str(path)}], {})
    assert report.evaluate(IMAGES) == {}


def evaluate_rank(rank: int, directory: Path) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{directory}/store', rank=rank, world_size=2)
    found = {}
    for round_up in (True, False):
        numbers = list(DefaultSampler(range(IMAGES), shuffle=False, round_up=round_up))
        found[str(round_up)] = [numbers, evaluate(str(directory / 'rows.json'), numbers)]
        write_report(directory / 'rows.json', directory / f'report_{round_up}_{rank}.html', numbers)
    numbers = list(DefaultSampler(range(1), shuffle=False, round_up=False))
    found['one image'] = [numbers, evaluate(str(directory / 'rows.json'), numbers, size=1)]
    (directory / f'rank_{rank}.json').write_text(json.dumps(found))
    # The group goes with the process. destroy_process_group would join gloo's thread while holding Python's lock, for which that
    # thread may still wait to free the last tensor sent: seen on a busy machine, two processes in their sleep for ever.


@pytest.fixture(scope='module')
def truth(tmp_path_factory) -> str:
    return write_truth(tmp_path_factory.mktemp('two_processes'))


@pytest.fixture(scope='module')
def two_ranks(truth) -> list[dict]:
    """For each rank, with and without rounding up: its images and the metrics that it has in the end."""
    directory = Path(truth).parent
    run_program(Path(__file__).resolve(), directory, cwd=directory)  # MMEngine collects in ./.dist_test
    return [json.loads((directory / f'rank_{rank}.json').read_text()) for rank in (0, 1)]


def of_metric(metrics: dict[str, float], name: str) -> dict[str, float]:
    found = {key: value for key, value in metrics.items() if key.startswith(f'{name}/')}
    assert found
    return found


@pytest.mark.parametrize(
    ('round_up', 'shares'), [('True', [[0, 2, 4, 6], [1, 3, 5, 0]]), ('False', [[0, 2, 4, 6], [1, 3, 5]])]
)
@pytest.mark.parametrize('name', [*METRICS, *OF_MAPS])
def test_two_processes_give_what_one_gives(two_ranks, truth, name, round_up, shares):
    assert [rank[round_up][0] for rank in two_ranks] == shares
    expected = of_metric(evaluate(truth, list(range(IMAGES))), name)
    for rank in two_ranks:
        assert of_metric(rank[round_up][1], name) == expected


@pytest.mark.parametrize('name', [*METRICS, *OF_MAPS])
def test_a_process_without_an_image_changes_nothing(two_ranks, truth, name):
    assert [rank['one image'][0] for rank in two_ranks] == [[0], []]
    expected = of_metric(evaluate(truth, [0], size=1), name)
    for rank in two_ranks:
        assert of_metric(rank['one image'][1], name) == expected


@pytest.mark.parametrize('round_up', ['True', 'False'])
def test_the_first_process_writes_the_report_of_one(two_ranks, truth, tmp_path, round_up):
    directory = Path(truth).parent
    assert not (directory / f'report_{round_up}_1.html').exists()
    write_report(Path(truth), tmp_path / 'one.html', list(range(IMAGES)))
    page, expected = ReportPage(directory / f'report_{round_up}_0.html'), ReportPage(tmp_path / 'one.html')
    assert page.facts['images'] == str(IMAGES) and page.tables == expected.tables
    assert [image.attrib for image in page.images] == [image.attrib for image in expected.images]


@pytest.mark.parametrize('name', [*METRICS, *OF_MAPS])
def test_an_image_counted_twice_or_left_out_would_show(truth, name):
    """The check above can fail: the image that fills up, and each rank's own share, change the metrics."""
    expected = of_metric(evaluate(truth, list(range(IMAGES))), name)
    for numbers in ([*range(IMAGES), 0], [0, 2, 4, 6], [1, 3, 5]):
        assert of_metric(evaluate(truth, numbers, len(numbers)), name) != expected


def test_metrics_of_maps_are_those_of_the_annotation_file(truth):
    metric = CocoInstanceMetric(ann_file=truth, metric='segm')
    metric.dataset_meta = {'classes': CLASSES}
    metric.process({}, [data_sample(number) for number in range(IMAGES)])
    assert metric.evaluate(IMAGES) == of_metric(evaluate(truth, list(range(IMAGES))), 'coco')


def test_images_in_another_order_would_show(truth):
    """One rank's images after the other's, not in turn: among equal scores others come first."""
    expected, found = (
        evaluate(truth, numbers)['region/APr_30'] for numbers in (list(range(IMAGES)), [0, 2, 4, 6, 1, 3, 5])
    )
    assert found != expected


if __name__ == '__main__':
    os.environ['CUDA_VISIBLE_DEVICES'] = ''  # gloo is for CPUs
    torch.multiprocessing.start_processes(evaluate_rank, (Path(sys.argv[1]),), nprocs=2, start_method='fork')
