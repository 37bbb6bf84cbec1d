"""The filters of warnings in pyproject.toml."""

import warnings

import pytest


@pytest.mark.parametrize('category', [DeprecationWarning, FutureWarning])
@pytest.mark.parametrize('module', ['mmseg_instancenet', 'mmseg_instancenet.models.losses.margins'])
def test_a_deprecated_call_in_our_own_code_is_an_error(category, module):
    with pytest.raises(category, match='use another'):
        warnings.warn_explicit('use another', category, 'file.py', 1, module=module)


@pytest.mark.parametrize('category', [DeprecationWarning, FutureWarning])
@pytest.mark.parametrize('module', ['mmseg.models.builder', 'torch', 'mmdet.datasets.coco'])
def test_one_in_a_library_is_none(category, module):
    warnings.warn_explicit('use another', category, 'file.py', 1, module=module)
