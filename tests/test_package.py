"""The names in ``mmseg_instancenet``, which need no registry, and its one version."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import mmseg_instancenet
from mmseg_instancenet import (
    balanced_logistic,
    discriminative_terms,
    group_by_centers,
    group_by_mean_shift,
    group_by_seeds,
    number_instances,
    soft_mask_terms,
    spherical_pair_terms,
)
from mmseg_instancenet.models import groupers, losses


def test_all_is_true_and_has_every_function_of_losses_and_groupers():
    assert sorted(mmseg_instancenet.__all__) == mmseg_instancenet.__all__
    assert all(hasattr(mmseg_instancenet, name) for name in mmseg_instancenet.__all__)
    for module in (losses, groupers):
        for name in filter(str.islower, module.__all__):
            assert name in mmseg_instancenet.__all__
            assert getattr(mmseg_instancenet, name) is getattr(module, name)


def test_version_is_the_same_wherever_it_is_written():
    root = Path(__file__).parents[1]
    (project,) = re.findall(r'^version = "(.*?)"', (root / 'pyproject.toml').read_text(), re.MULTILINE)
    citation = yaml.safe_load((root / 'CITATION.cff').read_text())['version']
    assert mmseg_instancenet.__version__ == project == citation


X, IDS = np.zeros((1, 3, 2, 2), np.float32), np.ones((1, 2, 2), np.int64)


@pytest.mark.parametrize(
    ('function', 'arrays', 'settings'),
    [
        (group_by_centers, [X[0, :, 0]], {'threshold': 1.0}),
        (group_by_mean_shift, [X[0, :, 0]], {'concentration': 1.0}),
        (group_by_seeds, [X[0, :, 0].T], {}),
        (discriminative_terms, [X, IDS, IDS], {}),
        (spherical_pair_terms, [X, IDS, IDS], {'margin': 0.5}),
        (soft_mask_terms, [X, IDS, IDS], {}),
        (balanced_logistic, [X[:, 0], IDS], {}),
        (number_instances, [IDS, IDS], {}),
    ],
)
def test_an_array_is_refused_with_a_line(function, arrays, settings):
    tensors = [torch.from_numpy(array) for array in arrays]
    function(*tensors, **settings)
    for index, array in enumerate(arrays):
        with pytest.raises(TypeError, match=r'as a torch.Tensor, got ndarray; torch.from_numpy makes one of an array'):
            function(*tensors[:index], array, *tensors[index + 1 :], **settings)
