"""A pipeline that keeps what its first steps make of each image."""

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import Compose

from .transforms import (
    LoadImageFromFile,
    LoadInstanceIds,
    LoadInstanceMasks,
    MasksToMaps,
    NormalizePercentiles,
    ResizeLongerSide,
)

_WITHOUT_RANDOMNESS = (
    LoadImageFromFile,
    LoadInstanceIds,
    LoadInstanceMasks,
    MasksToMaps,
    NormalizePercentiles,
    ResizeLongerSide,
)
"""Steps that make the same of an image in every epoch. A class that inherits from one of them may draw random numbers."""


class CachedPipeline(Compose):
    """MMEngine's ``Compose``, which keeps the results of the first steps, up to the first random one, for the next epochs.

    The samples are the same as without it: nothing random is kept, and each sample is a copy. A step that is none of this
    package's loading steps counts as random. It pays where a copy takes less time than loading: images that are decoded and
    normalised by percentiles, masks that are decoded and painted.

    Memory: of the kept results, up to ``gigabytes`` in every process that reads images, that is in each worker of a data
    loader. Images that come after the memory is full are loaded anew each time.

    Args:
        transforms: of a pipeline, built or not, in their order.
        gigabytes: limit of the memory, in 1e9 bytes.

    Example:
        >>> import os, tempfile, cv2, numpy as np
        >>> path = os.path.join(tempfile.mkdtemp(), 'image.png')
        >>> cv2.imwrite(path, np.zeros((1, 2), np.uint8))
        True
        >>> pipeline = CachedPipeline([LoadImageFromFile(), lambda results: results['img'].shape], gigabytes=0.1)
        >>> pipeline({'img_path': path})
        (1, 2, 3)
        >>> os.remove(path)
        >>> pipeline({'img_path': path})
        (1, 2, 3)
    """

    def __init__(self, transforms: Sequence[dict | Callable], gigabytes: float) -> None:
        super().__init__(transforms)
        if not gigabytes > 0:
            raise ValueError(f'expected a memory of more than 0 gigabytes, got {gigabytes}')
        kinds = [type(step) in _WITHOUT_RANDOMNESS for step in self.transforms]
        count = kinds.index(False) if False in kinds else len(kinds)
        self._first, self._others = Compose(self.transforms[:count]), Compose(self.transforms[count:])
        self.limit = int(gigabytes * 1e9)
        """Bytes that may be kept."""
        self.size = 0
        """Bytes that are kept."""
        self._kept: dict[str, bytes] = {}

    def __call__(self, data: dict) -> Any:
        kept = self._kept.get(data['img_path'])
        results = self._first(data) if kept is None else pickle.loads(kept)
        if results is None:
            return None
        if kept is None and self.size < self.limit:
            self._keep(data['img_path'], results)
        return self._others(results)

    def _keep(self, path: str, results: dict) -> None:
        kept = pickle.dumps(results, protocol=pickle.HIGHEST_PROTOCOL)
        if self.size + len(kept) <= self.limit:
            self._kept[path] = kept
            self.size += len(kept)
