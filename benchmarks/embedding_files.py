"""Files with embeddings and class maps of trained models."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

FOLDER = Path('work_dirs/benchmarks/embeddings')
"""Where benchmarks look for files."""


class ImageEmbeddings(NamedTuple):
    """The output of a network for one image, without the padding.

    embeddings_Dhw: float32, at the size of the head's map.
    class_map_hw: int64, the predicted class under each cell; 0 = background.
    """

    embeddings_Dhw: Tensor
    class_map_hw: Tensor


class TrainedEmbeddings(NamedTuple):
    """A model's images, the name of its config and the config of its grouper."""

    config: str
    grouper: dict[str, Any]
    images: list[ImageEmbeddings]


def save_embeddings(trained: TrainedEmbeddings, path: Path) -> None:
    """Writes a file for :func:`load_embeddings`, and creates its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(trained._asdict(), images=[image._asdict() for image in trained.images]), path)


def load_embeddings(path: Path) -> TrainedEmbeddings:
    """Reads a file of :func:`save_embeddings` without executing code from it.

    Raises:
        ValueError: if it holds something else.
    """
    content = torch.load(path, map_location='cpu', weights_only=True)
    if not isinstance(content, dict) or set(content) != set(TrainedEmbeddings._fields):
        raise ValueError(f'expected a file of python -m benchmarks.write_embeddings, got something else in {path.name}')
    return TrainedEmbeddings(**dict(content, images=[ImageEmbeddings(**one) for one in content['images']]))
