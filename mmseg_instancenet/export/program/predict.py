"""Finds the objects in images with model.onnx and the programs beside this file; needs numpy, onnxruntime and Pillow.

    python predict.py image.png more/*.tif --out results      # --model FILE, --threads N

writes results/NAME.csv, a line for each object, and the label image results/NAME.png, 0 = none, k = object k. From Python, with a
file, or an array (H, W) grey or (H, W, 3) red, green, blue:

    labels, objects = Model('model.onnx')('image.png')        # from predict import Model

tools/export.py of mmseg_instancenet wrote the files. The programs are the same for any model: its settings lie in model.onnx.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
from grouping import Array, assign, components, find_groups, means, nearest, regions
from PIL import Image, ImageOps

MODEL = Path(__file__).with_name('model.onnx')
COLUMNS = ('id', 'class', 'score', 'area', 'x1', 'y1', 'x2', 'y2', 'centroid_x', 'centroid_y')


class Model:
    """Finds the objects of an image, file or array: label image (H, W), and a dict with the csv's columns for each object."""

    def __init__(self, path: str | Path = MODEL, threads: int = 0) -> None:  # 0: all cores
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
        self.settings = json.loads(self.session.get_modelmeta().custom_metadata_map['settings'])

    def __call__(self, image: str | Path | Array) -> tuple[Array, list[dict]]:
        return find_objects(self.settings, *self.session.run(None, inputs(self.settings, image)))


def inputs(s: dict, image: str | Path | Array) -> dict[str, Array]:
    """The inputs of model.onnx: the image, and where the middles of the rows and columns of the resized image lie on it."""
    if not isinstance(image, np.ndarray):
        with Image.open(image) as file:
            if file.mode in ('RGB', 'RGBA') and ';16' in str(file.tile):
                raise ValueError(f'{image}: expected colours of 8 bits, got 16, of which Pillow keeps 8: give an array')
            grey = s['grey'] or file.mode in ('1', 'LA')
            upright = ImageOps.exif_transpose(file)
            image = np.asarray(
                upright if file.mode[0] in 'IF' or file.mode == 'L' else upright.convert('L' if grey else 'RGB')
            )
    image = image if image.ndim > 2 else np.repeat(image[:, :, None], s['channels'], axis=2)
    if image.shape[2:] != (s['channels'],) or not np.isfinite(image).all():
        raise ValueError(
            f'expected finite pixels, grey or of {s["channels"]} channels, got {image.shape} {image.dtype}'
        )
    if s['percentiles'] is not None:
        axes = (0, 1) if s['per_channel'] else None
        low, high = np.percentile(image.astype(float), s['percentiles'], axis=axes)
        image = ((image - low) / np.where(high > low, high - low, 1e-37)).clip(0, 1)
    elif image.dtype != np.uint8:
        if s['max_value'] is None:
            raise ValueError(f'expected 8 bits as in the training, got {image.dtype} up to {image.max()}: scale them')
        image = (image.astype(np.float32) * np.float32(255 / s['max_value'])).clip(0, 255).round()
    size, longer = image.shape[:2], s['longer_side']
    resized = [max(1, round(side * (longer / max(size)))) if longer else side for side in size]
    row_S, column_T = ((np.arange(new) + 0.5) * (side / new) for new, side in zip(resized, size, strict=True))
    return {name: x.astype(np.float32) for name, x in dict(image=image, rows=row_S, columns=column_T).items()}


