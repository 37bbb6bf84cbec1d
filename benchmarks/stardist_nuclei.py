"""Trains StarDist on dsb2018 for a number of CPU minutes, and writes its label maps of the validation images.

StarDist and TensorFlow have an environment of their own; this file imports nothing of the project::

    python3.11 -m venv /tmp/stardist-venv
    /tmp/stardist-venv/bin/pip install 'numpy<2' tensorflow-cpu==2.15.1 stardist==0.9.2 pycocotools
    OMP_NUM_THREADS=1 /tmp/stardist-venv/bin/python benchmarks/stardist_nuclei.py --data data/dsb2018 --minutes 60
    python -m benchmarks.nuclei_baselines --labels work_dirs/benchmarks/stardist/labels      # its row of the table

As StarDist's own example has it (examples/2D/2_training.ipynb): percentiles 1 and 99.8 of all channels together become 0 and 1,
32 rays, grid (2, 2), Adam, flips and quarter turns, random gain, offset and noise, validation after every hundred batches and
the weights of the best validation loss, thresholds chosen on the validation images. Three things are different: grey and inverted
images, as our recipe has them, since the set holds fluorescence and bright field; a learning rate that falls along a cosine to
nothing at the end of the budget, since the example's 400 epochs of 100 batches do not fit into it; eight patches of 160 pixels a
batch in place of four of 256, at about the same cost. Every tenth image of the training set (index % 10 == 9) is StarDist's
validation image and never trained on.

The budget is the CPU time of the process, of all its threads, from the call of ``train`` to its end, validations included.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image
from pycocotools.coco import COCO
from stardist.matching import matching_dataset
from stardist.models import Config2D, StarDist2D

NAME = 'StarDist'
HELD_BACK = 10
"""One image in this many of the training set is validated on."""

CHANGE_TO_GREY, CHANGE_TO_NEGATIVE = 0.2, 0.15
"""Probabilities, those of ``RandomIntensity`` of our recipe."""


class LabelledImage(NamedTuple):
    """An image of nuclei: ``stem`` of the file name, ``pixels_HWC`` normalized float32, ``labels_HW`` the true objects."""

    stem: str
    pixels_HWC: np.ndarray
    labels_HW: np.ndarray
    is_fluorescent: bool


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--data', type=Path, default=Path('data/dsb2018'), help='folder with images/, train.json, val.json'
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks/stardist'), help='folder to write')
    parser.add_argument('--minutes', type=float, default=60, help='CPU minutes of training')
    parser.add_argument('--batch', type=int, default=8, help='patches of a batch')
    parser.add_argument('--patch', type=int, default=160, help='side of a patch in pixels, a multiple of 16')
    parser.add_argument(
        '--learning-rate', type=float, default=1e-3, help="at the top of the cosine; StarDist's own is 3e-4"
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if not (args.data / 'train.json').is_file():
        raise SystemExit(f'--data: expected a folder with train.json, got {args.data}')
    if args.patch % 16 or args.patch < 16:
        raise SystemExit(f'--patch: expected a multiple of 16, got {args.patch}')
    return args


def main() -> None:
    args = parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(args.seed)
    random.seed(args.seed)  # StarDist draws its patches with it

    training = read_split(args.data, 'train')
    tuning = [image for index, image in enumerate(training) if index % HELD_BACK == HELD_BACK - 1]
    training = [image for index, image in enumerate(training) if index % HELD_BACK != HELD_BACK - 1]
    smallest = min(min(image.labels_HW.shape) for image in training + tuning)
    if args.patch > smallest:
        raise SystemExit(f'--patch: expected at most {smallest}, the side of the smallest image, got {args.patch}')
    print(f'{len(training)} images to train on, {len(tuning)} held back', flush=True)

    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=3,
        train_patch_size=(args.patch, args.patch),
        train_batch_size=args.batch,
        train_learning_rate=args.learning_rate,
        train_reduce_lr=None,
        train_tensorboard=False,
    )
    model = StarDist2D(config, name='model', basedir=str(args.out))
    model.prepare_for_training()
    schedule = CosineInTime(args.minutes * 60, args.learning_rate)
    model.callbacks.append(schedule)
    model.train(
        [image.pixels_HWC for image in training],
        [image.labels_HW for image in training],
        validation_data=([image.pixels_HWC for image in tuning], [image.labels_HW for image in tuning]),
        augmenter=augment,
        epochs=100_000,  # the schedule stops it
        seed=args.seed,
    )
    print(f'trained: {schedule.steps} batches in {schedule.used() / 60:.1f} CPU minutes', flush=True)
    began = time.process_time()
    thresholds = model.optimize_thresholds(
        [image.pixels_HWC for image in tuning], [image.labels_HW for image in tuning]
    )
    print(f'thresholds {thresholds}: {time.process_time() - began:.0f} s of CPU', flush=True)

    folder = args.out / 'labels'
    folder.mkdir(parents=True, exist_ok=True)
    images, found, seconds = read_split(args.data, 'val'), [], 0.0
    for image in images:
        began = time.process_time()
        labels_HW, details = model.predict_instances(image.pixels_HWC)
        seconds += time.process_time() - began
        found.append(labels_HW)
        np.savez_compressed(
            folder / f'{image.stem}.npz', labels=labels_HW.astype(np.int32), scores=details['prob'].astype(np.float32)
        )
    summary = {
        'name': NAME,
        'seconds': seconds,
        'minutes': schedule.used() / 60,
        'batches': schedule.steps,
        'thresholds': thresholds,
        **{key: getattr(args, key) for key in ('batch', 'patch', 'learning_rate', 'seed')},
    }
    (folder / 'summary.json').write_text(json.dumps(summary, indent=1) + '\n')
    for title, chosen in (
        ('all', range(len(images))),
        ('fluorescence', [index for index, image in enumerate(images) if image.is_fluorescent]),
    ):
        truth, prediction = [images[index].labels_HW for index in chosen], [found[index] for index in chosen]
        half, three_quarters = matching_dataset(
            truth, prediction, thresh=(0.5, 0.75), by_image=False, show_progress=False
        )
        errors = [abs(count(a) - count(b)) for a, b in zip(truth, prediction, strict=True)]
        print(
            f'{title}: {len(truth)} images, AP* {half.accuracy:.3f} at .5, {three_quarters.accuracy:.3f} at .75, '
            f'count error {np.mean(errors):.1f}'
        )
    print(f'{seconds:.1f} s of CPU; label maps in {folder}')


class CosineInTime(tf.keras.callbacks.Callback):
    """Decreases the learning rate along half a cosine over a budget of CPU time, and stops the training at its end.

    Args:
        seconds: of CPU time, counted from the start of training.
        learning_rate: at the top, reached after a hundredth of the budget.
    """

    def __init__(self, seconds: float, learning_rate: float) -> None:
        super().__init__()
        self.seconds, self.learning_rate = seconds, learning_rate
        self.began, self.steps = time.process_time(), 0

    def used(self) -> float:
        return self.ended - self.began

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.wall = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        share = min(1.0, (time.process_time() - self.began) / self.seconds)
        rate = self.learning_rate * min(1.0, share / 0.01) * (1 + np.cos(np.pi * share)) / 2
        self.model.optimizer.learning_rate.assign(max(rate, 1e-6))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.steps += 1
        self.ended = time.process_time()
        if self.ended - self.began >= self.seconds:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.ended = time.process_time()
        minutes, wall = (self.ended - self.began) / 60, (time.perf_counter() - self.wall) / 60
        print(
            f'\n{self.steps} batches, {minutes:.1f} CPU minutes, {wall:.1f} minutes, val_loss {logs["val_loss"]:.4f}',
            flush=True,
        )


def augment(image_HWC: np.ndarray, labels_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Augmentation of StarDist's example: flips, quarter turns, gain, offset and noise; in addition, grey and inverted
    images."""
    turns = np.random.randint(4)
    image_HWC, labels_HW = np.rot90(image_HWC, turns), np.rot90(labels_HW, turns)
    if np.random.uniform() < 0.5:
        image_HWC, labels_HW = image_HWC[::-1], labels_HW[::-1]
    if np.random.uniform() < CHANGE_TO_GREY:
        image_HWC = np.repeat(image_HWC.mean(2, keepdims=True), 3, axis=2)
    if np.random.uniform() < CHANGE_TO_NEGATIVE:
        image_HWC = 1 - image_HWC
    image_HWC = image_HWC * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    noise_HWC = 0.02 * np.random.uniform() * np.random.normal(size=image_HWC.shape)
    return (image_HWC + noise_HWC).astype(np.float32), labels_HW


