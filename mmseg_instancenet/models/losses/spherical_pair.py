"""The pair loss on the sphere of Recurrent Pixel Embedding (Kong & Fowlkes, CVPR 2018)."""

import math
import warnings
from typing import Any, NamedTuple

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...structures import MIN_LENGTH, EmbeddingMargins, check_embeddings, unit_vectors, zero_loss
from .instance_numbering import BatchInstances, EmbeddingLoss, number_instances
from .margins import feasible_margin, margin_lower_bound
from .pair_blocks import hinged_pair_sum, instance_weights, same_instance_sums, sizes_by_group

VARIANTS = ('paper', 'released')


class SphericalPairTerms(NamedTuple):
    """The positive and the negative part of the loss, each a scalar, averaged over the images."""

    positive: Tensor
    negative: Tensor


def spherical_pair_terms(
    embeddings_NDHW: Tensor,
    instance_map_NHW: Tensor,
    class_map_NHW: Tensor | None = None,
    *,
    margin: float,
    variant: str = 'paper',
    class_agnostic: bool = True,
    background_is_instance: bool = True,
    sample_NHW: Tensor | None = None,
    instances: BatchInstances | None = None,
) -> SphericalPairTerms:
    r"""Positive and negative part of Kong & Fowlkes' pair loss (2018, equation 2), over all pixels or a sample.

    With the calibrated cosine similarity :math:`s_{ij} = \frac12 (1 + \frac{x_i \cdot x_j}{|x_i| |x_j|})`, pixels i and j
    of one image and instances :math:`y_i`, the ``'paper'`` variant is

    .. math::
        L_+ &= \frac1P \sum_{i,j:\, y_i = y_j} w_i w_j (1 - s_{ij}) \\
        L_- &= \frac1P \sum_{i,j:\, y_i \neq y_j} w_i w_j [s_{ij} - \alpha]_+

    where P is the number of the image's pixels that enter and :math:`w_i` one over the size of pixel i's instance,
    counted over the whole map. ``'released'`` is the loss of the authors' code:

    .. math::
        L_+ &= \frac1W \sum_{i,j:\, y_i = y_j} w_i w_j (1 - s_{ij}^2) \\
        L_- &= \frac1W \sum_{i,j:\, y_i \neq y_j} w_i w_j [s_{ij} - \alpha]_+^2

    with sizes counted within the sample and W such that the pair weights of an image sum to 1. (Its layers give the
    gradient of :math:`-s^2`; the constant 1 makes the value at least 0 and changes no gradient.) Sums run over both orders
    of a pair and over i = j. They are averaged over the images of the batch, those without pixels included as 0.
    Not ``class_agnostic``, only pairs of one class enter, into the same P or a W of these pairs.

    Exact over all pixels without a matrix of pixels by pixels: the positive part needs the moments of each instance
    alone, the negative part is summed block by block (:func:`~.pair_blocks.hinged_pair_sum`), in a time that grows
    with the square of the pixels. Computed in float32 (float64 for float64 input), also under autocast.

    Peak memory above the inputs, backward pass included, is linear in the pixels (measured, every pixel labelled: 10.5 times
    the embeddings at D = 16, 15 times at D = 4) plus one block of pairs, 1 MiB on a CPU and 64 MiB on a GPU, plus D x D
    values an instance (``'released'``).

    A vector of length 0 (below 1e-12) has similarity 1/2 with every other and itself, and receives no gradient.

    Args:
        embeddings_NDHW: (N, D, H, W) floating point of any length, D >= 2.
        instance_map_NHW: (N, H, W) integers; 0 = background, 1 and above = instances with any gaps, -1 = ignore.
        class_map_NHW: (N, H, W) integers; 255 = ignore. Without it all instances are of one class, and
            ``class_agnostic`` must be True.
        margin: alpha, in [0, 1]: the similarity above which pixels of two instances are pushed apart. See
            :func:`~.margins.feasible_margin` for the smallest that can be met.
        variant: ``'paper'`` or ``'released'``.
        class_agnostic: treat all classes as one, so that all instances of an image are pushed apart.
        background_is_instance: count the background as an instance like any other (of class 0).
        sample_NHW: (N, H, W) bool, the pixels that enter; ``None`` for all. Ignored pixels never enter.
        instances: of these maps, numbered by these settings, for a caller that evaluates the loss several times on them;
            counted here unless given.

    Raises:
        ValueError: if shapes or settings do not fit, or an embedding is not finite.
        TypeError: if an argument is no tensor, or the class map is missing and ``class_agnostic`` is False.

    Example:
        >>> embeddings = torch.tensor([[[[1.0, 1.0, 1.0]], [[0.0, 0.0, 1.0]]]])  # D = 2; directions 0, 0, 45 degrees
        >>> spherical_pair_terms(embeddings, torch.tensor([[[1, 1, 2]]]), margin=0.5)  # 1/3 x 4 x 1/2 x (0.854 - 0.5)
        SphericalPairTerms(positive=tensor(0.), negative=tensor(0.2357))
    """
    check_embeddings(embeddings_NDHW, instance_map_NHW)
    num_images, dims, _, _ = embeddings_NDHW.shape
    if dims < 2:
        raise ValueError(
            f'expected embeddings of D >= 2 values, since one value has only two directions, got D = {dims}'
        )
    _check_settings(margin, variant)
    if sample_NHW is not None and (sample_NHW.dtype != torch.bool or sample_NHW.shape != instance_map_NHW.shape):
        raise ValueError(
            f'expected a bool sample {tuple(instance_map_NHW.shape)}, got {tuple(sample_NHW.shape)} {sample_NHW.dtype}'
        )
    with torch.autocast(device_type=embeddings_NDHW.device.type, enabled=False):
        if embeddings_NDHW.dtype != torch.float64:
            embeddings_NDHW = embeddings_NDHW.float()
        # A sum over every embedding costs little and keeps ignored pixels in the graph.
        zero = zero_loss(embeddings_NDHW)
        if instances is None:
            instances = number_instances(instance_map_NHW, class_map_NHW, background_is_instance, class_agnostic)
        pixel_P, instance_P = instances.pixel_P, instances.instance_P
        if sample_NHW is not None:
            enters_P = sample_NHW.reshape(-1)[pixel_P]
            pixel_P, instance_P = pixel_P[enters_P], instance_P[enters_P]
        if len(pixel_P) == 0:
            return SphericalPairTerms(zero, zero)

        instance_P, order_P = torch.sort(instance_P, stable=True)
        x_PD = embeddings_NDHW.movedim(1, 3).reshape(-1, dims)[pixel_P[order_P]]
        unit_PD, has_direction_P = _unit_vectors(x_PD)

        count_K = torch.bincount(instance_P, minlength=len(instances.image_K))
        group_K = instances.image_K * (int(instances.class_K.max()) + 1) + instances.class_K
        weight_K = instance_weights(count_K, instances.size_K, instances.image_K, group_K, variant).to(unit_PD)
        weight_K = weight_K / math.sqrt(num_images)

        positive_K = same_instance_sums(unit_PD, has_direction_P, instance_P, count_K, variant == 'released')
        positive = (weight_K.square() * positive_K).sum()
        negative = hinged_pair_sum(
            unit_PD,
            weight_K[instance_P],
            sizes_by_group(count_K, group_K),
            margin=margin,
            squared=variant == 'released',
        )
        return SphericalPairTerms(positive + zero, negative + zero)


