"""Errors of a pipeline with the image at which they occurred."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_KINDS = (FileNotFoundError, OSError, ValueError)
"""Errors of these kinds keep their kind, since programs catch them; others become RuntimeError."""


@contextmanager
def named_errors(info: Mapping[str, Any]) -> Iterator[None]:
    """Adds the path and the id of an image to the message of any error within the block.

    A worker process of a data loader hands on the text of an error alone: without this, an error of a step that does not know the
    file, of a library or of a user, would end a training of days and not say at which of 100,000 images.

    Args:
        info: of the image, with ``img_path`` and ``img_id`` where it has them.

    Raises:
        FileNotFoundError, OSError, ValueError: for errors of these kinds.
        RuntimeError: for all others; the first error is its cause.

    Example:
        >>> with named_errors({'img_path': 'a/7.png', 'img_id': 7}):
        ...     raise ValueError('expected 8 bits')
        Traceback (most recent call last):
        ValueError: a/7.png (image id 7): expected 8 bits
    """
    try:
        yield
    except Exception as error:
        path, image_id = info.get('img_path'), info.get('img_id')
        name = f'{path}' if image_id is None else f'{path} (image id {image_id})'
        kind = next((kind for kind in _KINDS if isinstance(error, kind)), None)
        text = str(error).removeprefix(f'{path}: ') if kind else repr(error)
        raise (kind or RuntimeError)(f'{name}: {text}') from error
