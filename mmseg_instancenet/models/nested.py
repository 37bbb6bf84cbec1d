"""Builds configs inside other configs: the loss and the grouping of a ``RecurrentLoss``."""

from mmseg.registry import MODELS
from torch import nn


def build_nested(config: dict) -> nn.Module:
    """Builds a config nested in another one; its type is looked up in mmseg's registry, whatever the default scope.

    There the package's own types are registered. In a config of mmdet ``mmseg.RecurrentLoss`` would otherwise look for its
    ``SphericalPairLoss`` in mmdet. A prefix (``mmdet.``) or a ``_scope_`` of the config's own still decides.

    Args:
        config: with a ``type``.

    Raises:
        KeyError: if the type is not registered.

    Example:
        >>> from mmengine.registry import DefaultScope
        >>> with DefaultScope.overwrite_default_scope('mmdet'):
        ...     type(build_nested(dict(type='SphericalPairLoss'))).__name__
        'SphericalPairLoss'
    """
    with MODELS.switch_scope_and_registry('mmseg') as registry:
        return registry.build(config)
