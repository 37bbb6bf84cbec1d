"""Access to the dense feature map inside an mmseg decode head, and the kind of the head's scores."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mmdet.models.dense_heads import MaskFormerHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

_CHANNEL_NAMES = ('out_channels', 'num_features', 'out_features')
"""Attributes in which layers store their number of output channels."""


@dataclass(frozen=True)
class FeatureSource:
    """The place of a dense feature map in a head.

    module: the module that the map enters or leaves.
    end: 'input' or 'output' of the module; 'inputs' for the ``index``-th of the maps that enter the head ``module``.
    channels: of the map; ``None`` if unknown before a forward pass.
    index: which map of several.
    before: the dropout that the map passes before it enters ``module``, if there is one. The map is taken before it.
    """

    module: nn.Module
    end: str
    channels: int | None
    index: int = 0
    before: nn.Module | None = None


def find_features(head: nn.Module, name: str | None = None) -> FeatureSource:
    """Finds the module of a decode head through which the feature map of all pixels passes.

    That which enters its last ``conv_seg``, before dropout (all heads that classify each pixel by a convolution); else the mask
    features of its pixel decoder (heads with queries); else the map of the backbone or neck that enters the head.

    Args:
        head: built decode head.
        name: of the module of the head, such as ``'bottleneck'``, whose output is taken instead.

    Raises:
        ValueError: if there is no module of that name, or no map is found.
    """
    modules = dict(head.named_modules())
    if name is not None:
        if name not in modules or name == '':
            near = [one for one in modules if one and one.count('.') < 2]
            raise ValueError(
                f'embedding.features: {type(head).__name__} has no module {name!r}; it has {", ".join(near)}'
            )
        return FeatureSource(modules[name], 'output', _channels_after(modules[name]))
    # The modules of the head itself come first, those of heads inside it follow.
    owners = {
        module: convolution
        for module in modules.values()
        if isinstance(convolution := getattr(module, 'conv_seg', None), nn.Conv2d)
    }
    if owners:
        owner = head if head in owners else list(owners)[-1]
        convolution = owners[owner]
        dropout = getattr(owner, 'dropout', None)  # None if its rate is 0
        return FeatureSource(convolution, 'input', convolution.in_channels, before=dropout)
    decoder = getattr(head, 'pixel_decoder', None)
    if decoder is not None and hasattr(decoder, 'mask_feature'):
        return FeatureSource(decoder.mask_feature, 'output', _channels_after(decoder.mask_feature))
    index, channels = getattr(head, 'in_index', None), getattr(head, 'in_channels', None)
    if isinstance(index, int) and isinstance(channels, int):
        return FeatureSource(head, 'inputs', channels, index)
    raise ValueError(
        f'embedding: {type(head).__name__} has neither a conv_seg nor a pixel decoder nor a single map that enters it; name '
        'the module whose output is the map of all pixels by embedding.features'
    )


@contextmanager
def listen(source: FeatureSource) -> Iterator[list[Tensor]]:
    """Context manager that yields a list, empty at first; its one entry is the feature map of the last forward pass
    through ``source``."""
    seen: list[Tensor] = []
    before_dropout: list[Tensor] = []

    def enters_dropout(_: nn.Module, arguments: tuple) -> None:
        before_dropout[:] = [arguments[0]]

    def enters(_: nn.Module, arguments: tuple) -> None:
        value = arguments[0]
        if before_dropout and before_dropout[0].shape == value.shape:
            value = before_dropout[0]
        seen[:], before_dropout[:] = [value], []

    def leaves(_: nn.Module, __: tuple, value: Tensor) -> None:
        seen[:] = [value]

    def forward(inputs: Sequence[Tensor], *arguments: Any, **settings: Any) -> Any:
        seen[:] = [inputs[source.index]]
        return type(source.module).forward(source.module, inputs, *arguments, **settings)

    handles = []
    if source.end == 'output':
        handles.append(source.module.register_forward_hook(leaves))
    elif source.end == 'input':
        handles.append(source.module.register_forward_pre_hook(enters))
    else:
        source.module.forward = forward  # mmseg's heads call forward directly, which skips hooks
    if source.before is not None:
        handles.append(source.before.register_forward_pre_hook(enters_dropout))
    try:
        yield seen
    finally:
        if source.end == 'inputs':
            del source.module.forward
        for handle in handles:
            handle.remove()


def _channels_after(module: nn.Module) -> int | None:
    """Number of output channels of a module, read from its last layer with such a number; ``None`` if no layer has one."""
    for layer in reversed(list(module.modules())):
        for name in _CHANNEL_NAMES:
            if isinstance(getattr(layer, name, None), int):
                return getattr(layer, name)
    return None


def resizes_scores_only(head: nn.Module) -> bool:
    """Whether ``head.predict`` only resizes the output of ``head.forward`` to the input."""
    return (
        isinstance(head, BaseDecodeHead)
        and type(head).predict is BaseDecodeHead.predict
        and type(head).predict_by_feat is BaseDecodeHead.predict_by_feat
    )


def score_kind(head: nn.Module) -> str:
    """The kind of the scores that a head predicts: 'logits' of a softmax, 'sigmoid' logits, or 'probabilities'.

    Heads with queries (MaskFormer, Mask2Former) sum the masks of all queries, each weighted by its probability of the class. A
    head all of whose class losses have ``use_sigmoid`` learned each class for itself; beside a cross-entropy over the classes,
    a Dice loss with it (mmseg's default) changes nothing.
    """
    if isinstance(head, MaskFormerHead):
        return 'probabilities'
    # A head made of others (K-Net) has the losses of the first.
    loss_decode = next((module.loss_decode for module in head.modules() if hasattr(module, 'loss_decode')), None)
    losses = list(loss_decode) if isinstance(loss_decode, nn.ModuleList) else [loss_decode]
    return 'sigmoid' if all(getattr(loss, 'use_sigmoid', False) for loss in losses) else 'logits'
