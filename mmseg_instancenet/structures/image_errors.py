"""Names of the images, and of the iteration of a training, in errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.logging import MessageHub


@contextmanager
def images_in_errors(data_samples: Sequence[Any]) -> Iterator[None]:
    """Context manager that adds the images, and in a training the iteration, to the message of a ValueError.

    A function on tensors that refuses its input knows neither; whoever reads the message needs both to find the file.

    Args:
        data_samples: of the images that are processed, MMEngine's data elements.

    Raises:
        ValueError: the one that was raised inside, with :func:`describe_images` at its end.

    Example:
        >>> from mmengine.structures import BaseDataElement
        >>> with images_in_errors([BaseDataElement(metainfo=dict(img_path='a.png'))]):
        ...     raise ValueError('expected finite embeddings, got NaN')
        Traceback (most recent call last):
        ValueError: expected finite embeddings, got NaN (image a.png)
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f'{error} ({describe_images(data_samples)})') from error


def describe_images(data_samples: Sequence[Any]) -> str:
    """The iteration, where a training is running, and the files of the images.

    MMEngine counts iterations from 0 and logs them from 1; this is the number in the log. An image without a file, such as an
    array, is named by its place in the batch.

    Args:
        data_samples: MMEngine's data elements.

    Example:
        >>> from mmengine.structures import BaseDataElement
        >>> describe_images([BaseDataElement(metainfo=dict(img_path=path)) for path in ('a.png', 'b.png', None)])
        'images a.png, b.png, number 3 of the batch, without a file'
    """
    hub = MessageHub.get_current_instance()
    parts = []
    if hub.get_info('loop_stage') == 'train':  # MMEngine's RuntimeInfoHook stores both
        parts.append(f'iteration {hub.get_info("iter", 0) + 1}')
    paths = [getattr(sample, 'metainfo', {}).get('img_path') for sample in data_samples]
    if paths:
        named = [path or f'number {place} of the batch, without a file' for place, path in enumerate(paths, 1)]
        parts.append(f'image{"s" if len(named) > 1 else ""} {", ".join(named)}')
    return ', '.join(parts)
