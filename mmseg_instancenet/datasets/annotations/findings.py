"""Counts and reports findings in an annotation file, and raises an error for those that cannot be mended."""

from dataclasses import dataclass

from .checks import CHECKS, LABEL_IMAGES, Check, Decision


@dataclass(frozen=True)
class Finding:
    """One kind of finding in a file: its number and its first example."""

    check: Check
    count: int
    first: str

    def __str__(self) -> str:
        return f'{self.count} x {self.check.found}; the first: {self.first} ({self.check.action})'


class Findings:
    """Counts the findings of each check and keeps the first example.

    Args:
        name: of the annotation file.

    Example:
        >>> findings = Findings('train.json')
        >>> findings.add('area', 'annotation 3 of image a.png')
        >>> print(findings.report(Decision.MENDED))
        train.json, mended:
          1 x "area" absent, zero or no number; the first: annotation 3 of image a.png (that of the mask)
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, check: str, first: str, count: int = 1) -> None:
        """Counts a finding, under the name of its check.

        Args:
            check: key of :data:`CHECKS`.
            first: where it is, and the value where that helps.
            count: number of such findings, of which ``first`` is the first.
        """
        self._counts[check] = self._counts.get(check, 0) + count
        self._first.setdefault(check, first)

    def include(self, other: 'Findings') -> None:
        """Counts the findings of another part of the same data set."""
        for name, count in other._counts.items():
            self.add(name, other._first[name], count)

    def of(self, *decisions: Decision) -> list[Finding]:
        """The findings with one of these decisions, in the order of :data:`CHECKS`."""
        return [
            Finding(check, self._counts[name], self._first[name])
            for name, check in CHECKS.items()
            if name in self._counts and check.decision in decisions
        ]

    def report(self, decision: Decision) -> str:
        """Text with one line for each kind of finding with this decision, below the file's name; empty if there is
        none."""
        lines = [f'  {finding}' for finding in self.of(decision)]
        return '\n'.join([f'{self.name}, {decision.value}:', *lines]) if lines else ''

    def refuse(self, strict: bool = True) -> None:
        """Raises ValueError if a finding cannot be mended.

        Args:
            strict: False for a file whose annotations are left out where they cannot be mended.
        """
        findings = self.of(Decision.REFUSED)
        if not strict:
            findings = [finding for finding in findings if not finding.check.can_be_skipped]
        if findings:
            lines = '\n'.join(f'  {finding}' for finding in findings)
            skip = ''
            if all(finding.check.can_be_skipped for finding in findings):
                kinds = {finding.check.where for finding in findings}
                left_out = 'images' if kinds == {LABEL_IMAGES} else 'annotations'
                skip = f'\nstrict=False in the config of the data set leaves these {left_out} out'
            raise ValueError(f'{self.name} cannot be used as it is:\n{lines}{skip}')
