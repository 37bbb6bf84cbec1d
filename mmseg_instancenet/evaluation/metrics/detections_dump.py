"""Dump of detections to a file that plain Python reads."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import DumpResults
from mmseg.registry import METRICS


@METRICS.register_module()
class DetectionsDump(DumpResults):
    """Writes the detections of each image to a pickle file, without the maps from which they were made.

    MMEngine's ``DumpResults`` keeps all that a data sample has: class map, instance map, embeddings and ground truth, 10 MB an
    image of COCO. Here an image is a dict of plain values of Python, which ``pickle.load`` reads without this package, torch
    or numpy: ``img_id``, ``img_path``, ``ori_shape`` (height, width), and with one entry a detection ``labels`` (from 0, in the
    order of the data set's classes), ``scores``, ``bboxes`` (x1, y1, x2, y2) and ``masks``, run-length encoded as in COCO's
    json: ``size`` and ``counts`` (str), for ``pycocotools.mask.decode``.

    Args:
        out_file_path: ends in .pkl or .pickle.
        collect_device, collect_dir: see MMEngine's ``DumpResults``.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            if 'pred_instances' not in sample:
                raise ValueError(
                    f'DetectionsDump writes pred_instances, and the model gave {", ".join(sorted(sample))}: a model that finds '
                    'boundaries has no detections; test it without tools/test.py --out'
                )
            instances = sample['pred_instances']
            image = {key: sample[key] for key in ('img_id', 'img_path') if key in sample}
            image['ori_shape'] = tuple(map(int, sample['ori_shape'][:2]))
            image.update({key: instances[key].tolist() for key in ('labels', 'scores', 'bboxes')})
            image['masks'] = [_plain_mask(mask) for mask in instances['masks']]
            self.results.append(image)


def _plain_mask(mask: dict) -> dict:
    counts = mask['counts']
    return {
        'size': list(map(int, mask['size'])),
        'counts': counts.decode() if isinstance(counts, bytes) else counts,
    }
