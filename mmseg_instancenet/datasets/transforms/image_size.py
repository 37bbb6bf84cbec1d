"""Compares the size of an image with the annotation file."""


def check_image_size(results: dict) -> None:
    """Raises ValueError if the size of a loaded image differs from the annotation file."""
    size, annotated = tuple(results['ori_shape'][:2]), (results.get('height'), results.get('width'))
    if None in annotated or size == annotated:
        return
    hint = 'resize both alike, or annotate the images as they are'
    if size == annotated[::-1]:
        hint = 'the sides are swapped: is the image turned by an EXIF tag that the annotation tool ignored?'
    raise ValueError(
        f'{results.get("img_path")}: expected the height and width of the annotations {annotated}, got an image of {size}: {hint}'
    )
