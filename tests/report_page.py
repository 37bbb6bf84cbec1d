"""Reads an HTML report by the standard library."""

from pathlib import Path
from xml.etree import ElementTree


class ReportPage:
    """The parts of a report. Fails where it is not well-formed.

    Attributes:
        text: the file.
        root: its elements.
        facts: lines below the title.
        tables: by caption, rows as lists of cells, the head first.
        images: elements.
    """

    def __init__(self, file: Path | str) -> None:
        self.text = file.read_text(encoding='utf-8') if isinstance(file, Path) else file
        assert self.text.startswith('<!DOCTYPE html>\n')
        self.root = ElementTree.fromstring(self.text.removeprefix('<!DOCTYPE html>\n'))
        names, values = ([element.text for element in self.root.iter(tag)] for tag in ('dt', 'dd'))
        self.facts = dict(zip(names, values, strict=True))
        self.tables = {
            table.find('caption').text: [[cell.text for cell in row] for row in table.iter('tr')]
            for table in self.root.iter('table')
        }
        self.images = list(self.root.iter('img'))

    def row(self, caption: str, name: str) -> dict[str, str]:
        """The cells of a row by the head of their column."""
        head, *rows = self.tables[caption]
        (row,) = [row for row in rows if row[0] == name]
        return dict(zip(head, row, strict=True))

    def captions(self, heading: str) -> list[str]:
        """The captions of the drawings below a heading of the third level."""
        found, inside = [], False
        for element in self.root.iter():
            if element.tag in ('h2', 'h3'):
                inside = element.text == heading
            elif element.tag == 'figcaption' and inside:
                found.append(element.text)
        return found