def find_objects(
    s: dict, class_HW: Array, probability_HW: Array, x_Dhw: Array, class_hw: Array, row_H: Array, column_W: Array
) -> tuple[Array, list[dict]]:
    """Label image and objects from the outputs of model.onnx."""
    if not np.isfinite(x_Dhw).all():
        raise ValueError('expected finite embeddings, got NaN or infinity: the training of the model has diverged')
    g, scorer = s['grouper'], s['group_scorer']
    region_HW, region_hw = (
        (c + g['background_groups'] > 0) * (1 if g['class_agnostic'] else c) for c in (class_HW, class_hw)
    )
    x_Ehw = x_Dhw[:-2] if g['type'] == 'SeedGrouping' else x_Dhw
    labels_hw = find_groups(x_Dhw, x_Ehw, region_hw, g)
    mean_KE, value_hw = means(x_Ehw, labels_hw), 1 / (1 + np.exp(-x_Dhw[-1]))  # the last value is that of a seed
    for one_hw, label_N in regions(region_hw, labels_hw):
        if scorer['type'] == 'SilhouetteScorer':
            x_PE, own_P = x_Ehw[:, one_hw].T, np.searchsorted(label_N, labels_hw[one_hw])
            within_P = np.linalg.norm(x_PE - mean_KE[label_N[own_P] - 1], g['norm'], axis=1)
            between_P = nearest(x_PE, mean_KE[label_N - 1], g['norm'], own_P)[1].clip(1e-37, scorer['scale'])
            value_hw[one_hw] = (1 - within_P / between_P).clip(0)
    size_K, sum_K = (np.bincount(labels_hw.ravel(), w, 1)[1:] for w in (None, value_hw.ravel()))
    labels_HW = assign(x_Ehw, mean_KE, labels_hw, region_hw, region_HW, row_H, column_W, g['norm'])
    return describe(
        s, labels_HW, class_HW.ravel(), probability_HW.ravel(), sum_K / (size_K + scorer.get('half_size', 0))
    )


def describe(
    s: dict, labels_HW: Array, class_P: Array, probability_P: Array, score_K: Array
) -> tuple[Array, list[dict]]:
    """Classes, scores and boxes of the groups; those with a low score are left out."""
    rows, (height, width), out_HW = [], labels_HW.shape, np.zeros(labels_HW.shape, np.int32)
    part_P = components(labels_HW).ravel() if s['regressor'] else None
    ends_K = np.bincount(labels_HW.ravel(), minlength=len(score_K) + 1).cumsum()
    for pixel_Q, group_score in zip(
        np.split(np.argsort(labels_HW.ravel(), kind='stable'), ends_K[:-1])[1:], score_K, strict=True
    ):
        votes_C = np.bincount(class_P[pixel_Q], minlength=1)
        area, kind = len(pixel_Q), votes_C.argmax()
        if kind == 0:
            continue
        agreement = probability_P[pixel_Q[class_P[pixel_Q] == kind]].sum(dtype=float) / area
        row_Q, column_Q = np.divmod(pixel_Q, width)
        x1, y1, x2, y2 = column_Q.min(), row_Q.min(), column_Q.max() + 1, row_Q.max() + 1
        score = group_score * agreement
        if s['regressor']:
            features = [
                score,
                group_score,
                agreement,
                votes_C[kind] / area,
                area / labels_HW.size,
                (area / labels_HW.size) ** 0.5,
            ]
            features += [np.bincount(part_P[pixel_Q]).max() / area, area / ((x2 - x1) * (y2 - y1))]
            features += [x1 == 0 or y1 == 0 or x2 == width or y2 == height]
            score = np.dot(features, s['regressor']['weight']) + s['regressor']['bias']
        if score >= s['score_thr'] or s['score_thr'] == 0:
            row = (score, area, x1, y1, x2, y2, column_Q.mean(), row_Q.mean())
            rows.append(
                dict(zip(COLUMNS, (len(rows) + 1, s['classes'][kind - 1], *np.array(row, object)), strict=True))
            )
            out_HW.flat[pixel_Q] = len(rows)
    return out_HW, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', nargs='+', type=Path)
    parser.add_argument('--out', type=Path, required=True, help='folder')
    parser.add_argument('--model', type=Path, default=MODEL)
    parser.add_argument('--threads', type=int, default=0, help='all cores unless given')
    args = parser.parse_args()
    if len({path.stem for path in args.images}) < len(args.images):
        parser.error('expected images of different names, since the results are named after them')
    args.out.mkdir(parents=True, exist_ok=True)
    model = Model(args.model, args.threads)
    for path in args.images:
        labels, objects = model(path)
        fits = len(objects) < 2**16  # a png has at most 16 bits
        Image.fromarray(labels.astype(np.uint16) if fits else labels).save(
            args.out / f'{path.stem}.{"png" if fits else "tif"}'
        )
        with open(args.out / f'{path.stem}.csv', 'w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(objects)
        print(f'{path}: {len(objects)} objects')


if __name__ == '__main__':
    main()
