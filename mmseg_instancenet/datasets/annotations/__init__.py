"""Annotation files in COCO's format: one reader for data sets, metrics and tools."""

from .checks import CHECKS, LABEL_IMAGES, Check, Decision, decision_table
from .coco_api import coco_of, open_annotations
from .findings import Finding, Findings
from .reader import check_content, check_file, read_annotations, warn_of

__all__ = [
    'CHECKS',
    'LABEL_IMAGES',
    'Check',
    'Decision',
    'Finding',
    'Findings',
    'check_content',
    'check_file',
    'coco_of',
    'decision_table',
    'open_annotations',
    'read_annotations',
    'warn_of',
]
