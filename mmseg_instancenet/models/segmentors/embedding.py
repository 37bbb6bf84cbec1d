"""The segmentor for instance segmentation: network, grouping, scored instances."""

import math
import re
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub, print_log
from mmengine.structures import InstanceData, PixelData
from mmseg.registry import MODELS
from mmseg.utils import add_prefix
from torch import Tensor, nn

from ...structures import (
    IGNORED_CLASS,
    ClassMap,
    MapPlacement,
    check_class_counts,
    check_iou_metric,
    classes_of,
    images_in_errors,
    map_size,
)
from ..decode_heads.dense_features import resizes_scores_only, score_kind
from ..decode_heads.embedding_branch import EmbeddingBranch
from ..decode_heads.embedding_head import EmbeddingMixin
from ..groupers import Grouper, SeedGrouping
from ..losses import RecurrentLoss
from ..postprocess import NetworkPass, View, average_classes, predict_instances
from ..scorers import SeedScorer
from .class_numbering import ClassNumbering
from .default_samples import samples_of
from .one_head_or_cascade import OneHeadOrCascade

_DRAWN_CELLS = 10_000
"""Greatest number of cells of a map on which iterations of mean shift are drawn."""


@MODELS.register_module()
class EmbeddingSegmentor(OneHeadOrCascade):
    """Instance segmentation by pixel embeddings on any mmseg network.

    Each config of mmseg becomes one by ``embedding`` and ``grouper``::

        _base_ = ['mmseg::FAMILY/FILE.py']
        custom_imports = dict(imports=['mmseg_instancenet'], allow_failed_imports=False)
        model = dict(type='EmbeddingSegmentor', embedding=dict(dims=4, loss=dict(type='DiscriminativeLoss')),
                     grouper=dict(type='CenterGrouping'))

    Training and class scores are mmseg's: those of the decode head, or of the cascade of heads. In testing the class scores give
    a class map at the image's original size, the grouper finds groups on the map of the embeddings, the image's pixels join
    them, and each becomes an instance.

    Keys of ``test_cfg``:

    - ``classes``: 'predicted' (default), or 'ground_truth' to take the class map from ``gt_sem_seg``.
    - ``mode``: 'whole' (default), or 'slide' with ``crop_size`` and ``stride``, pixels of the network's input: (height, width),
      or an integer for both sides. Class scores of windows are averaged; groups are found window by window and matched
      by overlap, since embeddings of two passes cannot be compared.
    - ``score_thr``: instances with a score below it are dropped, from ``pred_instances`` and from ``pred_instance_map``,
      which is renumbered. 0 (default) keeps all: AP can only fall with a cut, a count can gain;
      ``tools/tune.py`` finds one.

    Args:
        embedding: settings of an :class:`EmbeddingBranch` beside the decode head (in a cascade the last head with a map of all
            pixels); ``None`` for a head with a branch of its own, such as :class:`EmbeddingHead`.
        grouper: config of a :class:`Grouper`; a ``RecurrentLoss`` without a ``grouping`` of its own trains through it.
        group_scorer: config of the scorer of groups in the embedding; a :class:`SilhouetteScorer` unless given. A
            :class:`SeedScorer` only with a :class:`SeedGrouping`.
        data_preprocessor: config of the preprocessor; mmseg's ``SegDataPreProcessor``, which does not pad the instance map with
            the image, is replaced by :class:`InstanceMapDataPreprocessor` with the same settings.
        instance_scorer: config of the scorer of instances; see :class:`ScoreRegressor`, which is the simple formula of
            :func:`make_instances` until ``tools/fit_scorer.py`` has fitted it.
        background: whether class 0 of the class map is the background and class k of the data set's list is k + 1, as
            ``MasksToMaps`` makes it. False for data whose classes begin at 0 (Cityscapes, ADE20K).
        thing_classes: places, from 0, in the data set's list of classes, of those whose objects are separated; all unless
            given. The others are stuff: they keep their class and are not grouped, and the prediction has ``pred_panoptic_seg``.
        **kwargs: of mmseg's ``EncoderDecoder`` or ``CascadeEncoderDecoder``.

    ``predict`` returns mmdet's ``DetDataSample`` with, at the original size, ``pred_instances`` (bboxes, scores, labels,
    :class:`RunLengthMasks`), ``pred_sem_seg`` (1, H, W; a :class:`ClassMap`), ``pred_instance_map`` (1, H, W; 0 = none, k = the
    k-th instance), where there is stuff ``pred_panoptic_seg`` (its ``sem_seg``, see :meth:`ClassNumbering.panoptic`), and the
    first pass's ``pred_embeddings`` (D, h, w), with ``image_box`` (top, left, bottom, right), the part that it covers.
    """

    def __init__(
        self,
        *args: Any,
        grouper: dict,
        embedding: dict | None = None,
        group_scorer: dict | None = None,
        instance_scorer: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        background: bool = True,
        thing_classes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self._classes_checked = False
        self.test_cfg: dict
        self._embedding = embedding  # read when the head is built, in the middle of the next line
        super().__init__(*args, data_preprocessor=_with_instance_maps(data_preprocessor), **kwargs)
        self.background = background
        self.class_numbering = ClassNumbering.of(self.num_classes, background, thing_classes)
        self.test_cfg = _checked_test_cfg(self.test_cfg or {}, any_key=not all(map(resizes_scores_only, self.heads)))
        self.grouper = self.build_grouper(grouper)
        if isinstance(self.branch.loss_embedding, RecurrentLoss):
            self.branch.loss_embedding.set_grouper(self.grouper)
        self.group_scorer = MODELS.build(group_scorer or {'type': 'SilhouetteScorer'})
        if isinstance(self.group_scorer, SeedScorer) and not isinstance(self.grouper, SeedGrouping):
            raise ValueError(
                'SeedScorer: expected a SeedGrouping as the grouper, since others use no seeds in the embeddings, got '
                f'{type(self.grouper).__name__}'
            )
        self.instance_scorer = MODELS.build(instance_scorer or {'type': 'ScoreRegressor'})

    def build_grouper(self, config: dict) -> Grouper:
        """Builds a grouper and checks it against the margins of the loss."""
        grouper = MODELS.build(config)
        loss: Any = self.branch.loss_embedding
        if hasattr(loss, 'margins'):
            grouper.check_margins(loss.margins(self.branch.dims))
        return grouper

    def _init_decode_head(self, decode_head: dict | Sequence[dict]) -> None:
        super()._init_decode_head(decode_head)
        own = [head.branch for head in self.heads if isinstance(head, EmbeddingMixin)]
        if bool(own) == (self._embedding is not None):
            raise ValueError(
                'expected embedding=dict(dims=.., loss=..), or a decode head with an embedding branch of its own (EmbeddingHead, '
                f'EmbeddingFCNHead, EmbeddingUPerHead), got {"both" if own else "neither"}'
            )
        self.branch = own[0] if own else EmbeddingBranch(_embedded_head(self.heads), **(self._embedding or {}))
        self.score_kind = score_kind(self.heads[-1])

    def init_weights(self) -> None:
        if self._embedding is not None:
            self.branch.init_weights()  # first, so that pretrained weights stay
        super().init_weights()

    def loss(self, inputs: Tensor, data_samples: list[DetDataSample]) -> dict[str, Tensor]:
        """mmseg's losses and those on the embeddings. The first call checks that classes of heads, data and metrics
        agree."""
        if not self._classes_checked:
            self._check_classes(data_samples)
            self._check_metrics()
            self._classes_checked = True
        return super().loss(inputs, data_samples)

    def _check_classes(self, data_samples: Sequence[DetDataSample]) -> None:
        # During training, MMEngine's runner stores the meta information of the training data here.
        hub = MessageHub.get_current_instance()
        classes = classes_of(hub.get_info('dataset_meta', {}) if hub.get_info('loop_stage') == 'train' else {})
        if classes is not None:
            check_class_counts(self, classes, self.background)
        for sample in data_samples:
            labels = sample.gt_sem_seg.data
            largest = int(labels.masked_fill(labels == IGNORED_CLASS, 0).max())
            if largest >= self.num_classes:
                raise ValueError(
                    f'expected values below num_classes={self.num_classes} in gt_sem_seg ({IGNORED_CLASS} is ignored), got '
                    f'{largest}; set num_classes of decode_head and auxiliary_head'
                )

    def _check_metrics(self) -> None:
        # During training and testing, MMEngine's runner stores the text of its config here.
        hub = MessageHub.get_current_instance()
        text = hub.get_info('cfg', '') if hub.get_info('loop_stage') else ''
        check_iou_metric(re.findall(r"type='(?:\w+\.)*(\w+Metric)'", text), self.background)

    def _decode_head_forward_train(self, inputs: list[Tensor], data_samples: list[DetDataSample]) -> dict[str, Tensor]:
        if self._embedding is None:  # the head does it
            return super()._decode_head_forward_train(inputs, data_samples)
        self.branch.check_samples(data_samples)
        with self.branch.listening() as features:
            losses = super()._decode_head_forward_train(inputs, data_samples)
        losses.update(add_prefix(self.branch.loss(features, data_samples), 'decode'))
        return losses

    def _forward(self, inputs: Tensor, data_samples: list[DetDataSample] | None = None) -> tuple[Tensor, Tensor]:
        """The whole network, mode 'tensor' of ``forward``: class scores and embeddings as :meth:`scores_and_embeddings`
        returns them. mmseg's own runs the head alone, without a branch beside it; heads with queries need more inputs."""
        return self.scores_and_embeddings(inputs, [sample.metainfo for sample in samples_of(inputs, data_samples)])

    def predict(self, inputs: Tensor, data_samples: list[DetDataSample] | None = None) -> list[DetDataSample]:
        self._check_metrics()
        data_samples = samples_of(inputs, data_samples)
        return [
            self.assemble(sample, [view])
            for sample, view in zip(data_samples, self.views(inputs, data_samples), strict=True)
        ]

    def views(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> list[View]:
        """Runs the network: for each image of the batch, the forward passes (one, or one for each window) that cover
        it, in float32, also under autocast."""
        metas = [sample.metainfo for sample in data_samples]
        views: list[list[NetworkPass]] = [[] for _ in metas]
        for origin, window in self._windows(inputs):
            size = map_size(window)
            scores_NChw, embeddings_NDhw = self.scores_and_embeddings(window, metas, origin)
            for view, meta, scores_Chw, embeddings_Dhw in zip(views, metas, scores_NChw, embeddings_NDhw, strict=True):
                placement = MapPlacement.from_meta(meta, size, origin)
                if any(start >= length for start, length in zip(origin, placement.resized_size, strict=True)):
                    continue  # the window lies in the padding
                view.append(NetworkPass(scores_Chw.float(), embeddings_Dhw.float(), placement, self.score_kind))
        return list(views)

    def scores_and_embeddings(
        self, inputs: Tensor, metas: Sequence[dict], origin: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, Tensor]:
        """One forward pass over a batch, or over one window of it: class scores and embeddings.

        Args:
            inputs: (N, 3, height, width).
            metas: meta information of each image.
            origin: (row, column) of the window.

        Returns:
            class scores (N, C, h, w), of the kind ``self.score_kind``, and embeddings (N, D, h', w'), each at the size at which
            the head gives them.
        """
        size = map_size(inputs)
        with self.branch.listening() as features:
            if len(self.heads) == 1 and resizes_scores_only(self.decode_head):
                scores_NChw = self.decode_head(self.extract_feat(inputs))
            else:
                # mmseg processes the scores of such heads; these keys hold the size of its output, that of the input.
                shape = dict(img_shape=torch.Size(size), pad_shape=size, batch_input_shape=size)
                scores_NChw = self.encode_decode(inputs, [{**meta, **shape} for meta in metas])
        return scores_NChw, self.branch.embed(features, metas, size, origin)

    def _windows(self, inputs: Tensor) -> Iterator[tuple[tuple[int, int], Tensor]]:
        if self.test_cfg.get('mode', 'whole') == 'whole':
            yield (0, 0), inputs
            return
        starts = [
            _window_starts(length, crop, stride)
            for length, crop, stride in zip(
                inputs.shape[2:], self.test_cfg['crop_size'], self.test_cfg['stride'], strict=True
            )
        ]
        height, width = self.test_cfg['crop_size']
        for top in starts[0]:
            for left in starts[1]:
                yield (top, left), inputs[:, :, top : top + height, left : left + width]

    def classify(self, data_sample: DetDataSample, views: Sequence[View], classes: str) -> tuple[Tensor, Tensor]:
        """Class map (H, W) at the image's size and its probability (H, W), which is 1 for the ground truth's classes.

        Args:
            data_sample: of the image.
            views: of the image; not used for the ground truth.
            classes: 'predicted' or 'ground_truth'.
        """
        image_size = tuple(data_sample.metainfo['ori_shape'][:2])
        if classes == 'predicted':
            return average_classes(views, image_size)
        return _true_classes(data_sample, image_size)

    def assemble(self, data_sample: DetDataSample, views: Sequence[View]) -> DetDataSample:
        """Computes class map, groups and instances of one image from one or several views of it (flips, scales), in
        float32, also under autocast.

        Raises:
            ValueError: if class scores or embeddings are not finite, or do not fit; the message names the image.
        """
        with images_in_errors([data_sample]), torch.autocast(views[0][0].scores_Chw.device.type, enabled=False):
            return self._assemble(data_sample, views)

    def _assemble(self, data_sample: DetDataSample, views: Sequence[View]) -> DetDataSample:
        class_HW, probability_HW = self.classify(data_sample, views, self.test_cfg.get('classes', 'predicted'))
        instances, instance_map_HW = self.find_instances(views, class_HW, probability_HW)
        background = {'background': self.background}
        data_sample.pred_sem_seg = ClassMap(metainfo=background, data=class_HW[None])
        if 'gt_sem_seg' in data_sample and 'data' in data_sample.gt_sem_seg:
            truth = data_sample.gt_sem_seg
            data_sample.gt_sem_seg = ClassMap(metainfo={**truth.metainfo, **background}, data=truth.data)
        data_sample.pred_instances = instances
        if self.class_numbering.has_stuff:
            panoptic_HW = self.class_numbering.panoptic(class_HW, instance_map_HW, instances.labels)
            data_sample.pred_panoptic_seg = PixelData(sem_seg=panoptic_HW[None])
        data_sample.set_metainfo(background)  # metrics and visualizers of class maps read it
        data_sample.set_field(PixelData(data=instance_map_HW[None]), 'pred_instance_map', dtype=PixelData)
        first = views[0][0]
        rows, columns = (first.coverage(axis).pixels for axis in (0, 1))
        embeddings = PixelData(
            metainfo={'image_box': (rows.start, columns.start, rows.stop, columns.stop)},
            data=first.upright_embeddings(),
        )
        data_sample.set_field(embeddings, 'pred_embeddings', dtype=PixelData)
        return data_sample

    @torch.no_grad()
    def add_embedding_iterations(self, data_sample: DetDataSample) -> None:
        """Adds ``embedding_iterations`` to a result, for drawings: its embeddings after each iteration of mean shift.

        These are the iterations through which ``RecurrentLoss`` trains, on the things of the predicted class map. Time grows with
        the square of the cells: of a map of more than 10,000 cells every k-th row and column is taken. Models without such a loss
        get nothing.

        The field has T + 1 maps of D values in ``data``, ((T + 1) D, h', w'), the first one before the iterations, with
        ``embedding_dims`` D and the ``image_box`` of ``pred_embeddings``.

        Args:
            data_sample: result of :meth:`predict`; changed in place.
        """
        loss = self.branch.loss_embedding
        if not isinstance(loss, RecurrentLoss):
            return
        embeddings = data_sample.pred_embeddings
        top, left, bottom, right = embeddings.image_box
        class_RS = self.class_numbering.things(data_sample.pred_sem_seg.data[0])[top:bottom, left:right]
        class_hw = nn.functional.interpolate(
            class_RS[None, None].float(), embeddings.data.shape[1:], mode='nearest-exact'
        )[0, 0].to(class_RS)
        step = math.ceil(math.sqrt(class_hw.numel() / _DRAWN_CELLS))
        cells = slice(step // 2, None, step)
        x_Dhw = embeddings.data[:, cells, cells]
        data = loss.iterations(x_Dhw, class_hw[cells, cells]).flatten(0, 1)
        metainfo = {'embedding_dims': len(x_Dhw), 'image_box': embeddings.image_box}
        data_sample.set_field(PixelData(metainfo=metainfo, data=data), 'embedding_iterations', dtype=PixelData)

    def find_instances(
        self, views: Sequence[View], class_HW: Tensor, probability_HW: Tensor
    ) -> tuple[InstanceData, Tensor]:
        """Finds the instances of an image and their map (H, W), 0 = none, k = the k-th instance."""
        return predict_instances(
            views,
            self.class_numbering.things(class_HW),
            probability_HW,
            self.class_numbering.num_labels + 1,
            self.grouper,
            self.group_scorer,
            self.instance_scorer,
            self.test_cfg.get('score_thr', 0.0),
        )


def _with_instance_maps(preprocessor: dict | nn.Module | None) -> dict | nn.Module | None:
    """The preprocessor's config with this package's type instead of mmseg's."""
    if not isinstance(preprocessor, dict) or str(preprocessor.get('type')).split('.')[-1] != 'SegDataPreProcessor':
        return preprocessor
    print_log(
        "EmbeddingSegmentor: InstanceMapDataPreprocessor takes the place of mmseg's SegDataPreProcessor, with its settings, and "
        'pads instance maps too',
        'current',
    )
    return {**preprocessor, 'type': 'InstanceMapDataPreprocessor'}


def _embedded_head(heads: Sequence[nn.Module]) -> nn.Module:
    """The last head with a map of all pixels: PointRend's last head computes single points only."""
    for head in reversed(heads):
        if len(heads) == 1 or isinstance(getattr(head, 'conv_seg', None), nn.Module):
            return head
    return heads[-1]


def _checked_test_cfg(test_cfg: dict, any_key: bool) -> dict:
    """Checks the test settings, and converts ``crop_size`` and ``stride`` of windows to (height, width).

    Raises ValueError for a key that nothing reads, a value that is not allowed, and windows without a size.

    ``any_key``: the head reads settings of its own there, as PointRend's.
    """
    unknown = set(test_cfg) - {'classes', 'mode', 'crop_size', 'stride', 'score_thr'}
    if unknown and not any_key:
        raise ValueError(
            f'expected test_cfg with classes, mode, crop_size, stride and score_thr at most, got {sorted(unknown)} as well'
        )
    for name, allowed in {'classes': ('predicted', 'ground_truth'), 'mode': ('whole', 'slide')}.items():
        if test_cfg.get(name, allowed[0]) not in allowed:
            raise ValueError(f'expected test_cfg.{name} to be one of {allowed}, got {test_cfg[name]!r}')
    score_thr = test_cfg.get('score_thr', 0.0)
    if not isinstance(score_thr, Real) or isinstance(score_thr, bool) or not float(score_thr) >= 0:
        raise ValueError(f'expected test_cfg.score_thr as a number >= 0 (0 keeps all instances), got {score_thr!r}')
    if test_cfg.get('mode') != 'slide':
        return test_cfg
    sizes = {name: _window_size(name, test_cfg.get(name)) for name in ('crop_size', 'stride')}
    for crop, stride in zip(*sizes.values(), strict=True):
        if stride > crop:
            raise ValueError(
                f'expected stride <= crop_size, so that windows leave no gaps, got stride {stride} and crop_size {crop}'
            )
    checked = test_cfg.copy()
    checked.update(sizes)
    return checked


def _window_size(name: str, value: Any) -> tuple[int, int]:
    """(height, width) of a window from a pair, or from one integer for both."""
    sides = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(sides) != 2 or not all(
        isinstance(side, Integral) and not isinstance(side, bool) and int(side) > 0 for side in sides
    ):
        raise ValueError(
            f"expected test_cfg.{name} as (height, width) in whole pixels > 0, or one integer for both, for mode='slide', got "
            f'{value!r}'
        )
    return sides


def _window_starts(length: int, crop: int, stride: int) -> list[int]:
    """The first pixel of each window: multiples of ``stride``; the last window is moved back to end at the border."""
    last = max(length - crop, 0)
    return [*range(0, last, stride), last]


def _true_classes(data_sample: DetDataSample, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if 'gt_sem_seg' not in data_sample:
        raise ValueError(
            "test_cfg.classes='ground_truth' needs gt_sem_seg in the data samples: load the annotations in the test pipeline "
            '(LoadInstanceMasks and MasksToMaps after the resize)'
        )
    class_HW = data_sample.gt_sem_seg.data[0]
    if tuple(class_HW.shape) != image_size:
        raise ValueError(
            f'expected gt_sem_seg at the original size {image_size}, got {tuple(class_HW.shape)}: in the test pipeline '
            'put LoadInstanceMasks after the resize'
        )
    return class_HW, torch.ones(image_size, device=class_HW.device)
