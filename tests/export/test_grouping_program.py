"""grouping.py and find_objects of predict.py beside the package's own groupers, scorers and instances, on the same embeddings."""

import numpy as np
import pytest
import torch
from exported_program import load
from skimage import measure

from mmseg_instancenet.export.settings import grouper_settings, scorer_settings
from mmseg_instancenet.models import (
    CenterGrouping,
    MeanShiftGrouping,
    ScoreRegressor,
    SeedGrouping,
    SeedScorer,
    SilhouetteScorer,
)
from mmseg_instancenet.models.postprocess import NetworkPass, predict_instances
from mmseg_instancenet.structures import MapPlacement

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed: pip install -e ".[export]"')
predict, grouping = load('predict'), load('grouping')

GROUPERS = [
    CenterGrouping(threshold=1.2),
    CenterGrouping(threshold=1.2, mode='fixed', seed=3, min_size=3),
    CenterGrouping(threshold=1.2, norm=1, class_agnostic=True, min_size=2),
    CenterGrouping(threshold=0.3, distance='cosine', class_agnostic=True, background_groups=True),
    CenterGrouping(threshold=0.5, connected=True, min_size=4),
    CenterGrouping(threshold=0.2, max_groups=9, min_size=2),
    CenterGrouping(threshold=0.2, max_groups=9, min_size=2, connected=True),
    SeedGrouping(connected=True, min_size=5, mask_threshold=0.2),
    SeedGrouping(seed_threshold=0.6, class_agnostic=True),
    SeedGrouping(seed_threshold=0.999999),
    MeanShiftGrouping(concentration=40, class_agnostic=True, background_groups=True),
    MeanShiftGrouping(concentration=100, connected=True, min_size=4, step_size=0.7),
    MeanShiftGrouping(concentration=6, kernel='norm', max_loops=3, tolerance=0, min_size=2),
    MeanShiftGrouping(concentration=1e7, kernel='norm', max_groups=9),
]


