"""Inference on images, for Python programs and ``tools/predict.py``."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmseg.apis import init_model as init_mmseg_model
from torch import nn

from ..engine import prediction_type, register_safe_loaders
from ..models import BoundarySegmentor
from ..outputs import InstanceResult, open_windows, read_pixels, segment_tiled
from ..visualization import draw_instances, pixels_for_display
from .image_input import ImageInput
from .image_lists import Image, is_one_image, list_images
from .model_files import config_and_checkpoint, read_config

OnError = Callable[[str | np.ndarray, Exception], Any]


class InstanceInferencer(BaseInferencer):
    """Finds the instances of images: MMEngine's inferencer, whose results are :class:`InstanceResult`.

    Args:
        model: name of a shipped model (:func:`shipped_models`), folder of a training (its best checkpoint, or the last one),
            config file, or what was read from one.
        weights: checkpoint, a file or an address; in place of that of the shipped model or of the training. Settings that
            ``tools/tune.py`` has stored beside it come before those of the config, unless that has
            ``use_tuned_settings = False``.
        device: 'cpu', 'cuda:0', ..; a GPU unless given, where torch can use one.
        amp: run the network in mixed precision (:func:`prediction_type`); grouping and scores stay in float32. The network takes
            about half the time on a CPU with bfloat16 instructions. Objects at the limit of a threshold may change.
        cfg_options: settings in place of the config's and of the tuned ones, nested keys joined by dots:
            ``{'model.test_cfg.score_thr': 0.5}``.

    Example:
        >>> from mmseg_instancenet import InstanceInferencer
        >>> from mmseg_instancenet.apis import example_image
        >>> instancenet = InstanceInferencer('nuclei', device='cpu')  # doctest: +ELLIPSIS
        Loads checkpoint by ... backend from path: ...nuclei.pth
        >>> result = instancenet(example_image())
        >>> result.labels.shape, len(result), result.classes[0]
        ((256, 256), 52, 'nucleus')

    Raises:
        FileNotFoundError: if there is no such model, config or checkpoint.
        ValueError: for a model without weights, or one that finds boundaries instead of objects; if the json with the tuned
            settings is damaged.
    """

    def __init__(
        self,
        model: str | Path | Config = 'nuclei',
        weights: str | Path | None = None,
        device: str | None = None,
        cfg_options: dict | None = None,
        amp: bool = False,
    ) -> None:
        config, checkpoint = config_and_checkpoint(model, None if weights is None else str(weights))
        if checkpoint is None:
            raise ValueError(f'expected weights for {model}, got none: name a checkpoint, or the folder of a training')
        config = read_config(config, checkpoint, cfg_options)
        self.checkpoint = checkpoint
        super().__init__(config, checkpoint, device, scope='mmseg', show_progress=False)
        if isinstance(self.model, BoundarySegmentor):
            raise ValueError(
                f'expected a model that finds objects, got one that finds boundaries: {model}; see segment_image'
            )
        self.class_names = tuple(self.model.dataset_meta['classes'])
        self.device_type = next(self.model.parameters()).device.type
        self.network_type = prediction_type(self.device_type) if amp else torch.float32

    def _init_model(self, cfg: Config, weights: str, device: str = 'cpu') -> nn.Module:
        register_safe_loaders()
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', module=r'mmseg\.')  # advice for who writes a model
            return init_mmseg_model(cfg, weights, device)  # cfg has the tuned settings, and the user's, already

    def _init_pipeline(self, cfg: Config) -> ImageInput:
        return ImageInput(self.model, cfg)

    def _init_collate(self, cfg: Config) -> Callable:
        return pseudo_collate  # the data preprocessor stacks the images, as in a test

    def _init_visualizer(self, cfg: Config) -> None:
        """Returns no visualizer: :meth:`visualize` draws without one."""

    def __call__(
        self, images: Image | Sequence[Image], batch_size: int = 1, tile: int | None = None
    ) -> InstanceResult | list[InstanceResult]:
        """Returns the result of an image, or the results of several in their order.

        Args:
            images: a file, an address or an array: one result. A folder (its image files), a pattern such as
                ``'plates/**/*.tif'``, or a list of all of these: a list of results. Arrays are (H, W, C) with the channels
                of the network, in BGR as OpenCV reads them, or (H, W) grey; see :func:`segment_image` for their types.
            batch_size: images that go through the network at once; those of one size alone are put together, so that the
                results are the same up to rounding.
            tile: greatest height and width, in pixels, of the parts in which an image is segmented, so that memory depends
                on the part instead of the image (:func:`segment_tiled`); ``None`` for whole images. A TIFF is read part by
                part where its kind allows it (:func:`open_windows`).

        Raises:
            FileNotFoundError: if there is no such file, or none in a folder or for a pattern.
            ValueError: if a file is no whole image, or an image does not fit the pipeline or the network.
        """
        results = list(self.stream(list_images(images), batch_size, tile))
        return results[0] if is_one_image(images) else results

    def stream(
        self,
        images: Iterable[str | np.ndarray],
        batch_size: int = 1,
        tile: int | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[InstanceResult]:
        """Yields the results one after the other, so that memory does not grow with the number of images.

        Args:
            images: files or arrays, as :func:`list_images` lists them.
            batch_size, tile: see :meth:`__call__`. With ``tile`` the images go through the network one by one.
            on_error: called with an image that cannot be read and the error (ValueError or OSError); the image is left out.
                Unless given, the error is raised.
        """
        if tile is None:
            for chosen, batch in self.preprocess(images, batch_size, on_error=on_error):
                yield from self.postprocess(self.forward(batch), [], images=chosen)
            return
        for image in images:
            try:
                result = self._segment_tiled(image, tile)
            except (ValueError, OSError) as error:
                if on_error is None:
                    raise
                on_error(image, error)
                continue
            yield result

    def preprocess(
        self, inputs: Iterable[str | np.ndarray], batch_size: int = 1, on_error: OnError | None = None, **kwargs: Any
    ) -> Iterator[tuple[list[str | np.ndarray], dict]]:
        """Yields batches of images and the network's input for them; see :meth:`stream`."""
        chosen: list[str | np.ndarray] = []
        batch: list[dict] = []
        for image in inputs:
            try:
                packed = self.pipeline(image)
            except (ValueError, OSError) as error:
                if on_error is None:
                    raise
                on_error(image, error)
                continue
            if batch and (len(batch) == batch_size or batch[0]['inputs'].shape != packed['inputs'].shape):
                yield chosen, self.collate_fn(batch)
                chosen, batch = [], []
            chosen.append(image)
            batch.append(packed)
        if batch:
            yield chosen, self.collate_fn(batch)

    @torch.inference_mode()
    def forward(self, inputs: dict, **kwargs: Any) -> list[DetDataSample]:
        """Predicts a batch."""
        with self.precision():
            return self.model.test_step(inputs)

    def precision(self) -> AbstractContextManager:
        """Context manager in which the network computes in ``network_type``."""
        if self.network_type == torch.float32:
            return nullcontext()
        return torch.autocast(self.device_type, self.network_type)

    def postprocess(
        self,
        preds: list[DetDataSample],
        visualization: list[np.ndarray],
        return_datasamples: bool = False,
        images: Sequence[str | np.ndarray] = (),
        **kwargs: Any,
    ) -> list[InstanceResult]:
        """Converts predictions to results; ``images`` are those of the predictions."""
        return [
            InstanceResult.from_data_sample(sample, self.class_names, image if isinstance(image, str) else None)
            for sample, image in zip(preds, images, strict=True)
        ]

    def visualize(self, inputs: Sequence[str | np.ndarray], preds: Sequence[InstanceResult], **kwargs: Any) -> list:
        """Draws the instances over their images, each in its own colour: (H, W, 3) uint8 in RGB."""
        drawn = []
        for image, result in zip(inputs, preds, strict=True):
            pixels_HWC = read_pixels(image) if isinstance(image, str) else _in_rgb(image)
            drawn.append(draw_instances(pixels_for_display(pixels_HWC), result.labels))
        return drawn

    def _segment_tiled(self, image: str | np.ndarray, tile: int) -> InstanceResult:
        windows = open_windows(image, self.pipeline.load) if isinstance(image, str) else image
        entries = self.pipeline.entries_of_parts(windows)

        def segment(part: np.ndarray) -> InstanceResult:
            packed = self.pipeline(part, entries)
            (result,) = self.postprocess(self.forward(self.collate_fn([packed])), [], images=[part])
            return result

        return replace(segment_tiled(segment, windows, tile), path=image if isinstance(image, str) else None)


def _in_rgb(image: np.ndarray) -> np.ndarray:
    """An array as the network gets it, with colours in the order red, green, blue."""
    image = np.atleast_3d(image)
    return image[..., ::-1] if image.shape[2] == 3 else image
