"""The logistic loss of a rare class against its background."""

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from .checks import zero_of
from .instances import IGNORED_CLASS


def balanced_logistic(logits_NHW: Tensor, label_NHW: Tensor, ignore_index: int = IGNORED_CLASS) -> Tensor:
    r"""Logistic loss in which both classes of a picture weigh the same, averaged over the pictures.

    .. math::
        L = \frac12 \Big( \frac1{|P|} \sum_{i \in P} \log(1 + e^{-z_i}) + \frac1{|B|} \sum_{i \in B} \log(1 + e^{z_i}) \Big)

    with P the pixels of label 1 and B those of label 0. Up to a factor for each picture it is the class-balanced cross-entropy
    of Xie & Tu, "Holistically-Nested Edge Detection" (ICCV 2015, equation 2), which divides by all pixels instead: there
    the loss fades with the share of the rare class. A class without pixels contributes 0.

    Args:
        logits_NHW: (N, H, W) floating point, z; computed in float32 at least.
        label_NHW: (N, H, W) integers: 0, 1 or ``ignore_index``.
        ignore_index: label of the pixels that are left out.

    Raises:
        ValueError: if shapes or labels do not fit, or a logit is not finite.

    Example:
        >>> logits, label = torch.tensor([[[0.0, 9.0, 0.0, 0.0]]]), torch.tensor([[[1, 255, 0, 0]]])
        >>> balanced_logistic(logits, label)  # log 2
        tensor(0.6931)
    """
    if logits_NHW.dim() != 3 or not logits_NHW.is_floating_point() or logits_NHW.shape != label_NHW.shape:
        raise ValueError(
            f'expected floating point logits and labels of one shape (N, H, W), got {tuple(logits_NHW.shape)} '
            f'{logits_NHW.dtype} and {tuple(label_NHW.shape)}'
        )
    is_class_NHW = [label_NHW == 0, label_NHW == 1]
    strange_NHW = ~(is_class_NHW[0] | is_class_NHW[1] | (label_NHW == ignore_index))
    if bool(strange_NHW.any()):
        raise ValueError(
            f'expected labels 0, 1 or {ignore_index} (ignore), got {label_NHW[strange_NHW].unique().tolist()[:5]}'
        )
    if logits_NHW.dtype != torch.float64:
        logits_NHW = logits_NHW.float()
    loss = zero_of(logits_NHW)
    for inside_NHW, sign in zip(is_class_NHW, (1, -1), strict=True):
        sum_N = (F.softplus(sign * logits_NHW) * inside_NHW).sum((1, 2))
        loss = loss + (sum_N / inside_NHW.sum((1, 2)).clamp(min=1)).mean() / 2
    return loss


@MODELS.register_module()
class BalancedLogisticLoss(nn.Module):
    """:func:`balanced_logistic` as a ``loss_decode`` for one channel of logits.

    Args:
        loss_weight: factor on the loss.
        loss_name: key of the loss; it has to contain ``loss`` to be trained on.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = 'loss_logistic') -> None:
        super().__init__()
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(self, logits_N1HW: Tensor, label_NHW: Tensor, ignore_index: int = IGNORED_CLASS) -> Tensor:
        if logits_N1HW.dim() != 4 or logits_N1HW.shape[1] != 1:
            raise ValueError(f'expected logits (N, 1, H, W), got {tuple(logits_N1HW.shape)}')
        return self.loss_weight * balanced_logistic(logits_N1HW.squeeze(1), label_NHW, ignore_index)
