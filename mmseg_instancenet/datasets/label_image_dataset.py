"""Data sets without annotation files: a folder of images and a folder of masks."""

import hashlib
import os
import os.path as osp
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import barrier
from mmseg.registry import DATASETS

from .annotations import Findings
from .coco import CocoInstanceDataset
from .label_images import LabelFolder, update_annotations


@DATASETS.register_module()
class LabelImageDataset(CocoInstanceDataset):
    """Images and their masks, from two folders.

    ::

        my_images/images/a.png     8 or 16 bits or floating point, any number of channels: see ``LoadImageFromFile``
        my_images/masks/a.png      label image, png or tif of 8, 16 or 32 bits: 0 = background, k = object k
        my_images/masks/a/1.png    or masks of one object each: 0, and any other value at the object

    The masks are converted to a COCO json in ``cache_folder``, which data set, metrics and tools read. The first start takes the
    time of decoding all masks, a later one that of the files that have changed; see :func:`update_annotations`. Faults of all
    masks are found before the first iteration and reported together, and ``tools/check_dataset.py`` lists them.

    Args:
        data_root: folder that holds the others.
        data_prefix: ``img`` and ``mask``, folders of images and masks, and of subfolders of the same names. Both may be the same:
            see :func:`find_images`.
        mask_suffix: end of the names of the label images, for example '_masks'.
        ignore_label: value of unlabelled regions of label images, for example 255, 65535 or -1. They are ignored in training
            (255 in the class map) and in the evaluation (void).
        classes_from: ``None``: all objects are of one class, named in ``metainfo``, 'object' unless given. 'folders': the masks
            lie in ``masks/CLASS/``. Or a csv in ``data_root`` with the columns name, label and class, see :class:`ClassTable`.
            The class ``void`` of folders or csv marks unlabelled regions.
        share: (start, stop), 0 to 1, of the images in a random order that is the same in every run: (0, 0.8) trains on four
            fifths, (0.8, 1) are the others. All images unless given.
        cache_folder: of the json; ``.label_images`` in ``data_root`` unless given.
        strict: False leaves out the images whose masks are refused, and gives their number.
        **kwargs: of mmdet's ``CocoDataset``: ``metainfo``, ``pipeline``, ``test_mode``, ``indices``, ..

    Raises:
        FileNotFoundError: if a folder or the csv is missing.
        ValueError: if masks cannot be used, with all kinds of faults, each with its number and the first file.

    Example::

        train_dataloader = dict(dataset=dict(type='LabelImageDataset', data_root='data/my_images/', share=(0, 0.8),
                                             metainfo=dict(classes=('nucleus',)), pipeline=train_pipeline))
    """

    METAINFO: dict = {'classes': ('object',)}

    def __init__(
        self,
        data_root: str,
        data_prefix: Mapping[str, str] | None = None,
        *,
        mask_suffix: str = '',
        ignore_label: int | None = None,
        classes_from: str | None = None,
        share: Sequence[float] | None = None,
        cache_folder: str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop('ann_file', ''):
            raise ValueError(
                'LabelImageDataset has no ann_file: expected data_prefix=dict(img=.., mask=..), or type=CocoInstanceDataset for '
                'annotations in a file'
            )
        if kwargs.get('backend_args'):
            raise ValueError('LabelImageDataset reads local folders, got backend_args: copy the folder to this machine')
        if share is not None and not (len(share) == 2 and 0 <= share[0] < share[1] <= 1):
            raise ValueError(f'expected share=(start, stop) with 0 <= start < stop <= 1, got {share}')
        self.mask_suffix, self.ignore_label, self.classes_from = mask_suffix, ignore_label, classes_from
        self.share, self.cache_folder = share, cache_folder
        prefix = {'img': 'images/', 'mask': 'masks/', **(data_prefix or {})}
        super().__init__(data_root=data_root, data_prefix=prefix, **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        classes_from = self.classes_from
        if classes_from not in (None, 'folders'):
            classes_from = osp.join(self.data_root, str(classes_from))
        self.folder = LabelFolder(
            self.data_prefix['img'],
            self.data_prefix['mask'],
            self.mask_suffix,
            self.ignore_label,
            tuple(self.metainfo['classes']),
            classes_from,
        )
        self.ann_file = osp.join(
            self.cache_folder or osp.join(self.data_root, '.label_images'), f'{self.folder.key}.json'
        )

    @property
    def source(self) -> str:
        """The folder of the masks: messages name it, not the json made from them."""
        return self.folder.masks

    def prepare_annotations(self) -> Findings:
        """Brings the json up to date, by one process of each machine, and returns the findings in the masks."""
        path, findings = Path(self.ann_file), None
        try:
            # MMEngine's get_local_rank fails in several processes on a CPU, whose group it has not made. Where the variable is
            # not right, a folder is only converted more than once.
            if int(os.environ.get('LOCAL_RANK', '0')) == 0:
                findings = update_annotations(self.folder, path)
        finally:
            barrier()  # also after an error, which the other processes meet too
        return update_annotations(self.folder, path) if findings is None else findings

    def load_data_list(self) -> list[dict]:
        return self._of_share(super().load_data_list())

    def _of_share(self, data_list: list[dict]) -> list[dict]:
        if self.share is None:
            return data_list
        # The place of an image depends on its name alone, so that a new image moves few others to another part.
        names = [osp.relpath(info['img_path'], self.data_prefix['img']) for info in data_list]
        shuffled = sorted(range(len(names)), key=lambda index: hashlib.sha1(names[index].encode()).digest())
        start, stop = (round(part * len(names)) for part in self.share)
        if start == stop:
            raise ValueError(
                f'{self.data_prefix["img"]} has {len(names)} images, none of them in share={tuple(self.share)}: expected at '
                'least one; take a larger share, or add images'
            )
        return [data_list[index] for index in sorted(shuffled[start:stop])]
