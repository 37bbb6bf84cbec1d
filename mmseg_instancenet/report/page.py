"""The page of a report: one HTML file with its style and its images."""

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..evaluation.functional.budget_corrections import Fault
from .drawings import (
    CROP_PIXELS,
    CROPS,
    IMAGE_PIXELS,
    IMAGES,
    ReportImage,
    draw_fault,
    draw_image,
    png_uri,
    short_names,
)
from .figures import draw_calibration, draw_counts, draw_score_curve, svg_uri
from .measures import HIT_IOU, LIMIT, ImageMatches, Measures

_AP_COLUMNS = ['AP', 'AP50', 'AP75', 'small', 'medium', 'large']


class Drawing(NamedTuple):
    """An image of the page: its data URI, its text for those who do not see it, its caption."""

    uri: str
    alt: str
    caption: str


class Kind(NamedTuple):
    """A kind of error: its heading, a sentence about it, and the text about the severity of one error."""

    heading: str
    text: str
    severity: Callable[[Fault], str]


_KINDS = {
    'merges': Kind(
        'Merges',
        'A detection has most of the pixels of several objects; detections of the most objects come first.',
        lambda fault: f'{fault.severity:.0f} objects in one detection',
    ),
    'splits': Kind(
        'Splits',
        'Several detections have most of their pixels in one object; the objects whose best piece has the lowest IoU come first.',
        lambda fault: f'{len(fault.masks) - 1} pieces, IoU of the best {1 - fault.severity:.2f}',
    ),
    'missed': Kind(
        'Missed objects',
        'No detection is paired with the object; the largest objects come first.',
        lambda fault: f'{fault.severity:.0f} pixels',
    ),
    'invented': Kind(
        'Invented objects',
        'The detection is paired with no object; those with the highest scores come first.',
        lambda fault: f'score {fault.severity:.2f}',
    ),
}


def render_page(
    title: str, facts: Mapping[str, str], images: Sequence[ReportImage] = (), measures: Measures | None = None
) -> str:
    """Renders the page; it is well-formed XML too, and loads nothing.

    Args:
        title: of the page.
        facts: lines below the title, by name.
        images: N.
        measures: of these images, from :func:`~.measures.measure`; ``None`` if there is no image.

    Example:
        >>> 'No image was evaluated.' in render_page('Test', {'config': 'a.py'})
        True
    """
    environment = Environment(
        loader=PackageLoader('mmseg_instancenet', 'report'), autoescape=True, undefined=StrictUndefined
    )
    content = _content(images, measures) if measures else {}
    return environment.get_template('page.html.jinja').render(
        title=title, facts=facts, measures=measures, limit=LIMIT, hit_iou=HIT_IOU, ap_columns=_AP_COLUMNS, **content
    )


def _content(images: Sequence[ReportImage], measures: Measures) -> dict:
    names = short_names([image.path for image in images])
    return {
        'ap_rows': [
            (f'{LIMIT} with the highest scores', *map(_number, measures.ap_limited)),
            ('all', *map(_number, measures.ap_all)),
        ],
        'class_rows': [
            (row.name, row.objects, row.detections, *map(_number, row.ap), f'{row.count_error:.2f}')
            for row in measures.classes
        ],
        **_curve(measures),
        **_counts(measures),
        **_scores(measures),
        'image_drawings': {
            heading: [_drawing_of_image(images[place], names[place], measures.matches[place]) for place in places]
            for heading, places in zip(('Best', 'Worst'), best_and_worst(measures.matches), strict=True)
        },
        'fault_rows': [
            (kind, len(entries))
            for kind, entries in measures.faults.items()
            if kind != 'classes' or len(measures.classes) > 1
        ],
        'galleries': [
            {
                'heading': kind.heading,
                'text': kind.text,
                'drawings': [
                    _drawing_of_fault(images[number], names[number], fault, kind)
                    for number, fault in measures.faults[name][:CROPS]
                ],
            }
            for name, kind in _KINDS.items()
        ],
    }


