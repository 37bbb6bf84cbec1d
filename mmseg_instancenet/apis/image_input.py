"""Prepares an image for a model, as the test pipeline of its config does."""

from pathlib import Path

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ..datasets.transforms import NormalizePercentiles
from ..outputs import ImageWindows, contrast_limits
from .analysis_run import images_of
from .image_alone import check_parts_alike, image_steps, run_on_image


class ImageInput:
    """Runs the pipeline of the config's ``test_dataloader`` on images, without the steps of annotations.

    Of a wrapped data set the pipeline is that of the set in the wrapper, of several joined sets that of the first.

    Args:
        model: whose preprocessor and backbone give the number of channels.
        config: with ``test_dataloader``.
    """

    def __init__(self, model: nn.Module, config: Config) -> None:
        init_default_scope('mmseg')
        self.load, *self.others = image_steps(images_of(config.test_dataloader.dataset)['pipeline'])
        self.channels = input_channels(model)

    def __call__(self, image: str | Path | np.ndarray, entries: dict | None = None) -> dict:
        """Prepares an image: ``inputs``, a tensor (C, H, W), and ``data_samples``, the sample with the meta
        information.

        Args:
            image: file or array.
            entries: of :meth:`entries_of_parts`, for a part of an image.

        Raises:
            ValueError: if the file is no whole image, or the image does not fit the pipeline or the network.
            OSError: if the file is not there or cannot be opened.
        """
        if isinstance(image, (str, Path)):
            path = str(image)
            results = run_on_image([self.load], dict(img_path=path, img_id=0))
        else:
            path = None
            array = self._as_loaded(np.asarray(image))
            results = dict(img=array, img_path=None, img_id=0, img_shape=array.shape[:2], ori_shape=array.shape[:2])
        shape, dtype = results['img'].shape, results['img'].dtype
        if self.channels is not None and shape[2:] in ((), (1,)):
            results['img'] = np.repeat(np.atleast_3d(results['img']), self.channels, axis=2)
        packed = run_on_image(self.others, {**results, **(entries or {})})
        if self.channels not in (None, len(packed['inputs'])):
            raise ValueError(
                f'{path or "image"}: expected (H, W, {self.channels}) for this network or (H, W) grey, got {shape} {dtype}: '
                'choose or convert the channels, a fourth one is often transparency'
            )
        packed['data_samples'].set_metainfo(dict(img_path=path))
        return packed

    def entries_of_parts(self, image: ImageWindows) -> dict:
        """Entries with which the steps treat the parts of an image as they treat the whole image: its contrast.

        Raises:
            ValueError: if a step gives a part other values than the whole image.
        """
        steps = self.others[:-1]  # without the one that packs the image
        channels = self.channels or (image.shape[2] if len(image.shape) == 3 else 1)
        check_parts_alike(steps, channels)
        places = [place for place, step in enumerate(steps) if isinstance(step, NormalizePercentiles)]
        if not places:
            return {}
        if places != [0]:
            raise ValueError(
                'expected NormalizePercentiles as the first step after the loading of the image, got '
                f'{[type(step).__name__ for step in steps]}: segment the image without tiles'
            )
        return {'contrast_limits': contrast_limits(image, steps[0].low, steps[0].high, steps[0].per_channel)}

    def _as_loaded(self, array: np.ndarray) -> np.ndarray:
        """Converts an array to the type that the loading step would return; raises ValueError if that is impossible."""
        load = self.load
        keeps = getattr(load, 'keeps_values', False) or any(
            isinstance(step, NormalizePercentiles) for step in self.others
        )
        to_float32 = getattr(load, 'to_float32', False)
        any_type = keeps or to_float32 or not isinstance(load, LoadImageFromFile)
        number = np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
        fits = number if any_type else array.dtype == np.uint8
        if not fits or array.ndim not in (2, 3):
            raise ValueError(
                f'image: expected {"integers or floating point" if any_type else "uint8"}, (H, W, {self.channels or "C"}) for '
                f'this network or (H, W) grey, got {array.shape} {array.dtype}'
                + ('' if any_type else ': scale it to 0 .. 255 as the images of the training were')
            )
        return array.astype(np.float32) if to_float32 else array


def input_channels(model: nn.Module) -> int | None:
    """The number of input channels of the network: the length of the preprocessor's mean, or the input of the
    backbone's first convolution."""
    mean = getattr(model.data_preprocessor, 'mean', None)
    if mean is not None and len(mean) > 1:
        return len(mean)
    return next(
        (layer.in_channels for layer in model.get_submodule('backbone').modules() if isinstance(layer, nn.Conv2d)), None
    )
