"""On import, replaces MMEngine's checkpoint loaders by those of :mod:`safe_checkpoint`.

For configs that other tools than ours run; ours call :func:`register_safe_loaders`::

    custom_imports = dict(imports=['mmseg_instancenet', 'mmseg_instancenet.engine.use_safe_loaders'])
"""

from .safe_checkpoint import register_safe_loaders

register_safe_loaders()