def _check_settings(margin: float, variant: str) -> None:
    if not 0 <= margin <= 1:
        raise ValueError(f'expected a margin in [0, 1], a similarity (1 + cos) / 2, got {margin}')
    if variant not in VARIANTS:
        raise ValueError(f'expected a variant of {VARIANTS}, got {variant!r}')


def _unit_vectors(x_PD: Tensor) -> tuple[Tensor, Tensor]:
    """Scales rows to length 1 and marks those with a direction; the others become 0, without gradient."""
    length_P = torch.linalg.vector_norm(x_PD.detach(), dim=1)
    if not torch.isfinite(length_P.sum()):
        raise ValueError(
            f'expected embeddings of a finite length in {x_PD.dtype}, got one whose squares overflow; the training has '
            'diverged: lower the learning rate'
        )
    return unit_vectors(x_PD, dim=1), length_P > MIN_LENGTH


@MODELS.register_module()
class SphericalPairLoss(EmbeddingLoss):
    """Kong & Fowlkes' pair loss (2018, equation 2): ``positive_weight`` positive + ``negative_weight`` negative part.

    See :func:`spherical_pair_terms` for the formulas, the label maps, memory and errors. The authors' code: ``variant=
    'released'``, ``sample_ratio`` 0.2 (digits) or 0.35 (VOC), ``max_samples=4000``, ``negative_weight`` 1 or 5.

    Collapsed embeddings, all of one direction, get no gradient: every pull and push points along the embedding itself. So do
    two opposite directions. Nothing in the loss forbids these states, but they are unstable: any small spread is pushed
    apart (the gradient grows with the spread) while an instance's own pixels are drawn together. What keeps a network out
    of them is that its embeddings vary over the image at the start: do not initialise the last layer with zeros or
    with a bias much larger than its output's variation, and look at the negative part, which in a collapse is at its
    largest and stands still. A ReLU before the embedding can give vectors of length 0, which get no gradient either.

    Args:
        margin: alpha, in [0, 1]; ``None`` takes :func:`~.margins.feasible_margin` of ``num_instances`` and the D of the
            embeddings.
        num_instances: the largest number of instances that are pushed apart in an image, the background counted if it is
            one (in one class of it, if not ``class_agnostic``). Beside a ``margin`` it is used to warn once if so many
            cannot meet it.
        variant, class_agnostic, background_is_instance: as in :func:`spherical_pair_terms`.
        positive_weight, negative_weight: weights of the two parts.
        sample_ratio: part of an image's pixels that enters, drawn uniformly; ``None`` for all.
        max_samples: at most so many pixels of an image enter.
        loss_weight: factor on the whole.
        loss_name: key of the total; it has to contain ``loss`` to be trained on.

    Example:
        >>> loss = SphericalPairLoss(margin=None, num_instances=3, sample_ratio=0.5)
        >>> embeddings = torch.randn(1, 3, 8, 8, requires_grad=True)
        >>> ids = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> ids[:, :, 4:], ids[:, :4, :4] = 1, 9
        >>> list(loss(embeddings, ids))
        ['loss_embedding', 'positive', 'negative']
        >>> loss.resolve_margin(dims=3)
        0.25
    """

    def __init__(
        self,
        margin: float | None = 0.5,
        num_instances: int | None = None,
        variant: str = 'paper',
        positive_weight: float = 1.0,
        negative_weight: float = 1.0,
        sample_ratio: float | None = None,
        max_samples: int | None = None,
        class_agnostic: bool = True,
        background_is_instance: bool = True,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_embedding',
    ) -> None:
        super().__init__(class_agnostic, background_is_instance, loss_weight, loss_name)
        if margin is None and num_instances is None:
            raise ValueError('expected a margin, or num_instances to derive it from; got neither')
        if num_instances is not None and num_instances < 1:
            raise ValueError(f'expected num_instances >= 1, got {num_instances}')
        _check_settings(0.5 if margin is None else margin, variant)
        for name, value in {'positive_weight': positive_weight, 'negative_weight': negative_weight}.items():
            if value < 0:
                raise ValueError(f'expected {name} >= 0, got {value}')
        if sample_ratio is not None and not 0 < sample_ratio <= 1:
            raise ValueError(
                f'expected a sample_ratio above 0 and at most 1, or None for all pixels, got {sample_ratio}'
            )
        if max_samples is not None and max_samples < 1:
            raise ValueError(f'expected max_samples >= 1 or None for no limit, got {max_samples}')
        self.margin, self.num_instances = margin, num_instances
        self.positive_weight, self.negative_weight = positive_weight, negative_weight
        self.sample_ratio, self.max_samples = sample_ratio, max_samples
        self.settings: dict[str, Any] = {
            'variant': variant,
            'class_agnostic': class_agnostic,
            'background_is_instance': background_is_instance,
        }
        self._warned = False

    def resolve_margin(self, dims: int) -> float:
        """The margin for embeddings of D = ``dims``; warns once if ``num_instances`` instances cannot all meet the
        given margin.

        Raises:
            ValueError: if it has to be derived and no exact value is known.
        """
        if self.margin is None:
            assert self.num_instances is not None  # one of the two is given
            return feasible_margin(self.num_instances, dims)
        if self.num_instances is not None and not self._warned:
            least = margin_lower_bound(self.num_instances, dims)
            if self.margin < least:
                self._warned = True
                warnings.warn(
                    f'margin {self.margin} cannot be met by {self.num_instances} instances in D = {dims}, which need at least '
                    f'{least:.4f}: some loss remains whatever the network learns. Use a larger margin or more embedding values',
                    stacklevel=2,
                )
        return self.margin

    def margins(self, embedding_dims: int) -> EmbeddingMargins:
        """Distances that a loss of zero guarantees: each instance is a point, and two of them are at least 2 (1 -
        alpha) apart in 1 - cos."""
        return EmbeddingMargins('cosine', within=0.0, between=2 * (1 - self.resolve_margin(embedding_dims)))

    def _draw(self, instances: BatchInstances, shape: torch.Size) -> Tensor | None:
        """Draws the pixels that enter the loss, uniformly among the labelled pixels of an image: bool of the maps'
        shape.

        ``None`` without ``sample_ratio`` and ``max_samples``: all enter. The draw is made by torch's global generator on the
        CPU, whatever the device of the maps, so that a seeded training repeats.
        """
        if self.sample_ratio is None and self.max_samples is None:
            return None
        sample = torch.zeros(shape, dtype=torch.bool, device=instances.pixel_P.device)
        per_image_N = torch.bincount(instances.image_K[instances.instance_P], minlength=shape[0])
        for pixel_P in instances.pixel_P.split(per_image_N.tolist()):
            count = len(pixel_P)
            if self.sample_ratio is not None:
                count = math.ceil(count * self.sample_ratio)
            if self.max_samples is not None:
                count = min(count, self.max_samples)
            sample.view(-1)[pixel_P[torch.randperm(len(pixel_P))[:count].to(pixel_P.device)]] = True
        return sample

    def forward(
        self,
        embeddings_NDHW: Tensor,
        instance_map_NHW: Tensor,
        class_map_NHW: Tensor | None = None,
        instances: BatchInstances | None = None,
    ) -> dict[str, Tensor]:
        """Returns the total under ``loss_name`` and the parts as ``positive`` and ``negative``.

        The parts are detached, unweighted and for the log: MMEngine sums only keys that contain ``loss``. The pixels are drawn
        anew in each call. ``instances`` are those of :meth:`number`, where a caller has them already.
        """
        if instances is None:
            instances = self.number(instance_map_NHW, class_map_NHW)
        terms = spherical_pair_terms(
            embeddings_NDHW,
            instance_map_NHW,
            class_map_NHW,
            margin=self.resolve_margin(embeddings_NDHW.shape[1]),
            sample_NHW=self._draw(instances, instance_map_NHW.shape),
            instances=instances,
            **self.settings,
        )
        total = self.positive_weight * terms.positive + self.negative_weight * terms.negative
        return {
            self.loss_name: total * self.loss_weight,
            'positive': terms.positive.detach(),
            'negative': terms.negative.detach(),
        }
