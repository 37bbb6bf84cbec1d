"""The HTML report of a test: numbers (measures), plots (figures), drawings of images (drawings), text (page)."""

from .html_report import HTMLReport
from .measures import Measures, measure
from .page import render_page

__all__ = ['HTMLReport', 'Measures', 'measure', 'render_page']
