"""Fits the scores of instances: a linear regressor from their shape and agreement to their IoU with the true objects.

::

    python tools/fit_scorer.py configs/recurrent-embedding_r50_voc2012.py CHECKPOINT --out NEW_CHECKPOINT
    python tools/fit_scorer.py CONFIG CHECKPOINT --out NEW_CHECKPOINT --images 200 --ridge 0.01
    python tools/test.py CONFIG NEW_CHECKPOINT                             # scores with it

The network runs once over images of the training set, with the pipeline of testing, and over the validation set. An
instance's target is its IoU with the object of its class that it overlaps most. Printed are the weights (per standard
deviation of a feature, so that they can be compared), how well scores and IoU go together, and on the validation set AP
(COCO's) and AP^r at IoU 0.5 with the simple formula and with the regressor. See ``ScoreRegressor`` for the features.
"""

import argparse
import io
import logging
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils.data import DataLoader

from mmseg_instancenet.analysis.score_targets import best_iou_of_class
from mmseg_instancenet.apis.analysis_run import load_for_analysis, spread, training_set_for_testing
from mmseg_instancenet.apis.command_line import add_common_arguments, load_config
from mmseg_instancenet.engine.safe_checkpoint import load_weights_only
from mmseg_instancenet.evaluation import CocoInstanceMetric, RegionAveragePrecisionMetric
from mmseg_instancenet.models import EmbeddingSegmentor, ProposalSegmentor, ScoreRegressor
from mmseg_instancenet.models.postprocess.instances import make_instances
from mmseg_instancenet.models.postprocess.predict import ImageGroups, group_image
from mmseg_instancenet.models.scorers.score_regressor import FEATURES, instance_features
from mmseg_instancenet.structures import labels_to_boxes


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', required=True, help='where to write the checkpoint with the fitted scorer')
    parser.add_argument('--images', type=int, default=1000, help='training images to look at, at most')
    parser.add_argument('--ridge', type=float, default=1e-3, help='penalty on the weights')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if Path(args.out).resolve() == Path(args.checkpoint).resolve():
        raise SystemExit(f'--out: expected another file than the checkpoint, got {args.out}')
    if args.images < 1:
        raise SystemExit(f'--images: expected at least 1, got {args.images}')
    config = load_config(args)
    training_set = training_set_for_testing(config)
    runner = load_for_analysis(config, args.checkpoint)
    model = runner.model
    if isinstance(model, ProposalSegmentor) or not isinstance(getattr(model, 'instance_scorer', None), ScoreRegressor):
        raise SystemExit(
            f'expected an EmbeddingSegmentor with a ScoreRegressor in {args.config}, got {type(model).__name__}'
        )

    validation = runner.build_dataloader(config.test_dataloader)
    training = runner.build_dataloader(dict(config.test_dataloader, dataset=training_set))
    features_MF, iou_M = observe(model, spread(training, args.images))
    if len(iou_M) < 2:
        raise SystemExit(f'found {len(iou_M)} instances in {args.images} training images: nothing to fit a scorer to')
    regressor = model.instance_scorer
    regressor.fit(features_MF, iou_M, args.ridge)
    print(f'\n{len(iou_M)} instances of the training set, mean IoU {iou_M.mean():.3f}; weights per standard deviation:')
    for name, weight in zip(FEATURES, (regressor.weight * features_MF.std(0, correction=0)).tolist(), strict=True):
        print(f'{name:<14} {weight:+.4f}')
    report(model, validation, (features_MF, iou_M))

    checkpoint = load_weights_only(args.checkpoint, map_location='cpu')
    state = checkpoint.get('state_dict', checkpoint)
    state.update({f'instance_scorer.{name}': value.cpu() for name, value in regressor.state_dict().items()})
    torch.save(checkpoint, args.out)
    print(f'\n{args.out} written')