def read_split(folder: Path, split: str) -> list[LabelledImage]:
    """Reads the images of a split in the order of its json, normalized, with label maps in which smaller objects lie on
    top."""
    coco = COCO(str(folder / f'{split}.json'))
    images = []
    for info in coco.dataset['images']:
        image_HWC = np.asarray(Image.open(folder / 'images' / info['file_name']).convert('RGB'))
        labels_HW = np.zeros(image_HWC.shape[:2], np.int32)
        annotations = sorted(coco.imgToAnns[info['id']], key=lambda annotation: -annotation['area'])
        for label, annotation in enumerate(annotations, 1):
            labels_HW[coco.annToMask(annotation) > 0] = label
        images.append(
            LabelledImage(Path(info['file_name']).stem, normalize(image_HWC), labels_HW, is_fluorescent(image_HWC))
        )
    return images


def normalize(image_HWC: np.ndarray) -> np.ndarray:
    """Maps percentiles 1 and 99.8 of all channels together to 0 and 1 without clipping, as StarDist's example for
    colour does."""
    low, high = np.percentile(image_HWC, (1, 99.8))
    return ((image_HWC - low) / (high - low + 1e-20)).astype(np.float32)


def is_fluorescent(image_HWC: np.ndarray) -> bool:
    """Whether an image has no colour and is mostly dark; copy of :func:`benchmarks.nuclei_baselines.is_fluorescent`,
    which StarDist's environment cannot import."""
    return bool((image_HWC == image_HWC[..., :1]).all() and np.median(image_HWC[..., 0]) < 80)


def count(labels_HW: np.ndarray) -> int:
    return len(np.unique(labels_HW[labels_HW > 0]))


if __name__ == '__main__':
    main()
