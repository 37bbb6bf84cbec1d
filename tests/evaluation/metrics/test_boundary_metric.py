"""``BoundaryMetric``: counts by hand, small cases of ODS, OIS and AP, and the sample of the official benchmark."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import METRICS
from mmseg.structures import SegDataSample

from mmseg_instancenet.datasets.transforms.boundaries import read_bsds_boundaries
from mmseg_instancenet.evaluation import BoundaryMetric
from mmseg_instancenet.evaluation.functional.boundary_counts import boundary_metrics, boundary_thresholds, count_matches
from mmseg_instancenet.evaluation.metrics import boundary_metric

EMPTY = {'ODS': 0, 'OIS': 0, 'AP': 0}


def sample(probability: np.ndarray, truth: np.ndarray) -> dict:
    data_sample = SegDataSample()
    data_sample.set_field(PixelData(data=torch.from_numpy(probability)[None]), 'pred_boundary', dtype=PixelData)
    data_sample.set_field(PixelData(data=torch.from_numpy(truth)), 'gt_boundaries', dtype=PixelData)
    return data_sample.to_dict()


def metrics(pairs: list[tuple[np.ndarray, np.ndarray]], **kwargs) -> dict[str, float]:
    metric = METRICS.build(dict(type='BoundaryMetric', thin=False, **kwargs))
    for pair in pairs:
        metric.process({}, [sample(*pair)])
    return metric.evaluate(len(pairs))


def f_measure(recall: float, precision: float) -> float:
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


@pytest.mark.parametrize(
    'wrong', [dict(thresholds=0), dict(max_distance=0), dict(max_distance=1), dict(max_distance=3)]
)
def test_wrong_settings(wrong):
    with pytest.raises(ValueError, match='expected'):
        BoundaryMetric(**wrong)


@pytest.mark.parametrize('missing', ['pred_boundary', 'gt_boundaries'])
def test_missing_field(missing):
    data_sample = sample(np.zeros((4, 5)), np.zeros((1, 4, 5), bool))
    del data_sample[missing]
    with pytest.raises(KeyError, match=f'BoundaryMetric needs .?.{missing}. in each data sample'):
        BoundaryMetric().process({}, [data_sample])


@pytest.mark.parametrize('value', [-0.1, 1.5, float('nan')])
def test_no_probability(value):
    with pytest.raises(ValueError, match=r'probabilities in \[0, 1\]'):
        metrics([(np.full((4, 5), value), np.zeros((1, 4, 5), bool))])


def test_wrong_shapes():
    with pytest.raises(ValueError, match='of one size'):
        metrics([(np.zeros((4, 5)), np.zeros((2, 5, 4), bool))])
    with pytest.raises(ValueError, match='at least one annotator'):
        metrics([(np.zeros((4, 5)), np.zeros((0, 4, 5), bool))])
    with pytest.raises(ValueError, match=r'shape \(1, H, W\)'):
        BoundaryMetric().process(
            {}, [{'pred_boundary': {'data': torch.zeros(4, 5)}, 'gt_boundaries': {'data': torch.zeros(1, 4, 5)}}]
        )


def test_counts_of_two_annotators():
    # One row of 40 pixels: the diagonal is 40.01, so that 0.03 of it is 1.2 pixels.
    probability = np.zeros((1, 40))
    probability[0, [5, 6, 20, 30]] = [0.9, 0.9, 0.5, 0.9]
    truth = np.zeros((2, 1, 40), bool)
    truth[0, 0, [5, 31]] = True  # 5 of 5 or 6, 31 of 30
    truth[1, 0, [7, 10]] = True  # 7 of 6 alone; 10 of none
    counts = count_matches(probability, truth, np.array([0.4, 0.8, 0.95]), max_distance=0.03, thin=False)
    # 5, 6 and 30 are right with one annotator or the other, 20 with none.
    assert counts.tolist() == [[3, 4, 3, 4], [3, 4, 3, 3], [0, 4, 0, 0]]


def test_threshold_is_inclusive_and_read_in_double_precision():
    probability = np.full((1, 1), 0.2)
    truth = np.ones((1, 1, 1), bool)
    assert count_matches(probability, truth, boundary_thresholds(4), thin=False).tolist() == [
        [1, 1, 1, 1],
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 0, 0],
    ]


def test_equal_maps_are_counted_once_and_alike():
    rng = np.random.default_rng(0)
    probability = rng.choice([0.1, 0.35, 0.8], (12, 15))
    truth = rng.random((2, 12, 15)) < 0.2
    thresholds = boundary_thresholds(19)
    counts = count_matches(probability, truth, thresholds, max_distance=0.1, thin=False)
    for row, threshold in zip(counts, thresholds, strict=True):
        alone = count_matches(probability, truth, np.array([threshold]), max_distance=0.1, thin=False)
        assert row.tolist() == alone[0].tolist()


def test_workers_count_the_same():
    rng = np.random.default_rng(0)
    probability, truth = rng.random((20, 25)), rng.random((2, 20, 25)) < 0.1
    arguments = (probability, truth, boundary_thresholds(7), 0.05, False)
    with ThreadPoolExecutor(2) as executor:
        np.testing.assert_array_equal(count_matches(*arguments, executor), count_matches(*arguments))


@pytest.fixture
def executors(monkeypatch) -> list[ProcessPoolExecutor]:
    """The pools that the metric makes."""
    made = []

    def make(*args):
        made.append(ProcessPoolExecutor(*args))
        return made[-1]

    monkeypatch.setattr(boundary_metric, 'ProcessPoolExecutor', make)
    return made


def test_one_pool_counts_all_images_and_ends_with_the_evaluation(executors):
    rng = np.random.default_rng(0)
    pairs = [(rng.random((20, 25)), rng.random((2, 20, 25)) < 0.1) for _ in range(3)]
    metric = BoundaryMetric(thresholds=5, thin=False, num_workers=1)
    assert executors == []  # none before there is an image
    for pair in pairs:
        metric.process({}, [sample(*pair)])
    (executor,) = executors
    assert executor._mp_context.get_start_method() == 'spawn'
    found = metric.evaluate(3)
    assert found == metrics(pairs, thresholds=5)
    with pytest.raises(RuntimeError, match='after shutdown'):
        executor.submit(len, [])
    # The next evaluation of the same metric begins anew.
    metric.process({}, [sample(*pairs[0])])
    assert metric.evaluate(1) == metrics(pairs[:1], thresholds=5) and len(executors) == 2


def test_no_pool_without_workers(executors):
    metrics([(np.zeros((4, 5)), np.zeros((1, 4, 5), bool))], thresholds=3)
    assert executors == []


def test_ods_and_ois():
    # One annotator. The first image is best at the lower threshold, the second at the higher one.
    first = [[8, 10, 8, 10], [2, 10, 2, 2]]
    second = [[10, 10, 10, 90], [9, 10, 9, 9]]
    counts, thresholds = np.array([first, second]), np.array([0.3, 0.6])
    found = boundary_metrics(counts, thresholds)
    # Between the thresholds: R from 18/20 to 11/20, P from 18/100 to 11/11, in 100 steps.
    curve = []
    for index in range(100):
        d = index / 99
        recall, precision = 0.9 * (1 - d) + 0.55 * d, 0.18 * (1 - d) + 1.0 * d
        curve.append((f_measure(recall, precision), 0.3 * (1 - d) + 0.6 * d, precision, recall))
    best = max(curve)
    assert found['ODS'] == pytest.approx(best[0])
    assert (found['ODS_threshold'], found['ODS_precision'], found['ODS_recall']) == pytest.approx(best[1:])
    # Own best thresholds: 8 of 10 and 8 of 10, then 9 of 10 and 9 of 9.
    assert found['OIS'] == pytest.approx(f_measure(17 / 20, 17 / 19))


def test_average_precision_is_the_area_under_the_interpolated_curve():
    # Recall 0.6, 0.4, 0.2 with precision 0.5, 0.8, 1.
    counts = np.array([[[60, 100, 50, 100], [40, 100, 40, 50], [20, 100, 10, 10]]])
    expected = 0.0
    for index in range(101):
        recall = index / 100
        if 0.2 <= recall <= 0.4:
            expected += 0.01 * (1 - (recall - 0.2))
        elif 0.4 < recall <= 0.6:
            expected += 0.01 * (0.8 - (recall - 0.4) * 1.5)
    assert boundary_metrics(counts, np.array([0.2, 0.5, 0.8]))['AP'] == pytest.approx(expected)


def test_one_recall_alone_has_no_area():
    found = boundary_metrics(np.array([[[5, 10, 5, 10]]]), np.array([0.5]))
    assert found['AP'] == 0
    assert found['ODS'] == found['OIS'] == pytest.approx(0.5)
    assert found['ODS_threshold'] == 0.5


def test_perfect_prediction():
    rng = np.random.default_rng(0)
    pairs = [(truth[0].astype(float), truth) for truth in (rng.random((2, 1, 20, 30)) < 0.1)]
    found = metrics(pairs, thresholds=5)
    assert found['boundary/ODS'] == found['boundary/OIS'] == 1
    assert found['boundary/ODS_precision'] == found['boundary/ODS_recall'] == 1


@pytest.mark.parametrize('value', [0.0, 1.0])
@pytest.mark.parametrize('drawn', [False, True])
def test_nothing_found_or_nothing_drawn_is_finite(value, drawn):
    truth = np.zeros((2, 8, 9), bool)
    truth[:, 4] = drawn
    found = metrics([(np.full((8, 9), value), truth)], thresholds=3)
    assert all(np.isfinite(value) for value in found.values())
    if not (drawn and value):
        assert {key: found[f'boundary/{key}'] for key in EMPTY} == EMPTY


def test_no_image_at_all():
    found = BoundaryMetric(thresholds=3).compute_metrics([])
    assert {key: found[key] for key in EMPTY} == EMPTY


@pytest.fixture(scope='module')
def official_sample(test_data):
    """Berkeley's five images: metrics of ours, counts of ours (5, 5, 4), and the folder."""
    folder = test_data / 'bsds_bench'
    metric = BoundaryMetric(thresholds=5)
    for path in sorted((folder / 'png').glob('*.png'), key=lambda path: int(path.stem)):
        truth_path = folder / 'groundTruth' / f'{path.stem}.mat'
        truth = read_bsds_boundaries(truth_path.read_bytes(), str(truth_path))
        metric.process({}, [sample(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 255, truth)])
    counts = np.array(metric.results)
    return metric.evaluate(5), counts, folder / 'test_2'


