"""Instance segmentation by pixel embeddings, as an OpenMMLab plugin.

Importing the package registers its components with mmseg; in a config:
``custom_imports = dict(imports=['mmseg_instancenet'], allow_failed_imports=False)``. The functions of the losses and the
groupers, on plain tensors, are here too: ``from mmseg_instancenet import group_by_mean_shift``.

The folders, from below; ``tests/test_imports.py`` holds which may import which::

    structures/      label maps, masks, embeddings, where a map lies on its image
    models/
      mean_shift/    iterations of mean shift, merging of clusters, groups from where they end
      losses/        on embeddings and on classes
      groupers/      from embeddings to groups: the function and its class in one file
      scorers/       scores of groups and of instances
      decode_heads/  class scores and embeddings from features
      postprocess/   from the outputs of the network to instances; start at predict.py
      segmentors/    the models
    datasets/        data sets, and the transforms that turn masks into two label maps
    evaluation/      metrics/, and their computations in functional/
    visualization/   drawings
    outputs/         the instances of an image in arrays, and in the files that other programs read
    report/          the HTML report of a test
    engine/          hooks, checkpoints
    shipped_models/  trained models that come with the package
    apis/            inference, and code that the tools share
    analysis/        code of tools/analysis
"""

from .requirements_check import check_requirements

check_requirements()

from .mmcv_operators import mend_search_for_extension, provide_operators  # noqa: E402

provide_operators()  # before anything imports mmdet or mmseg, whose modules import mmcv.ops
mend_search_for_extension()

from . import shipped_configs  # noqa: E402

shipped_configs.register()

from . import datasets, engine, evaluation, models, report, visualization  # noqa: E402
from .apis import InstanceInferencer  # noqa: E402
from .models.groupers import group_by_centers, group_by_mean_shift, group_by_seeds  # noqa: E402
from .models.losses import (  # noqa: E402
    asymptotic_margin,
    balanced_logistic,
    discriminative_terms,
    feasible_margin,
    margin_lower_bound,
    number_instances,
    soft_mask_terms,
    spherical_pair_terms,
)

__all__ = [
    'InstanceInferencer',
    'asymptotic_margin',
    'balanced_logistic',
    'datasets',
    'discriminative_terms',
    'engine',
    'evaluation',
    'feasible_margin',
    'group_by_centers',
    'group_by_mean_shift',
    'group_by_seeds',
    'margin_lower_bound',
    'models',
    'number_instances',
    'report',
    'soft_mask_terms',
    'spherical_pair_terms',
    'visualization',
]
__version__ = '0.1.0'