def best_and_worst(matches: Sequence[ImageMatches], count: int = IMAGES) -> tuple[list[int], list[int]]:
    """Places of the images with the highest accuracy, best first, and of those with the lowest, worst first.

    No image is in both lists; the best get the middle one. Images without objects and detections have no accuracy.
    """
    order = [place for place, image in enumerate(matches) if not isnan(image.accuracy)]
    order.sort(key=lambda place: (-matches[place].accuracy, matches[place].errors, -matches[place].hits))
    worst = min(count, len(order) // 2)
    return order[: min(count, len(order) - worst)], order[::-1][:worst]


def _curve(measures: Measures) -> dict:
    curve = measures.curve
    if not len(curve.cut_U):
        return {'curve_drawing': None, 'cut_rows': []}
    best = curve.best
    # A row for each tenth that changes the detections, and one for the best cut.
    places = {0.0: curve.at(0.0), float(curve.cut_U[best]): best}
    for cut in (number / 10 for number in range(1, 10)):
        if curve.at(cut) not in (None, *places.values()):
            places[cut] = curve.at(cut)
    values = (curve.accuracy_U, curve.precision_U, curve.recall_U, curve.f1_U)
    rows = [
        (
            f'{cut:.3f}{" (highest)" if place == best else ""}',
            int(curve.kept_U[place]),
            *(_number(one[place]) for one in values),
        )
        for cut, place in sorted(places.items())
        if place is not None
    ]
    caption = f'Highest TP / (TP + FP + FN): {_number(curve.accuracy_U[best])} at a cut of {curve.cut_U[best]:.3f}.'
    alt = f'Curves of TP / (TP + FP + FN), precision, recall and F1 against the score cut. {caption}'
    drawing = Drawing(svg_uri(draw_score_curve(curve)), alt, caption)
    return {'curve_drawing': drawing, 'cut_rows': rows}


def _counts(measures: Measures) -> dict:
    true, predicted = int(measures.true_N.sum()), int(measures.predicted_N.sum())
    difference_N = measures.difference_N
    caption = f'{len(difference_N)} images with {true} objects and {predicted} detections.'
    alt = f'Scatter plot of predicted against true counts: {caption}'
    return {
        'count_drawing': Drawing(svg_uri(draw_counts(measures)), alt, caption),
        'count_rows': [
            ('predicted minus true count, mean over the images', f'{difference_N.mean():.2f}'),
            ('absolute difference, mean over the images', f'{abs(difference_N).mean():.2f}'),
            ('largest absolute difference of an image', int(abs(difference_N).max())),
            ('images with the right count', f'{int((difference_N == 0).sum())} of {len(difference_N)}'),
        ],
    }


def _scores(measures: Measures) -> dict:
    rows = [
        (f'{one.low:.1f} to {one.high:.1f}', one.detections, *map(_number, (one.score, one.iou, one.right)))
        for one in measures.bins
    ]
    if not rows:
        return {'bin_rows': [], 'calibration_drawing': None, 'calibration_error': None}
    error = _number(measures.calibration_error)
    alt = f'Mean IoU and share of right detections against the score, in bins; the calibration error is {error}.'
    caption = f'{sum(one.detections for one in measures.bins)} detections in {len(rows)} bins.'
    drawing = Drawing(svg_uri(draw_calibration(measures.bins)), alt, caption)
    return {'bin_rows': rows, 'calibration_drawing': drawing, 'calibration_error': error}


def _drawing_of_image(image: ReportImage, name: str, matches: ImageMatches) -> Drawing:
    true, found = len(matches.label_G), len(matches.label_K)
    caption = (
        f'{name}: TP / (TP + FP + FN) {_number(matches.accuracy)}; objects: {true}, detections: {found}, right: {matches.hits}, '
        f'not found: {true - matches.hits}'
    )
    return Drawing(
        png_uri(draw_image(image), IMAGE_PIXELS), f'Input, ground truth and detections of {caption}.', caption
    )


def _drawing_of_fault(image: ReportImage, name: str, fault: Fault, kind: Kind) -> Drawing:
    caption = f'{name}: {kind.severity(fault)}'
    alt = f'{kind.heading}: input, ground truth and detections around the error in {caption}.'
    return Drawing(png_uri(draw_fault(image, fault), CROP_PIXELS), alt, caption)


def _number(value: float) -> str:
    return '–' if isnan(value) else f'{value:.3f}'
