"""Instance segmentation by pixel embeddings, as an OpenMMLab plugin.

Importing the package registers its components with mmseg; in a config:
``custom_imports = dict(imports=['mmseg_instancenet'], allow_failed_imports=False)``.
"""

from .requirements_check import check_requirements

check_requirements()

from .mmcv_operators import mend_search_for_extension, provide_operators  # noqa: E402

provide_operators()  # before anything imports mmdet or mmseg, whose modules import mmcv.ops
mend_search_for_extension()

from . import datasets, engine, evaluation, models, visualization  # noqa: E402

__all__ = ['datasets', 'engine', 'evaluation', 'models', 'visualization']
__version__ = '0.1.0'
