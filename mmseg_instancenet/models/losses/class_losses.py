"""Class losses for rare classes, computed over the pixels that are not ignored.

In a training of several processes they are those of the whole batch: what they divide by is summed over the processes. mmseg's
``CrossEntropyLoss`` with ``avg_non_ignore`` divides by the pixels of its own process, so that a pixel of an image with few labels
weighs more there than in one process.

They take the words with which configs of mmseg give their ``CrossEntropyLoss``, so that a config that only names another loss
need not delete them; a word that cannot hold stops with a line.

mmseg's ``CrossEntropyLoss`` raises an IndexError where ``class_weight`` meets a pixel with label 255, and its ``DiceLoss``
counts ignored pixels in the denominator and pools all classes, so that a rare one has almost no weight.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.models.losses.utils import get_class_weight
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...structures import IGNORED_CLASS, check_tensors, mask_ignored, single_or_double, zero_loss
from .process_sums import sum_over_processes


@MODELS.register_module()
class WeightedCrossEntropyLoss(nn.Module):
    """Cross-entropy with a weight for each class, averaged with these weights over the pixels that are not ignored.

    ``sum_i w(c_i) (-log p_i(c_i)) / sum_i w(c_i)`` over the pixels i with a label; 0 where there is none.

    Args:
        class_weight: one weight a class, background first, or the path of a file with them (.npy, .pkl, .json or .yaml);
            ``None`` weighs all classes alike.
        loss_weight: factor on the loss.
        loss_name: key of the loss.
        use_sigmoid: False, as the scores go through one softmax.
        avg_non_ignore: True, see above.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        class_weight: Sequence[float] | str | None = None,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_ce',
        use_sigmoid: bool = False,
        avg_non_ignore: bool = True,
    ) -> None:
        super().__init__()
        _check_words(self, use_sigmoid, avg_non_ignore)
        self.use_sigmoid = use_sigmoid  # as in mmseg's losses, for code that reads the kind of the scores
        weight_C = None
        if class_weight is not None:
            weight_C = torch.as_tensor(get_class_weight(class_weight), dtype=torch.float)
            if weight_C.dim() != 1 or len(weight_C) == 0 or not (weight_C >= 0).all():
                raise ValueError(f'expected one weight >= 0 a class, background first, got {weight_C.tolist()}')
        self.register_buffer('class_weight', weight_C, persistent=False)
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self, scores_NCHW: Tensor, label_NHW: Tensor, weight: Tensor | None = None, ignore_index: int = IGNORED_CLASS
    ) -> Tensor:
        """The loss, a scalar; ``weight`` (N, H, W) comes from mmseg's pixel sampler."""
        if self.class_weight is not None and len(self.class_weight) != scores_NCHW.shape[1]:
            raise ValueError(
                f'class_weight has {len(self.class_weight)} values, the head {scores_NCHW.shape[1]} classes, background '
                'included; give one a class'
            )
        scores_NCHW = single_or_double(scores_NCHW)
        weight_C = None if self.class_weight is None else self.class_weight.to(scores_NCHW)
        loss_NHW = F.cross_entropy(scores_NCHW, label_NHW, weight_C, ignore_index=ignore_index, reduction='none')
        class_NHW, labelled_NHW = mask_ignored(label_NHW, ignore_index)
        weight_NHW = labelled_NHW.to(scores_NCHW) if weight_C is None else weight_C[class_NHW] * labelled_NHW
        if weight is not None:
            loss_NHW, weight_NHW = loss_NHW * weight, weight_NHW * weight
        total, total_weight = sum_over_processes(torch.stack([loss_NHW.sum(), weight_NHW.sum()]))
        return self.loss_weight * (total / total_weight.clamp(min=torch.finfo(torch.float).tiny))


@MODELS.register_module()
class ClassDiceLoss(nn.Module):
    """One minus the Dice coefficient of each class of the batch, averaged over the classes that are present.

    ``1 - (2 sum_i p_i(c) y_i(c) + eps) / (sum_i p_i(c) + sum_i y_i(c) + eps)`` over the pixels that are not ignored. A
    class counts alike whether it has ten pixels or a million; 0 where nothing is labelled.

    Args:
        loss_weight: factor on the loss.
        eps: smoothing in pixels; one pixel keeps the gradient of a tiny object finite.
        loss_name: key of the loss.
        use_sigmoid: False, as the scores go through one softmax.
        avg_non_ignore: True, see above.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        eps: float = 1.0,
        loss_name: str = 'loss_dice',
        use_sigmoid: bool = False,
        avg_non_ignore: bool = True,
    ) -> None:
        super().__init__()
        _check_words(self, use_sigmoid, avg_non_ignore)
        self.use_sigmoid = use_sigmoid  # as in mmseg's losses, for code that reads the kind of the scores
        self.loss_weight, self.eps, self.loss_name = loss_weight, eps, loss_name

    def forward(
        self, scores_NCHW: Tensor, label_NHW: Tensor, weight: Tensor | None = None, ignore_index: int = IGNORED_CLASS
    ) -> Tensor:
        """The loss, a scalar; ``weight`` (N, H, W) comes from mmseg's pixel sampler."""
        class_NHW, labelled_NHW = mask_ignored(label_NHW, ignore_index)
        scores_NCHW = single_or_double(scores_NCHW)
        labelled_NHW = labelled_NHW.to(scores_NCHW) if weight is None else labelled_NHW * weight
        probability_NCHW = scores_NCHW.softmax(1) * labelled_NHW[:, None]
        num_classes = scores_NCHW.shape[1]
        truth_NCHW = F.one_hot(class_NHW, num_classes).movedim(3, 1)
        # The probability already includes the weight.
        own_3C = torch.stack(
            [
                x.sum((0, 2, 3))
                for x in (probability_NCHW * truth_NCHW, probability_NCHW, truth_NCHW * labelled_NHW[:, None])
            ]
        )
        both_C, predicted_C, true_C = sum_over_processes(own_3C)
        loss_C = 1 - (2 * both_C + self.eps) / (predicted_C + true_C + self.eps)
        present_C = true_C > 0
        return self.loss_weight * torch.where(present_C, loss_C, 0).sum() / present_C.sum().clamp(min=1)