def outputs(seed: int, cell: int, dims: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, MapPlacement]:
    """Class map, probabilities and embeddings of an image of 37 x 45 pixels, resized to 30 x 36 and padded to 32 x 40.

    Blocks of 8 x 8 cells or so have an embedding and a class each, with noise on both.
    """
    generator = torch.Generator().manual_seed(seed)
    placement = MapPlacement((37, 45), (30, 36), (32, 40))
    height, width = (side // cell for side in placement.input_size)
    block = max(2, 8 // cell)
    rows, columns = torch.arange(height)[:, None] // block, torch.arange(width) // block
    center_Dhw = 2 * torch.randn(dims, 40, 40, generator=generator)[:, rows, columns]
    x_Dhw = center_Dhw + 0.08 * torch.randn(dims, height, width, generator=generator)
    class_HW = torch.randint(3, (8, 8), generator=generator)[torch.arange(37)[:, None] // 7, torch.arange(45) // 6]
    noise_HW = torch.rand(37, 45, generator=generator)
    class_HW = torch.where(noise_HW < 0.05, torch.randint(3, (37, 45), generator=generator), class_HW)
    return class_HW, 0.4 + 0.6 * noise_HW, x_Dhw, placement


@pytest.mark.parametrize('cell', [1, 4])
@pytest.mark.parametrize('fitted', [False, True])
@pytest.mark.parametrize('grouper', GROUPERS, ids=lambda g: f'{type(g).__name__}-{GROUPERS.index(g)}')
@pytest.mark.filterwarnings('ignore:.*expected at most max_groups')
def test_objects_are_those_of_the_package(grouper, fitted, cell):
    group_scorer = SeedScorer() if isinstance(grouper, SeedGrouping) else SilhouetteScorer(scale=3.0, half_size=8)
    regressor = ScoreRegressor()
    if fitted:
        regressor.weight.copy_(torch.linspace(-0.3, 0.5, 9))
        regressor.bias.fill_(0.1)
    settings = {
        'classes': ['cat', 'dog'],
        'score_thr': 0.02,
        'grouper': grouper_settings(grouper),
        **scorer_settings(group_scorer, regressor),
    }
    found = 0
    for seed in range(3):
        class_HW, probability_HW, x_Dhw, placement = outputs(seed, cell)
        network_pass = NetworkPass(torch.zeros(3, *x_Dhw.shape[1:]), x_Dhw, placement)
        instances, instance_map_HW = predict_instances(
            [[network_pass]], class_HW, probability_HW, 3, grouper, group_scorer, regressor, score_thr=0.02
        )
        x_Ehw, class_hw = (network_pass.without_padding(x) for x in (x_Dhw, network_pass.under_cells(class_HW, 0)))
        positions = [network_pass.coverage(axis).position_R.numpy() for axis in (0, 1)]
        labels_HW, objects = predict.find_objects(
            settings,
            class_HW.numpy(),
            probability_HW.numpy(),
            grouper.prepare(x_Ehw).numpy(),
            class_hw.numpy(),
            *positions,
        )
        np.testing.assert_array_equal(labels_HW, instance_map_HW.numpy())
        assert [row['class'] for row in objects] == [settings['classes'][label] for label in instances.labels]
        np.testing.assert_allclose([row['score'] for row in objects], instances.scores, atol=2e-5)
        boxes = [[row[side] for side in ('x1', 'y1', 'x2', 'y2')] for row in objects]
        np.testing.assert_array_equal(np.reshape(boxes, (-1, 4)), instances.bboxes)
        for number, row in enumerate(objects, start=1):
            assert row['id'] == number and row['area'] == (labels_HW == number).sum()
            rows, columns = (labels_HW == number).nonzero()
            assert (row['centroid_x'], row['centroid_y']) == pytest.approx((columns.mean(), rows.mean()))
        found += len(objects)
    assert found > 2


@pytest.mark.parametrize(
    ('count', 'kernel', 'clusters', 'noise'),
    [(5000, 'cosine', 20, 0.03), (5000, 'norm', 20, 0.05), (26_000, 'cosine', 200, 0.05)],
)
def test_groups_of_very_many_embeddings_are_those_of_the_package(count, kernel, clusters, noise):
    """Dense clusters are merged before the first iteration; of the largest number, most attract a batch alone."""
    rng = np.random.default_rng(0)
    truth_P = rng.integers(clusters, size=count)
    center_KE = rng.standard_normal((clusters, 16))
    center_KE /= np.linalg.norm(center_KE, axis=1, keepdims=True)
    x_PE = (center_KE[truth_P] + noise * rng.standard_normal((count, 16))).astype(np.float32)
    grouper = MeanShiftGrouping(concentration=40, kernel=kernel)
    x_PE = grouper.prepare(torch.from_numpy(x_PE).T[:, :, None])[..., 0].T.numpy()
    group_P = grouping.mean_shift_groups(x_PE, grouper_settings(grouper))
    np.testing.assert_array_equal(group_P, grouper.group(torch.from_numpy(x_PE)))
    assert len(np.unique(np.stack([group_P, truth_P]), axis=1).T) == clusters == group_P.max()


def test_a_spread_that_the_package_refuses_is_refused():
    grouper = MeanShiftGrouping(concentration=1.0, kernel='norm')
    for width, refused in ((6.8e7, False), (7e7, True)):
        x_PE = np.array([[0.0], [width]], np.float32)
        for group in (
            lambda x_PE: grouping.mean_shift_groups(x_PE, grouper_settings(grouper)),
            lambda x_PE: grouper.group(torch.from_numpy(x_PE)).numpy(),
        ):
            if refused:
                with pytest.raises(ValueError, match='bandwidths, got 7e'):
                    group(x_PE)
            else:
                assert group(x_PE).tolist() == [1, 2]


def test_no_object():
    settings = {
        'classes': ['cat'],
        'score_thr': 0.0,
        'grouper': grouper_settings(CenterGrouping()),
        **scorer_settings(SilhouetteScorer(), ScoreRegressor()),
    }
    nothing = np.zeros((6, 8), int)
    arguments = (nothing, nothing * 0.5, np.ones((4, 3, 4)), nothing[:3, :4], np.arange(6) / 2, np.arange(8) / 2)
    labels_HW, objects = predict.find_objects(settings, *arguments)
    assert objects == [] and labels_HW.shape == (6, 8) and not labels_HW.any()
    with pytest.raises(ValueError, match='expected finite embeddings'):
        predict.find_objects(settings, *arguments[:2], np.full((4, 3, 4), np.nan), *arguments[3:])


@pytest.mark.parametrize('seed', [0, 1, 2])
@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (13, 1), (20, 31)])
def test_components(seed, shape):
    labels_hw = np.random.default_rng(seed).integers(0, 3, shape)
    np.testing.assert_array_equal(
        grouping.components(labels_hw), measure.label(labels_hw, background=0, connectivity=2)
    )
