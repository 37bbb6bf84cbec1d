"""Class losses for rare classes that respect the ignored pixels.

mmseg's ``CrossEntropyLoss`` raises an IndexError where ``class_weight`` meets a pixel with label 255, and its ``DiceLoss``
counts ignored pixels in the denominator and pools all classes, so that a rare one has no say.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class WeightedCrossEntropyLoss(nn.Module):
    """Cross-entropy with a weight for each class, averaged with these weights over the pixels that are not ignored.

    ``sum_i w(c_i) (-log p_i(c_i)) / sum_i w(c_i)`` over the pixels i with a label; 0 where there is none.

    Args:
        class_weight: one weight a class, background first.
        loss_weight: factor on the loss.
        loss_name: key of the loss.
    """

    def __init__(self, class_weight: Sequence[float], loss_weight: float = 1.0, loss_name: str = 'loss_ce') -> None:
        super().__init__()
        if not class_weight or min(class_weight) < 0:
            raise ValueError(f'expected one weight >= 0 a class, background first, got {class_weight}')
        self.register_buffer('class_weight', torch.tensor(class_weight, dtype=torch.float), persistent=False)
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self, scores_NCHW: Tensor, label_NHW: Tensor, weight: Tensor | None = None, ignore_index: int = 255
    ) -> Tensor:
        """Scalar; ``weight`` (N, H, W) is mmseg's pixel sampler's."""
        if len(self.class_weight) != scores_NCHW.shape[1]:
            raise ValueError(
                f'class_weight has {len(self.class_weight)} values, the head {scores_NCHW.shape[1]} classes, background '
                'included; give one a class'
            )
        loss_NHW = F.cross_entropy(
            scores_NCHW.float(), label_NHW, self.class_weight, ignore_index=ignore_index, reduction='none'
        )
        labelled_NHW = label_NHW != ignore_index
        weight_NHW = self.class_weight[torch.where(labelled_NHW, label_NHW, 0)] * labelled_NHW
        if weight is not None:
            loss_NHW, weight_NHW = loss_NHW * weight, weight_NHW * weight
        return self.loss_weight * loss_NHW.sum() / weight_NHW.sum().clamp(min=torch.finfo(torch.float).tiny)


@MODELS.register_module()
class ClassDiceLoss(nn.Module):
    """One minus the Dice coefficient of each class of the batch, averaged over the classes that are present.

    ``1 - (2 sum_i p_i(c) y_i(c) + eps) / (sum_i p_i(c) + sum_i y_i(c) + eps)`` over the pixels that are not ignored. A
    class counts alike whether it has ten pixels or a million; 0 where nothing is labelled.

    Args:
        loss_weight: factor on the loss.
        eps: smoothing in pixels; one pixel keeps the gradient of a tiny object finite.
        loss_name: key of the loss.
    """

    def __init__(self, loss_weight: float = 1.0, eps: float = 1.0, loss_name: str = 'loss_dice') -> None:
        super().__init__()
        self.loss_weight, self.eps, self.loss_name = loss_weight, eps, loss_name

    def forward(
        self, scores_NCHW: Tensor, label_NHW: Tensor, weight: Tensor | None = None, ignore_index: int = 255
    ) -> Tensor:
        """Scalar; ``weight`` (N, H, W) is mmseg's pixel sampler's."""
        labelled_NHW = (label_NHW != ignore_index).float()
        if weight is not None:
            labelled_NHW = labelled_NHW * weight
        probability_NCHW = scores_NCHW.float().softmax(1) * labelled_NHW[:, None]
        num_classes = scores_NCHW.shape[1]
        truth_NCHW = F.one_hot(torch.where(label_NHW != ignore_index, label_NHW, 0), num_classes).movedim(3, 1)
        # The probability carries the weight already.
        both_C, predicted_C, true_C = (
            x.sum((0, 2, 3))
            for x in (probability_NCHW * truth_NCHW, probability_NCHW, truth_NCHW * labelled_NHW[:, None])
        )
        loss_C = 1 - (2 * both_C + self.eps) / (predicted_C + true_C + self.eps)
        present_C = true_C > 0
        return self.loss_weight * torch.where(present_C, loss_C, 0).sum() / present_C.sum().clamp(min=1)
