"""MMEngine's visualizer for the results of this package's models."""

from typing import Any

import mmcv
import numpy as np
from mmengine.structures import BaseDataElement
from mmseg.registry import VISUALIZERS
from mmseg.visualization import SegLocalVisualizer

from .panels import draw_panel


@VISUALIZERS.register_module()
class InstanceLocalVisualizer(SegLocalVisualizer):
    """Draws input, class map, embedding, instances, scores and ground truth of an image side by side (:func:`draw_panel`), for
    all ``vis_backends``: local files, TensorBoard and others of MMEngine.

    It is mmseg's visualizer by class, since ``MMSegInferencer`` takes no other.

    Args: those of ``SegLocalVisualizer``.

    Example:
        >>> import os, tempfile, torch
        >>> from mmengine.structures import PixelData
        >>> sample = BaseDataElement(pred_sem_seg=PixelData(data=torch.ones(1, 32, 32, dtype=torch.long)))
        >>> folder = tempfile.mkdtemp()
        >>> visualizer = InstanceLocalVisualizer(vis_backends=[dict(type='LocalVisBackend')], save_dir=folder)
        >>> visualizer.add_datasample('val_1', np.zeros((32, 32, 3), np.uint8), sample, step=5)
        >>> os.listdir(os.path.join(folder, 'vis_data/vis_image'))
        ['val_1_5.png']
    """

    # MMEngine's property is empty on every process but the first; each process draws its share of a test.
    @property
    def dataset_meta(self) -> Any:
        """Classes and palette of the data set; of joined data sets a list of them."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Any) -> None:
        self._dataset_meta = dataset_meta

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: BaseDataElement | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        with_labels: bool = True,
    ) -> None:
        """Draws one image, into a file, or for all backends.

        Args:
            name: of the drawing in the backends.
            image: (H, W, 3) uint8 in RGB, of the original size.
            data_sample: a result of a model; ``None`` draws the image alone.
            draw_gt, draw_pred: see :func:`draw_panel`.
            show: opens a window as well, for ``wait_time`` seconds, 0 until a key is pressed.
            out_file: image file to which the drawing goes instead of the backends; missing folders are made. Every process
                writes its files; to the backends goes what the first process draws.
            step: of the backends: epoch or iteration.
            with_labels: no effect, since no names of classes are written; ``MMSegInferencer`` gives it.
        """
        sample = BaseDataElement() if data_sample is None else data_sample
        meta = self.dataset_meta
        if isinstance(meta, list):  # of mmdet's ConcatDataset, whose sets have the same classes
            meta = meta[0]
        drawn_HW3 = draw_panel(image, sample, (meta or {}).get('palette'), draw_gt, draw_pred)
        self.set_image(drawn_HW3)  # what get_image() returns
        if show:
            self.show(drawn_HW3, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(drawn_HW3[..., ::-1], out_file)
        else:
            self.add_image(name, drawn_HW3, step)
