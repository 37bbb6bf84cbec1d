"""What is known of each image of a run: the measurements of one that is done, or the error of one that failed."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from .atomic_file import atomic_file


class Records:
    """One file for each image, written when all other files of the image are: an image whose record exists is done.

    ``images/NAME.jsonl`` has the image in its first line and an object in each further line: neither is read for the other, and
    the memory to read them is that of one line. ``failed/NAME.json`` has the error of an image.

    Args:
        folder: of the records; made when the first one is written.

    Example:
        >>> import tempfile
        >>> records = Records(tempfile.mkdtemp())
        >>> records.write('a/1', {'count': 2}, [{'id': 1}, {'id': 2}])
        >>> records.image('a/1'), list(records.objects('a/1')), records.image('a/2')
        ({'count': 2}, [{'id': 1}, {'id': 2}], None)
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def write(self, name: str, image: dict, objects: Iterable[dict]) -> None:
        """The image is done, even if it failed before."""
        with atomic_file(self._done(name)) as file:
            for entry in (image, *objects):
                file.write(json.dumps(entry) + '\n')
        self._failed(name).unlink(missing_ok=True)

    def fail(self, name: str, entry: dict) -> None:
        """The image failed; it is not done, so that the next start tries it again."""
        with atomic_file(self._failed(name)) as file:
            json.dump(entry, file)

    def image(self, name: str) -> dict | None:
        """What :meth:`write` got of an image; ``None`` for one that is not done."""
        try:
            with open(self._done(name), encoding='utf-8') as file:
                return json.loads(file.readline())
        except FileNotFoundError:
            return None

    def objects(self, name: str) -> Iterator[dict]:
        """The objects of an image that is done."""
        with open(self._done(name), encoding='utf-8') as file:
            file.readline()
            yield from map(json.loads, file)

    def failure(self, name: str) -> dict | None:
        """What :meth:`fail` got of an image; ``None`` for one that did not fail, or was done since."""
        try:
            return json.loads(self._failed(name).read_text('utf-8'))
        except FileNotFoundError:
            return None

    def all_images(self) -> Iterator[dict]:
        """What :meth:`write` got of every image that is done, in no order."""
        for path in (self.folder / 'images').rglob('*.jsonl'):
            with open(path, encoding='utf-8') as file:
                yield json.loads(file.readline())

    def _done(self, name: str) -> Path:
        return self.folder / 'images' / f'{name}.jsonl'

    def _failed(self, name: str) -> Path:
        return self.folder / 'failed' / f'{name}.json'