@torch.no_grad()
def grouped(model: EmbeddingSegmentor, dataloader: DataLoader) -> Iterator[tuple[DetDataSample, ImageGroups]]:
    """Yields each image with its groups."""
    for index, data in enumerate(dataloader):
        batch = model.data_preprocessor(data, False)
        for sample, view in zip(
            batch['data_samples'], model.views(batch['inputs'], batch['data_samples']), strict=True
        ):
            class_HW, probability_HW = model.classify(sample, [view], model.test_cfg.get('classes', 'predicted'))
            yield (
                sample,
                group_image([view], class_HW, probability_HW, model.num_classes, model.grouper, model.group_scorer),
            )
        if (index + 1) % 50 == 0:
            print(f'{index + 1} of {len(dataloader)} batches', flush=True)


def observations(sample: DetDataSample, groups: ImageGroups) -> tuple[Tensor, Tensor]:
    """Features (K, F) of the instances of an image and their IoU (K,) with the true objects; instances with only
    ignored pixels are left out."""
    labels_HW, score_K, votes = groups
    if len(score_K) == 0:
        return score_K.new_zeros(0, len(FEATURES)), score_K
    missing = [name for name in ('gt_sem_seg', 'gt_instance_map') if name not in sample]
    if missing:
        raise SystemExit(
            f'the pipeline of testing gives no {", ".join(missing)}: load annotations in it, and MasksToMaps'
        )
    features_KF = instance_features(labels_HW, labels_to_boxes(labels_HW, len(score_K)), score_K, votes)
    maps = (labels_HW, votes.class_K, sample.gt_instance_map.data[0], sample.gt_sem_seg.data[0])
    iou_K = torch.from_numpy(best_iou_of_class(*(values.cpu().numpy() for values in maps))).to(features_KF)
    return features_KF[iou_K.isfinite()], iou_K[iou_K.isfinite()]


def observe(model: EmbeddingSegmentor, dataloader: DataLoader) -> tuple[Tensor, Tensor]:
    """Computes :func:`observations` of all images."""
    pairs = [observations(*image) for image in grouped(model, dataloader)]
    return torch.cat([features for features, _ in pairs]), torch.cat([iou for _, iou in pairs])


def report(model: EmbeddingSegmentor, validation: DataLoader, fitted_on: tuple[Tensor, Tensor]) -> None:
    """Prints how well the simple formula and the regressor score the instances of training and validation set."""
    rows = {'simple formula': None, 'regressor': model.instance_scorer}
    metrics = {name: [CocoInstanceMetric(metric='segm'), RegionAveragePrecisionMetric((0.5,))] for name in rows}
    pairs = []
    for sample, groups in grouped(model, validation):
        pairs.append(observations(sample, groups))
        for name, scorer in rows.items():
            instances = make_instances(*groups, scorer)
            for metric in metrics[name]:
                metric.dataset_meta = validation.dataset.metainfo
                metric.process({}, [dict(sample.metainfo, pred_instances=instances)])
    sets = {'training': fitted_on, 'validation': [torch.cat(values) for values in zip(*pairs, strict=True)]}
    print(f'\n{"score":<16}{"rank correlation with IoU":>28}{"validation set":>22}')
    print(f'{"":<16}{"training":>16}{"validation":>12}{"AP":>11}{"AP^r 50":>11}')
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    for name, scorer in rows.items():
        ranks = []
        for features_MF, iou_M in sets.values():
            score_M = features_MF[:, FEATURES.index('score')] if scorer is None else scorer.score(features_MF)
            ranks.append(spearmanr(score_M.cpu(), iou_M.cpu()).statistic)
        with redirect_stdout(io.StringIO()):  # pycocotools prints a table
            found = {key: value for metric in metrics[name] for key, value in metric.evaluate(len(pairs)).items()}
        values = (*ranks, found['coco/segm_mAP'], found['region/APr_50'])
        print(f'{name:<16}{values[0]:>16.3f}{values[1]:>12.3f}{values[2]:>11.3f}{values[3]:>11.3f}')
    for name, (features_MF, iou_M) in sets.items():
        error = (model.instance_scorer.score(features_MF) - iou_M).square().mean()
        print(f'explained variance of the IoU, {name} set: {1 - error / iou_M.var(correction=0):.3f}')


if __name__ == '__main__':
    main()
