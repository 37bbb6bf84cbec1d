"""For each grouper, the setting that decides how far apart the embeddings of a group may lie, and the values to try for
it."""

from collections.abc import Sequence

from ..models import (
    CenterGrouping,
    EmbeddingSegmentor,
    MeanShiftGrouping,
    ProposalSegmentor,
    SeedGrouping,
)
from ..models.groupers import Grouper

FIRST_SETTINGS = {CenterGrouping: 'threshold', MeanShiftGrouping: 'concentration', SeedGrouping: 'mask_threshold'}
FACTORS = (0.5, 0.63, 0.8, 1.0, 1.26, 1.6, 2.0, 2.5)
"""Factors of the config's threshold. A concentration is multiplied by their squares, since its square root sets the bandwidth."""
MASK_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def check_segmentor(model: object, config_name: str) -> None:
    """Raises ValueError unless the groups of a model come from one grouper."""
    if not isinstance(model, EmbeddingSegmentor) or isinstance(model, ProposalSegmentor):
        raise ValueError(f'expected an EmbeddingSegmentor in {config_name}, got {type(model).__name__}')


def first_setting(grouper: Grouper, source: str) -> str:
    """Name of the setting of a grouper to tune first. Raises ValueError, with the ``source`` of the grouper, for one
    without such a setting."""
    for kind, name in FIRST_SETTINGS.items():
        if isinstance(grouper, kind):
            return name
    expected = ', '.join(kind.__name__ for kind in FIRST_SETTINGS)
    raise ValueError(f'expected one of {expected} in {source}, got {type(grouper).__name__}')


def value_of_first(grouper: CenterGrouping | MeanShiftGrouping | SeedGrouping) -> float:
    if isinstance(grouper, MeanShiftGrouping):
        return grouper.kernel_settings.concentration
    return grouper.threshold if isinstance(grouper, CenterGrouping) else grouper.mask_threshold


def default_values(name: str, configured: float) -> Sequence[float]:
    """Default values to try for the first setting of a grouper.

    Example:
        >>> default_values('threshold', 1.2)
        [0.6, 0.756, 0.96, 1.2, 1.51, 1.92, 2.4, 3.0]
    """
    if name == 'mask_threshold':
        return MASK_THRESHOLDS
    power = 2 if name == 'concentration' else 1
    return [three_digits(configured * factor**power) for factor in FACTORS]


def three_digits(value: float) -> float:
    return float(f'{value:.3g}')