def test_official_metrics(official_sample):
    """The official code gave ODS .704628, OIS .708698, AP .307627; ours lay within .0001 (scipy 1.13); ties may move them."""
    found, _, folder = official_sample
    threshold, recall, precision, ods, _, _, ois, area = np.loadtxt(folder / 'eval_bdry.txt')
    assert found['boundary/ODS'] == pytest.approx(ods, abs=0.0005)
    assert found['boundary/OIS'] == pytest.approx(ois, abs=0.0005)
    assert found['boundary/AP'] == pytest.approx(area, abs=0.0005)
    assert found['boundary/ODS_threshold'] == pytest.approx(threshold, abs=1e-6)
    assert found['boundary/ODS_recall'] == pytest.approx(recall, abs=0.001)
    assert found['boundary/ODS_precision'] == pytest.approx(precision, abs=0.001)


def test_official_counts_at_each_threshold(official_sample):
    """The files give ratios of six digits. Thinned maps have exactly as many pixels; matches differ by at most 0.15 %."""
    _, counts, folder = official_sample
    for (matched_truth, truth, right, predicted), (_, recall, precision, _) in zip(
        counts.sum(0), np.loadtxt(folder / 'eval_bdry_thr.txt'), strict=True
    ):
        # With the benchmark's own number of pixels its ratio gives a whole number of matches.
        assert precision * predicted == pytest.approx(round(precision * predicted), abs=0.02)
        assert recall * truth == pytest.approx(round(recall * truth), abs=0.05)
        assert 0 <= matched_truth - recall * truth <= 0.0015 * matched_truth  # ours is the maximum
        assert right == pytest.approx(precision * predicted, rel=0.001)


def test_official_best_of_each_image(official_sample):
    _, counts, folder = official_sample
    thresholds = boundary_thresholds(5)
    for counts_T4, (_, threshold, recall, precision, f) in zip(
        counts, np.loadtxt(folder / 'eval_bdry_img.txt'), strict=True
    ):
        found = boundary_metrics(counts_T4[None], thresholds)
        assert found['ODS_threshold'] == pytest.approx(threshold, abs=1e-6)
        assert found['ODS_recall'] == pytest.approx(recall, abs=0.002)
        assert found['ODS_precision'] == pytest.approx(precision, abs=0.002)
        assert found['ODS'] == pytest.approx(f, abs=0.001)
