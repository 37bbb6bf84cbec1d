"""The Berkeley segmentation data set, for boundary detection."""

import os.path as osp
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from mmengine.fileio import LocalBackend, exists, get_file_backend, list_dir_or_file
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .named_errors import named_errors


@DATASETS.register_module()
class BSDSDataset(BaseSegDataset):
    """BSDS500 (or BSDS300) in its official layout: ``images/SPLIT/*.jpg`` and ``groundTruth/SPLIT/*.mat``.

    An image without ground truth, ground truth without an image and a missing split raise an error that
    names them. :class:`LoadBSDSBoundaries` reads the ``.mat`` files.

    Args:
        data_root: the folder that holds ``images`` and ``groundTruth``.
        splits: one or several of 'train', 'val', 'test'; their images follow one another.
        data_prefix: names of the two folders, ``dict(img_path='images/', seg_map_path='groundTruth/')`` unless given.
        **kwargs: those of mmseg's ``BaseSegDataset``.
    """

    METAINFO = {'classes': ('background', 'boundary'), 'palette': [(0, 0, 0), (255, 255, 255)]}

    def __init__(
        self,
        data_root: str,
        splits: str | Sequence[str],
        data_prefix: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self.splits = [splits] if isinstance(splits, str) else list(splits)
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix or {'img_path': 'images/', 'seg_map_path': 'groundTruth/'},
            img_suffix='.jpg',
            seg_map_suffix='.mat',
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        images, truths = self.data_prefix['img_path'], self.data_prefix['seg_map_path']
        for folder in (osp.join(parent, split) for split in self.splits for parent in (images, truths)):
            if not exists(folder, backend_args=self.backend_args):
                raise FileNotFoundError(
                    f'folder not found: {folder}; expected images/SPLIT/*.jpg and groundTruth/SPLIT/*.mat under data_root. '
                    'Set data_root and splits of the data set (on the command line: --cfg-options ...dataset.splits=val)'
                )
        of_all = super().load_data_list()
        data_list = []
        for split in self.splits:
            of_split = [info for info in of_all if PurePath(osp.relpath(info['img_path'], images)).parts[0] == split]
            if not of_split:
                raise ValueError(f'no images (*.jpg) in {osp.join(images, split)}')
            self._check_pairs(split, [info['seg_map_path'] for info in of_split])
            data_list += [dict(info, img_id=PurePath(info['img_path']).stem) for info in of_split]
        return data_list

    def prepare_data(self, idx: int) -> Any:
        with named_errors(self.get_data_info(idx)):
            return super().prepare_data(idx)

    def _check_pairs(self, split: str, expected: list[str]) -> None:
        """Fails before the training if images or annotations are missing."""
        folder = osp.join(self.data_prefix['seg_map_path'], split)
        if not isinstance(get_file_backend(folder, backend_args=self.backend_args), LocalBackend):
            return  # checking every file in a remote store would take minutes
        found = {osp.join(folder, name) for name in list_dir_or_file(folder, list_dir=False, suffix='.mat')}
        missing, surplus = sorted(set(expected) - found), sorted(found - set(expected))
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} images of split '{split}' have no ground truth; the first that is missing is {missing[0]}"
            )
        if surplus:
            raise FileNotFoundError(
                f"{len(surplus)} ground truths of split '{split}' have no image under {self.data_prefix['img_path']}; the "
                f'first is {surplus[0]}'
            )
