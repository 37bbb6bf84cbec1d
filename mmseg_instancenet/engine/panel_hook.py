"""Hook that draws images during a validation or a test."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from mmseg.registry import HOOKS

from ..visualization import InstanceLocalVisualizer, OutputPaths, image_folder_of, read_for_display
from .freeze_hook import bare_model


@HOOKS.register_module()
class PanelHook(Hook):
    """Draws the first images of each validation, or of a test, by the runner's :class:`InstanceLocalVisualizer`.

    Without a folder the drawings of each validation go to the visualizer's backends (local files, TensorBoard) as
    ``val_<number>_<name of the image>``, by the first process, in steps of epochs, or of iterations where the training counts
    iterations. A data set that is not shuffled gives the same images each time. An image that cannot be read for drawing, or is
    read at another size, is left out with a warning: it stops no training.

    With a folder the drawings of a test are files, ``<folder>/<name of the image>.png``, by each process for its images. An image
    in a subfolder of the data set's image folder gets the same subfolder here, and no image overwrites another; see
    :class:`OutputPaths`.

    Of a model with a ``RecurrentLoss`` the embedding is drawn after each iteration of mean shift: see
    :meth:`EmbeddingSegmentor.add_embedding_iterations`.

    Args:
        folder: of the files of a test, made if absent; ``None`` for the validations of a training.
        count: images to draw, of each validation or, with a folder, of a test on each process.

    Raises:
        TypeError: before a training, validation or test in which it would draw by another visualizer.
    """

    def __init__(self, folder: str | None = None, count: int = 50) -> None:
        if count < 1:
            raise ValueError(f'expected count >= 1 images, got {count}; without drawings leave the hook out')
        self.folder, self.count = None if folder is None else Path(folder), count
        self._drawn = 0
        self._warned = False
        self._paths: OutputPaths | None = None

    def before_train(self, runner: Runner) -> None:
        if self.folder is None:
            _check_visualizer(runner)  # not only before the first validation, hours later

    def before_val(self, runner: Runner) -> None:
        if self.folder is None:
            _check_visualizer(runner)
            self._drawn = 0

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.folder is not None or not is_main_process():
            return
        for data_sample in self._next(outputs):
            try:
                path = _path_of(data_sample)
                image_HW3 = read_for_display(path)
                _add_iterations(runner, data_sample)
                name = f'val_{self._drawn}_{Path(path).stem}'
                runner.visualizer.add_datasample(name, image_HW3, data_sample, step=_step(runner))
            except (OSError, ValueError) as error:
                if not self._warned:
                    runner.logger.warning(f'PanelHook: an image of the validation is not drawn: {error}')
                self._warned = True

    def before_test(self, runner: Runner) -> None:
        if self.folder is not None:
            _check_visualizer(runner)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._drawn, self._paths = 0, None

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.folder is None:
            return
        for data_sample in self._next(outputs):
            path = _path_of(data_sample)
            if self._paths is None:
                folder = image_folder_of(runner.test_dataloader.dataset)
                self._paths = OutputPaths(self.folder, folder or Path(path).parent)
            _add_iterations(runner, data_sample)
            runner.visualizer.add_datasample(
                Path(path).stem, read_for_display(path), data_sample, out_file=str(self._paths.of(path))
            )

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        if self.folder is not None:
            runner.logger.info(f'{self._drawn} images in {self.folder}')

    def _next(self, outputs: Sequence[DetDataSample]) -> Iterator[DetDataSample]:
        """Counts and yields the results of a batch that are drawn."""
        for data_sample in outputs[: self.count - self._drawn]:
            self._drawn += 1
            yield data_sample


def _path_of(data_sample: DetDataSample) -> str:
    if 'img_path' not in data_sample:
        raise ValueError(
            "expected img_path in the data samples, got none: name it in meta_keys of the pipeline's last step"
        )
    return data_sample.img_path


def _check_visualizer(runner: Runner) -> None:
    if not isinstance(runner.visualizer, InstanceLocalVisualizer):
        raise TypeError(
            "PanelHook: expected visualizer=dict(type='InstanceLocalVisualizer', vis_backends=[..]) in the config, got "
            f'{type(runner.visualizer).__name__}. Set it, or leave PanelHook out of default_hooks and custom_hooks'
        )


def _add_iterations(runner: Runner, data_sample: DetDataSample) -> None:
    add = getattr(bare_model(runner.model), 'add_embedding_iterations', None)  # not of other segmentors
    if add is not None:
        add(data_sample)


def _step(runner: Runner) -> int:
    """Epochs, or iterations where the training counts these; 0 without a training."""
    loop = runner._train_loop  # runner.train_loop would build the training set for a validation alone
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch
    return loop.iter if isinstance(loop, BaseLoop) else 0