def balanced_logistic(logits_NHW: Tensor, label_NHW: Tensor, ignore_index: int = IGNORED_CLASS) -> Tensor:
    r"""Logistic loss with equal total weight for both classes of an image, averaged over the images.

    .. math::
        L = \frac12 \Big( \frac1{|P|} \sum_{i \in P} \log(1 + e^{-z_i}) + \frac1{|B|} \sum_{i \in B} \log(1 + e^{z_i}) \Big)

    with P the pixels of label 1 and B those of label 0. Up to a factor for each image it is the class-balanced cross-entropy
    of Xie & Tu, "Holistically-Nested Edge Detection" (ICCV 2015, equation 2), which divides by all pixels instead: there
    the loss fades with the share of the rare class. A class without pixels contributes 0.

    Args:
        logits_NHW: (N, H, W) floating point, z; computed in float32 at least.
        label_NHW: (N, H, W) integers: 0, 1 or ``ignore_index``.
        ignore_index: label of the pixels that are left out.

    Raises:
        ValueError: if shapes or labels do not fit, or a logit is not finite.
        TypeError: if an argument is no tensor.

    Example:
        >>> logits, label = torch.tensor([[[0.0, 9.0, 0.0, 0.0]]]), torch.tensor([[[1, 255, 0, 0]]])
        >>> balanced_logistic(logits, label)  # log 2
        tensor(0.6931)
    """
    check_tensors(logits=logits_NHW, labels=label_NHW)
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
    logits_NHW = single_or_double(logits_NHW)
    loss = zero_loss(logits_NHW)
    for inside_NHW, sign in zip(is_class_NHW, (1, -1), strict=True):
        sum_N = (F.softplus(sign * logits_NHW) * inside_NHW).sum((1, 2))
        loss = loss + (sum_N / inside_NHW.sum((1, 2)).clamp(min=1)).mean() / 2
    return loss


@MODELS.register_module()
class BalancedLogisticLoss(nn.Module):
    """:func:`balanced_logistic` as a ``loss_decode`` for logits with one channel.

    Args:
        loss_weight: factor on the loss.
        loss_name: key of the loss; it has to contain ``loss`` to be trained on.
        use_sigmoid: True, as the one logit goes through a sigmoid.
        avg_non_ignore: True, as ignored pixels are left out.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_logistic',
        use_sigmoid: bool = True,
        avg_non_ignore: bool = True,
    ) -> None:
        super().__init__()
        _check_words(self, use_sigmoid, avg_non_ignore, expected=True)
        self.use_sigmoid = use_sigmoid  # as in mmseg's losses, for code that reads the kind of the scores
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(
        self,
        logits_N1HW: Tensor,
        label_NHW: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = IGNORED_CLASS,
    ) -> Tensor:
        """The loss, a scalar; ``weight`` has to be ``None``, as from a head without a pixel sampler."""
        if weight is not None:
            raise ValueError(
                'BalancedLogisticLoss balances the pixels itself, and the head has a pixel sampler: leave out its sampler'
            )
        if logits_N1HW.dim() != 4 or logits_N1HW.shape[1] != 1:
            raise ValueError(f'expected logits (N, 1, H, W), got {tuple(logits_N1HW.shape)}')
        return self.loss_weight * balanced_logistic(logits_N1HW.squeeze(1), label_NHW, ignore_index)


def _check_words(loss: nn.Module, use_sigmoid: bool, avg_non_ignore: bool, expected: bool = False) -> None:
    """Raises ValueError for settings of sigmoid or ignored pixels that ``loss`` does not support."""
    if use_sigmoid != expected:
        line = (
            'takes one logit through a sigmoid: expected use_sigmoid=True, got False; a softmax over classes needs '
            'WeightedCrossEntropyLoss or CrossEntropyLoss'
            if expected
            else 'takes the scores through one softmax over the classes: expected use_sigmoid=False, got True; a sigmoid for '
            "each class needs mmseg's CrossEntropyLoss"
        )
        raise ValueError(f'{type(loss).__name__} {line}')
    if not avg_non_ignore:
        raise ValueError(
            f'{type(loss).__name__} never counts ignored pixels: expected avg_non_ignore=True, got {avg_non_ignore}'
        )
